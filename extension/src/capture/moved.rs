//! Rows that an update moves to another partition. Postgres deletes such a row in one partition and
//! inserts it in another, and receivers must get one update. This module sets the deleted row aside
//! until the insert comes.
//!
//! Both triggers fire in the same statement, one right after the other. In between, other triggers
//! on the deleted row may run statements of their own, which may move rows too. The insert may also
//! never come: a BEFORE trigger on the target has rejected the row, or the new row does not meet
//! the condition. Then the row is emitted as deleted, at the statement's next row, at its end, or
//! at the end of the (sub)transaction.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::plan::Plan;
use super::row::CapturedRow;
use super::values::Values;
use crate::compat;

/// A deleted row that was set aside.
pub struct Moved {
    pub plan: Rc<Plan>,
    /// A copy in the transaction's memory.
    tuple: pg_sys::HeapTuple,
    /// Identifies the statement by the memory context of its execution.
    statement: pg_sys::MemoryContext,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    /// A stack: a trigger that runs meanwhile can move rows too, at most one at a time for each
    /// statement. Each row therefore has the subtransaction of the row below it, or a deeper one.
    /// Never dropped with the thread: Postgres's memory is freed before that when the backend
    /// exits.
    static MOVED: RefCell<ManuallyDrop<Vec<Moved>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// Number of pending rows. The rows after them belong to (sub)transactions that have ended.
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// Reports whether the row of a DELETE trigger was moved and not deleted
/// (HeapTupleHeaderIndicatesMovedPartitions).
///
/// # Safety
/// The tuple is a row that Postgres passed to a trigger.
pub unsafe fn was_moved(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the caller's promise.
    let to = unsafe { (*(*tuple).t_data).t_ctid };
    let block = (u32::from(to.ip_blkid.bi_hi) << 16) | u32::from(to.ip_blkid.bi_lo);
    block == pg_sys::InvalidBlockNumber && to.ip_posid == pg_sys::MovedPartitionsOffsetNumber as u16
}

/// Sets a row aside.
///
/// # Safety
/// The tuple is of the plan's relation, and `statement` is the memory context of the statement in
/// progress.
pub unsafe fn put_aside(plan: Rc<Plan>, tuple: pg_sys::HeapTuple, statement: pg_sys::MemoryContext) {
    // SAFETY: the copy lives until the transaction ends or the copy is freed.
    let moved = unsafe {
        let caller = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let tuple = pg_sys::heap_copytuple(tuple);
        pg_sys::MemoryContextSwitchTo(caller);
        Moved { plan, tuple, statement, subtransaction: pg_sys::GetCurrentSubTransactionId() }
    };
    let dead = MOVED.with_borrow_mut(|all| {
        let dead = all.split_off(ALIVE.get());
        all.push(moved);
        dead
    });
    ALIVE.set(ALIVE.get() + 1);
    // Outside the borrow: this may drop the last reference to a plan, which calls into Postgres.
    drop(dead);
}

pub fn is_pending() -> bool {
    ALIVE.get() > 0
}

/// Removes and returns the innermost row for which `wanted` holds.
fn take(wanted: impl Fn(&Moved) -> bool) -> Option<Moved> {
    let alive = ALIVE.get();
    let taken = MOVED.with_borrow_mut(|all| {
        let at = all[..alive].iter().rposition(wanted)?;
        Some(all.remove(at))
    });
    ALIVE.set(alive - usize::from(taken.is_some()));
    taken
}

fn current_subtransaction() -> pg_sys::SubTransactionId {
    // SAFETY: a plain call, which raises nothing.
    unsafe { compat::unguarded::GetCurrentSubTransactionId() }
}

/// Takes the row that a statement removed from a partition of the table that `plan` watches.
pub fn take_for(statement: pg_sys::MemoryContext, plan: &Plan) -> Option<Moved> {
    take(|moved| moved.statement == statement && moved.plan.is_of_watch(plan))
}

/// Takes a row that a statement has set aside.
pub fn take_of(statement: pg_sys::MemoryContext) -> Option<Moved> {
    take(|moved| moved.statement == statement)
}

/// Takes a row that the current subtransaction has set aside.
pub fn take_of_subtransaction() -> Option<Moved> {
    let current = current_subtransaction();
    take(|moved| moved.subtransaction == current)
}

/// Discards the rows of a subtransaction that was rolled back. Does not allocate, free, or fail.
pub fn subtransaction_aborted(subtransaction: pg_sys::SubTransactionId) {
    MOVED.with(|all| {
        if let Ok(all) = all.try_borrow() {
            let waiting = all.iter().take(ALIVE.get());
            ALIVE.set(waiting.take_while(|moved| moved.subtransaction < subtransaction).count());
        }
    });
}

/// Discards all rows, because the transaction has ended. Does not allocate, free, or fail.
pub fn forget() {
    ALIVE.set(0);
}

impl Moved {
    /// Calls `work` with the row, then frees it.
    pub fn with_row<T>(self, work: impl FnOnce(CapturedRow<'_>) -> T) -> T {
        // SAFETY: tuple and descriptor are of the same relation; the arrays hold all its columns.
        unsafe {
            let count = (*self.plan.descriptor).natts as usize;
            let mut datums = vec![pg_sys::Datum::from(0usize); count];
            let mut nulls = vec![true; count];
            pg_sys::heap_deform_tuple(
                self.tuple,
                self.plan.descriptor,
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let values = Values { datums: datums.as_ptr(), nulls: nulls.as_ptr() };
            let result = work(CapturedRow::of(&self.plan, values, self.tuple));
            pg_sys::heap_freetuple(self.tuple);
            result
        }
    }
}
