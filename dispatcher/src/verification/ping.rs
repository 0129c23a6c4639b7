//! Verification by ping. The daemon sends a signed `webhook.ping` in the subscription's format, and
//! the receiver must answer it with 2xx.
//!
//! The ping is not an event of the outbox, so its sequence number is 0.

use crate::verification::handshake::Unconfirmed;
use delivery::{
    batch, body,
    event::Event,
    identity::Identity,
    outcome::{Outcome, Verdict},
    subscription::Subscription,
};
use sender::{Request, Sender};
use std::{sync::Arc, time::SystemTime};
use url::Url;

/// Sends the ping. The result never contains a rate.
///
/// # Errors
/// Returns [`Unconfirmed`] with the reason.
pub async fn ask(
    sender: &impl Sender,
    identity: &Identity,
    subscription: &Subscription,
    url: &Arc<Url>,
) -> Result<Option<i64>, Unconfirmed> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let outcome = sender.send(request(identity, subscription, url, now_us)).await;
    match (outcome.verdict(), outcome) {
        (Verdict::Succeeded, _) => Ok(None),
        (_, Outcome { status: Some(status), .. }) => Err(Unconfirmed::Status(status)),
        (_, Outcome { error, .. }) => Err(Unconfirmed::Unanswered(error.unwrap_or_default())),
    }
}

fn request(identity: &Identity, subscription: &Subscription, url: &Arc<Url>, now_us: i64) -> Request {
    let event = event(subscription.id, now_us);
    let id = body::public_id(&event).into();
    let rendered = body::render(&event, 1, subscription.shape, &identity.source);
    let is_array = subscription.batch_size > 1;
    let (id, body) =
        if is_array { (batch::id(&[id]), batch::body(&[rendered.body])) } else { (id, rendered.body) };
    Request {
        owner: Some(Arc::clone(&subscription.owner)),
        content_type: body::content_type(subscription.shape.format, is_array),
        attributes: rendered.headers,
        headers: subscription.headers.clone(),
        header_names: subscription.header_names.clone(),
        profiles: subscription.profiles,
        tls: subscription.tls.clone(),
        ..Request::json(Arc::clone(url), id, body, subscription.signers(now_us), subscription.timeout)
    }
}

/// Returns an event like the one of `webhook_ping()`.
fn event(subscription_id: i64, now_us: i64) -> Event {
    Event {
        id: 0,
        slot: 0,
        xid: 0,
        created_at_us: now_us,
        subscription_id: Some(subscription_id),
        truncated: false,
        event_type: "webhook.ping".into(),
        table_name: None,
        key: Some(subscription_id.to_string().into()),
        actor: None,
        origin: None,
        traceparent: None,
        payload: format!("{{\"subscription_id\":{subscription_id}}}").into(),
        previous: None,
        owner: None,
        order_key: None,
        replaced: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::{
        body::Source,
        shape::{Format, Shape},
    };
    use hyper::header::HeaderValue;

    #[test]
    fn a_ping_has_the_subscriptions_shape_and_an_id_of_its_own() {
        let identity =
            Identity { source: Source::of_database("shop"), origin: HeaderValue::from_static("x") };
        let url = Arc::new(Url::parse("https://receiver.example/").unwrap());
        let ping = |subscription: &Subscription, at| request(&identity, subscription, &url, at);
        let plain = ping(&Subscription::sample(7), 1_700_000_000_000_000);
        assert_eq!(
            plain.body,
            r#"{"id":"evt_060a24181e40000","type":"webhook.ping","timestamp":"2023-11-14T22:13:20.000000Z","sequence":0,"data":{"subscription_id":7}}"#
        );
        assert_eq!((&*plain.id, plain.signers.len()), ("evt_060a24181e40000", 1));
        assert_ne!(plain.id, ping(&Subscription::sample(7), 1_700_000_000_000_001).id);

        let raw = Shape { format: Format::Raw, ..Shape::default() };
        let raw = ping(&Subscription { shape: raw, ..Subscription::sample(7) }, 1);
        assert_eq!(raw.attributes.unwrap()["webhook-event-type"], "webhook.ping");
        let batched = ping(&Subscription { batch_size: 2, ..Subscription::sample(7) }, 1);
        assert!(batched.body.starts_with(b"[{") && batched.id.starts_with("bat_"));
    }
}
