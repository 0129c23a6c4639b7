//! The health of a receiver in words for people: its state, its last error, durations. Pure.

use crate::{receivers::Receiver, words::title};
use http::StatusCode;

/// How urgent something is. It decides the colour and the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Deliveries fail or are lost.
    Bad,
    /// Deliveries wait.
    Warn,
    /// Nothing is wrong, and nothing is sent.
    Soft,
    Good,
}

impl Tone {
    /// Returns the class in the style sheet.
    pub fn class(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Warn => "warn",
            Self::Soft => "soft",
            Self::Good => "good",
        }
    }
}

/// A state of `webhook.subscription_health`.
#[derive(Debug, Clone, Copy)]
pub struct HealthState {
    /// The word in SQL.
    pub word: &'static str,
    /// The words for people.
    pub label: &'static str,
    pub tone: Tone,
}

const fn state(word: &'static str, label: &'static str, tone: Tone) -> HealthState {
    HealthState { word, label, tone }
}

/// Every state, the most urgent first. The view has the same order; a test compares them.
pub const STATES: [HealthState; 10] = [
    state("failing", "failing", Tone::Bad),
    state("disabled", "disabled", Tone::Bad),
    state("gave_up", "gave up", Tone::Bad),
    state("rejecting", "rejects events", Tone::Bad),
    state("blocked", "blocked", Tone::Bad),
    state("unconfirmed", "unconfirmed", Tone::Warn),
    state("paused", "paused", Tone::Soft),
    state("slow", "slow", Tone::Warn),
    state("retrying", "retrying", Tone::Warn),
    state("healthy", "healthy", Tone::Good),
];

/// Returns the state with this word. An unknown one, of a later version, is a warning.
pub fn state_of(word: &str) -> HealthState {
    STATES.into_iter().find(|state| state.word == word).unwrap_or(state("unknown", "unknown", Tone::Warn))
}

/// Returns a duration of some seconds in the largest unit that fits, rounded down.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds {
        s if s < 60.0 => format!("{:.0} s", s.floor()),
        s if s < 3600.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 48.0 * 3600.0 => format!("{:.0} h", (s / 3600.0).floor()),
        s => format!("{:.0} days", (s / 86_400.0).floor()),
    }
}

/// Returns a number with a noun, in singular or plural: "1 event", "713 events".
pub fn count(number: i64, noun: &str) -> String {
    match (number, noun) {
        (1, noun) => format!("1 {noun}"),
        (number, "delivery") => format!("{} deliveries", grouped(number)),
        (number, noun) => format!("{} {noun}s", grouped(number)),
    }
}

/// Returns a number with thousands apart: 12,345. Counts of the view end at 100 000.
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if number >= 100_000 { format!("{out} or more") } else { out }
}

impl Receiver {
    /// Returns the name that people read.
    pub fn title(&self) -> String {
        title(self.name.as_deref(), &self.url)
    }

    /// Returns what the state means, as a sentence or two. Empty if nothing is wrong.
    pub fn explanation(&self) -> &'static str {
        match self.state.as_str() {
            "failing" => "The receiver fails. webhookd keeps the events and tries again.",
            "disabled" => "webhookd disabled the subscription. Events are kept until it resumes.",
            "gave_up" => "The retry policy of some deliveries is used up. You can redeliver them.",
            "rejecting" => "The receiver works, but does not accept the content of some events.",
            "blocked" if self.reason.is_some() => "Nothing is sent until this is repaired.",
            "blocked" => "Our own settings block the requests. The receiver is not at fault.",
            "unconfirmed" => "The receiver has not confirmed yet. Events are kept.",
            "paused" => "Events are kept until the subscription resumes.",
            "slow" => "Events arrive faster than the receiver takes them.",
            "retrying" => "Some deliveries failed and are retried on their schedule.",
            _ => "",
        }
    }

    /// Returns the last error: "HTTP 503 Service Unavailable", or the message. `None` if no attempt
    /// failed.
    pub fn last_error_words(&self) -> Option<String> {
        let outcome = self.last_outcome.as_deref()?;
        let error = self.last_error.as_deref().filter(|error| !error.is_empty());
        let status = self.last_status.and_then(|status| u16::try_from(status).ok());
        Some(match (outcome, status, error) {
            // The message begins with the status.
            ("http_error", _, Some(error)) => error.to_owned(),
            ("http_error", Some(status), None) => http_words(status),
            ("refused", _, Some(error)) => format!("blocked: {error}"),
            (outcome, _, Some(error)) => format!("{}: {error}", outcome_words(outcome)),
            (outcome, _, None) => outcome_words(outcome).to_owned(),
        })
    }

    /// Returns when the next attempt is due: "in 40 s", "now". `None` if none is planned.
    pub fn next_attempt_words(&self) -> Option<String> {
        let wait = -self.ages.next_attempt?;
        Some(if wait < 1.0 { "now".to_owned() } else { format!("in {}", duration(wait)) })
    }
}

fn http_words(status: u16) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    match reason {
        Some(reason) => format!("HTTP {status} {reason}"),
        None => format!("HTTP {status}"),
    }
}

/// Returns the words for a class of outcomes (`webhook.attempt.outcome`).
pub fn outcome_words(outcome: &str) -> &str {
    match outcome {
        "http_error" => "HTTP error",
        "timeout" => "timeout",
        "dns" => "name not resolved",
        "connect" => "cannot connect",
        "tls" => "TLS error",
        "protocol" => "invalid answer",
        "refused" => "blocked by our settings",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_has_the_same_states_in_the_same_order() {
        let sql = include_str!("../../../../sql/health.sql");
        let order = sql.split("array_position(array[").nth(1).unwrap().split(']').next().unwrap();
        let words: Vec<_> = order.split('\'').skip(1).step_by(2).collect();
        assert_eq!(words, STATES.map(|state| state.word));
    }

    #[test]
    fn durations_are_in_one_unit() {
        for (seconds, want) in [
            (-3.0, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (500.0, "8 min"),
            (3600.0, "1 h"),
            (100_000.0, "27 h"),
            (172_800.0, "2 days"),
        ] {
            assert_eq!(duration(seconds), want);
        }
    }

    #[test]
    fn numbers_have_nouns() {
        assert_eq!(count(1, "receiver"), "1 receiver");
        assert_eq!(count(713, "delivery"), "713 deliveries");
        assert_eq!(count(12_345, "event"), "12,345 events");
        assert_eq!(grouped(100_000), "100,000 or more");
    }

    #[test]
    fn errors_are_said_in_words() {
        let receiver = |outcome: &str, last_status, error: Option<&str>| Receiver {
            last_outcome: Some(outcome.to_owned()),
            last_status,
            last_error: error.map(str::to_owned),
            ..Receiver::default()
        };
        for (receiver, want) in [
            (receiver("http_error", Some(503), None), "HTTP 503 Service Unavailable"),
            (receiver("http_error", Some(599), None), "HTTP 599"),
            (receiver("http_error", Some(500), Some("HTTP 500, and more")), "HTTP 500, and more"),
            (receiver("connect", None, Some("Connection refused")), "cannot connect: Connection refused"),
            (receiver("refused", None, Some("10.1.2.3 is private")), "blocked: 10.1.2.3 is private"),
            (receiver("timeout", None, None), "timeout"),
        ] {
            assert_eq!(receiver.last_error_words().as_deref(), Some(want));
        }
        assert_eq!(Receiver::default().last_error_words(), None);
    }
}
