//! Caches the parts of each URL, and the connections of each origin. An attempt therefore parses
//! nothing and seldom connects.
//!
//! URLs with the same endpoint (scheme, host, port) share its connections.

use crate::{address_policy::Refusal, dial::Endpoint, origin::Origin};
use hyper::{Uri, header::HeaderValue};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use url::{Position, Url};

/// Interval at which old connections and URLs are removed.
pub const SWEEP_EVERY: Duration = Duration::from_secs(15);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The common part of all attempts to one URL.
pub struct Target {
    pub origin: Arc<Origin>,
    /// Path and query.
    pub uri: Uri,
    /// The same with scheme and authority, as HTTP/2 needs it.
    pub absolute: Uri,
    pub host: HeaderValue,
    used: AtomicBool,
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
        let uri = path_and_query(url)?;
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let target = Arc::new(Target {
            origin,
            absolute: absolute(url.scheme(), authority, &uri)?,
            uri,
            host: HeaderValue::try_from(authority).map_err(|_| Refusal::Url)?,
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

fn absolute(scheme: &str, authority: &str, path: &Uri) -> Result<Uri, Refusal> {
    let path = path.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path);
    uri.build().map_err(|_| Refusal::Url)
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
