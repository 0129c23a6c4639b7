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
//! * `gate_sleep()` does not wait for the lock. In the lock's queue it would make every later
//!   commit find the gate shut. It returns `busy` instead, and the daemon continues to poll,
//!   because a commit is in progress.
//! * A transaction that aborts wakes no daemon. PREPARE TRANSACTION wakes none either; the safety
//!   poll (1 s) finds the rows after COMMIT PREPARED. The safety poll also covers a daemon that
//!   ends in the middle of a commit while another daemon falls asleep: that commit sets the latch
//!   of the first.
//!
//! A daemon of version 0.1 holds the gate at session level and listens on a channel (`gate_take()`,
//! `gate_release()`). A commit that finds the gate shut and no sleeper to wake notifies that daemon
//! with NOTIFY, unless the queue of notifications is filling up: a wake-up is a hint, and must
//! never fail a commit.
//!
//! Writes one transaction-level lock, and a few latches or one NOTIFY without payload. Never waits
//! in a writing transaction.

mod sleepers;

use std::cell::Cell;

use pgrx::{pg_sys, prelude::*};

use crate::compat;

/// First key of every lock of the product: the bytes `pgWh`.
const LOCK_NAMESPACE: u32 = 1_885_820_776;
/// Second key of the gate.
const LOCK_GATE: u32 = 2;
/// A class of advisory lock that no SQL function can take (those use 1 and 2), so no application
/// holds the gate by accident.
const LOCK_CLASS: u16 = 7;
/// The channel that a daemon of version 0.1 listens on.
const CHANNEL: &std::ffi::CStr = c"pg_webhook";
/// The usage of the notification queue from which on a commit does not notify. Postgres warns at
/// half of the queue, and fails commits when it is full. The other half is left to the application.
const QUEUE_USAGE_MAX: f64 = 0.5;
/// The message of `gate_sleep()` when the gate is shut. dispatcher/src/postgres waits for these
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
    pg_sys::LOCKTAG {
        // SAFETY: a plain global of this process, set before any SQL runs.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: LOCK_NAMESPACE,
        locktag_field3: number,
        locktag_field4: LOCK_CLASS,
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
    // The sleeper may open the gate between the two steps. The second try then gets it.
    for _ in 0..2 {
        if try_lock(pg_sys::ShareLock) || sleepers::note(&tag(), pg_sys::ShareLock as i32) {
            return;
        }
    }
    if may_notify(compat::notification_queue_usage()) {
        // SAFETY: both are NUL-terminated; PRE_COMMIT callbacks run before the notifications are
        // written out.
        unsafe { compat::Async_Notify(CHANNEL.as_ptr(), c"".as_ptr()) };
    }
}

/// Reports whether one more notification leaves enough of the queue to the application. Others may
/// fill the rest between this check and the commit, but that takes half a queue of notifications in
/// that moment.
fn may_notify(queue_usage: f64) -> bool {
    queue_usage < QUEUE_USAGE_MAX
}

fn held() -> bool {
    compat::lock_held_by_me(&tag(), pg_sys::RowExclusiveLock as i32)
}

/// `webhook.gate_ring()`: for SQL functions that insert into webhook.event themselves.
#[pg_extern(sql = false)]
fn gate_ring() {
    mark_emitted();
}

/// Runs `webhook.gate_sleep(timeout_ms)`: the daemon sleeps. Returns
///
/// * `busy`, at once, if a commit holds the gate open;
/// * `rung`, when a commit has woken this backend (or something else has; the caller polls in any
///   case);
/// * `over`, after `timeout_ms` (0: no timeout), or when the client has sent data or has gone.
///
/// The gate is open again in every case. While the function waits, the statement's snapshot holds
/// back xmin. The caller therefore waits no longer than the interval of the safety poll, one second
/// unless set otherwise.
#[pg_extern(sql = false)]
fn gate_sleep(timeout_ms: i32) -> &'static str {
    // SAFETY: the latch is this process's own. Every commit that has set it is visible to the
    // coming poll.
    unsafe { pg_sys::ResetLatch(pg_sys::MyLatch) };
    pgrx::check_for_interrupts!();
    if !try_lock(pg_sys::RowExclusiveLock) {
        return "busy";
    }
    compat::inform(ASLEEP);
    let events = compat::wait_on_latch(u32::try_from(timeout_ms).ok().filter(|timeout| *timeout > 0));
    let tag = tag();
    // SAFETY: this transaction holds exactly this lock; an error before this point releases it too.
    unsafe { pg_sys::LockRelease(&tag, pg_sys::RowExclusiveLock as i32, false) };
    pgrx::check_for_interrupts!();
    // A sleep is not a slow statement: log_min_duration_statement counts from here.
    // SAFETY: sets a variable of the backend.
    unsafe { pg_sys::SetCurrentStatementStartTimestamp() };
    if events & pg_sys::WL_LATCH_SET != 0 { "rung" } else { "over" }
}

/// Runs `webhook.gate_take()`: a daemon of version 0.1 is about to sleep. Waits for the
/// transactions that are about to commit without a notification. An interrupt (cancel,
/// statement_timeout, lock_timeout) ends the wait. A second call has no further effect.
///
/// While it waits, the statement's snapshot holds back xmin. That lasts as long as the slowest
/// commit in progress takes (a WAL flush, or a synchronous standby's answer), because commits take
/// the gate only in their pre-commit phase.
#[pg_extern(sql = false)]
fn gate_take() {
    if held() {
        return;
    }
    let tag = tag();
    // SAFETY: the tag outlives the call; a session-level lock is released by gate_release() or at
    // the session's end.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::RowExclusiveLock as i32, true, false) };
}

/// Runs `webhook.gate_release()`: a daemon of version 0.1 is awake. Does nothing if this session
/// does not hold the gate.
#[pg_extern(sql = false)]
fn gate_release() {
    if held() {
        let tag = tag();
        // SAFETY: this session holds exactly this lock at session level; no code takes this mode at
        // another level.
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

create function webhook.gate_sleep(timeout_ms integer) returns text
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_sleep_wrapper';
comment on function webhook.gate_sleep(integer) is
    'Daemon: sleeps until a commit with events wakes it (rung), the time is over or the client speaks (over); busy: not now, a commit is under way. Sends an INFO message when it sleeps; timeout_ms 0: no timeout';
revoke all on function webhook.gate_sleep(integer) from public;

create function webhook.gate_take() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_take_wrapper';
comment on function webhook.gate_take() is
    'Daemon of version 0.1: about to sleep. Waits until every commit that did not notify is visible; from then on commits notify on channel pg_webhook. Held by the session; taking it twice is taking it once';
revoke all on function webhook.gate_take() from public;

create function webhook.gate_release() returns void
    language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'gate_release_wrapper';
comment on function webhook.gate_release() is
    'Daemon of version 0.1: awake. Commits no longer notify. Nothing happens if the session does not hold the gate';
revoke all on function webhook.gate_release() from public;
"#,
    name = "gate",
    requires = ["capture"]
);

#[cfg(test)]
mod tests {
    use super::may_notify;

    #[test]
    fn a_queue_that_fills_up_is_left_to_the_application() {
        assert!(may_notify(0.0) && may_notify(0.49));
        assert!(!may_notify(0.5) && !may_notify(1.0) && !may_notify(f64::NAN));
    }
}
