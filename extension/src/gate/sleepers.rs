//! The processes that hold the gate and wait in `webhook.gate_sleep()`, and how a commit wakes them.
//!
//! Before the commit the lock manager names the transactions that hold the gate. After the commit, when it is visible,
//! the latch of each of these processes is set: one store, and a signal if the process waits. The second step allocates
//! nothing and cannot fail, so it may run in a commit callback.
//!
//! A latch that is set for the wrong process (the sleeper has ended, another process has its place) wakes that process
//! once for nothing. Every loop in Postgres that waits on a latch allows for that.

use core::ptr::null_mut;
use std::cell::Cell;

use pgrx::pg_sys;

use crate::compat;

/// The most sleepers that one commit wakes; one daemon sleeps on the gate, standbys do not.
const SLEEPERS_MAX: usize = 8;

type Sleepers = [*mut pg_sys::PGPROC; SLEEPERS_MAX];

const NONE: Sleepers = [null_mut(); SLEEPERS_MAX];

thread_local! {
    /// The sleepers that the current transaction wakes when it has committed. They come first, then null.
    static SLEEPERS: Cell<Sleepers> = const { Cell::new(NONE) };
}

/// Notes the processes that hold the lock in a mode that conflicts with `mode`, each within a transaction.
///
/// Returns false if there is none, or more than a commit can wake. A session that holds the lock outside of a
/// transaction is not listed: it does not wait on its latch.
///
/// # Errors
/// Raises if there is no memory for the list.
pub fn note(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    let mut count = 0;
    let mut sleepers = NONE;
    // SAFETY: the tag outlives the call, which returns an array of `count` entries (and one more) in the current memory.
    // What a PGPROC pointer points to lies in shared memory for as long as the server runs.
    unsafe {
        let holders = pg_sys::GetLockConflicts(tag, mode, &raw mut count);
        let count = usize::try_from(count).unwrap_or(0);
        if count > SLEEPERS_MAX {
            return false;
        }
        let mut found = 0;
        for at in 0..count {
            let process = compat::process_of(&*holders.add(at));
            if !process.is_null() {
                sleepers[found] = process;
                found += 1;
            }
        }
        SLEEPERS.set(sleepers);
        found > 0
    }
}

/// Wakes the sleepers that were noted. Neither allocates nor fails: it runs after the commit.
pub fn wake() {
    for process in SLEEPERS.replace(NONE) {
        if process.is_null() {
            return;
        }
        // SAFETY: a PGPROC in shared memory, see `note`; setting a latch raises nothing.
        unsafe { compat::unguarded::SetLatch(&raw mut (*process).procLatch) };
    }
}

/// Forgets them: the transaction has not committed.
pub fn forget() {
    SLEEPERS.set(NONE);
}
