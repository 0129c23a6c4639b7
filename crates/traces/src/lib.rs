//! Exports attempts to OpenTelemetry.
//!
//! Each attempt for an event of a sampled trace is a span of that trace. Its request passes the
//! span on to the receiver.
//!
//! The module reads the `traceparent` that the writing session stored with the event. It writes
//! only to the collector, from a bounded queue ([`queue`]). A slow or unreachable collector costs
//! spans, never deliveries. Nothing is started unless a collector is configured.

mod collector;
mod queue;
mod span;

pub use queue::Counts;
pub use span::{Attempted, Span};

use collector::{Collector, Shared};
use opentelemetry::{
    InstrumentationScope,
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanExporter},
};
use queue::Queue;
use std::{env, path::PathBuf, sync::Arc, time::Duration};
use thiserror::Error;
use tls_files::BadFile;
use tracing::{debug, info};

/// Maximum number of events in a request, and so of links in a span.
const LINKS_MAX: u32 = 1000;

/// Timeout at shutdown for the remaining spans to reach the collector.
const LAST_SPANS_TIMEOUT: Duration = Duration::from_secs(3);

/// The destination of spans, and the share of events that get them.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The whole URL, including the path. `None` means OpenTelemetry's environment variables apply.
    pub endpoint: Option<url::Url>,
    /// Share of the events without a trace that get a trace of their own: 0 to 1.
    pub ratio: f64,
    /// Authorities that are trusted for the collector, in addition to the machine's.
    pub ca_file: Option<PathBuf>,
}

/// The reason why tracing cannot start.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot send spans to the collector")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error(transparent)]
    Tls(#[from] BadFile),
}

/// Creates spans.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    ratio: f64,
    counts: Arc<Counts>,
    /// The client of the collector. `None` if spans go elsewhere.
    collector: Option<Arc<Collector>>,
}

impl Traces {
    /// Starts the export. Call it within a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if an environment variable is invalid or certificates cannot be read.
    pub fn start(settings: &Settings) -> Result<Self, Error> {
        let collector = Arc::new(Collector::new(settings.ca_file.as_deref())?);
        let mut builder = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Shared(Arc::clone(&collector)));
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint.as_str());
        }
        let mut traces = Self::over(builder.build()?, settings.ratio);
        traces.collector = Some(collector);
        info!(endpoint = settings.endpoint.as_ref().map(shown), ratio = settings.ratio, "traces.on");
        Ok(traces)
    }

    /// Starts the export with another exporter.
    fn over(exporter: impl SpanExporter + 'static, ratio: f64) -> Self {
        let counts = Arc::<Counts>::default();
        // `span.rs` decides which attempts get a span, before it creates one.
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_max_links_per_span(LINKS_MAX)
            .with_resource(resource())
            .with_span_processor(Queue::new(exporter, Arc::clone(&counts)))
            .build();
        let scope = InstrumentationScope::builder("webhookd").with_version(env!("CARGO_PKG_VERSION")).build();
        let tracer = provider.tracer_with_scope(scope);
        Self { provider, tracer, propagator: TraceContextPropagator::new(), ratio, counts, collector: None }
    }

    /// Reads the file of authorities again. If it cannot be used, the former ones stay in use.
    ///
    /// # Errors
    /// Returns an error that names the file.
    pub fn reload(&self) -> Result<(), BadFile> {
        self.collector.as_ref().map_or(Ok(()), |collector| collector.reload())
    }

    /// Returns the counters of spans by result.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Sends the remaining spans, for a few seconds at most. No span may be created after it.
    pub async fn shutdown(&self) {
        let provider = self.provider.clone();
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS_TIMEOUT)).await;
        match flushed {
            Ok(Ok(())) => debug!("traces.flushed"),
            Ok(Err(error)) => debug!(%error, "traces.not_flushed"),
            Err(error) => debug!(%error, "traces.not_flushed"),
        }
    }

    /// Returns the trace that a header names, or `None` if it names none.
    fn context(&self, traceparent: &str) -> Option<SpanContext> {
        use opentelemetry::propagation::{Extractor, TextMapPropagator};
        /// Length of version 00. Later versions are longer.
        const BYTES_MIN: usize = 55;
        struct Header<'a>(&'a str);
        impl Extractor for Header<'_> {
            fn get(&self, key: &str) -> Option<&str> {
                (key == "traceparent").then_some(self.0)
            }

            fn keys(&self) -> Vec<&str> {
                vec!["traceparent"]
            }
        }
        let header = Header(Some(traceparent).filter(|text| text.len() >= BYTES_MIN)?);
        let context = self.propagator.extract_with_context(&opentelemetry::Context::new(), &header);
        let context = context.span().span_context().clone();
        context.is_valid().then_some(context)
    }
}

/// Returns a URL in the form that may be logged.
fn shown(url: &url::Url) -> String {
    redacted(url).to_string()
}

/// Removes the user, the password, and the query's values.
fn redacted(url: &url::Url) -> url::Url {
    let mut url = url.clone();
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if url.query().is_some() {
        url.set_query(Some("REDACTED"));
    }
    url
}

/// Returns the resource of `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`. Without a service
/// name there, the name is ours.
fn resource() -> Resource {
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    let names_a_service = env::var("OTEL_RESOURCE_ATTRIBUTES")
        .is_ok_and(|text| text.split(',').any(|pair| pair.trim().starts_with("service.name=")));
    let builder = Resource::builder();
    let builder = if is_set("OTEL_SERVICE_NAME") || names_a_service {
        builder
    } else {
        builder.with_service_name("webhookd")
    };
    builder.with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}
