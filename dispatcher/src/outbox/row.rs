//! One row of `webhook.event` off the wire.

use crate::{
    event::Event,
    postgres::value::{Micros, Raw},
};
use bytes::Bytes;
use tokio_postgres::{Error, Row};

/// The columns of [`event`], of a table with alias `e`.
pub const COLUMNS: &str = "e.id, e.slot, e.xid, e.created_at, e.subscription_id, e.truncated, e.type, e.table_name, \
     e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous";

/// How many they are.
pub const COLUMN_COUNT: usize = 14;

/// Reads an event from [`COLUMNS`], which begin at column `at`.
///
/// # Errors
/// A column of another type: the extension is of another version.
pub fn event(row: &Row, at: usize) -> Result<Event, Error> {
    Ok(Event {
        id: row.try_get(at)?,
        slot: row.try_get(at + 1)?,
        xid: row.try_get::<_, i64>(at + 2)?.unsigned_abs(),
        created_at_us: row.try_get::<_, Micros>(at + 3)?.0,
        subscription_id: row.try_get(at + 4)?,
        truncated: row.try_get(at + 5)?,
        event_type: text(row, at + 6)?.unwrap_or_default(),
        table_name: text(row, at + 7)?,
        key: text(row, at + 8)?,
        actor: text(row, at + 9)?,
        origin: text(row, at + 10)?,
        traceparent: text(row, at + 11)?,
        payload: bytes(row, at + 12)?.unwrap_or_default(),
        previous: bytes(row, at + 13)?,
    })
}

/// Text that need not be UTF-8: a database in SQL_ASCII holds any bytes, and one such row must not stop the reader.
fn text(row: &Row, at: usize) -> Result<Option<Box<str>>, Error> {
    let raw: Option<Raw<'_>> = row.try_get(at)?;
    Ok(raw.map(|raw| String::from_utf8_lossy(raw.0).into()))
}

fn bytes(row: &Row, at: usize) -> Result<Option<Bytes>, Error> {
    let raw: Option<Raw<'_>> = row.try_get(at)?;
    Ok(raw.map(|raw| Bytes::copy_from_slice(raw.0)))
}

/// What an event weighs in a batch.
pub fn payload_bytes(event: &Event) -> usize {
    event.payload.len() + event.previous.as_ref().map_or(0, Bytes::len)
}
