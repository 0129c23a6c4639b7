//! An OpenTelemetry collector: accepts spans over OTLP/HTTP as protobuf, and keeps them.

use crate::PATIENCE;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use std::{collections::BTreeMap, convert::Infallible, fmt::Write};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

/// A span, and the attributes of the program that made it.
#[derive(Debug, Clone)]
pub struct Collected {
    pub resource: BTreeMap<String, String>,
    pub span: Span,
    pub attributes: BTreeMap<String, String>,
}

impl Collected {
    /// Returns the trace id in hex.
    pub fn trace_id(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Returns the span id in hex.
    pub fn span_id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// Returns the parent's id in hex; empty for a root.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Returns an attribute as text; empty if there is none.
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// Formats bytes in hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A running collector, which stops when it is dropped.
#[derive(Debug)]
pub struct Collector {
    pub url: String,
    collected: watch::Receiver<Vec<Collected>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts a collector on a port of its own.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start() -> Self {
        Self::start_at(0).await
    }

    /// Starts a collector on this port.
    ///
    /// # Panics
    /// If the port is in use.
    pub async fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let (keep, collected) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let keep = keep.clone();
                let service = service_fn(move |request| take(request, keep.clone()));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { url, collected, task }
    }

    /// Returns all spans so far.
    pub fn collected(&self) -> Vec<Collected> {
        self.collected.borrow().clone()
    }

    /// Waits for `count` spans, and returns all there are.
    ///
    /// # Panics
    /// If they have not arrived within [`PATIENCE`].
    pub async fn wait_for(&self, count: usize) -> Vec<Collected> {
        let mut collected = self.collected.clone();
        match timeout(PATIENCE, collected.wait_for(|spans| spans.len() >= count)).await {
            Ok(spans) => spans.expect("it is at work").clone(),
            Err(_) => panic!("{count} spans were wanted, there are {:#?}", self.collected()),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(
    request: Request<Incoming>,
    keep: watch::Sender<Vec<Collected>>,
) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    let exported = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let mut collected = Vec::new();
    for from_one in exported.resource_spans {
        let resource = texts(&from_one.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in from_one.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let attributes = texts(&span.attributes);
            collected.push(Collected { resource: resource.clone(), span, attributes });
        }
    }
    keep.send_modify(|all| all.append(&mut collected));
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    let response = Response::builder().header("content-type", "application/x-protobuf");
    Ok(response.body(Full::from(answer)).expect("an answer"))
}

fn texts(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}
