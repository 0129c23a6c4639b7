//! An HTTP client for the commands that act as a sender: one connection per request, no redirects,
//! no address policy. The user of the command chooses the address. The daemon has a sender of its
//! own.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::{Method, Request, body::Frame, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use std::{
    convert::Infallible,
    error::Error as StdError,
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsConnector;
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
    Connect(#[from] io::Error),
    #[error("the connection failed: {0}")]
    Protocol(#[from] hyper::Error),
    #[error("cannot build the request: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("the answer ended early: {0}")]
    ApiResponse(#[source] Box<dyn StdError + Send + Sync>),
}

/// The receiver of requests.
pub struct Client {
    url: Url,
    tls: TlsConnector,
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
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { url, tls: Arc::new(config).into(), timeout })
    }

    /// # Errors
    /// No answer, for any reason. An answer with any status is not an error.
    pub async fn send(&self, call: Call) -> Result<ApiResponse, Failure> {
        let began = Instant::now();
        let exchange = async {
            let host = self.url.host_str().unwrap_or_default();
            let address = (host.trim_matches(['[', ']']), self.url.port_or_known_default().unwrap_or(80));
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if self.url.scheme() == "https" {
                let name = ServerName::try_from(address.0.to_owned()).map_err(io::Error::other)?;
                self.exchange(self.tls.connect(name, stream).await?, call).await
            } else {
                self.exchange(stream, call).await
            }
        };
        let status = timeout(self.timeout, exchange).await.map_err(|_| Failure::Timeout(self.timeout))??;
        Ok(ApiResponse { status, elapsed: began.elapsed() })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        call: Call,
    ) -> Result<u16, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let target = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::builder()
            .method(call.method)
            .uri(target)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("pg_webhook/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_LENGTH, call.body.len());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let half = if call.pause.is_zero() { 0 } else { call.body.len() / 2 };
        let parts = [(call.body.slice(..half), Duration::ZERO), (call.body.slice(half..), call.pause)];
        let parts = stream::unfold(parts.into_iter(), |mut parts| async move {
            let (part, pause) = parts.next()?;
            sleep(pause).await;
            Some((Ok::<_, Infallible>(Frame::data(part)), parts))
        });
        let response = sender.send_request(request.body(StreamBody::new(Box::pin(parts)))?).await;
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                connection.abort();
                return Err(error.into());
            }
        };
        let status = response.status().as_u16();
        // The body is read, as a sender does, and ignored.
        let read = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        connection.abort();
        match read {
            Err(error) if !error.is::<http_body_util::LengthLimitError>() && status / 100 != 2 => {
                Err(Failure::ApiResponse(error))
            }
            _ => Ok(status),
        }
    }
}
