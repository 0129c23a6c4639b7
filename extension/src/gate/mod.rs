//! The gate: a commit wakes the daemon only when the daemon sleeps.
//!
//! One heavyweight lock stands for "the daemon is awake". A transaction that emitted events
//! requests it in `ShareLock` just before it commits, without waiting. The daemon holds it in
//! `RowExclusiveLock` while it sleeps. The two modes conflict with each other and not with
//! themselves. Commits therefore never wait for one another, and several daemons can sleep.
//!
//! The daemon sleeps in the server: `webhook.gate_sleep()` takes the gate, reports that (an INFO
//! message, after which the daemon polls again), and waits on the latch of its backend. A commit
//! that finds the gate shut records the backends that hold it, and sets their latches once it is
//! visible ([`sleepers`]). The backend then opens the gate *by itself*, before the daemon has heard
//! of it. A frozen daemon (SIGSTOP, a suspended machine) therefore costs one wake-up: its backend
//! has opened the gate, and no later commit finds it shut. NOTIFY is not used: it serialises
//! commits through a lock of the whole cluster, and fails when its queue is full.
//!
//! No wake-up is lost:
//!
//! * A commit that got the lock holds it until after it has become visible (Postgres leaves the
//!   proc array before it releases locks). When the daemon gets the gate, all of these commits are
//!   visible, and the daemon's last poll comes after that.
//! * A commit that found the gate shut sets the latch after it has become visible. The backend
//!   resets its latch before it shuts the gate, and therefore before the last poll. If the latch
//!   was set before the reset, the last poll sees the commit. If it is set afterwards, the wait
//!   ends at once. A commit may take long between the two steps (a synchronous standby). Meanwhile
//!   the daemon may wake and fall asleep again; it does so in the same backend, which owns the
//!   latch.
//! * An alarm of Postgres sets the latch too, such as the one for statistics 10 s after a
//!   statement. The backend then resets the latch, keeps the gate shut, and reports again that it
//!   is shut. The daemon polls, and finds the commit if one has also set the latch.
//! * `gate_sleep()` does not wait for the lock. In the lock's queue it would make every later
//!   commit find the gate shut. It returns instead, and the daemon continues to poll, because a
//!   commit is in progress.
//! * A transaction that aborts wakes no daemon. PREPARE TRANSACTION wakes none either; the safety
//!   poll (1 s) finds the rows after COMMIT PREPARED. The safety poll also covers a daemon that
//!   ends in the middle of a commit while another daemon falls asleep: that commit sets the latch
//!   of the first.
//!
//! Writes one transaction-level lock, and a few latches. Never waits in a writing transaction.

mod sleepers;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use pgrx::{pg_sys, prelude::*};

use crate::compat;

/// First key of every lock of the product: the bytes `pgWh`.
const LOCK_NAMESPACE: u32 = 1_885_820_776;
/// Second key of the gate.
const LOCK_GATE: u32 = 2;
/// A class of advisory lock that no SQL function can take (those use 1 and 2), so no application
/// holds the gate by accident.
const LOCK_CLASS: u16 = 7;
/// The message of `gate_sleep()` when the gate is shut. crates/database/src waits for these
/// words.
const ASLEEP: &std::ffi::CStr = c"pg_webhook: asleep";

thread_local! {
    /// True if the current transaction has emitted an event.
    static EMITTED: Cell<bool> = const { Cell::new(false) };
}

fn tag() -> pg_sys::LOCKTAG {
    tag_of(LOCK_GATE)
}

/// Returns the tag of a lock of ours, of this database.
pub fn tag_of(number: u32) -> pg_sys::LOCKTAG {
    tag_in(LOCK_CLASS, number)
}

/// Returns the tag of a lock of another class, which the lock functions of SQL cannot take either.
pub fn tag_in(class: u16, number: u32) -> pg_sys::LOCKTAG {
    pg_sys::LOCKTAG {
        // SAFETY: a plain global of this process, set before any SQL runs.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: LOCK_NAMESPACE,
        locktag_field3: number,
        locktag_field4: class,
        locktag_type: pg_sys::LockTagType::LOCKTAG_ADVISORY as u8,
        locktag_lockmethodid: pg_sys::USER_LOCKMETHOD as u8,
    }
}

/// Records that the current transaction has emitted an event. Its commit will wake the daemon if it
/// sleeps.
pub fn mark_emitted() {
    EMITTED.set(true);
}

/// Wakes the recorded sleepers, because the transaction has committed and is visible. Does not
/// allocate or fail.
pub fn committed() {
    EMITTED.set(false);
    sleepers::wake();
}

/// Forgets the transaction, which has ended in another way. Does not allocate or fail.
pub fn forget() {
    EMITTED.set(false);
    sleepers::forget();
}

/// Tries to take the gate until this transaction ends. Reports whether it got the gate.
fn try_lock(mode: u32) -> bool {
    let tag = tag();
    // SAFETY: the tag outlives the call; the end of this transaction releases a transaction-level
    // lock.
    let got = unsafe { pg_sys::LockAcquire(&tag, mode as i32, false, true) };
    got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
}

/// Prepares the commit of a transaction that emitted events. Holds the gate open until the commit
/// is visible, or records the sleepers that it must wake.
///
/// # Errors
/// Raises the errors of the lock manager (out of shared memory); the transaction then aborts.
pub fn before_commit() {
    if !EMITTED.get() {
        return;
    }
    // A sleeper may open the gate between the two steps. To do so twice in a row, it must fall
    // asleep again meanwhile, which takes a message from its client. The limit is a safeguard;
    // beyond it, the safety poll finds the rows.
    for _ in 0..100 {
        if try_lock(pg_sys::ShareLock) || sleepers::note(&tag(), pg_sys::ShareLock as i32) {
            return;
        }
    }
}

/// `webhook.gate_ring()`: for SQL functions that insert into webhook.event themselves.
#[pg_extern(sql = false)]
fn gate_ring() {
    mark_emitted();
}

/// Runs `call webhook.gate_sleep(timeout_ms)`: the daemon sleeps.
///
/// If a commit holds the gate open, the procedure returns at once. Otherwise it shuts the gate,
/// sends the message [`ASLEEP`], and returns when a commit has woken this backend (or something
/// else has; the caller polls in any case), after `timeout_ms` (0 or null: no timeout), or when the
/// client has sent data or has gone. The gate is open again in every case.
///
/// It is a procedure because a sleep must not hold back xmin: the statement of a function has a
/// snapshot, and a procedure may release its own.
///
/// # Errors
/// Raises an error inside a transaction block.
#[pg_extern(sql = false)]
fn sleep_at_gate(timeout_ms: Option<i32>) {
    // SAFETY: plain reads of the transaction's state.
    if unsafe { pg_sys::IsTransactionBlock() } {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            "webhook.gate_sleep() cannot run in a transaction block"
        );
    }
    // SAFETY: the latch is this process's own. Every commit that has set it is visible to the
    // coming poll.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    pgrx::check_for_interrupts!();
    if !try_lock(pg_sys::RowExclusiveLock) {
        return;
    }
    compat::release_snapshot();
    let timeout = timeout_ms.and_then(|timeout| u64::try_from(timeout).ok()).filter(|timeout| *timeout > 0);
    wait_for_commit(timeout.map(Duration::from_millis));
    let tag = tag();
    // SAFETY: this transaction holds exactly this lock; an error before this point releases it too.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::RowExclusiveLock as i32, false) };
    pgrx::check_for_interrupts!();
    // A sleep is not a slow statement: log_min_duration_statement counts from here.
    // SAFETY: sets a variable of the backend.
    unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
}

/// Reports that the gate is shut, and waits for what ends the sleep.
///
/// If an alarm of this process may have set the latch, the cause is unknown. The gate then stays
/// shut, and the message goes out again, so the daemon polls once.
fn wait_for_commit(timeout: Option<Duration>) {
    let start = Instant::now();
    loop {
        let alarm = compat::time_to_alarm();
        let shut = Instant::now();
        compat::inform(ASLEEP);
        let events = compat::wait_on_latch(timeout.map(|timeout| timeout.saturating_sub(start.elapsed())));
        let by_alarm = alarm.is_some_and(|alarm| shut.elapsed() >= alarm);
        if events != pg_sys::WL_LATCH_SET || !by_alarm {
            return;
        }
        // SAFETY: the latch is this process's own. Every commit that has set it is visible to the
        // poll that follows the next message.
        unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
        pgrx::check_for_interrupts!();
    }
}

extension_sql!(
    r#"
create function webhook.gate_ring() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_ring_wrapper';
comment on function webhook.gate_ring() is
    'Notes that this transaction has emitted: its commit wakes the daemon if it sleeps. For SQL that inserts into webhook.event itself';
revoke all on function webhook.gate_ring() from public;

create procedure webhook.gate_sleep(timeout_ms integer)
    language c as 'MODULE_PATHNAME', 'sleep_at_gate_wrapper';
comment on procedure webhook.gate_sleep(integer) is
    'Daemon: sleeps until a commit with events wakes it, the time is over, or the client sends data. Returns at once if a commit is under way. Sends an INFO message when it sleeps. timeout_ms 0: no timeout';
revoke all on procedure webhook.gate_sleep(integer) from public;
"#,
    name = "gate",
    requires = ["capture"]
);
