//! Opens connections to receivers.
//!
//! A connection is opened in four steps. The dialer looks up the host name, checks the addresses
//! against the address policy, connects directly or through the proxy, and performs the TLS
//! handshake.
//!
//! A receiver's addresses are resolved only here, and only once per connection. The checked
//! addresses are therefore the dialed ones. Names and IP literals take the same path. The pool asks
//! again where a name leads to ([`Dialer::route`]). So a host that has moved is called at its new
//! address.

pub use crate::tls::tls_config;
pub use tls_files::native_roots;

use crate::{
    address_policy::{AddressPolicy, Refusal},
    extras::{EXTRAS_MAX, Extras},
    failure::Failure,
    look_ups::{DNS_TIMEOUT, LOOK_UPS_MAX, LookUps},
    places::Owner,
    proxy::{self, Destination, Proxy},
    race,
    resolve::Resolve,
    route::{Peer, Route},
    stream::{Stream, Transport},
    tls::Tls,
};
use delivery::outcome::Phases;
use rustls::pki_types::ServerName;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};
use url::Host;

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

/// A new connection, and where it leads to.
pub struct Dialed {
    pub stream: Stream,
    pub peer: Peer,
    /// The receiver has chosen HTTP/2.
    pub is_http2: bool,
}

/// The protocols that a TLS handshake offers (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 and HTTP/1.1. The receiver chooses.
    Any,
    Http1,
}

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Self::Any => &[HTTP2, HTTP1],
            Self::Http1 => &[HTTP1],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// Opens connections under one policy.
pub struct Dialer {
    policy: AddressPolicy,
    look_ups: LookUps,
    extras: Extras,
    tls: Arc<Tls>,
    proxy: Option<Proxy>,
}

impl Dialer {
    pub fn new(policy: AddressPolicy, resolver: Arc<dyn Resolve>, tls: impl Into<Tls>) -> Self {
        let look_ups = LookUps::new(resolver, LOOK_UPS_MAX);
        Self { policy, look_ups, extras: Extras::new(EXTRAS_MAX), tls: Arc::new(tls.into()), proxy: None }
    }

    /// Returns the certificates, so that they can be read again.
    pub fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// Returns the same dialer with a forward proxy.
    #[must_use]
    pub fn through(self, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..self }
    }

    /// Returns the same dialer with another number of lookups at once.
    #[must_use]
    pub fn with_look_ups(self, count: usize) -> Self {
        Self { look_ups: self.look_ups.with_places(count), ..self }
    }

    /// Returns the same dialer with another number of sockets for races, beyond one for each
    /// attempt.
    #[must_use]
    pub fn with_extras(self, count: usize) -> Self {
        Self { extras: Extras::new(count), ..self }
    }

    /// Opens a connection that is ready for a request. `known` are addresses that
    /// [`Dialer::look_up`] has returned. Without them, the host's name is looked up if that can
    /// begin at once.
    ///
    /// # Errors
    /// Returns [`NOT_BEGUN`](crate::look_ups::NOT_BEGUN), or a [`Failure`] of class refused, dns,
    /// connect, or tls.
    pub async fn dial(
        &self,
        endpoint: &Endpoint,
        offer: Offer,
        owner: &Owner,
        known: Option<Vec<IpAddr>>,
        phases: &mut Phases,
    ) -> Result<Dialed, Failure> {
        if endpoint.https {
            self.tls.refresh().await;
        }
        let connector = self.tls.connector(endpoint.tls.as_deref(), &endpoint.host)?;
        self.policy.check_port(endpoint.port)?;
        let (tcp, peer) = self.reach(endpoint, owner, known, phases).await?;
        // Ignored: a failure here costs latency, not correctness.
        let _ = tcp.set_nodelay(true);
        if !endpoint.https {
            return Ok(Dialed { stream: Stream::new(Transport::Plain(tcp)), peer, is_http2: false });
        }
        let name = server_name(&endpoint.host).ok_or(Refusal::Url)?;
        let connector = connector.with_alpn(offer.protocols());
        let tls = timed(&mut phases.tls, timeout(CONNECT_TIMEOUT, connector.connect(name, tcp)))
            .await
            .map_err(|_| Failure::Tls("the TLS handshake timed out"))?
            .map_err(|error| Failure::of_handshake(&error))?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok(Dialed { stream: Stream::new(Transport::Tls(Box::new(tls))), peer, is_http2 })
    }

    /// Resolves where a new connection would lead to, without opening one.
    ///
    /// # Errors
    /// Returns [`NOT_BEGUN`](crate::look_ups::NOT_BEGUN), or a [`Failure`] of class refused or dns.
    pub async fn route(&self, endpoint: &Endpoint, owner: &Owner) -> Result<Route, Failure> {
        let proxy = self.proxy.as_ref().filter(|proxy| !proxy.is_bypassed_for(&endpoint.host));
        let receiver = match proxy {
            Some(proxy) if proxy.is_given(&endpoint.host) => None,
            _ => Some(self.addresses(endpoint, owner, None).await?),
        };
        let proxy = proxy.filter(|proxy| receiver.as_ref().is_none_or(|found| !proxy.is_bypassed_at(found)));
        let proxy = match proxy {
            Some(proxy) => Some(
                timeout(DNS_TIMEOUT, proxy.addresses(&self.look_ups)).await.map_err(|_| proxy::GONE)??,
            ),
            None => None,
        };
        Ok(Route { receiver, proxy })
    }

    /// Opens a TCP connection to the endpoint, directly or through the proxy.
    async fn reach(
        &self,
        endpoint: &Endpoint,
        owner: &Owner,
        known: Option<Vec<IpAddr>>,
        phases: &mut Phases,
    ) -> Result<(TcpStream, Peer), Failure> {
        let proxy = self.proxy.as_ref().filter(|proxy| !proxy.is_bypassed_for(&endpoint.host));
        if let (Some(proxy), Host::Domain(name)) = (proxy, &endpoint.host)
            && proxy.is_given(&endpoint.host)
        {
            // The proxy resolves the name, so it is unknown whether --allow-net contains the
            // addresses.
            if !endpoint.https && !self.policy.allow_http {
                return Err(Refusal::PlainHttp.into());
            }
            let tunnel = self.tunnel(proxy, Destination::Name(name), endpoint.port);
            return timed(&mut phases.connect, tunnel).await;
        }
        let addresses = match known {
            Some(known) => known,
            None => self.look_up_at_once(endpoint, owner, phases).await?,
        };
        let proxy = proxy.filter(|proxy| !proxy.is_bypassed_at(&addresses));
        timed(&mut phases.connect, self.connect(proxy, &addresses, endpoint.port, owner)).await
    }

    /// Returns the addresses. Those of a URL take no time.
    async fn look_up_at_once(
        &self,
        endpoint: &Endpoint,
        owner: &Owner,
        phases: &mut Phases,
    ) -> Result<Vec<IpAddr>, Failure> {
        let addresses = self.addresses(endpoint, owner, None);
        match &endpoint.host {
            Host::Domain(_) => timed(&mut phases.dns, addresses).await,
            Host::Ipv4(_) | Host::Ipv6(_) => addresses.await,
        }
    }

    /// Connects to the first address that answers.
    async fn connect(
        &self,
        proxy: Option<&Proxy>,
        addresses: &[IpAddr],
        port: u16,
        owner: &Owner,
    ) -> Result<(TcpStream, Peer), Failure> {
        let connect = |ip| async move {
            match proxy {
                Some(proxy) => self.tunnel(proxy, Destination::Address(ip), port).await,
                None => connect(SocketAddr::new(ip, port)).await,
            }
        };
        let more = || self.extras.take(owner);
        race::first_of(race::interleaved(addresses), connect, proxy::is_about_the_proxy, more).await
    }

    async fn tunnel(
        &self,
        proxy: &Proxy,
        destination: Destination<'_>,
        port: u16,
    ) -> Result<(TcpStream, Peer), Failure> {
        let (tcp, ip) = proxy.connect(&self.look_ups, destination, port, CONNECT_TIMEOUT).await?;
        let receiver = match destination {
            Destination::Address(ip) => Some(ip),
            Destination::Name(_) => None,
        };
        Ok((tcp, Peer { receiver, proxy: Some(ip) }))
    }

    /// Looks up the addresses for a new connection. The lookup may begin later, until `wait_until`.
    ///
    /// # Errors
    /// Returns [`NOT_BEGUN`](crate::look_ups::NOT_BEGUN), or a [`Failure`] of class refused or dns.
    pub async fn look_up(
        &self,
        endpoint: &Endpoint,
        owner: &Owner,
        wait_until: tokio::time::Instant,
        phases: &mut Phases,
    ) -> Result<Vec<IpAddr>, Failure> {
        timed(&mut phases.dns, self.addresses(endpoint, owner, Some(wait_until))).await
    }

    /// Returns the addresses of a host if all of them are allowed. The URL parser has already
    /// turned `127.1`, `0x7f000001`, and the like into [`Host::Ipv4`], so a literal never causes a
    /// query.
    async fn addresses(
        &self,
        endpoint: &Endpoint,
        owner: &Owner,
        wait_until: Option<tokio::time::Instant>,
    ) -> Result<Vec<IpAddr>, Failure> {
        let addresses = match &endpoint.host {
            Host::Ipv4(v4) => vec![IpAddr::V4(*v4)],
            Host::Ipv6(v6) => vec![IpAddr::V6(*v6)],
            Host::Domain(name) => self.look_ups.resolve(name, owner, wait_until).await?,
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
async fn connect(address: SocketAddr) -> Result<(TcpStream, Peer), Failure> {
    let peer = Peer { receiver: Some(address.ip()), proxy: None };
    match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map(|tcp| (tcp, peer)).map_err(|error| Failure::of_connect(&error)),
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
