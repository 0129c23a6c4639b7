//! `webhook_emit` and `webhook_ping`: events that no table caused.

use crate::error::{Error, answer, given};
use crate::subscribe;
use pgrx::prelude::*;

/// An event that the application or an operator puts into the outbox.
struct Application<'a> {
    event_type: &'a str,
    /// JSON text, kept as it is.
    payload: &'a str,
    key: Option<&'a str>,
    /// For this subscription alone.
    subscription_id: Option<i64>,
}

/// `payload` is json in SQL; json is stored as text, and the text is what will be sent.
#[pg_extern(sql = false)]
fn webhook_emit(event_type: Option<&str>, payload: Option<&str>, key: Option<&str>) -> String {
    answer(|| emit(given(event_type, "event_type")?, given(payload, "payload")?, key))
}

#[pg_extern(sql = false)]
fn webhook_ping(id: Option<i64>) -> String {
    answer(|| ping(given(id, "id")?))
}

fn emit(event_type: &str, payload: &str, key: Option<&str>) -> Result<String, Error> {
    event_type::check_type(event_type)
        .map_err(|reason| Error::BadEventType { text: event_type.to_owned(), reason })?;
    if event_type::is_reserved(event_type) {
        return Err(Error::Reserved(event_type.to_owned()));
    }
    put(&Application { event_type, payload, key, subscription_id: None })
}

fn ping(id: i64) -> Result<String, Error> {
    subscribe::lock(id)?;
    let payload = format!("{{\"subscription_id\":{id}}}");
    put(&Application {
        event_type: "webhook.ping",
        payload: &payload,
        key: Some(&id.to_string()),
        subscription_id: Some(id),
    })
}

/// Asks the daemon to load a row of `webhook.queue` that is due now.
pub fn delivery_requested(subscription_id: i64, sequence: i64) -> Result<(), Error> {
    put(&Application {
        event_type: "webhook.delivery.requested",
        payload: &format!("{{\"sequence\":{sequence}}}"),
        key: Some(&subscription_id.to_string()),
        subscription_id: Some(subscription_id),
    })?;
    Ok(())
}

/// Puts the event into the outbox, and returns its public id.
fn put(event: &Application) -> Result<String, Error> {
    Spi::connect_mut(|client| {
        let id = client
            .update(
                "insert into webhook.event (type, payload, key, subscription_id, actor, origin, traceparent)
                 select $1, $2::json, $3, $4, nullif(current_setting('webhook.actor', true), ''),
                        nullif(current_setting('webhook.origin', true), ''),
                        nullif(current_setting('webhook.traceparent', true), '')
                 returning webhook.public_id(id, created_at)",
                None,
                &[
                    event.event_type.into(),
                    event.payload.into(),
                    event.key.into(),
                    event.subscription_id.into(),
                ],
            )?
            .first()
            .get_one::<String>()?
            .ok_or(Error::Missing("event"))?;
        client.update("select webhook.gate_ring()", None, &[])?;
        Ok(id)
    })
}
