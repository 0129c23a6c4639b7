//! What an attempt came to, in the words of `webhook.attempt.outcome`. Pure.

use std::time::Duration;

/// Class of an outcome; the CHECK `outcome_is_known` holds the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A status from 200 to 299.
    Succeeded,
    /// Any other status, redirects included.
    HttpError,
    /// The deadline for the whole attempt passed.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// No connection.
    Connect,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The answer was not HTTP, or ended early.
    Protocol,
    /// The address policy forbids the target; nothing was sent.
    Refused,
}

/// One attempt's result, as the ledger writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub class: Class,
    /// HTTP status, if one was received.
    pub status: Option<u16>,
    /// When the request was handed to the network, microseconds since 1970.
    pub started_at_us: i64,
    /// Until the outcome was known.
    pub duration: Duration,
    /// In words; never a secret, never an internal address.
    pub error: Option<String>,
    /// Start of the response body (at most 4 KiB, valid UTF-8 without NUL); kept of failed attempts only.
    pub response: Option<String>,
    /// What the receiver asked for with Retry-After.
    pub retry_after: Option<Duration>,
}
