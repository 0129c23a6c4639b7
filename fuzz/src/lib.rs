//! Fuzz targets for the parsers of untrusted bytes. Each is a function that takes any bytes and
//! must neither panic nor break its promise.
//!
//! The bytes come from receivers and proxies (answers), subscribers (patterns, filters, headers,
//! URLs, secret texts), the application's rows (payloads), the database (snapshots) and the
//! operator (configuration). `fuzzer/` has coverage-guided targets of the same names. `tests/` runs
//! the functions over the corpus, its mutations and random bytes.

mod answers;
mod texts;

pub use answers::{answer, http_proxy, socks_proxy};
pub use texts::{body, config, filter, headers, pattern, retry_after, sealed, secret, snapshot, target};

/// Takes bytes, and panics on a finding.
pub type Target = fn(&[u8]);

/// Every function with its name, which is also the name of its corpus directory.
pub const ALL: [(&str, Target); 13] = [
    ("answer", answer),
    ("body", body),
    ("config", config),
    ("filter", filter),
    ("headers", headers),
    ("http_proxy", http_proxy),
    ("pattern", pattern),
    ("retry_after", retry_after),
    ("sealed", sealed),
    ("secret", secret),
    ("snapshot", snapshot),
    ("socks_proxy", socks_proxy),
    ("target", target),
];

/// Returns the bytes as text, if they are UTF-8.
fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}
