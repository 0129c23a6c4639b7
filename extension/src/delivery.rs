//! `webhook_redeliver`, `webhook_redeliver_failed` and `webhook_replay`: send past events to one
//! subscription again, under the same ids.
//!
//! They write the deliveries' rows in `webhook.queue` and ask the daemon, through the outbox, to
//! load them.

use crate::catalogue;
use crate::emit;
use crate::error::{Error, answer, given, not_null};
use crate::limits;
use crate::memory;
use crate::owner;
use crate::rights::{self, Caller};
use crate::subscribe::check;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;

#[pg_extern(sql = false)]
fn webhook_redeliver(event_id: Option<&str>, subscription_id: Option<i64>) {
    answer(|| {
        let (event_id, id) = (given(event_id, "event_id")?, given(subscription_id, "subscription_id")?);
        memory::room_for_input(event_id.len());
        let caller = Caller::present();
        rights::as_owner(|| redeliver(caller, event_id, id))
    })
}

#[pg_extern(sql = false)]
fn webhook_redeliver_failed(
    subscription_id: Option<i64>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    dry_run: Option<bool>,
) -> i64 {
    answer(|| {
        let (subscription_id, caller) = (given(subscription_id, "subscription_id")?, Caller::present());
        let range = (not_null(since, "since")?, not_null(until, "until")?);
        let dry_run = not_null(dry_run, "dry_run")?;
        rights::as_owner(|| redeliver_failed(caller, subscription_id, range, dry_run))
    })
}

#[pg_extern(sql = false)]
fn webhook_replay(
    subscription_id: Option<i64>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    events: Option<Array<'_, &str>>,
) -> i64 {
    answer(|| {
        let subscription_id = given(subscription_id, "subscription_id")?;
        let (since, until) = (given(since, "since")?, not_null(until, "until")?);
        let (events, caller) = (events.map(texts).map(check::events).transpose()?, Caller::present());
        rights::as_owner(|| replay(caller, subscription_id, since, until, events))
    })
}

/// Returns the texts of an array, nulls included.
///
/// # Errors
/// Raises `out_of_memory`.
pub fn texts(array: Array<'_, &str>) -> Vec<Option<String>> {
    memory::room_for_input(array.iter().map(|text| text.map_or(1, str::len)).sum());
    array.iter().map(|text| text.map(str::to_owned)).collect()
}

/// The place of the event with a public id.
struct Found {
    xid: i64,
    slot: i16,
}

fn redeliver(caller: Caller, event_id: &str, subscription_id: i64) -> Result<(), Error> {
    let sequence = Spi::get_one_with_args::<i64>("select webhook.event_sequence($1)", &[event_id.into()])?
        .ok_or_else(|| Error::MalformedEventId(event_id.to_owned()))?;
    owner::lock(caller, subscription_id)?;
    let event = find(event_id, subscription_id)?;
    check_match(caller, event_id, subscription_id, sequence, &event)?;
    // The daemon is about to write the row of such a delivery, and would wait for this transaction.
    let is_matched = Spi::get_one_with_args::<bool>(
        include_str!("sql/awaits_routing.sql"),
        &[subscription_id.into(), sequence.into(), event.xid.into()],
    );
    match no_row(is_matched)? {
        // It will be delivered anyway.
        Some(true) => return Ok(()),
        Some(false) => return Err(Error::NotRouted(event_id.to_owned())),
        None => {}
    }
    // The schedule starts from its beginning: attempts continue to count, and retries are counted
    // from here.
    let is_new = Spi::get_one_with_args::<bool>(
        include_str!("sql/redeliver.sql"),
        &[subscription_id.into(), sequence.into(), event.slot.into(), event.xid.into()],
    )?;
    if is_new == Some(true) {
        limits::check_queued(caller, subscription_id)?;
    }
    forget_given_up(subscription_id, Some(sequence))?;
    emit::delivery_requested(subscription_id, sequence);
    Ok(())
}

/// Rejects an event outside the scope of the subscription, and one that it never received and does
/// not match. Without the second rule, a filter that an operator has locked would hide nothing.
///
/// # Errors
/// [`Error::OutOfScope`], which is final and which owners get as [`Error::NoSuchEvent`], and
/// [`Error::NeverMatched`], which does not apply to callers that can read every event.
fn check_match(
    caller: Caller,
    event_id: &str,
    subscription_id: i64,
    sequence: i64,
    event: &Found,
) -> Result<(), Error> {
    // In the previous schema, events have no owners.
    if !catalogue::is_present()? {
        return Ok(());
    }
    let sees_all = rights::sees_all(caller)?;
    let arguments: [DatumWithOid<'_>; 5] =
        [subscription_id.into(), sequence.into(), event.slot.into(), event.xid.into(), sees_all.into()];
    let (scope, mismatch) = Spi::connect(|client| {
        let row = client.select(include_str!("sql/redelivery_mismatch.sql"), Some(1), &arguments)?;
        if row.is_empty() { Ok((None, None)) } else { row.first().get_two::<String, String>() }
    })?;
    let event_id = event_id.to_owned();
    match (scope, mismatch) {
        // Owners do not learn that the event exists.
        (Some(_), _) if !sees_all => Err(Error::NoSuchEvent(event_id)),
        (Some(reason), _) => Err(Error::OutOfScope { event_id, reason }),
        (None, Some(reason)) => Err(Error::NeverMatched { event_id, reason }),
        (None, None) => Ok(()),
    }
}

/// Returns `None` for an answer without a row.
fn no_row<T>(answer: Result<Option<T>, pgrx::spi::Error>) -> Result<Option<T>, Error> {
    match answer {
        Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        answer => Ok(answer?),
    }
}

/// Removes the deliveries that are in the queue again from those given up: one of them, or all. The
/// previous schema has no such table.
fn forget_given_up(subscription_id: i64, sequence: Option<i64>) -> Result<(), Error> {
    if catalogue::is_present()? {
        Spi::run_with_args(
            include_str!("sql/forget_given_up.sql"),
            &[subscription_id.into(), sequence.into()],
        )?;
    }
    Ok(())
}

/// Puts the deliveries that were given up in a range into the backlog, or counts them.
fn redeliver_failed(
    caller: Caller,
    subscription_id: i64,
    (since, until): (TimestampWithTimeZone, TimestampWithTimeZone),
    dry_run: bool,
) -> Result<i64, Error> {
    owner::lock(caller, subscription_id)?;
    let sql = match dry_run {
        true => include_str!("sql/count_failed.sql"),
        false => include_str!("sql/redeliver_failed.sql"),
    };
    let count = Spi::get_one_with_args::<i64>(sql, &[subscription_id.into(), since.into(), until.into()])?
        .ok_or(Error::Missing("count"))?;
    if count > 0 && !dry_run {
        limits::check_queued(caller, subscription_id)?;
        emit::backlog_requested(subscription_id);
    }
    Ok(count)
}

/// Puts the events that match now into the backlog. An event that is already in the queue keeps its
/// place there. The daemon delivers an event anyway that it has not routed yet to the subscription,
/// and is about to write its row.
fn replay(
    caller: Caller,
    subscription_id: i64,
    since: TimestampWithTimeZone,
    until: TimestampWithTimeZone,
    events: Option<Vec<String>>,
) -> Result<i64, Error> {
    let slots = check_range(since, until)?;
    owner::lock(caller, subscription_id)?;
    // Patterns that an operator has locked apply to a replay too.
    let sees_all = rights::sees_all(caller)?;
    let statement = catalogue::in_schema(include_str!("sql/replay.sql"))?;
    let count = Spi::connect_mut(|client| {
        let row = client.update(
            statement.as_str(),
            Some(1),
            &[
                subscription_id.into(),
                since.into(),
                until.into(),
                events.into(),
                slots.events.into(),
                slots.attempts.into(),
                sees_all.into(),
            ],
        )?;
        row.first().get::<i64>(1)?.ok_or(Error::Missing("count"))
    })?;
    if count > 0 {
        limits::check_queued(caller, subscription_id)?;
        forget_given_up(subscription_id, None)?;
        emit::backlog_requested(subscription_id);
    }
    Ok(count)
}

/// The ring slots to search for the events of a range, and for the attempts at them.
struct Slots {
    events: Option<Vec<i16>>,
    attempts: Option<Vec<i16>>,
}

/// Checks a range and returns its slots. Rejects a range that begins before the ring, because the
/// caller would not notice a partial replay.
fn check_range(since: TimestampWithTimeZone, until: TimestampWithTimeZone) -> Result<Slots, Error> {
    let (is_empty, too_early, slots) = Spi::connect(|client| {
        let row = client.select(
            "select $1 >= $2, case when isfinite($1) and $1 < webhook.ring_begins() then webhook.ring_begins()::text end,
                    s.slots, webhook.attempt_slots(s.slots)
             from (select webhook.ring_slots($1, $2) as slots) s",
            Some(1),
            &[since.into(), until.into()],
        )?;
        let row = row.first();
        let slots = Slots { events: row.get(3)?, attempts: row.get(4)? };
        Ok::<_, Error>((row.get::<bool>(1)?, row.get::<String>(2)?, slots))
    })?;
    if is_empty == Some(true) {
        return Err(Error::BadOption {
            option: "until",
            reason: "must not be earlier than since".to_owned(),
            hint: "Pass a time after since, or omit until to use the present time.",
        });
    }
    match too_early {
        None => Ok(slots),
        Some(beginning) => Err(Error::BadOption {
            option: "since",
            reason: format!("events from before {beginning} have been removed"),
            hint: "Pass a later time, or '-infinity' for all events that are still stored.",
        }),
    }
}

fn find(event_id: &str, subscription_id: i64) -> Result<Found, Error> {
    Spi::connect(|client| {
        let found = client.select(
            "select slot, type, subscription_id, xid from webhook.find_event($1)",
            Some(1),
            &[event_id.into()],
        )?;
        if found.is_empty() {
            return Err(Error::NoSuchEvent(event_id.to_owned()));
        }
        let row = found.first();
        if row.get::<&str>(2)? == Some("webhook.delivery.requested") {
            return Err(Error::NeverDelivered(event_id.to_owned()));
        }
        match row.get::<i64>(3)? {
            Some(only) if only != subscription_id => {
                Err(Error::ForAnother { event_id: event_id.to_owned(), subscription_id: only })
            }
            _ => {
                let (slot, xid) = (row.get(1)?.unwrap_or_default(), row.get(4)?.unwrap_or_default());
                Ok(Found { xid, slot })
            }
        }
    })
}
