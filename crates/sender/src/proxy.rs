//! Connects through a forward proxy: HTTP with CONNECT, or SOCKS 5.
//!
//! By default the daemon resolves and checks names, and the proxy receives the checked address.
//! With `--proxy-resolves`, the proxy receives the name and applies its own policy to it.
//!
//! If the proxy is unreachable or rejects the daemon, the failure is ours. If the proxy cannot
//! reach the receiver, the failure is the receiver's.

use crate::{
    failure::Failure,
    host_pattern::{HostPattern, InvalidHost},
    look_ups::{DNS_TIMEOUT, LookUps},
    race,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};
use url::{Host, Url};

/// Maximum size of the head of an HTTP proxy's response, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub const GONE: Failure = Failure::Ours("cannot connect to webhookd's forward proxy");
const GARBLED: Failure = Failure::Ours("webhookd's forward proxy does not speak the protocol of its URL");
const UNWILLING: Failure = Failure::Ours("webhookd's forward proxy does not allow this host");
const STRANGER: Failure = Failure::Ours("webhookd's forward proxy rejected the credentials");
const UNREACHABLE: Failure = Failure::Connect("the forward proxy could not reach the host");

/// A proxy, and the hosts that are called without it.
#[derive(Clone)]
pub struct Proxy {
    protocol: Protocol,
    host: Host<String>,
    port: u16,
    credentials: Option<Credentials>,
    /// The proxy receives names instead of addresses.
    resolves: bool,
    bypass: Vec<Bypass>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http,
    Socks5,
}

#[derive(Clone)]
struct Credentials {
    user: String,
    password: String,
}

/// A rule that selects hosts to call directly.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bypass {
    Net(IpNet),
    Host(HostPattern),
}

/// The reason why a text is not a valid proxy. The text may contain a password, so the message does
/// not repeat it.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum InvalidProxy {
    #[error("the proxy must be a URL such as http://proxy.example:3128 or socks5://proxy.example:1080")]
    Url,
    #[error("the proxy URL must have the scheme http or socks5 (for socks5h, add --proxy-resolves)")]
    Scheme,
    #[error("the proxy URL has a path; remove it")]
    Path,
    #[error("for SOCKS, user name and password must have 1 to 255 bytes each")]
    Credentials,
}

/// The destination of a connection through the proxy.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    Address(IpAddr),
    Name(&'a str),
}

/// Reports whether the proxy itself failed. Another address of the receiver does not change that.
pub fn is_about_the_proxy(failure: &Failure) -> bool {
    [GONE, GARBLED, STRANGER].contains(failure)
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}:{}", self.protocol, self.host, self.port)
    }
}

impl Proxy {
    /// Parses `http://user:password@host:port` or `socks5://…`. The default ports are 3128 and
    /// 1080.
    ///
    /// # Errors
    /// Returns [`InvalidProxy`], which names the broken rule.
    pub fn parse(text: &str) -> Result<Self, InvalidProxy> {
        let url = Url::parse(text).map_err(|_| InvalidProxy::Url)?;
        let (protocol, default_port) = match url.scheme() {
            "http" => (Protocol::Http, 3128),
            "socks5" => (Protocol::Socks5, 1080),
            _ => return Err(InvalidProxy::Scheme),
        };
        // The URL standard leaves hosts of unknown schemes unparsed.
        let host = Host::parse(url.host_str().unwrap_or_default()).map_err(|_| InvalidProxy::Url)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidProxy::Path);
        }
        // The parser removes an explicit port 80, the default of http. Only the text shows it.
        let is_80 = protocol == Protocol::Http && text.trim_end_matches('/').ends_with(":80");
        let port = url.port().unwrap_or(if is_80 { 80 } else { default_port });
        let proxy = Self {
            protocol,
            host,
            port,
            credentials: Credentials::of(&url),
            resolves: false,
            bypass: Vec::new(),
        };
        match &proxy.credentials {
            Some(credentials) if protocol == Protocol::Socks5 && !credentials.fit_socks() => {
                Err(InvalidProxy::Credentials)
            }
            _ => Ok(proxy),
        }
    }

    /// Sets whether the proxy receives names instead of addresses.
    #[must_use]
    pub fn resolving(self, resolves: bool) -> Self {
        Self { resolves, ..self }
    }

    pub fn resolves(&self) -> bool {
        self.resolves
    }

    /// Reports whether the proxy receives this host as a name.
    pub fn is_given(&self, host: &Host<String>) -> bool {
        self.resolves && matches!(host, Host::Domain(_))
    }

    /// Adds hosts to call directly: ranges (CIDR), hosts, or domains with a leading dot.
    ///
    /// # Errors
    /// Returns [`InvalidHost`] with the first text that is none of these.
    pub fn bypassed_by<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidHost> {
        for text in texts {
            let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            self.bypass.push(match net {
                Ok(net) => Bypass::Net(net),
                Err(_) => Bypass::Host(HostPattern::parse(text)?),
            });
        }
        Ok(self)
    }

    /// Reports whether a host is called directly because of its name.
    pub fn is_bypassed_for(&self, host: &Host<String>) -> bool {
        self.bypass.iter().any(|bypass| matches!(bypass, Bypass::Host(pattern) if pattern.matches(host)))
    }

    /// Reports whether a host with these addresses is called directly.
    pub fn is_bypassed_at(&self, addresses: &[IpAddr]) -> bool {
        let bypassed = |ip: &IpAddr| {
            let ip = ip.to_canonical();
            self.bypass.iter().any(|bypass| matches!(bypass, Bypass::Net(net) if net.contains(&ip)))
        };
        !addresses.is_empty() && addresses.iter().all(bypassed)
    }

    /// Connects to the destination through the proxy. Returns the proxy's address too.
    ///
    /// # Errors
    /// Returns [`Failure::Ours`] if the proxy fails, and [`Failure::Connect`] or
    /// [`Failure::ConnectTimeout`] if the proxy cannot reach the destination.
    pub async fn connect(
        &self,
        look_ups: &LookUps,
        destination: Destination<'_>,
        port: u16,
        within: Duration,
    ) -> Result<(TcpStream, IpAddr), Failure> {
        let (mut tcp, ip) = match timeout(within, self.reach(look_ups)).await {
            Ok(reached) => reached?,
            Err(_) => return Err(GONE),
        };
        let asked = async {
            match self.protocol {
                Protocol::Http => self.ask_http(&mut tcp, destination, port).await,
                Protocol::Socks5 => self.ask_socks(&mut tcp, destination, port).await,
            }
        };
        match timeout(within, asked).await {
            Ok(answered) => answered.map(|()| (tcp, ip)),
            // The proxy accepted the request, so it is waiting for the receiver.
            Err(_) => Err(Failure::ConnectTimeout(within)),
        }
    }

    /// Returns the addresses of the proxy itself. The operator named it, so no policy checks them.
    ///
    /// # Errors
    /// Returns [`GONE`] if the name is not resolved.
    pub async fn addresses(&self, look_ups: &LookUps) -> Result<Vec<IpAddr>, Failure> {
        match &self.host {
            Host::Ipv4(v4) => Ok(vec![IpAddr::V4(*v4)]),
            Host::Ipv6(v6) => Ok(vec![IpAddr::V6(*v6)]),
            Host::Domain(name) => {
                let wait_until = Instant::now() + DNS_TIMEOUT;
                look_ups.resolve(name, &None, Some(wait_until)).await.map_err(|_| GONE)
            }
        }
    }

    async fn reach(&self, look_ups: &LookUps) -> Result<(TcpStream, IpAddr), Failure> {
        let addresses = self.addresses(look_ups).await?;
        let connect = |ip| async move {
            let connected = TcpStream::connect(SocketAddr::new(ip, self.port)).await;
            connected.map(|tcp| (tcp, ip)).map_err(|error| {
                tracing::debug!(proxy = ?self, %error, "proxy.unreachable");
                GONE
            })
        };
        race::first_of(race::interleaved(&addresses), connect, |_| false, || Some(())).await.map_err(|_| GONE)
    }

    async fn ask_http(
        &self,
        tcp: &mut TcpStream,
        destination: Destination<'_>,
        port: u16,
    ) -> Result<(), Failure> {
        let authority = match destination {
            Destination::Address(IpAddr::V6(v6)) => format!("[{v6}]:{port}"),
            Destination::Address(IpAddr::V4(v4)) => format!("{v4}:{port}"),
            Destination::Name(name) => format!("{name}:{port}"),
        };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(Credentials { user, password }) = &self.credentials {
            request.push_str("Proxy-Authorization: Basic ");
            STANDARD.encode_string(format!("{user}:{password}"), &mut request);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes()).await.map_err(|_| GONE)?;
        match status(&head(tcp).await?) {
            Some(200..=299) => Ok(()),
            Some(407) => Err(STRANGER),
            // These statuses report a failure of the destination.
            Some(502..=504) => Err(UNREACHABLE),
            Some(_) => Err(UNWILLING),
            None => Err(GARBLED),
        }
    }

    /// Performs the exchange of RFC 1928, and of RFC 1929 for credentials.
    async fn ask_socks(
        &self,
        tcp: &mut TcpStream,
        destination: Destination<'_>,
        port: u16,
    ) -> Result<(), Failure> {
        const NO_CREDENTIALS: u8 = 0;
        const USER_AND_PASSWORD: u8 = 2;
        let methods: &[u8] = match self.credentials {
            None => &[5, 1, NO_CREDENTIALS],
            Some(_) => &[5, 2, NO_CREDENTIALS, USER_AND_PASSWORD],
        };
        tcp.write_all(methods).await.map_err(|_| GONE)?;
        match (read::<2>(tcp).await?, &self.credentials) {
            ([5, NO_CREDENTIALS], _) => {}
            ([5, USER_AND_PASSWORD], Some(credentials)) => {
                tcp.write_all(&credentials.for_socks()).await.map_err(|_| GONE)?;
                match read::<2>(tcp).await? {
                    [1, 0] => {}
                    [1, _] => return Err(STRANGER),
                    _ => return Err(GARBLED),
                }
            }
            ([5, _], _) => return Err(STRANGER),
            _ => return Err(GARBLED),
        }
        let mut request = vec![5, 1, 0];
        match destination {
            Destination::Address(IpAddr::V4(v4)) => {
                request.push(1);
                request.extend_from_slice(&v4.octets());
            }
            Destination::Address(IpAddr::V6(v6)) => {
                request.push(4);
                request.extend_from_slice(&v6.octets());
            }
            Destination::Name(name) => {
                let length = u8::try_from(name.len()).map_err(|_| Failure::Dns)?;
                request.extend_from_slice(&[3, length]);
                request.extend_from_slice(name.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        tcp.write_all(&request).await.map_err(|_| GONE)?;
        let [version, reply, _, kind] = read::<4>(tcp).await?;
        match (version, reply) {
            (5, 0) => {}
            (5, 2) => return Err(UNWILLING),
            (5, 1 | 3..=6) => return Err(UNREACHABLE),
            _ => return Err(GARBLED),
        }
        // The reply ends with the proxy's local address, which is not used.
        match kind {
            1 => drop(read::<6>(tcp).await?),
            4 => drop(read::<18>(tcp).await?),
            3 => {
                let [length] = read::<1>(tcp).await?;
                for _ in 0..u16::from(length) + 2 {
                    read::<1>(tcp).await?;
                }
            }
            _ => return Err(GARBLED),
        }
        Ok(())
    }
}

impl Credentials {
    fn of(url: &Url) -> Option<Self> {
        let decoded =
            |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (url.username(), url.password());
        (!user.is_empty() || password.is_some())
            .then(|| Self { user: decoded(user), password: decoded(password.unwrap_or_default()) })
    }

    fn fit_socks(&self) -> bool {
        [&self.user, &self.password].into_iter().all(|text| (1..=255).contains(&text.len()))
    }

    fn for_socks(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        for text in [&self.user, &self.password] {
            // `parse` has checked fit_socks(), so the cast does not truncate.
            bytes.push(text.len() as u8);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }
}

async fn read<const N: usize>(tcp: &mut TcpStream) -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    tcp.read_exact(&mut bytes).await.map_err(|_| GONE)?;
    Ok(bytes)
}

/// Reads the head of an HTTP response, and no byte after it: those belong to the receiver.
async fn head(tcp: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(GARBLED);
        }
        let [byte] = read::<1>(tcp).await?;
        head.push(byte);
    }
    Ok(head)
}

/// Returns the status of an HTTP/1 response.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (b"0 " | b"1 ", rest) = rest.split_at_checked(2)? else { return None };
    let (digits, rest) = rest.split_at_checked(3)?;
    let ends = matches!(rest.first(), Some(b' ' | b'\r'));
    let digits = str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    if ends { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_urls_of_two_schemes() {
        for (text, want) in [
            ("http://proxy.example", "Http proxy.example:3128"),
            ("http://proxy.example:80/", "Http proxy.example:80"),
            ("http://proxy.example:8080/", "Http proxy.example:8080"),
            ("socks5://10.0.0.1", "Socks5 10.0.0.1:1080"),
            ("socks5://user:hunter2@[::1]:9050", "Socks5 [::1]:9050"),
        ] {
            assert_eq!(format!("{:?}", Proxy::parse(text).unwrap()), want, "{text}");
        }
        let long = format!("socks5://{}:p@a", "u".repeat(256));
        for (text, want) in [
            ("proxy.example:3128", InvalidProxy::Scheme),
            ("https://proxy.example", InvalidProxy::Scheme),
            ("socks5h://proxy.example", InvalidProxy::Scheme),
            ("http://", InvalidProxy::Url),
            ("socks5://", InvalidProxy::Url),
            ("hunter2", InvalidProxy::Url),
            ("http://proxy.example/a", InvalidProxy::Path),
            ("http://proxy.example/?a", InvalidProxy::Path),
            ("socks5://user@proxy.example", InvalidProxy::Credentials),
            (&long, InvalidProxy::Credentials),
        ] {
            assert_eq!(Proxy::parse(text).unwrap_err(), want, "{text}");
        }
        let proxy = Proxy::parse("http://us%40er:p%3Aw@proxy.example").unwrap();
        let Some(Credentials { user, password }) = proxy.credentials else { panic!("no credentials") };
        assert_eq!((user.as_str(), password.as_str()), ("us@er", "p:w"));
    }

    #[test]
    fn some_are_called_directly() {
        let proxy = Proxy::parse("http://proxy.example").unwrap();
        let proxy = proxy.bypassed_by(["10.0.0.0/8", "::1", "one.example", ".corp.example"]).unwrap();
        for (host, want) in [
            ("one.example", true),
            ("a.one.example", false),
            ("a.corp.example", true),
            ("corp.example", false),
        ] {
            assert_eq!(proxy.is_bypassed_for(&Host::Domain(host.to_owned())), want, "{host}");
        }
        for (addresses, want) in [
            (&["10.1.2.3"][..], true),
            (&["::ffff:10.1.2.3"], true),
            (&["10.1.2.3", "::1"], true),
            (&["10.1.2.3", "8.8.8.8"], false),
            (&["11.0.0.1"], false),
            (&[], false),
        ] {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(proxy.is_bypassed_at(&addresses), want, "{addresses:?}");
        }
        assert!(proxy.bypassed_by(["a b"]).is_err());
    }

    #[test]
    fn only_http_1_has_a_status() {
        for (head, want) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", Some(200)),
            ("HTTP/1.0 407\r\n\r\n", Some(407)),
            ("HTTP/1.1 2000 OK\r\n\r\n", None),
            ("HTTP/1.1 +20 OK\r\n\r\n", None),
            ("HTTP/2 200\r\n\r\n", None),
            ("HTTP/1.1  200 OK\r\n\r\n", None),
            ("SSH-2.0-OpenSSH\r\n\r\n", None),
            ("HTTP/1.1\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(head.as_bytes()), want, "{head:?}");
        }
    }
}
