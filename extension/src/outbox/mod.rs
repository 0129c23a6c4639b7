//! The outbox: writes events as rows of webhook.event, in the transaction that causes them.
//!
//! The module gets events from capture and from SQL functions. It numbers them at once, so that the
//! events of one row sort by id in the order in which the row was locked. It keeps them in a
//! buffer, and inserts the buffer in batches: when it is full, at the end of each statement, before
//! a statement that reads the outbox, and before a subtransaction or transaction ends.
//!
//! Only the subtransaction that captured a row inserts it. So there is one case in which a reader
//! in the same transaction sees events late: a trigger opens a subtransaction within a statement,
//! and reads the outbox in it. It sees the events of the running statement only after the
//! subtransaction.
//!
//! The module reads the settings webhook.actor, .origin and .traceparent, and writes webhook.event.

mod buffer;
mod insert;
mod number;
mod partition;
mod ring;
mod tables;

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use pgrx::{PgSqlErrorCode, pg_sys};

use crate::compat::unguarded;
use crate::{gate, guc, memory};
use buffer::{Buffer, BufferHead};
pub use tables::{POSTGRES_EPOCH_SECONDS, schema};

/// Longest text value in Postgres, in bytes. The length has 30 bits, and includes four bytes of
/// header.
const TEXT_BYTES_MAX: usize = 0x3fff_ffff - 4;

thread_local! {
    /// Never dropped, because a callback may still come when the backend exits.
    static BUFFER: RefCell<ManuallyDrop<Buffer>> = const { RefCell::new(ManuallyDrop::new(Buffer::new())) };
    /// The subtransaction of a statement that ended before the present one began, and whose events
    /// are emitted now. 0 if there is none.
    static LATE: Cell<u32> = const { Cell::new(0) };
}

/// A new event. Texts are in the database's encoding and contain no NUL.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewEvent<'a> {
    /// `noun.verb`. The caller has validated it, and the insert does not check it.
    pub event_type: &'a [u8],
    /// Qualified name of the table. `None` for an event that the application emits.
    pub table_name: Option<&'a [u8]>,
    /// The key of the row.
    pub key: Option<&'a [u8]>,
    /// Valid JSON, stored unchanged. The caller checks its size.
    pub payload: &'a [u8],
    /// Valid JSON: former values.
    pub previous: Option<&'a [u8]>,
    /// Only for this subscription.
    pub subscription_id: Option<i64>,
    /// The payload was cut.
    pub truncated: bool,
    /// The owner: a valid name, or `*` for every owner. `None` for an event without one.
    pub owner: Option<&'a [u8]>,
}

/// The settings of the session that describe its changes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Session<'a> {
    pub actor: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
    pub traceparent: Option<&'a [u8]>,
}

/// The identity of an emitted event.
#[derive(Debug, Clone, Copy)]
pub struct Emitted {
    /// `webhook.event.id`.
    pub id: i64,
    /// Postgres time: microseconds since 2000-01-01 UTC.
    pub created_at: pg_sys::TimestampTz,
}

impl Emitted {
    /// Returns the id that receivers see, which equals `webhook.public_id(id, created_at)`.
    pub fn public_id(&self) -> String {
        let since_1970 = self.created_at + POSTGRES_EPOCH_SECONDS * 1_000_000;
        format!("evt_{since_1970:014x}{:x}", self.id)
    }
}

/// Emits an event in the current (sub)transaction. Later commands of the transaction see its row.
/// If the daemon sleeps, the commit wakes it.
///
/// # Errors
/// Raises an error in a read-only transaction, for a text that is too long for Postgres (1 GiB),
/// and if the buffer is full and cannot be written.
pub fn emit(event: &NewEvent<'_>) -> Emitted {
    let session = Session { actor: guc::actor(), origin: guc::origin(), traceparent: guc::traceparent() };
    emit_of(event, &session)
}

/// Emits an event with the settings that the session had earlier.
///
/// # Errors
/// As [`emit`].
pub fn emit_of(event: &NewEvent<'_>, session: &Session<'_>) -> Emitted {
    // SAFETY: plain calls. The command id is marked as used, so that a later command gets a higher
    // one and sees the row.
    let (id, created_at, command, subtransaction) = unsafe {
        (
            number::next(),
            unguarded::GetCurrentTimestamp(),
            pg_sys::GetCurrentCommandId(true).saturating_sub(u32::from(LATE.get() != 0)),
            unguarded::GetCurrentSubTransactionId(),
        )
    };
    let subtransaction = BUFFER.with_borrow(|buffer| match LATE.get() {
        0 => subtransaction,
        // The rows of an inner subtransaction are above those of an outer one.
        late => late.max(buffer.top()).min(subtransaction),
    });
    let head = BufferHead {
        id,
        created_at,
        subscription_id: event.subscription_id,
        truncated: event.truncated,
        command,
        subtransaction,
    };
    let texts = [
        Some(event.event_type),
        event.table_name,
        event.key,
        session.actor,
        session.origin,
        session.traceparent,
        Some(event.payload),
        event.previous,
        event.owner,
    ];
    if texts.iter().flatten().any(|text| text.len() > TEXT_BYTES_MAX) {
        too_long();
    }
    let full = BUFFER
        .with_borrow_mut(|buffer| buffer.push(&head, &texts))
        .unwrap_or_else(|_| memory::out_of_memory(texts.iter().flatten().map(|text| text.len()).sum()));
    gate::mark_emitted();
    if full {
        flush();
    }
    Emitted { id, created_at }
}

/// Emits events of a statement that ended before the present one began, so that the present one
/// sees them. They share the fate of the statement's own subtransaction. The present statement may
/// run in a subtransaction that began later and may be rolled back alone.
pub fn late(subtransaction: u32, work: impl FnOnce()) {
    struct Until;
    impl Drop for Until {
        fn drop(&mut self) {
            LATE.set(0);
        }
    }
    let _until = Until;
    LATE.set(subtransaction);
    work();
}

/// Locks the table that the next events will be inserted into, as the insert does. If that must
/// wait or fails, it happens here.
///
/// # Errors
/// Raises `lock_not_available` after `lock_timeout`, and `undefined_table` if the table does not
/// exist.
pub fn lock() {
    loop {
        // SAFETY: plain calls. The lock is held until the transaction ends.
        let slot = unsafe {
            let slot = ring::present();
            pg_sys::LockRelationOid(tables::partition(slot), pg_sys::RowExclusiveLock as pg_sys::LOCKMODE);
            slot
        };
        // If not, the ring has turned meanwhile.
        if ring::is_present(slot) {
            break;
        }
    }
}

/// Reports whether events wait for the insert.
pub fn is_pending() -> bool {
    BUFFER.with_borrow(|buffer| !buffer.is_empty())
}

/// Inserts the events that the current subtransaction has captured. Events of the subtransactions
/// around it wait until it has ended. Otherwise they would share its fate.
///
/// # Errors
/// Raises the errors of the insert. The rows are then gone from the buffer, and so is their
/// subtransaction.
pub fn flush() {
    if !is_pending() {
        return;
    }
    // SAFETY: plain calls.
    let subtransaction = unsafe {
        // Nothing can be written while a parallel plan runs. A later flush does it.
        if unguarded::IsInParallelMode() {
            return;
        }
        unguarded::GetCurrentSubTransactionId()
    };
    let taken = BUFFER
        .with_borrow_mut(|buffer| buffer.take(subtransaction))
        .unwrap_or_else(|_| memory::out_of_memory(buffer::BYTES_MAX));
    // The rows are not in the shared buffer while they are inserted. A user's index may run any
    // function, which may emit and flush too.
    if let Some(taken) = taken {
        with_snapshot(|| insert::insert(&taken));
        BUFFER.with_borrow_mut(|buffer| buffer.reuse(taken));
    }
}

/// An insert needs a snapshot for functions of indexes. Before a commit, none is active.
pub fn with_snapshot(work: impl FnOnce()) {
    // SAFETY: each push has a pop. If `work` raises an error, the end of the (sub)transaction pops.
    unsafe {
        let missing = !pg_sys::ActiveSnapshotSet();
        if missing {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        work();
        if missing {
            pg_sys::PopActiveSnapshot();
        }
    }
}

/// Handles a change of a relation (`INVALID` for any). Neither allocates, fails, nor reads the
/// system catalog.
pub fn invalidate(relation: pg_sys::Oid) {
    if tables::invalidate(relation) {
        number::invalidate();
    }
    partition::invalidate(relation);
    ring::invalidate(relation);
}

/// Handles the rollback of a subtransaction. Neither allocates nor fails.
pub fn subtransaction_aborted(subtransaction: u32) {
    BUFFER.with(|buffer| {
        if let Ok(mut buffer) = buffer.try_borrow_mut() {
            buffer.abort(subtransaction);
        }
    });
}

/// Handles the release of a subtransaction. Neither allocates nor fails.
pub fn subtransaction_released(subtransaction: u32, parent: u32) {
    BUFFER.with(|buffer| {
        if let Ok(mut buffer) = buffer.try_borrow_mut() {
            buffer.release(subtransaction, parent);
        }
    });
}

/// Handles the end of the transaction. Neither allocates nor fails.
pub fn forget() {
    BUFFER.with(|buffer| {
        if let Ok(mut buffer) = buffer.try_borrow_mut() {
            buffer.clear();
        }
    });
}

fn too_long() -> ! {
    pgrx::pg_sys::panic::ErrorReport::new(
        PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        "a value of an event has more than 1 GiB",
        "pg_webhook",
    )
    .report(pgrx::PgLogLevel::ERROR);
    unreachable!("ERROR does not return")
}
