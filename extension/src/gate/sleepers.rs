//! The processes that hold the gate and wait in `webhook.gate_sleep()`, and their wake-up by a
//! commit.
//!
//! Before the commit, the lock manager names the transactions that hold the gate. After the commit,
//! when it is visible, [`wake`] sets the latch of each of these processes: one store, and a signal
//! if the process waits. The second step does not allocate and cannot fail, so it may run in a
//! commit callback.
//!
//! A latch may be set for the wrong process, if the sleeper has ended and another process has its
//! place. That process wakes once without need. Every loop in Postgres that waits on a latch allows
//! for that.

use core::ptr::null_mut;
use std::cell::Cell;

use pgrx::pg_sys;

use crate::compat;

/// The most sleepers that one commit wakes. One daemon sleeps on the gate; standbys do not.
const SLEEPERS_MAX: usize = 8;

type Sleepers = [*mut pg_sys::PGPROC; SLEEPERS_MAX];

const NONE: Sleepers = [null_mut(); SLEEPERS_MAX];

thread_local! {
    /// The sleepers that the current transaction wakes after its commit. They come first, then
    /// null.
    static SLEEPERS: Cell<Sleepers> = const { Cell::new(NONE) };
}

/// Records the processes that hold the lock in a mode that conflicts with `mode`, each within a
/// transaction.
///
/// Returns false if there is none, or if there are more than a commit can wake. A session that
/// holds the lock outside a transaction is not listed, because it does not wait on its latch.
///
/// # Errors
/// Raises an error if there is no memory for the list.
pub fn note(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    let mut count = 0;
    let mut sleepers = NONE;
    // SAFETY: the tag outlives the call, which returns an array of `count` entries (and one more)
    // in the current memory. A PGPROC pointer points into shared memory, which exists as long as
    // the server runs.
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

/// Wakes the recorded sleepers. Does not allocate or fail, because it runs after the commit.
pub fn wake() {
    for process in SLEEPERS.replace(NONE) {
        if process.is_null() {
            return;
        }
        // SAFETY: a PGPROC in shared memory, see `note`; setting a latch raises nothing.
        unsafe { compat::unguarded::SetLatch(&raw mut (*process).procLatch) };
    }
}

/// Forgets the sleepers, because the transaction has not committed.
pub fn forget() {
    SLEEPERS.set(NONE);
}
