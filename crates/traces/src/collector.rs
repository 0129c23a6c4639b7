//! Sends spans to the collector with OTLP over HTTP, on one connection per batch.
//!
//! The operator runs the collector, so the rules that protect receivers' networks do not apply: any
//! address, any port, and plain http are allowed. `--proxy` is not used, nor are the proxies of the
//! environment. A failure is logged once, and the recovery is logged once.

use bytes::{Bytes, BytesMut};
use delivery::causes::chain;
use hyper::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::{Client, redirect};
use std::{
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tls_files::{BadFile, client_config};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// Timeout of one request. OpenTelemetry limits an export, including its retries, to 10 s.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The HTTP client of the SDK's exporter, and its certificates.
pub struct Collector {
    client: RwLock<Client>,
    ca_file: Option<PathBuf>,
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
    pub fn new(ca_file: Option<&Path>) -> Result<Self, BadFile> {
        Ok(Self {
            client: RwLock::new(client(ca_file)?),
            ca_file: ca_file.map(Path::to_owned),
            runtime: Handle::current(),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Reads the file of authorities again. If it cannot be used, the former ones stay in use.
    ///
    /// # Errors
    /// Returns an error that names the file.
    pub fn reload(&self) -> Result<(), BadFile> {
        let client = client(self.ca_file.as_deref())?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client;
        Ok(())
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

/// The client is shared: the exporter sends with it, and a reload replaces its certificates.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<Collector>);

impl HttpClient for Shared {
    fn send_bytes<'client, 'future>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'client: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let Self(collector) = self;
            let client = collector.client.read().unwrap_or_else(PoisonError::into_inner).clone();
            let answered = match collector.runtime.spawn(exchange(client, request)).await {
                Ok(answered) => answered,
                Err(error) => Err(error.into()),
            };
            collector.tell(match &answered {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("the collector answered {}", response.status())),
                Err(error) => Some(chain(&**error)),
            });
            answered
        })
    }
}

/// Returns a client that keeps no connection, so that a collector that moves is found.
fn client(ca_file: Option<&Path>) -> Result<Client, BadFile> {
    let client = Client::builder()
        .tls_backend_preconfigured(client_config(ca_file)?)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(TIMEOUT)
        .build();
    // The TLS configuration is complete, and there is no resolver to configure.
    Ok(client.expect("the client's options are valid"))
}

/// Sends one request over one connection.
async fn exchange(client: Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    // The URL may contain a password.
    let without_url = reqwest::Error::without_url;
    let request = reqwest::Request::try_from(request).map_err(without_url)?;
    let mut response = client.execute(request).await.map_err(without_url)?;
    let (status, mut body) = (response.status(), BytesMut::new());
    while let Some(part) = response.chunk().await.map_err(without_url)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err("the collector's answer is too large".into());
        }
        body.extend_from_slice(&part);
    }
    let mut answered = Response::new(body.freeze());
    *answered.status_mut() = status;
    std::mem::swap(answered.headers_mut(), response.headers_mut());
    Ok(answered)
}
