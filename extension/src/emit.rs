//! `webhook_emit`, `webhook_ping`, and our own events: events that no table caused.
//!
//! Puts them into the outbox, which inserts them at the end of the statement. The texts are bytes
//! in the database's encoding, and pass through unchanged.

use core::ffi::CStr;

use crate::arguments::Arguments;
use crate::error::{Error, answer, given, not_null};
use crate::guc::{self, OverCap};
use crate::json::{self, Form, Printer};
use crate::memory::{self, Bytes};
use crate::outbox::{self, NewEvent};
use crate::owner;
use crate::owner_name::{self, EVERY};
use crate::rights::{self, Caller};
use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Longest key of an application's event, in bytes.
const KEY_BYTES_MAX: usize = 1024;

/// json is stored as text, and that text is sent. `payload` is therefore taken as bytes, like the
/// others. The previous schema declares the function without the owner.
#[pg_extern(sql = false)]
fn webhook_emit(call: pg_sys::FunctionCallInfo) -> String {
    answer(|| {
        // SAFETY: sql/functions.sql declares the arguments in this order: a text, json, two texts.
        unsafe {
            let event_type = given(pg_getarg::<&[u8]>(call, 0), "event_type")?;
            let payload = given(pg_getarg::<&[u8]>(call, 1), "payload")?;
            emit(event_type, payload, pg_getarg(call, 2), owner_argument(call))
        }
    })
}

/// Emits an event whose payload is jsonb, or whose key is not text. Each becomes the text that
/// capture would write for such a column.
#[pg_extern(sql = false)]
fn webhook_emit_typed(call: pg_sys::FunctionCallInfo) -> String {
    answer(|| {
        // SAFETY: sql/functions.sql declares the arguments in this order: a text, json or jsonb,
        // any type except an array, and a text.
        unsafe {
            let mut arguments = Arguments::of(call, (*call).nargs.clamp(3, 4))?;
            let event_type = given(arguments.take::<&[u8]>(), "event_type")?;
            let payload = given(arguments.take_datum(), "payload")?;
            let payload = match type_of(call, 1)? {
                pg_sys::JSONBOID => {
                    CStr::from_ptr(pg_sys::OidOutputFunctionCall(pg_sys::F_JSONB_OUT.into(), payload))
                        .to_bytes()
                }
                _ => json::bytes_of(payload),
            };
            let key = match arguments.take_datum() {
                Some(key) => Some(key_text(key, type_of(call, 2)?)?),
                None => None,
            };
            emit(event_type, payload, key.as_deref(), owner_argument(call))
        }
    })
}

/// Returns the fourth argument, if the function is declared with it.
///
/// # Safety
/// A call of `webhook_emit()` in progress.
unsafe fn owner_argument<'a>(call: pg_sys::FunctionCallInfo) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { if (*call).nargs > 3 { pg_getarg(call, 3) } else { None } }
}

/// Returns the type that an argument has in the call. Replaces a domain by its base type.
///
/// # Safety
/// A call in progress that has this argument.
unsafe fn type_of(call: pg_sys::FunctionCallInfo, argument: i32) -> Result<pg_sys::Oid, Error> {
    // SAFETY: the caller's promise; the second call looks up a type that exists.
    unsafe {
        let found = pg_sys::get_fn_expr_argtype((*call).flinfo, argument);
        if found == pg_sys::Oid::INVALID {
            Err(Error::Missing("type"))
        } else {
            Ok(pg_sys::getBaseType(found))
        }
    }
}

/// Returns the text of a key.
///
/// # Safety
/// `key` is a value of `key_type`.
unsafe fn key_text(key: pg_sys::Datum, key_type: pg_sys::Oid) -> Result<Bytes, Error> {
    let mut text = Bytes::new();
    // SAFETY: the caller's promise; the printer is dropped before the memory context can be.
    let written = unsafe {
        let printer = Printer::new(key_type, pg_sys::CurrentMemoryContext);
        printer.write(&mut text, key, Form::Text, KEY_BYTES_MAX)
    };
    written.map_err(|_| key_too_long()).map(|()| text)
}

#[pg_extern(sql = false)]
fn webhook_ping(id: Option<i64>) -> String {
    answer(|| {
        let (id, caller) = (given(id, "id")?, Caller::present());
        rights::as_owner(|| ping(caller, id))
    })
}

#[pg_extern(sql = false)]
fn webhook_try_now(id: Option<i64>, ignore_retry_after: Option<bool>) {
    answer(|| {
        let (id, caller) = (given(id, "id")?, Caller::present());
        let ignore_retry_after = not_null(ignore_retry_after, "ignore_retry_after")?;
        rights::as_owner(|| try_now(caller, id, ignore_retry_after))
    })
}

fn emit(
    event_type: &[u8],
    payload: &[u8],
    key: Option<&[u8]>,
    owner: Option<&[u8]>,
) -> Result<String, Error> {
    memory::room_for_input(event_type.len());
    let text = String::from_utf8_lossy(event_type);
    event_type::check_type(&text).map_err(|reason| Error::BadEventType { text: text.to_string(), reason })?;
    if event_type::is_reserved(&text) {
        return Err(Error::Reserved(text.into_owned()));
    }
    if key.is_some_and(|key| key.len() > KEY_BYTES_MAX) {
        return Err(key_too_long());
    }
    if let Some(owner) = owner {
        check_owner(owner)?;
    }
    let event = NewEvent { event_type, payload, key, owner, ..NewEvent::default() };
    let bytes_max = guc::payload_bytes_max();
    if payload.len() <= bytes_max {
        return Ok(outbox::emit(&event).public_id());
    }
    if guc::payload_over_cap() == OverCap::Strict {
        return Err(Error::EmittedTooLong { bytes: payload.len(), bytes_max });
    }
    let payload = &thin(key);
    Ok(outbox::emit(&NewEvent { payload, truncated: true, ..event }).public_id())
}

/// Checks that a text is the name of an owner, or stands for every owner.
fn check_owner(owner: &[u8]) -> Result<(), Error> {
    let flaw = if owner == EVERY.as_bytes() { None } else { owner_name::flaw_of_bytes(owner) };
    flaw.map_or(Ok(()), |reason| {
        Err(Error::BadOption {
            option: "owner",
            reason: reason.to_owned(),
            hint: "Pass the owner of the event, '*' for every owner, or null for an event without an owner.",
        })
    })
}

fn key_too_long() -> Error {
    Error::BadOption {
        option: "key",
        reason: format!("must have at most {KEY_BYTES_MAX} bytes"),
        hint: "Pass an identifier of the subject, and put other data into the payload.",
    }
}

/// Returns the replacement for a payload over the cap: an object with the key, if there is one.
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
    let event = outbox::emit(&NewEvent {
        event_type: b"webhook.ping",
        payload: format!("{{\"subscription_id\":{id}}}").as_bytes(),
        key: Some(id.to_string().as_bytes()),
        subscription_id: Some(id),
        owner: owner_of(id)?.as_deref(),
        ..NewEvent::default()
    });
    Ok(event.public_id())
}

fn try_now(caller: Caller, id: i64, ignore_retry_after: bool) -> Result<(), Error> {
    owner::lock(caller, id)?;
    let enabled = "select s.enabled from webhook.subscription s where s.id = $1";
    if Spi::get_one_with_args(enabled, &[id.into()])? != Some(true) {
        return Err(Error::Paused(id));
    }
    attempt_requested(id, ignore_retry_after);
    Ok(())
}

/// Asks the daemon to load a row of `webhook.queue` that is due now.
pub fn delivery_requested(subscription_id: i64, sequence: i64) {
    request(subscription_id, &format!("{{\"sequence\":{sequence}}}"));
}

/// Asks the daemon to take a subscription's backlog in `webhook.queue` from the start.
pub fn backlog_requested(subscription_id: i64) {
    request(subscription_id, "{\"backlog\":true}");
}

/// Asks the daemon to attempt a subscription's waiting deliveries now.
fn attempt_requested(subscription_id: i64, ignore_retry_after: bool) {
    let payload = format!("{{\"try_now\":true,\"ignore_retry_after\":{ignore_retry_after}}}");
    request(subscription_id, &payload);
}

/// Announces that a backfill has begun.
///
/// # Errors
/// The owner of the subscription cannot be read.
pub fn backfill_requested(id: i64, subscription_id: i64, payload: &str) -> Result<(), Error> {
    outbox::emit(&NewEvent {
        event_type: b"webhook.backfill.requested",
        payload: payload.as_bytes(),
        key: Some(id.to_string().as_bytes()),
        owner: owner_of(subscription_id)?.as_deref(),
        ..NewEvent::default()
    });
    Ok(())
}

/// Returns the owner of a subscription, in the database's encoding.
fn owner_of(subscription_id: i64) -> Result<Option<Vec<u8>>, Error> {
    let query = "select (select convert_to(s.owner, getdatabaseencoding()) from webhook.subscription s where s.id = $1)";
    Ok(Spi::get_one_with_args(query, &[subscription_id.into()])?)
}

/// Sends the daemon a request about one subscription. It is never delivered, so it has no owner.
fn request(subscription_id: i64, payload: &str) {
    outbox::emit(&NewEvent {
        event_type: b"webhook.delivery.requested",
        payload: payload.as_bytes(),
        key: Some(subscription_id.to_string().as_bytes()),
        subscription_id: Some(subscription_id),
        ..NewEvent::default()
    });
}
