//! Sends spans to the collector with OTLP over HTTP/1.1, on one connection per batch.
//!
//! The operator runs the collector, so the rules that protect receivers' networks do not apply: any
//! address, any port, and plain http are allowed. `--proxy` is not used. A failure is logged once,
//! and the recovery is logged once.

use bytes::Bytes;
use delivery::outcome::Phases;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, Uri,
    header::{self, HeaderValue},
};
use hyper_util::rt::TokioIo;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use opentelemetry_http::{HttpClient, HttpError};
use sender::{
    address_policy::{AddressPolicy, Ports},
    dial::{Dialer, Endpoint, Offer},
    resolve::SystemResolver,
    tls::{self, Tls},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{info, warn};

/// Timeout of one request. OpenTelemetry limits an export, including its retries, to 10 s.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The HTTP client of the SDK's exporter.
pub struct Collector {
    dialer: Arc<Dialer>,
    /// The exporter's thread is outside the runtime, but sockets need the runtime.
    runtime: Handle,
    is_failing: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

impl Collector {
    /// Creates the client. Call it within a tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the file of authorities cannot be read.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, tls::Unusable> {
        let policy = AddressPolicy {
            allow_nets: vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())],
            deny_nets: Vec::new(),
            ports: Ports::parse(["1-65535"]).unwrap_or_default(),
            allow_http: true,
        };
        let dialer =
            Dialer::new(policy, Arc::new(SystemResolver::default()), Tls::load(ca_file, &BTreeMap::new())?);
        Ok(Self { dialer: Arc::new(dialer), runtime: Handle::current(), is_failing: AtomicBool::new(false) })
    }

    /// Returns the certificates, so that they can be read again.
    pub fn certificates(&self) -> Arc<Tls> {
        self.dialer.tls()
    }

    /// Logs a change from success to failure or back.
    fn tell(&self, problem: Option<String>) {
        match problem {
            Some(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                warn!(error, "traces.collector_fails; deliveries continue, spans are lost");
            }
            None if self.is_failing.swap(false, Ordering::Relaxed) => info!("traces.collector_recovers"),
            _ => {}
        }
    }
}

impl HttpClient for Collector {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let dialer = Arc::clone(&self.dialer);
            // The timer needs the runtime too.
            let exchange = async move { timeout(TIMEOUT, exchange(dialer, request)).await };
            let answered = match self.runtime.spawn(exchange).await {
                Ok(Ok(answered)) => answered,
                Ok(Err(_)) => Err("the collector did not answer in time".into()),
                Err(error) => Err(error.into()),
            };
            self.tell(match &answered {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("the collector answered {}", response.status())),
                Err(error) => Some(error.to_string()),
            });
            answered
        })
    }
}

/// Sends one request over one connection.
async fn exchange(dialer: Arc<Dialer>, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut parts, body) = request.into_parts();
    let url = url::Url::parse(&parts.uri.to_string())?;
    let endpoint = Endpoint::of(&url, None)?;
    let stream = dialer.dial(&endpoint, Offer::Http1, &mut Phases::default()).await?.stream;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority)?);
    parts.uri = parts.uri.path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    let answered = async {
        let (head, body) = send.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let answered = answered.await;
    connection.abort();
    answered
}
