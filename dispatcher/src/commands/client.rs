//! An HTTP client for the commands that act as a sender: one connection per request, no redirects,
//! no proxy, no address policy. The user of the command chooses the address. The daemon has a
//! sender of its own.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::{Method, body::Frame, header};
use reqwest::{Body, redirect};
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};
use thiserror::Error;
use tls_files::client_config;
use tokio::time::sleep;
use url::Url;

/// Maximum number of bytes that are read of an answer's body.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A request, with its headers except `host` and `content-length`.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Time between the two halves of the body.
    pub pause: Duration,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiResponse {
    pub status: u16,
    pub elapsed: Duration,
}

#[derive(Debug, Error)]
pub enum Failure {
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("the connection failed: {0}")]
    Protocol(String),
    #[error("the answer ended early: {0}")]
    ApiResponse(String),
}

/// The receiver of requests.
pub struct Client {
    url: Url,
    http: reqwest::Client,
    timeout: Duration,
}

impl Client {
    /// # Errors
    /// What is wrong with the address, in words.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|why| format!("invalid URL `{url}`: {why}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("invalid URL `{url}`: it must start with http:// or https://"));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(None).map_err(|why| why.to_string())?)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .user_agent(concat!("pg_webhook/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .build()
            .map_err(|why| reason(&why))?;
        Ok(Self { url, http, timeout })
    }

    /// # Errors
    /// No answer, for any reason. An answer with any status is not an error.
    pub async fn send(&self, call: Call) -> Result<ApiResponse, Failure> {
        let began = Instant::now();
        let mut request = self.http.request(call.method, self.url.clone());
        request = request.header(header::CONTENT_LENGTH, call.body.len());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let sent = request.body(in_halves(call.body, call.pause)).send().await;
        let mut response = sent.map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let mut read = 0;
        // The body is read, as a sender does, and ignored.
        while read <= ANSWER_BYTES_MAX {
            match response.chunk().await {
                Ok(Some(part)) => read += part.len(),
                Ok(None) => break,
                Err(_) if status / 100 == 2 => break,
                Err(error) if error.is_timeout() => return Err(Failure::Timeout(self.timeout)),
                Err(error) => return Err(Failure::ApiResponse(reason(&error))),
            }
        }
        Ok(ApiResponse { status, elapsed: began.elapsed() })
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            Failure::Timeout(self.timeout)
        } else if error.is_connect() {
            Failure::Connect(reason(error))
        } else {
            Failure::Protocol(reason(error))
        }
    }
}

/// Returns a body that arrives in two parts, if there is a pause.
fn in_halves(body: Bytes, pause: Duration) -> Body {
    if pause.is_zero() {
        return body.into();
    }
    let half = body.len() / 2;
    let parts = [(body.slice(..half), Duration::ZERO), (body.slice(half..), pause)];
    let parts = stream::unfold(parts.into_iter(), |mut parts| async move {
        let (part, pause) = parts.next()?;
        sleep(pause).await;
        Some((Ok::<_, Infallible>(Frame::data(part)), parts))
    });
    Body::wrap(StreamBody::new(Box::pin(parts)))
}

/// Returns the last cause of an error. The others repeat that a request failed.
fn reason(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
