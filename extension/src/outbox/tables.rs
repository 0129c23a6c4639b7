//! The OIDs of webhook.event's partitions and its sequence, looked up by name once.
//!
//! The module reads the system catalog. Postgres reports when the result is stale (relation cache
//! invalidation): the extension may be dropped and created again during a session. `ring` knows
//! which partition is written to.

use std::cell::Cell;

use pgrx::{PgSqlErrorCode, pg_sys};

/// Number of slots of the ring (`webhook.ring_slot`).
pub const RING_SLOTS: u8 = 16;
/// Seconds from 1970-01-01, where the ring's clock begins, to 2000-01-01, where that of Postgres
/// begins.
pub const POSTGRES_EPOCH_SECONDS: i64 = 946_684_800;

const UNKNOWN: pg_sys::Oid = pg_sys::Oid::INVALID;

#[derive(Clone, Copy)]
struct Known {
    schema: pg_sys::Oid,
    sequence: pg_sys::Oid,
    partitions: [pg_sys::Oid; RING_SLOTS as usize],
}

const NOTHING: Known =
    Known { schema: UNKNOWN, sequence: UNKNOWN, partitions: [UNKNOWN; RING_SLOTS as usize] };

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(NOTHING) };
}

/// Handles a change of a relation (0 for any). Reports whether it may be one of ours. Neither
/// allocates, fails, nor reads the system catalog.
pub fn invalidate(relation: pg_sys::Oid) -> bool {
    let known = KNOWN.get();
    let is_ours = relation == UNKNOWN || relation == known.sequence || known.partitions.contains(&relation);
    if is_ours {
        KNOWN.set(NOTHING);
    }
    is_ours
}

fn look_up(schema: pg_sys::Oid, name: &str) -> pg_sys::Oid {
    let mut text = [0u8; 32];
    text[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `text` is longer than any name that is passed here, so it ends with a NUL.
    unsafe { pg_sys::get_relname_relid(text.as_ptr().cast(), schema) }
}

fn find(schema: pg_sys::Oid, name: &str) -> pg_sys::Oid {
    let found = look_up(schema, name);
    if found == UNKNOWN {
        missing(name);
    }
    found
}

fn missing(name: &str) -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        format!("relation webhook.{name} does not exist"),
        "pg_webhook",
    )
    .set_hint(
        "The triggers of pg_webhook need its tables. Restore the table, or drop and create the extension.",
    )
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}

/// Returns the schema `webhook`, or `None` if there is none (the extension is being dropped).
pub fn schema() -> Option<pg_sys::Oid> {
    let known = KNOWN.get().schema;
    if known != UNKNOWN {
        return Some(known);
    }
    // Only `sequence()` keeps this. Postgres does not report the end of a schema, but it reports
    // the end of the sequence in it. SAFETY: a NUL-terminated name.
    let found = unsafe { pg_sys::get_namespace_oid(c"webhook".as_ptr(), true) };
    (found != UNKNOWN).then_some(found)
}

fn schema_or_error() -> pg_sys::Oid {
    schema().unwrap_or_else(|| missing("event"))
}

/// Returns webhook.ring_head.
///
/// # Errors
/// Raises `undefined_table` if it does not exist.
pub fn ring_head() -> pg_sys::Oid {
    find(schema_or_error(), "ring_head")
}

/// Returns webhook.timeline_seq.
///
/// # Errors
/// Raises `undefined_table` if it does not exist.
pub fn timeline() -> pg_sys::Oid {
    find(schema_or_error(), "timeline_seq")
}

/// Returns webhook.event_id_seq.
///
/// # Errors
/// Raises `undefined_table` if it does not exist.
pub fn sequence() -> pg_sys::Oid {
    let known = KNOWN.get();
    if known.sequence != UNKNOWN {
        return known.sequence;
    }
    let schema = schema_or_error();
    let sequence = find(schema, "event_id_seq");
    // The look-up may have processed invalidations, so earlier results may be stale.
    let mut known = KNOWN.get();
    known.schema = schema;
    known.sequence = sequence;
    KNOWN.set(known);
    sequence
}

/// Returns the partition of webhook.event for a slot.
///
/// # Errors
/// Raises `undefined_table` if it does not exist.
pub fn partition(slot: u8) -> pg_sys::Oid {
    let index = usize::from(slot % RING_SLOTS);
    let known = KNOWN.get().partitions[index];
    if known != UNKNOWN {
        return known;
    }
    let partition = find(schema_or_error(), &format!("event_{index}"));
    let mut known = KNOWN.get();
    known.partitions[index] = partition;
    KNOWN.set(known);
    partition
}
