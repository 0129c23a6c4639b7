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

/// A deleted row that was put aside.
pub struct Moved {
    pub plan: Rc<Plan>,
    /// A copy in the transaction's memory.
    tuple: pg_sys::HeapTuple,
    /// The statement, by the memory of its execution.
    statement: pg_sys::MemoryContext,
    /// Whether we shall be told of the statement's end: not if it began before the library was loaded.
    told: bool,
    subtransaction: pg_sys::SubTransactionId,
}

thread_local! {
    /// Never dropped with the thread: at the backend's exit Postgres's memory is gone before this.
    static MOVED: RefCell<ManuallyDrop<Option<Moved>>> = const { RefCell::new(ManuallyDrop::new(None)) };
    /// False: the row in `MOVED`, if any, went with its transaction.
    static ALIVE: Cell<bool> = const { Cell::new(false) };
    /// The statement whose triggers fire now.
    static FINISHING: Cell<pg_sys::MemoryContext> = const { Cell::new(core::ptr::null_mut()) };
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
        let told = statement == FINISHING.get();
        Moved { plan, tuple, statement, told, subtransaction: pg_sys::GetCurrentSubTransactionId() }
    };
    let dead = ManuallyDrop::into_inner(MOVED.replace(ManuallyDrop::new(Some(moved))));
    ALIVE.set(true);
    // Its plan may be the last of its kind, and dropping that calls into Postgres.
    drop(dead);
}

pub fn is_pending() -> bool {
    ALIVE.get()
}

/// Takes the row, if there is one for which `wanted` holds.
fn take(wanted: impl FnOnce(&Moved) -> bool) -> Option<Moved> {
    if !ALIVE.get() || !MOVED.with_borrow(|moved| moved.as_ref().is_some_and(wanted)) {
        return None;
    }
    ALIVE.set(false);
    ManuallyDrop::into_inner(MOVED.take())
}

/// The row that a statement took from a partition of the table that `plan` watches.
pub fn take_for(statement: pg_sys::MemoryContext, plan: &Plan) -> Option<Moved> {
    take(|moved| moved.statement == statement && moved.plan.is_of_watch(plan))
}

/// The row that a statement has put aside, or one that nobody will ask for any more.
pub fn take_of(statement: pg_sys::MemoryContext) -> Option<Moved> {
    take(|moved| moved.statement == statement || !moved.told)
}

/// The row, if the current subtransaction has put it aside.
pub fn take_of_subtransaction() -> Option<Moved> {
    // SAFETY: a plain call.
    let current = unsafe { pg_sys::GetCurrentSubTransactionId() };
    take(|moved| moved.subtransaction == current)
}

/// Notes the statement whose triggers fire from now on; returns the one before.
pub fn set_finishing(statement: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    FINISHING.replace(statement)
}

/// A subtransaction has been rolled back. Neither allocates, frees nor fails.
pub fn subtransaction_aborted(subtransaction: pg_sys::SubTransactionId) {
    MOVED.with(|moved| {
        if let Ok(moved) = moved.try_borrow()
            && moved.as_ref().is_some_and(|moved| moved.subtransaction >= subtransaction)
        {
            ALIVE.set(false);
        }
    });
}

/// The transaction has ended. Neither allocates, frees nor fails.
pub fn forget() {
    ALIVE.set(false);
    FINISHING.set(core::ptr::null_mut());
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
            let result = work(Row { plan: &self.plan, values, tuple: self.tuple });
            pg_sys::heap_freetuple(self.tuple);
            result
        }
    }
}
