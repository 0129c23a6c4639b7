//! Opens connections to receivers.
//!
//! A connection is opened in four steps. The dialer resolves the host name, checks the addresses
//! against the address policy, connects directly or through the proxy, and performs the TLS
//! handshake.
//!
//! A receiver's addresses are resolved only here, and only once. The checked addresses are
//! therefore the dialed ones. Names and IP literals take the same path.

pub use crate::tls::tls_config;
pub use tls_files::native_roots;

use crate::{
    address_policy::{AddressPolicy, Refusal},
    failure::Failure,
    proxy::{self, Destination, Proxy},
    race,
    resolve::Resolve,
    tls::Tls,
};
use delivery::outcome::Phases;
use rustls::pki_types::ServerName;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use url::Host;

/// Timeout of a DNS lookup.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a connect to one address, and of the TLS handshake after it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The key of a connection: scheme, host, port, and the certificates that are presented.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub https: bool,
    pub host: Host<String>,
    pub port: u16,
    /// Name of a set of certificates. `None` selects the default certificates.
    pub tls: Option<Arc<str>>,
}

impl Endpoint {
    /// Returns the endpoint of a URL.
    ///
    /// # Errors
    /// Returns [`Refusal::Url`] unless the URL is http(s) and has a host.
    pub fn of(url: &url::Url, tls: Option<Arc<str>>) -> Result<Self, Refusal> {
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(Refusal::Url),
        };
        let host = url.host().ok_or(Refusal::Url)?.to_owned();
        let port = url.port_or_known_default().ok_or(Refusal::Url)?;
        Ok(Self { https, host, port, tls })
    }
}

/// Opens connections under one policy.
pub struct Dialer {
    policy: AddressPolicy,
    resolver: Arc<dyn Resolve>,
    tls: Tls,
    proxy: Option<Proxy>,
}

impl Dialer {
    pub fn new(policy: AddressPolicy, resolver: Arc<dyn Resolve>, tls: impl Into<Tls>) -> Self {
        Self { policy, resolver, tls: tls.into(), proxy: None }
    }

    /// Returns the same dialer with a forward proxy.
    #[must_use]
    pub fn through(self, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..self }
    }

    /// Opens a connection that is ready for a request.
    ///
    /// # Errors
    /// Returns [`Failure`] of class refused, dns, connect, or tls.
    pub async fn dial(&self, endpoint: &Endpoint, phases: &mut Phases) -> Result<Stream, Failure> {
        let connector = self.tls.connector(endpoint.tls.as_deref(), &endpoint.host)?;
        self.policy.check_port(endpoint.port)?;
        let tcp = self.reach(endpoint, phases).await?;
        // Ignored: a failure here costs latency, not correctness.
        let _ = tcp.set_nodelay(true);
        if !endpoint.https {
            return Ok(Stream::new(Transport::Plain(tcp)));
        }
        let name = server_name(&endpoint.host).ok_or(Refusal::Url)?;
        let tls = timed(&mut phases.tls, timeout(CONNECT_TIMEOUT, connector.connect(name, tcp)))
            .await
            .map_err(|_| Failure::Tls("the TLS handshake timed out"))?
            .map_err(|error| Failure::of_handshake(&error))?;
        Ok(Stream::new(Transport::Tls(Box::new(tls))))
    }

    /// Opens a TCP connection to the endpoint, directly or through the proxy.
    async fn reach(&self, endpoint: &Endpoint, phases: &mut Phases) -> Result<TcpStream, Failure> {
        let proxy = self.proxy.as_ref().filter(|proxy| !proxy.is_bypassed_for(&endpoint.host));
        if let (Some(proxy), Host::Domain(name)) = (proxy.filter(|proxy| proxy.resolves()), &endpoint.host) {
            // The proxy resolves the name, so it is unknown whether --allow-net contains the
            // addresses.
            if !endpoint.https && !self.policy.allow_http {
                return Err(Refusal::PlainHttp.into());
            }
            let destination = Destination::Name(name);
            let tunnel = proxy.connect(&*self.resolver, destination, endpoint.port, CONNECT_TIMEOUT);
            return timed(&mut phases.connect, tunnel).await;
        }
        let addresses = self.addresses(endpoint, &mut phases.dns).await?;
        let proxy = proxy.filter(|proxy| !proxy.is_bypassed_at(&addresses));
        timed(&mut phases.connect, self.connect(proxy, &addresses, endpoint.port)).await
    }

    /// Connects to the first address that answers.
    async fn connect(
        &self,
        proxy: Option<&Proxy>,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<TcpStream, Failure> {
        let connect = |ip| async move {
            match proxy {
                Some(proxy) => {
                    let destination = Destination::Address(ip);
                    proxy.connect(&*self.resolver, destination, port, CONNECT_TIMEOUT).await
                }
                None => connect(SocketAddr::new(ip, port)).await,
            }
        };
        race::first_of(race::interleaved(addresses), connect, proxy::is_about_the_proxy).await
    }

    /// Returns the addresses of a host if all of them are allowed. The URL parser has already
    /// turned `127.1`, `0x7f000001`, and the like into [`Host::Ipv4`], so a literal never causes a
    /// query.
    async fn addresses(
        &self,
        endpoint: &Endpoint,
        took: &mut Option<Duration>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match &endpoint.host {
            Host::Ipv4(v4) => vec![IpAddr::V4(*v4)],
            Host::Ipv6(v6) => vec![IpAddr::V6(*v6)],
            Host::Domain(name) => timed(took, timeout(DNS_TIMEOUT, self.resolver.resolve(name)))
                .await
                .map_err(|_| Failure::DnsTimeout(DNS_TIMEOUT))?
                .map_err(|error| Failure::of_this_machine(&error).unwrap_or(Failure::Dns))?,
        };
        if addresses.is_empty() {
            return Err(Failure::Dns);
        }
        if let Err(refusal) = self.policy.check(&addresses, endpoint.https) {
            // Logged for the operator only; the attempt's row has other readers.
            tracing::debug!(host = %endpoint.host, ?addresses, %refusal, "address.refused");
            return Err(refusal.into());
        }
        Ok(addresses)
    }
}

/// Connects to one address.
async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| Failure::of_connect(&error)),
        Err(_) => Err(Failure::ConnectTimeout(CONNECT_TIMEOUT)),
    }
}

/// Awaits a phase and records its duration, also if it fails.
async fn timed<T>(took: &mut Option<Duration>, phase: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let ended = phase.await;
    *took = Some(begun.elapsed());
    ended
}

/// Returns the name that the certificate must contain. rustls ignores a trailing dot.
fn server_name(host: &Host<String>) -> Option<ServerName<'static>> {
    match host {
        Host::Ipv4(v4) => Some(ServerName::IpAddress(IpAddr::V4(*v4).into())),
        Host::Ipv6(v6) => Some(ServerName::IpAddress(IpAddr::V6(*v6).into())),
        Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that meters its bytes: how many were received, when the request was written, and
/// when the response began. The meter separates a dead kept-alive connection from a bad response,
/// and the receiver's time from ours.
pub struct Stream {
    transport: Transport,
    meter: Arc<Meter>,
}

/// The measurements of a [`Stream`].
#[derive(Debug)]
pub struct Meter {
    opened: Instant,
    received: AtomicU64,
    /// When the last byte before a response was written, and when the response's first byte was
    /// received. Both are in nanoseconds since the connection was opened; 0 means not yet.
    written_ns: AtomicU64,
    answered_ns: AtomicU64,
}

impl Meter {
    /// Returns the number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Resets the times for the next request.
    pub fn begin(&self) {
        self.written_ns.store(0, Ordering::Relaxed);
        self.answered_ns.store(0, Ordering::Relaxed);
    }

    /// Returns the time from the end of the request to the first byte of the response. Returns
    /// `None` if no response has begun.
    pub fn first_byte(&self) -> Option<Duration> {
        let (written, answered) =
            (self.written_ns.load(Ordering::Relaxed), self.answered_ns.load(Ordering::Relaxed));
        (answered > 0).then(|| Duration::from_nanos(answered.saturating_sub(written)))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(1..))) && self.answered_ns.load(Ordering::Relaxed) == 0 {
            self.written_ns.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    fn read(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.answered_ns.load(Ordering::Relaxed) == 0 {
            self.answered_ns.store(self.now_ns(), Ordering::Relaxed);
        }
    }
}

impl Stream {
    fn new(transport: Transport) -> Self {
        let meter = Meter {
            opened: Instant::now(),
            received: AtomicU64::new(0),
            written_ns: AtomicU64::new(0),
            answered_ns: AtomicU64::new(0),
        };
        Self { transport, meter: Arc::new(meter) }
    }

    /// Returns the meter, which stays valid after the stream is moved.
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        self.meter.read(buf.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.meter.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.meter.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
