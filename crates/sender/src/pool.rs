//! Keeps connections alive and caches the parts of each URL. An attempt therefore parses nothing
//! and seldom connects.
//!
//! Each HTTP/1.1 connection carries one request at a time, so a receiver that stalls one response
//! stalls no other. URLs with the same endpoint (scheme, host, port) share its connections. The
//! most recently used connection is taken first, and unused ones expire.
//!
//! A receiver may move to another address. So a connection that was opened or checked more than
//! 30 s ago is used again only if the host's name still leads to its address, and no connection
//! serves requests for more than five minutes.

use crate::{
    address_policy::Refusal,
    dial::{Dialed, Dialer, Endpoint},
    failure::Failure,
    route::{Peer, Route},
    stream::Meter,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Uri,
    client::conn::http1::{self, SendRequest},
    header::HeaderValue,
};
use hyper_util::rt::TokioIo;
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    task::AbortHandle,
    time::{Instant, timeout},
};
use url::{Position, Url};

/// How long an unused connection is kept. Many servers close earlier, which is noticed; few keep
/// connections longer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection is used. After it, certificates and load balancers get a new choice.
pub const AGE_MAX: Duration = Duration::from_secs(300);
/// How long a connection is used until its address is compared with the host's name, and minimum
/// time between two lookups of an origin's name.
pub const ROUTE_VALID: Duration = Duration::from_secs(30);
/// Timeout of such a lookup. A slow or broken resolver must not stop connections that work.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval at which old connections and URLs are removed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// Maximum size of a response's head, in bytes. hyper accepts at most 100 header lines.
const HEAD_BYTES_MAX: usize = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One HTTP/1.1 connection. Dropping it closes it, even during a request.
pub struct Connection {
    pub send: SendRequest<Full<Bytes>>,
    pub meter: Arc<Meter>,
    task: AbortHandle,
    peer: Peer,
    opened: Instant,
    /// When the host's name led to the peer.
    confirmed: Instant,
    idle_since: Instant,
}

impl Connection {
    /// Starts HTTP on a new connection.
    ///
    /// # Errors
    /// None in HTTP/1.1, because nothing is exchanged yet.
    pub async fn over(Dialed { stream, peer }: Dialed) -> hyper::Result<Self> {
        let meter = stream.meter();
        let (send, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        // The request in progress receives the connection's errors too. Between requests they are
        // not needed.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let now = Instant::now();
        Ok(Self { send, meter, task, peer, opened: now, confirmed: now, idle_since: now })
    }

    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.opened) >= AGE_MAX
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // hyper also ends the task when it notices that the response is not awaited. The abort
        // works at every await point of the task.
        self.task.abort();
    }
}

/// The common part of all attempts to one URL.
pub struct Target {
    pub origin: Arc<Origin>,
    /// Path and query.
    pub uri: Uri,
    pub host: HeaderValue,
    used: AtomicBool,
}

/// An endpoint and its idle connections.
pub struct Origin {
    pub endpoint: Endpoint,
    idle: Mutex<Vec<Connection>>,
    /// Where the name led to at this time. `None` inside if the lookup decided nothing.
    route: tokio::sync::Mutex<Option<(Instant, Option<Route>)>>,
}

impl Origin {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default(), route: tokio::sync::Mutex::default() }
    }

    /// Returns the open connection that was used last, if it still leads to the receiver.
    pub async fn take(&self, dialer: &Dialer) -> Option<Connection> {
        while let Some(mut connection) = self.pop() {
            if connection.confirmed.elapsed() < ROUTE_VALID || self.confirm(&mut connection, dialer).await {
                return Some(connection);
            }
            tracing::debug!(host = %self.endpoint.host, "connection.moved; the name leads elsewhere");
        }
        None
    }

    fn pop(&self) -> Option<Connection> {
        let (mut idle, now) = (lock(&self.idle), Instant::now());
        while let Some(connection) = idle.pop() {
            if connection.send.is_ready() && !connection.is_old(now) {
                return Some(connection);
            }
        }
        None
    }

    /// Reports whether the host's name still leads to the peer of a connection. Resolves the name
    /// unless another connection has done so in the last 30 s.
    async fn confirm(&self, connection: &mut Connection, dialer: &Dialer) -> bool {
        let mut known = self.route.lock().await;
        let (at, route) = match &*known {
            Some((at, route)) if at.elapsed() < ROUTE_VALID => (*at, route),
            _ => {
                let found = timeout(ROUTE_TIMEOUT, dialer.route(&self.endpoint)).await;
                let route = match found {
                    Ok(Ok(route)) => Some(route),
                    // The policy allows none of the present addresses.
                    Ok(Err(failure)) if is_policys(&failure) => Some(Route::nowhere()),
                    // Without an answer, the connection stays in use until its age ends it.
                    Ok(Err(_)) | Err(_) => None,
                };
                let (at, route) = known.insert((Instant::now(), route));
                (*at, &*route)
            }
        };
        connection.confirmed = at;
        route.as_ref().is_none_or(|route| route.leads_to(&connection.peer))
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, mut connection: Connection) {
        let now = Instant::now();
        if !connection.is_old(now) {
            connection.idle_since = now;
            lock(&self.idle).push(connection);
        }
    }

    fn sweep(&self, now: Instant) -> usize {
        let mut idle = lock(&self.idle);
        let is_idle = |c: &Connection| now.duration_since(c.idle_since) >= IDLE_TIMEOUT;
        idle.retain(|c| !c.send.is_closed() && !is_idle(c) && !c.is_old(now));
        if idle.capacity() > 4 * idle.len() {
            idle.shrink_to_fit();
        }
        idle.len()
    }
}

fn is_policys(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(_))
}

/// All targets and origins.
#[derive(Default)]
pub struct Pool {
    targets: RwLock<HashMap<Box<str>, Arc<Target>>>,
    origins: Mutex<HashMap<Endpoint, Arc<Origin>>>,
}

impl Pool {
    /// Returns the target of a URL with this set of certificates. Creates it on first use.
    ///
    /// # Errors
    /// Returns [`Refusal::Url`] unless the URL is http(s) and has a host.
    pub fn target(&self, url: &Url, tls: Option<&Arc<str>>) -> Result<Arc<Target>, Refusal> {
        // A URL contains no line break, so the key is unambiguous.
        let key = tls.map_or(Cow::Borrowed(url.as_str()), |name| format!("{name}\n{url}").into());
        let known = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(&*key).cloned();
        if let Some(target) = known {
            target.used.store(true, Ordering::Relaxed);
            return Ok(target);
        }
        let endpoint = Endpoint::of(url, tls.cloned())?;
        let origin = lock(&self.origins)
            .entry(endpoint)
            .or_insert_with_key(|endpoint| Arc::new(Origin::new(endpoint.clone())))
            .clone();
        let target = Arc::new(Target {
            origin,
            uri: path_and_query(url)?,
            host: HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort])
                .map_err(|_| Refusal::Url)?,
            used: AtomicBool::new(true),
        });
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        Ok(targets.entry(key.into()).or_insert(target).clone())
    }

    /// Closes expired connections and removes URLs that were not used since the last sweep.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.targets
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, target| target.used.swap(false, Ordering::Relaxed));
        lock(&self.origins).retain(|_, origin| origin.sweep(now) > 0 || Arc::strong_count(origin) > 1);
    }
}

/// Returns path and query for the request line. Characters that the URL standard keeps but RFC 3986
/// forbids (a backtick in a query, for example) are percent-encoded.
fn path_and_query(url: &Url) -> Result<Uri, Refusal> {
    use std::fmt::Write;
    let text = &url[Position::BeforePath..Position::AfterQuery];
    if let Ok(uri) = text.parse() {
        return Ok(uri);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'%' | b'/' | b'?' => encoded.push(byte.into()),
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
            | b';' | b'=' | b':' | b'@' => encoded.push(byte.into()),
            // Writing to a String cannot fail.
            other => drop(write!(encoded, "%{other:02X}")),
        }
    }
    encoded.parse().map_err(|_| Refusal::Url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn host_header_and_request_line() {
        let pool = Pool::default();
        for (url, host, line) in [
            ("https://example.com", "example.com", "/"),
            ("https://example.com:443/a", "example.com", "/a"),
            ("https://Example.com:8443/a?b=c#d", "example.com:8443", "/a?b=c"),
            ("http://user:secret@example.com:80/", "example.com", "/"),
            ("http://[::1]:81/?", "[::1]:81", "/?"),
            ("http://0x7f.1/", "127.0.0.1", "/"),
            ("https://bücher.example/ä?q=ü`", "xn--bcher-kva.example", "/%C3%A4?q=%C3%BC%60"),
        ] {
            let target = pool.target(&url.parse().unwrap(), None).unwrap();
            assert_eq!(target.host, host, "{url}");
            assert_eq!(target.uri.to_string().replace('`', "%60"), line, "{url}");
        }
    }

    #[test]
    fn only_http_urls_are_targets() {
        for url in ["ftp://example.com/", "file:///etc/passwd", "data:,x", "ws://example.com"] {
            assert_eq!(
                Pool::default().target(&url.parse().unwrap(), None).err(),
                Some(Refusal::Url),
                "{url}"
            );
        }
    }

    #[test]
    fn unused_urls_are_forgotten() {
        let pool = Pool::default();
        let count = |pool: &Pool| (pool.targets.read().unwrap().len(), pool.origins.lock().unwrap().len());
        pool.target(&"https://example.com/a".parse().unwrap(), None).unwrap();
        pool.target(&"https://example.com/b".parse().unwrap(), None).unwrap();
        assert_eq!(count(&pool), (2, 1));
        pool.sweep();
        assert_eq!(count(&pool), (2, 1), "used since the last sweep");
        pool.target(&"https://example.com/b".parse().unwrap(), None).unwrap();
        pool.sweep();
        assert_eq!(count(&pool), (1, 1));
        pool.sweep();
        assert_eq!(count(&pool), (0, 0));
    }

    proptest! {
        #[test]
        fn every_http_url_has_a_request_line(path in "[ -~]{0,40}", query in "\\PC{0,40}") {
            if let Ok(url) = Url::parse(&format!("https://example.com/{path}?{query}")) {
                prop_assert!(path_and_query(&url).is_ok(), "{}", url);
            }
        }
    }
}
