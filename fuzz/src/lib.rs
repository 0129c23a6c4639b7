//! What reads foreign bytes, each as a function that takes any bytes and must neither panic nor
//! break its promise.
//!
//! Who writes the bytes: receivers and proxies (answers), subscribers (patterns, headers,
//! URLs, secret texts), the application's rows (payloads), the database (snapshots), the operator
//! (configuration). `fuzzer/` has coverage-guided targets of the same names over these; `tests/`
//! runs them over the corpus, mutations of it and random bytes.

mod answers;
mod texts;

pub use answers::{answer, http_proxy, socks_proxy};
pub use texts::{body, config, headers, pattern, retry_after, sealed, secret, snapshot, target};

/// Takes bytes, and panics at a finding.
pub type Target = fn(&[u8]);

/// Every function by its name: the corpus of each lies in the directory of that name.
pub const ALL: [(&str, Target); 12] = [
    ("answer", answer),
    ("body", body),
    ("config", config),
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

/// The text that bytes are, if they are one.
fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}
