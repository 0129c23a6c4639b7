//! The handshake of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, 4). An OPTIONS request asks
//! whether the receiver accepts events from this sender, and at which rate.

use delivery::{identity::Identity, subscription::Subscription};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sender::{Head, Inquiry, Sender};
use std::sync::Arc;
use thiserror::Error;
use url::Url;

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const REQUEST_RATE: HeaderName = HeaderName::from_static("webhook-request-rate");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// The reason why a receiver is unconfirmed.
#[derive(Debug, Error)]
pub enum Unconfirmed {
    #[error("{0}")]
    Unanswered(String),
    #[error("the receiver answered {0}")]
    Status(u16),
    #[error("the answer has no header WebHook-Allowed-Origin")]
    NoOrigin,
    #[error("WebHook-Allowed-Origin must be * or the --origin of webhookd")]
    OtherOrigin,
    #[error("the request asked for a rate, but the answer has no header WebHook-Allowed-Rate")]
    NoRate,
    #[error("WebHook-Allowed-Rate must be * or a number of requests a minute, at least 1")]
    BadRate,
    #[error("the subscription has changed in the meantime")]
    Changed,
    #[error("cannot write the confirmation")]
    Unwritten(#[source] tokio_postgres::Error),
}

/// Asks the receiver. Returns the number of requests per minute that it allows, or `None` if it
/// sets no limit.
///
/// # Errors
/// Returns [`Unconfirmed`] with the reason.
pub async fn ask(
    sender: &impl Sender,
    identity: &Identity,
    subscription: &Subscription,
    url: &Arc<Url>,
) -> Result<Option<i64>, Unconfirmed> {
    let rate = subscription.rate_limit.map(per_minute);
    let mut questions = HeaderMap::with_capacity(2);
    questions.insert(REQUEST_ORIGIN, identity.origin.clone());
    questions.extend(rate.map(|rate| (REQUEST_RATE, HeaderValue::from(rate))));
    let inquiry = Inquiry {
        owner: Some(Arc::clone(&subscription.owner)),
        url: Arc::clone(url),
        questions,
        headers: subscription.headers.clone(),
        header_names: subscription.header_names.clone(),
        tls: subscription.tls.clone(),
        timeout: subscription.timeout,
    };
    let head = sender.inquire(inquiry).await.map_err(Unconfirmed::Unanswered)?;
    judge(&head, &identity.origin, rate.is_some())
}

/// Converts a rate from requests per second to the standard's unit: whole requests per minute, at
/// least one.
fn per_minute(a_second: f64) -> i64 {
    ((a_second * 60.0).ceil() as i64).max(1)
}

/// Interprets an answer.
fn judge(head: &Head, origin: &HeaderValue, is_rate_asked: bool) -> Result<Option<i64>, Unconfirmed> {
    if !head.status.is_success() {
        return Err(Unconfirmed::Status(head.status.as_u16()));
    }
    let allowed = head.headers.get(ALLOWED_ORIGIN).ok_or(Unconfirmed::NoOrigin)?.as_bytes().trim_ascii();
    if allowed != b"*" && !allowed.eq_ignore_ascii_case(origin.as_bytes()) {
        return Err(Unconfirmed::OtherOrigin);
    }
    let Some(rate) = head.headers.get(ALLOWED_RATE) else {
        return if is_rate_asked { Err(Unconfirmed::NoRate) } else { Ok(None) };
    };
    match rate.to_str().map_err(|_| Unconfirmed::BadRate)?.trim() {
        "*" => Ok(None),
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            // A number that does not fit is as good as no limit.
            let rate = digits.parse().unwrap_or(i64::MAX);
            if rate > 0 { Ok(Some(rate)) } else { Err(Unconfirmed::BadRate) }
        }
        _ => Err(Unconfirmed::BadRate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    fn judged(status: u16, headers: &[(&'static str, &'static str)], is_rate_asked: bool) -> String {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let head = Head {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(header).collect(),
        };
        match judge(&head, &HeaderValue::from_static("hooks.example"), is_rate_asked) {
            Ok(rate) => format!("{rate:?}"),
            Err(why) => why.to_string(),
        }
    }

    #[test]
    fn an_answer_allows_or_says_why_not() {
        let origin = |value| ("webhook-allowed-origin", value);
        let rate = |value| ("webhook-allowed-rate", value);
        for (headers, asked, want) in [
            (&[origin("*")][..], false, "None"),
            (&[origin("HOOKS.example")], false, "None"),
            (&[origin(" hooks.example "), rate("*")], true, "None"),
            (&[origin("*"), rate("120")], true, "Some(120)"),
            (&[origin("*"), rate("120")], false, "Some(120)"),
            (&[origin("*"), rate("99999999999999999999")], true, "Some(9223372036854775807)"),
            (
                &[origin("*")],
                true,
                "the request asked for a rate, but the answer has no header WebHook-Allowed-Rate",
            ),
            (&[], false, "the answer has no header WebHook-Allowed-Origin"),
            (
                &[origin("evil.example")],
                false,
                "WebHook-Allowed-Origin must be * or the --origin of webhookd",
            ),
            (&[origin("")], false, "WebHook-Allowed-Origin must be * or the --origin of webhookd"),
        ] {
            assert_eq!(judged(200, headers, asked), want, "{headers:?}");
        }
        for bad in ["0", "-1", "+1", "1.5", "", "many"] {
            assert!(judged(204, &[origin("*"), rate(bad)], false).contains("Allowed-Rate must be"), "{bad}");
        }
        for status in [199, 301, 403, 405, 500] {
            assert_eq!(judged(status, &[origin("*")], false), format!("the receiver answered {status}"));
        }
    }

    #[test]
    fn a_rate_is_asked_for_by_the_minute() {
        for (a_second, a_minute) in [(1.0, 60), (0.5, 30), (1.0 / 86_400.0, 1), (100_000.0, 6_000_000)] {
            assert_eq!(per_minute(a_second), a_minute);
        }
    }
}
