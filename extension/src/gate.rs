//! The gate: a commit rings (NOTIFY) only when the daemon sleeps.
//!
//! One heavyweight lock stands for "the daemon is awake". A transaction that emitted asks for it in `ShareLock` just
//! before it commits, without waiting; the daemon takes it in `RowExclusiveLock` before it sleeps. The two modes
//! conflict with each other and not with themselves, so commits never wait for one another, and several daemons can
//! sleep. NOTIFY, which serialises commits through a cluster-wide lock, is left to the commits that find the daemon
//! asleep.
//!
//! No wake-up is lost: a transaction that got the lock holds it until after it has become visible (Postgres leaves the
//! proc array before it releases locks), so once the daemon has the gate, everything that did not ring is visible to
//! its last look before it sleeps, and everything later rings.
//!
//! Writes: one transaction-level lock, or one NOTIFY without payload. Never waits in a writing transaction.

use std::cell::Cell;

use pgrx::{pg_sys, prelude::*};

use crate::compat;

/// First key of every lock of the product: the bytes `phwh`.
const LOCK_NAMESPACE: u32 = 1_885_820_776;
/// Second key of the gate.
const LOCK_GATE: u32 = 2;
/// A class of advisory lock that no SQL function can take (those use 1 and 2), so nobody holds the gate by accident.
const LOCK_CLASS: u16 = 7;
/// The channel the daemon listens on.
const CHANNEL: &std::ffi::CStr = c"pg_webhook";

thread_local! {
    /// Whether the current transaction has emitted an event.
    static EMITTED: Cell<bool> = const { Cell::new(false) };
}

fn tag() -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a plain global of this process, set before any SQL runs.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: LOCK_NAMESPACE,
        locktag_field3: LOCK_GATE,
        locktag_field4: LOCK_CLASS,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Notes that the current transaction has emitted; its commit will ring if the daemon sleeps.
pub fn mark_emitted() {
    EMITTED.set(true);
}

/// Forgets the transaction's mark. Neither allocates nor fails: it runs in commit and abort callbacks.
pub fn forget() {
    EMITTED.set(false);
}

/// Just before the commit of a transaction that emitted: holds the gate open until the commit is visible, or rings.
///
/// # Errors
/// Raises what the lock manager raises (out of shared memory); the transaction then aborts.
pub fn before_commit() {
    if !EMITTED.get() {
        return;
    }
    let tag = tag();
    // SAFETY: the tag outlives the call; a transaction-level lock is released by the end of this transaction.
    let got = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ShareLock as i32, false, true) };
    if got == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL {
        // SAFETY: both are NUL-terminated; PRE_COMMIT callbacks run before the notifications are written out.
        unsafe { compat::Async_Notify(CHANNEL.as_ptr(), c"".as_ptr()) };
    }
}

fn held() -> bool {
    compat::lock_held_by_me(&tag(), pg_sys::RowExclusiveLock as i32)
}

/// `webhook.gate_ring()`: for SQL functions that insert into webhook.event by themselves.
#[pg_extern(sql = false)]
fn gate_ring() {
    mark_emitted();
}

/// `webhook.gate_take()`: the daemon is about to sleep. Waits for the transactions that are about to commit without
/// having rung; an interrupt (cancel, statement_timeout, lock_timeout) ends the wait. Taking it twice is taking it once.
///
/// While it waits, the statement's snapshot holds back xmin: for as long as the slowest commit under way takes (a WAL
/// flush, or a synchronous standby's answer), since the other side takes the gate in its pre-commit phase only.
#[pg_extern(sql = false)]
fn gate_take() {
    if held() {
        return;
    }
    let tag = tag();
    // SAFETY: the tag outlives the call; a session-level lock is released by gate_release() or the session's end.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, true, false) };
}

/// `webhook.gate_release()`: the daemon is awake. Nothing happens if this session does not hold the gate.
#[pg_extern(sql = false)]
fn gate_release() {
    if held() {
        let tag = tag();
        // SAFETY: this session holds exactly this lock at session level; nothing takes this mode at another level.
        unsafe { pg_sys::LockRelease(&tag, pg_sys::RowExclusiveLock as i32, true) };
    }
}

extension_sql!(
    r#"
create function webhook.gate_ring() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_ring_wrapper';
comment on function webhook.gate_ring() is
    'Notes that this transaction has emitted: its commit wakes the daemon if it sleeps. For SQL that inserts into webhook.event itself';
revoke all on function webhook.gate_ring() from public;

create function webhook.gate_take() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_take_wrapper';
comment on function webhook.gate_take() is
    'Daemon: about to sleep. Waits until every commit that did not notify is visible; from then on commits notify on channel pg_webhook. Held by the session; taking it twice is taking it once';
revoke all on function webhook.gate_take() from public;

create function webhook.gate_release() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_release_wrapper';
comment on function webhook.gate_release() is
    'Daemon: awake. Commits no longer notify. Nothing happens if the session does not hold the gate';
revoke all on function webhook.gate_release() from public;
"#,
    name = "gate",
    requires = ["capture"]
);
