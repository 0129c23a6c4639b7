//! The result of an attempt, in the words of `webhook.attempt.outcome`. Pure.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Class of an outcome. The CHECK `outcome_is_known` has the same list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A status from 200 to 299, with a response that the subscription accepts.
    Succeeded,
    /// Any other status, redirects included, or a response that the subscription does not accept.
    HttpError,
    /// The deadline for the whole attempt passed.
    Timeout,
    /// The host name could not be resolved.
    Dns,
    /// No connection could be opened.
    Connect,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The response was not HTTP, or it ended early.
    Protocol,
    /// Nothing was sent, for a reason of our own: the address policy forbids the target, the
    /// subscription has no secret to sign with, or no file descriptor, port or place for a lookup
    /// is free.
    Refused,
}

/// How long each phase of an attempt took on the wire. `None` means not needed or not reached.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// Resolving the host name. `None` for an address in the URL.
    pub dns: Option<Duration>,
    /// TCP connect. `None` on a kept-alive connection.
    pub connect: Option<Duration>,
    /// TLS handshake. `None` on a kept-alive connection and for plain http.
    pub tls: Option<Duration>,
    /// From the last written byte of the request to the first byte of the response.
    pub first_byte: Option<Duration>,
}

/// The result of one attempt, as the ledger writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub class: Class,
    /// HTTP status, if one was received.
    pub status: Option<u16>,
    /// Start of the attempt, before any connection is opened, in microseconds since 1970.
    pub started_at_us: i64,
    /// Time from the start until the outcome was known.
    pub duration: Duration,
    /// The phases of that time.
    pub phases: Phases,
    /// `webhook-id` of a request for several events, or for an event that is made of several
    /// changes.
    pub batch_id: Option<Arc<str>>,
    /// The failure in words. It contains no secret and no internal address.
    pub error: Option<String>,
    /// Start of the response body: at most 4 KiB, valid UTF-8 without NUL. Only failed attempts
    /// have it, unless the subscription keeps all responses.
    pub response: Option<String>,
    /// The delay that the receiver requested with Retry-After.
    pub retry_after: Option<Duration>,
    /// Nothing was sent, because this machine or this daemon lacked something for a moment: a file
    /// descriptor, a port, a place for a lookup.
    pub is_shortage: bool,
}

impl Class {
    /// Every class, in the order of the CHECK.
    pub const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::HttpError,
        Self::Timeout,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Protocol,
        Self::Refused,
    ];

    /// Returns the word in `webhook.attempt.outcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::HttpError => "http_error",
            Self::Timeout => "timeout",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Refused => "refused",
        }
    }

    /// Returns the class with this name, or `None` if there is none.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// Returns the consequence for the delivery.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Succeeded => Verdict::Succeeded,
            Self::HttpError | Self::Timeout | Self::Dns | Self::Connect | Self::Tls | Self::Protocol => {
                Verdict::Retry
            }
            Self::Refused => Verdict::Ours,
        }
    }
}

/// The status of a receiver that is gone for good.
const GONE: u16 = 410;

/// The status for a request body that is too large (RFC 9110, 15.5.14).
pub const TOO_LARGE: u16 = 413;

/// The statuses that reject the content of a request, and not its sender: bad request, conflict,
/// content too large, URI too long, unsupported media type, unprocessable content (RFC 9110,
/// 15.5), and header fields too large (RFC 6585, 5).
const REJECTED: [u16; 7] = [400, 409, TOO_LARGE, 414, 415, 422, 431];

/// The consequence of an outcome for the delivery and for the receiver's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The delivery is done.
    Succeeded,
    /// The receiver failed. The delivery is retried on the schedule, and the failure is charged to
    /// the receiver.
    Retry,
    /// The receiver works, and rejected this event. The delivery is retried on the schedule, and
    /// the failure is not charged to the receiver. A batch is split until the event is alone.
    Rejected,
    /// Our own settings blocked the attempt. The delivery is retried on the schedule, and the
    /// receiver is not charged.
    Ours,
    /// This machine or this daemon lacked something for a moment. The delivery is retried soon,
    /// which uses up nothing of its schedule, and the receiver is not charged.
    Shortage,
    /// The receiver is gone for good. Sending stops, and pending deliveries are kept.
    Gone,
}

impl Outcome {
    /// Returns the consequence of this outcome.
    pub fn verdict(&self) -> Verdict {
        match self.status {
            Some(GONE) => Verdict::Gone,
            Some(status) if REJECTED.contains(&status) => Verdict::Rejected,
            // The body is not the expected one (ResponseRule): the receiver works.
            Some(200..=299) if self.class == Class::HttpError => Verdict::Rejected,
            _ if self.is_shortage => Verdict::Shortage,
            _ => self.class.verdict(),
        }
    }

    /// Returns how long the receiver asks for a pause of all requests: too many requests, or
    /// service unavailable.
    pub fn quiet(&self) -> Option<Duration> {
        self.retry_after.filter(|wait| matches!(self.status, Some(429 | 503)) && !wait.is_zero())
    }
}

/// Returns the class of a status.
pub fn class_of_status(status: u16) -> Class {
    if (200..300).contains(&status) { Class::Succeeded } else { Class::HttpError }
}

/// Maximum delay that a receiver can request.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Parses a `Retry-After` value (RFC 9110, 10.2.3): seconds, with or without a fraction, or a date.
///
/// A date in the past means no delay. A longer delay is cut to [`RETRY_AFTER_MAX`]. Returns `None`
/// for any other text.
pub fn retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let value = std::str::from_utf8(value).ok()?.trim();
    let wait = match seconds(value) {
        Some(wait) => wait,
        None => httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or(Duration::ZERO),
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Parses `120` or `1.5`, but not `1e3`, `inf`, or `-1`, which Rust would accept.
fn seconds(value: &str) -> Option<Duration> {
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    Some(Duration::try_from_secs_f64(value.parse().ok()?).unwrap_or(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_has_the_same_list_of_rejections() {
        let sql = include_str!("../../../sql/health.sql");
        let list = sql.split("status in (").nth(1).unwrap().split(')').next().unwrap();
        let statuses: Vec<u16> = list.split(", ").map(|status| status.parse().unwrap()).collect();
        assert_eq!(statuses, REJECTED);
    }

    #[test]
    fn classes_and_words_are_one_to_one() {
        for class in Class::ALL {
            assert_eq!(Class::parse(class.as_str()), Some(class));
        }
        assert_eq!(Class::parse("ok"), None);
    }

    #[test]
    fn the_check_constraint_knows_the_same_words() {
        let sql = include_str!("../../../sql/tables.sql");
        let list =
            sql.split("outcome_is_known check (outcome in").nth(1).unwrap().split("))").next().unwrap();
        let words: Vec<_> = list.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, Class::ALL.map(Class::as_str));
    }

    #[test]
    fn only_2xx_succeeds() {
        for (status, want) in [
            (199, Class::HttpError),
            (200, Class::Succeeded),
            (299, Class::Succeeded),
            (300, Class::HttpError),
        ] {
            assert_eq!(class_of_status(status), want, "{status}");
        }
    }

    #[test]
    fn a_refusal_is_ours_and_the_rest_is_the_receivers() {
        for class in Class::ALL {
            let want = match class {
                Class::Succeeded => Verdict::Succeeded,
                Class::Refused => Verdict::Ours,
                _ => Verdict::Retry,
            };
            assert_eq!(class.verdict(), want, "{class:?}");
        }
    }

    #[test]
    fn gone_is_gone_and_only_some_answers_ask_for_quiet() {
        let wait = Some(Duration::from_secs(9));
        let outcome = |status, retry_after| Outcome {
            class: Class::HttpError,
            status: Some(status),
            started_at_us: 0,
            duration: Duration::ZERO,
            phases: Phases::default(),
            batch_id: None,
            error: None,
            response: None,
            retry_after,
            is_shortage: false,
        };
        assert_eq!(outcome(410, None).verdict(), Verdict::Gone);
        assert_eq!(outcome(404, None).verdict(), Verdict::Retry);
        for status in [400, 409, 413, 414, 415, 422, 431] {
            assert_eq!(outcome(status, None).verdict(), Verdict::Rejected, "{status}");
        }
        for (status, retry_after, quiet) in [
            (429, wait, wait),
            (503, wait, wait),
            (500, wait, None),
            (429, None, None),
            (429, Some(Duration::ZERO), None),
        ] {
            assert_eq!(outcome(status, retry_after).quiet(), quiet, "{status}");
        }
    }

    #[test]
    fn retry_after_in_all_its_spellings() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let day = RETRY_AFTER_MAX;
        for (value, want) in [
            ("0", Some(Duration::ZERO)),
            ("120", Some(Duration::from_secs(120))),
            (" 7 ", Some(Duration::from_secs(7))),
            ("1.5", Some(Duration::from_millis(1500))),
            ("86400", Some(day)),
            ("86401", Some(day)),
            ("99999999999999999999999999", Some(day)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(Duration::from_secs(60))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sun, 06 Nov 1983 08:49:37 GMT", Some(Duration::ZERO)),
            ("Sun, 06 Nov 2094 08:49:37 GMT", None), // not a Sunday
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(day)),
            ("-1", None),
            ("+1", None),
            ("1e3", None),
            ("inf", None),
            ("NaN", None),
            ("1.", None),
            (".5", None),
            ("1.2.3", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value.as_bytes(), now), want, "{value:?}");
        }
        assert_eq!(retry_after(b"\xff", now), None);
    }
}
