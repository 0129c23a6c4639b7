//! A row that an update moves to another partition is deleted there and inserted here; receivers are to hear of one
//! update. The deleted row is put aside until the insert comes.
//!
//! Both triggers fire in the same statement, one right after the other, except for what other triggers on the deleted
//! row do in between, in statements of their own, which may move rows too. If no insert comes (a BEFORE trigger on the
//! target has refused the row, or the row as it is afterwards does not meet the condition), the row is emitted as deleted:
//! at the statement's next row, at its end, or at the end of the transaction.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys;

use super::event::{Row, Values};
use super::plan::Plan;
use crate::compat;

/// A deleted row that was put aside.
pub struct Moved {
    pub plan: Rc<Plan>,
    /// A copy in the transaction's memory.
    tuple: pg_sys::HeapTuple,
    /// The statement, by the memory of its execution.
    statement: pg_sys::MemoryContext,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    /// One within the other: what a trigger does meanwhile can move rows too, at most one at a time for each statement.
    /// So a row's subtransaction is the one before it or a deeper one. Never dropped with the thread: at the backend's
    /// exit Postgres's memory is gone before this.
    static MOVED: RefCell<ManuallyDrop<Vec<Moved>>> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// How many of them wait; those after went with their (sub)transaction.
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// Whether the row of a DELETE trigger was moved rather than deleted (HeapTupleHeaderIndicatesMovedPartitions).
///
/// # Safety
/// A row that a trigger was given.
pub unsafe fn was_moved(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the caller's promise.
    let to = unsafe { (*(*tuple).t_data).t_ctid };
    let block = (u32::from(to.ip_blkid.bi_hi) << 16) | u32::from(to.ip_blkid.bi_lo);
    block == pg_sys::InvalidBlockNumber && to.ip_posid == pg_sys::MovedPartitionsOffsetNumber as u16
}

/// Puts a row aside.
///
/// # Safety
/// The tuple is of the plan's relation, `statement` the memory of the statement under way.
pub unsafe fn put_aside(plan: Rc<Plan>, tuple: pg_sys::HeapTuple, statement: pg_sys::MemoryContext) {
    // SAFETY: the copy lives until the transaction ends or it is freed.
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
    // A plan may be the last of its kind, and dropping that calls into Postgres.
    drop(dead);
}

pub fn is_pending() -> bool {
    ALIVE.get() > 0
}

/// Takes the innermost row for which `wanted` holds.
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

/// The row that a statement took from a partition of the table that `plan` watches.
pub fn take_for(statement: pg_sys::MemoryContext, plan: &Plan) -> Option<Moved> {
    take(|moved| moved.statement == statement && moved.plan.is_of_watch(plan))
}

/// The row that a statement has put aside.
pub fn take_of(statement: pg_sys::MemoryContext) -> Option<Moved> {
    take(|moved| moved.statement == statement)
}

/// A row that the current subtransaction has put aside.
pub fn take_of_subtransaction() -> Option<Moved> {
    let current = current_subtransaction();
    take(|moved| moved.subtransaction == current)
}

/// A subtransaction has been rolled back. Neither allocates, frees nor fails.
pub fn subtransaction_aborted(subtransaction: pg_sys::SubTransactionId) {
    MOVED.with(|all| {
        if let Ok(all) = all.try_borrow() {
            let waiting = all.iter().take(ALIVE.get());
            ALIVE.set(waiting.take_while(|moved| moved.subtransaction < subtransaction).count());
        }
    });
}

/// The transaction has ended. Neither allocates, frees nor fails.
pub fn forget() {
    ALIVE.set(0);
}

impl Moved {
    /// Calls `work` with the row, then frees it.
    pub fn with_row<T>(self, work: impl FnOnce(Row<'_>) -> T) -> T {
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
            let result = work(Row::of(&self.plan, values, self.tuple));
            pg_sys::heap_freetuple(self.tuple);
            result
        }
    }
}
