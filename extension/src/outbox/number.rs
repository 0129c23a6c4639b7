//! Numbers events, and skips numbers after a recovery.
//!
//! A recovery to a point in time, and a failover to a standby that was behind, take the sequence
//! back to an earlier value. Numbers that receivers have seen would then be used again, and a
//! receiver that keeps the highest number of each row would ignore new events. Every recovery and
//! every promotion starts a new timeline. So `webhook.timeline_seq` holds the timeline of the last
//! number, and the first event of another timeline moves `webhook.event_id_seq` far beyond
//! everything that can have been delivered: by a fixed count for each timeline since, so two
//! recoveries to the same point end in different numbers. Sequences are not transactional: both
//! changes are visible at once and stay, even if the transaction is rolled back.
//!
//! A session compares the timeline for each number, which costs a call. It reads
//! `webhook.timeline_seq` once.
//!
//! A copy of the files that Postgres starts without a recovery (a snapshot of the disk) has no new
//! timeline. `webhook_arm()` skips numbers for it, up to a number that follows from the clock. A
//! daemon that has seen higher numbers does the same.

use std::cell::Cell;

use pgrx::fcinfo::direct_function_call;
use pgrx::{pg_sys, prelude::*};

use super::tables;
use crate::compat::{self, unguarded};
use crate::rights;

/// How many numbers each new timeline skips: the events of 35 days (the longest retention) at
/// 90 000 a second. Few enough that 32 768 recoveries stay below 2^53, up to which JSON numbers are
/// exact everywhere.
const PER_TIMELINE: i64 = 1 << 38;

/// Skipped numbers are a multiple of this, so that a counter of events can subtract them
/// (`crates/admin/src/sampler.rs`). Without a timeline, the clock determines the number: this
/// many for each minute since 2026. No server can emit as many, and 63 years stay below 2^53.
const PER_MINUTE: i64 = 1 << 28;

/// Minutes from 2000-01-01, where the clock of Postgres begins, to 2026-01-01.
const MINUTES_2026: i64 = 13_675_680;

/// In the class of the gate's lock, which SQL functions cannot acquire (`gate`).
const LOCK_NUMBERS: u32 = 4;

thread_local! {
    /// The timeline that this session has compared. 0 for none.
    static TIMELINE: Cell<u32> = const { Cell::new(0) };
}

/// Handles a change of the sequences. Neither allocates nor fails.
pub fn invalidate() {
    TIMELINE.set(0);
}

/// Returns the next number.
///
/// # Errors
/// Raises an error in a read-only transaction, and if the sequence does not exist.
pub fn next() -> i64 {
    let sequence = tables::sequence();
    // SAFETY: plain calls, and a variable of the backend. A read-only transaction fails below.
    unsafe {
        let timeline = unguarded::timeline();
        if TIMELINE.get() != timeline && !pg_sys::XactReadOnly {
            follow(sequence, timeline);
        }
        compat::nextval_internal(sequence, false)
    }
}

/// Makes sure that the next number belongs to the present timeline.
#[cold]
fn follow(sequence: pg_sys::Oid, timeline: u32) {
    let of_timeline = tables::timeline();
    if last(of_timeline) != Some(i64::from(timeline)) {
        exclusively(|| {
            let former = last(of_timeline).unwrap_or(0);
            // pg_upgrade begins again at 1.
            let since = (i64::from(timeline) - former).max(1);
            if former != i64::from(timeline) {
                skip(sequence, |last| last.saturating_add(since.saturating_mul(PER_TIMELINE)));
                set(of_timeline, i64::from(timeline));
            }
        });
    }
    TIMELINE.set(timeline);
}

/// Moves a sequence to at least this number, which is computed from its last.
fn skip(sequence: pg_sys::Oid, least: impl FnOnce(i64) -> i64) {
    let last = last(sequence).unwrap_or(0);
    let skipped = least(last).saturating_sub(last).max(1);
    let units = skipped / PER_MINUTE + i64::from(skipped % PER_MINUTE != 0);
    set(sequence, last.saturating_add(units.saturating_mul(PER_MINUTE)));
}

/// Returns the last number of a sequence, or `None` if it has assigned none.
fn last(sequence: pg_sys::Oid) -> Option<i64> {
    let argument = Some(pg_sys::Datum::from(sequence));
    // SAFETY: a built-in function with an argument of its type.
    rights::as_owner(|| unsafe { direct_function_call(pg_sys::pg_sequence_last_value, &[argument]) })
}

fn set(sequence: pg_sys::Oid, last: i64) {
    let arguments = [Some(pg_sys::Datum::from(sequence)), Some(pg_sys::Datum::from(last))];
    // SAFETY: as above.
    rights::as_owner(|| unsafe { direct_function_call::<i64>(pg_sys::setval_oid, &arguments) });
}

/// Runs `work` in one session at a time. The lock is held for the two changes only, and not until
/// the end of the transaction. An error releases it.
fn exclusively(work: impl FnOnce()) {
    let tag = crate::gate::tag_of(LOCK_NUMBERS);
    // SAFETY: the tag outlives both calls; the lock is released as it was taken.
    unsafe {
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false);
        work();
        pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, false);
    }
}

/// `webhook.next_number()`: the default of `webhook.event.id`.
#[pg_extern(sql = false)]
fn next_number() -> i64 {
    next()
}

/// `webhook.skip_numbers()`: moves the next number beyond this one and beyond every number that may
/// have been delivered.
#[pg_extern(sql = false)]
fn skip_numbers(beyond: i64) {
    let sequence = tables::sequence();
    // SAFETY: a plain call.
    let minutes = unsafe { unguarded::GetCurrentTimestamp() } / 60_000_000 - MINUTES_2026;
    let by_clock = minutes.saturating_mul(PER_MINUTE);
    exclusively(|| skip(sequence, |last| last.saturating_add(PER_TIMELINE).max(beyond).max(by_clock)));
}

/// `webhook.note_timeline()`: for the script of the installation. The numbers so far belong to the
/// present timeline.
#[pg_extern(sql = false)]
fn note_timeline() {
    // SAFETY: a plain call on a server that takes writes.
    set(tables::timeline(), i64::from(unsafe { unguarded::timeline() }));
}
