//! Kept-alive connections and what is known of each URL, so that an attempt parses nothing and connects seldom.
//!
//! HTTP/1.1, one request at a time on each connection: a receiver that stalls one answer stalls no other. Connections
//! of one endpoint (scheme, host, port) are shared by its URLs, the one used last is taken first, and the rest age out.

use super::{
    address_policy::Refusal,
    dial::{Endpoint, Meter, Stream},
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
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::AbortHandle, time::Instant};
use url::{Position, Url};

/// How long a connection is kept unused. Many servers close earlier, which is noticed; few keep longer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often connections and URLs are looked through for old ones.
pub const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// Largest head of an answer, in bytes; hyper takes at most 100 header lines.
const HEAD_BYTES_MAX: usize = 64 * 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One HTTP/1.1 connection. Dropping it closes it, whatever is under way.
pub struct Connection {
    pub send: SendRequest<Full<Bytes>>,
    pub meter: Arc<Meter>,
    task: AbortHandle,
    idle_since: Instant,
}

impl Connection {
    /// Speaks HTTP on a stream.
    ///
    /// # Errors
    /// None in HTTP/1.1, where nothing is exchanged yet.
    pub async fn over(stream: Stream) -> hyper::Result<Self> {
        let meter = stream.meter();
        let (send, connection) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        // Its errors reach the request too; between requests nobody needs them.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { send, meter, task, idle_since: Instant::now() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // hyper ends it too once it notices that nobody wants the answer; this does not depend on where it waits.
        self.task.abort();
    }
}

/// What every attempt to one URL has in common.
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
}

impl Origin {
    /// An open connection, the one that was used last.
    pub fn take(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        while let Some(connection) = idle.pop() {
            if connection.send.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub fn keep(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        lock(&self.idle).push(connection);
    }

    fn sweep(&self, now: Instant) -> usize {
        let mut idle = lock(&self.idle);
        idle.retain(|c| !c.send.is_closed() && now.duration_since(c.idle_since) < IDLE_TIMEOUT);
        if idle.capacity() > 4 * idle.len() {
            idle.shrink_to_fit();
        }
        idle.len()
    }
}

/// All targets and origins.
#[derive(Default)]
pub struct Pool {
    targets: RwLock<HashMap<Box<str>, Arc<Target>>>,
    origins: Mutex<HashMap<Endpoint, Arc<Origin>>>,
}

impl Pool {
    /// The target of a URL; made at first sight.
    ///
    /// # Errors
    /// [`Refusal::Url`] for anything but http(s) with a host.
    pub fn target(&self, url: &Url) -> Result<Arc<Target>, Refusal> {
        let known = self.targets.read().unwrap_or_else(PoisonError::into_inner).get(url.as_str()).cloned();
        if let Some(target) = known {
            target.used.store(true, Ordering::Relaxed);
            return Ok(target);
        }
        let endpoint = Endpoint::of(url)?;
        let origin = lock(&self.origins)
            .entry(endpoint)
            .or_insert_with_key(|endpoint| {
                Arc::new(Origin { endpoint: endpoint.clone(), idle: Mutex::default() })
            })
            .clone();
        let target = Arc::new(Target {
            origin,
            uri: path_and_query(url)?,
            host: HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort])
                .map_err(|_| Refusal::Url)?,
            used: AtomicBool::new(true),
        });
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        Ok(targets.entry(url.as_str().into()).or_insert(target).clone())
    }

    /// Closes what has been idle too long and forgets URLs that were not used since the last sweep.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.targets
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, target| target.used.swap(false, Ordering::Relaxed));
        lock(&self.origins).retain(|_, origin| origin.sweep(now) > 0 || Arc::strong_count(origin) > 1);
    }
}

/// Path and query as they go into the request line. What the URL standard leaves as it is and RFC 3986 does not know
/// (a backtick in a query, say) is percent-encoded.
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
            // Writing into a String cannot fail.
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
            let target = pool.target(&url.parse().unwrap()).unwrap();
            assert_eq!(target.host, host, "{url}");
            assert_eq!(target.uri.to_string().replace('`', "%60"), line, "{url}");
        }
    }

    #[test]
    fn only_http_urls_are_targets() {
        for url in ["ftp://example.com/", "file:///etc/passwd", "data:,x", "ws://example.com"] {
            assert_eq!(Pool::default().target(&url.parse().unwrap()).err(), Some(Refusal::Url), "{url}");
        }
    }

    #[test]
    fn unused_urls_are_forgotten() {
        let pool = Pool::default();
        let count = |pool: &Pool| (pool.targets.read().unwrap().len(), pool.origins.lock().unwrap().len());
        pool.target(&"https://example.com/a".parse().unwrap()).unwrap();
        pool.target(&"https://example.com/b".parse().unwrap()).unwrap();
        assert_eq!(count(&pool), (2, 1));
        pool.sweep();
        assert_eq!(count(&pool), (2, 1), "used since the last sweep");
        pool.target(&"https://example.com/b".parse().unwrap()).unwrap();
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
