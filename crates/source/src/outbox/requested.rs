//! The requests of `webhook_redeliver()` and similar functions to the daemon, which come through
//! the outbox. Pure.

use delivery::{
    event::Event,
    feed::{Request, TryNow},
};
use tracing::warn;

/// The content of a `webhook.delivery.requested`.
#[derive(Debug, PartialEq, Eq)]
pub enum Requested {
    Delivery(Request),
    /// Rows were added to this subscription's backlog.
    Backlog(i64),
    TryNow(TryNow),
}

/// Parses a request. One that cannot be parsed is logged and skipped.
pub fn requested(event: &Event) -> Option<Requested> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Payload {
        Delivery { sequence: i64 },
        Backlog { backlog: bool },
        TryNow { try_now: bool, ignore_retry_after: bool },
    }
    let payload: Result<Payload, _> = serde_json::from_slice(&event.payload);
    match (event.subscription_id, payload) {
        (Some(subscription_id), Ok(Payload::Delivery { sequence: event_id })) => {
            Some(Requested::Delivery(Request { subscription_id, event_id }))
        }
        (Some(subscription_id), Ok(Payload::Backlog { backlog: true })) => {
            Some(Requested::Backlog(subscription_id))
        }
        (Some(subscription_id), Ok(Payload::TryNow { try_now: true, ignore_retry_after })) => {
            Some(Requested::TryNow(TryNow { subscription_id, ignore_retry_after }))
        }
        _ => {
            warn!(sequence = event.id, "outbox.request_unreadable");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_request_names_subscription_and_event() {
        let event = |subscription_id, payload| Event {
            subscription_id,
            payload: Bytes::from_static(payload),
            ..Event::sample(9)
        };
        let wanted = Some(Requested::Delivery(Request { subscription_id: 4, event_id: 17 }));
        assert_eq!(requested(&event(Some(4), br#"{"sequence":17, "by":"x"}"#)), wanted);
        assert_eq!(requested(&event(Some(4), br#"{"backlog":true}"#)), Some(Requested::Backlog(4)));
        assert_eq!(requested(&event(Some(4), br#"{"backlog":false}"#)), None);
        let try_now = br#"{"try_now":true,"ignore_retry_after":true}"#;
        let wanted = TryNow { subscription_id: 4, ignore_retry_after: true };
        assert_eq!(requested(&event(Some(4), try_now)), Some(Requested::TryNow(wanted)));
        assert_eq!(requested(&event(None, br#"{"sequence":17}"#)), None);
        assert_eq!(requested(&event(Some(4), br#"{"sequence":"17"}"#)), None);
    }
}
