//! `webhook_emit` and `webhook_ping`: events that no table caused.
//!
//! Puts them into the outbox, which inserts them at the end of the statement; the texts are bytes in the database's
//! encoding and pass through as they are.

use crate::error::{Error, answer, given};
use crate::guc::{self, OverCap};
use crate::json;
use crate::memory::{self, Bytes};
use crate::outbox::{self, Emitted, NewEvent};
use crate::rights::{self, Caller};
use crate::subscribe::owner;
use pgrx::prelude::*;

/// Longest key of an application's event, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// json is stored as text, and the text is what will be sent: so `payload` is taken as bytes, like the others.
#[pg_extern(sql = false)]
fn webhook_emit(event_type: Option<&[u8]>, payload: Option<&[u8]>, key: Option<&[u8]>) -> String {
    answer(|| emit(given(event_type, "event_type")?, given(payload, "payload")?, key))
}

#[pg_extern(sql = false)]
fn webhook_ping(id: Option<i64>) -> String {
    answer(|| {
        let (id, caller) = (given(id, "id")?, Caller::present());
        rights::as_owner(|| ping(caller, id))
    })
}

fn emit(event_type: &[u8], payload: &[u8], key: Option<&[u8]>) -> Result<String, Error> {
    memory::room_for_input(event_type.len());
    let text = String::from_utf8_lossy(event_type);
    event_type::check_type(&text).map_err(|reason| Error::BadEventType { text: text.to_string(), reason })?;
    if event_type::is_reserved(&text) {
        return Err(Error::Reserved(text.into_owned()));
    }
    if key.is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(Error::BadOption {
            option: "key",
            reason: format!("it is longer than {KEY_BYTES_MAX} bytes"),
            hint: "Pass what names the thing, such as its id; the rest belongs into the payload.",
        });
    }
    let bytes_max = guc::payload_bytes_max();
    if payload.len() <= bytes_max {
        return Ok(outbox::emit(&NewEvent { event_type, payload, key, ..NewEvent::default() }).public_id());
    }
    if guc::payload_over_cap() == OverCap::Strict {
        return Err(Error::EmittedTooLong { bytes: payload.len(), bytes_max });
    }
    let payload = &thin(key);
    Ok(outbox::emit(&NewEvent { event_type, payload, key, truncated: true, ..NewEvent::default() })
        .public_id())
}

/// What stands for a payload over the cap: the key, if there is one.
fn thin(key: Option<&[u8]>) -> Bytes {
    let mut json = Bytes::new();
    json.push(b'{');
    if let Some(key) = key {
        json.extend_from_slice(b"\"key\":");
        json::write_string(&mut json, key);
    }
    json.push(b'}');
    json
}

fn ping(caller: Caller, id: i64) -> Result<String, Error> {
    owner::lock(caller, id)?;
    Ok(about(b"webhook.ping", id, &format!("{{\"subscription_id\":{id}}}")).public_id())
}

/// Asks the daemon to load a row of `webhook.queue` that is due now.
pub fn delivery_requested(subscription_id: i64, sequence: i64) {
    about(b"webhook.delivery.requested", subscription_id, &format!("{{\"sequence\":{sequence}}}"));
}

/// Asks the daemon to take a subscription's backlog in `webhook.queue` from the start.
pub fn backlog_requested(subscription_id: i64) {
    about(b"webhook.delivery.requested", subscription_id, "{\"backlog\":true}");
}

/// Tells whoever wants to know that a backfill has begun.
pub fn backfill_requested(id: i64, payload: &str) {
    outbox::emit(&NewEvent {
        event_type: b"webhook.backfill.requested",
        payload: payload.as_bytes(),
        key: Some(id.to_string().as_bytes()),
        ..NewEvent::default()
    });
}

/// Emits one of our own events, for one subscription alone.
fn about(event_type: &[u8], subscription_id: i64, payload: &str) -> Emitted {
    outbox::emit(&NewEvent {
        event_type,
        payload: payload.as_bytes(),
        key: Some(subscription_id.to_string().as_bytes()),
        subscription_id: Some(subscription_id),
        ..NewEvent::default()
    })
}
