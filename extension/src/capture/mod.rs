//! The trigger function `webhook.capture()`. It turns each changed row of a watched table into an
//! event in the outbox.
//!
//! It is the hot path of every watched write, so it takes Postgres's trigger call without
//! conversion. The trigger's plan holds everything that can be computed beforehand. The remaining
//! steps are: find the operation, compare, print, emit. The function runs with the rights of the
//! role that writes, and needs no rights of its own.

mod cache;
mod change;
mod compare;
mod computed;
mod event;
mod identity;
mod moved;
mod origin;
mod owner;
mod plan;
mod planned;
mod resolve;
mod root;
mod row;
mod row_function;
mod values;

use pgrx::{pg_sys, prelude::*};

use crate::error::Error;
use crate::protect::entry;
use crate::{guc, memory, order, outbox};
use plan::Plan;
use planned::Operation;
use row::CapturedRow;
use values::Values;

#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_webhook_capture() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// Runs `webhook.capture(definition)`: AFTER INSERT, UPDATE, or DELETE for each row, and AFTER
/// TRUNCATE for each statement. BEFORE each statement it only records that the statement has begun.
/// That call loads the library in time for the hooks.
///
/// # Errors
/// Raises an error if it is called in another way, and the errors of making the event. The
/// statement then fails.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn webhook_capture(info: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: Postgres calls this with a valid call structure; `context` is checked before it is
    // read as a trigger's.
    unsafe {
        entry(|| {
            let context = (*info).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                Error::NotATrigger.raise();
            }
            let trigger = &*context.cast::<pg_sys::TriggerData>();
            let statement = (*(*info).flinfo).fn_mcxt;
            if is_before_statement(trigger) {
                enter(trigger, statement, true);
            } else if !guc::muted() {
                memory::settle();
                capture(trigger, (*info).flinfo);
            }
        });
    }
    pg_sys::Datum::from(0usize)
}

fn is_before_statement(trigger: &pg_sys::TriggerData) -> bool {
    const PARTS: u32 = pg_sys::TRIGGER_EVENT_ROW | pg_sys::TRIGGER_EVENT_TIMINGMASK;
    trigger.tg_event & PARTS == pg_sys::TRIGGER_EVENT_BEFORE
}

/// Records the statement that a trigger is called for, unless it is the innermost one already.
unsafe fn enter(trigger: &pg_sys::TriggerData, statement: pg_sys::MemoryContext, is_before: bool) {
    if order::is_innermost(statement) {
        return;
    }
    settle();
    // SAFETY: the relation is open while the trigger runs.
    let relation = unsafe { (*trigger.tg_relation).rd_id };
    let must_lock = order::enter(order::NestedCall { context: statement, relation, is_before });
    if must_lock {
        // No hook runs at the end of this statement, and its events are inserted later. The
        // insert's locks are taken now: the statement itself must wait or fail, not a later one.
        outbox::lock();
    }
}

unsafe fn capture(trigger: &pg_sys::TriggerData, site: *mut pg_sys::FmgrInfo) {
    let operation = match trigger.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
        pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
        pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
        pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
        _ => Operation::Truncate,
    };
    let by_row = trigger.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0;
    let after = trigger.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
    if !after || by_row == (operation == Operation::Truncate) {
        Error::NotATrigger.raise();
    }
    // SAFETY: Postgres's own; trigger and relation stay open while the trigger runs.
    unsafe {
        let plan = plan::of(trigger.tg_trigger, trigger.tg_relation);
        let statement = (*site).fn_mcxt;
        enter(trigger, statement, false);
        if moved::is_pending() {
            if operation == Operation::Insert
                && let Some(moved) = moved::take_for(statement, &plan)
            {
                // The row that was set aside has arrived in its new partition: an update.
                let now = row(&plan, trigger.tg_trigslot, trigger.tg_trigtuple);
                return moved.with_row(|former| event::emit(Operation::Update, now, Some(former), site));
            }
            give_up(|| moved::take_of(statement));
        }
        match operation {
            Operation::Truncate => event::emit_truncate(&plan),
            Operation::Insert => {
                event::emit(operation, row(&plan, trigger.tg_trigslot, trigger.tg_trigtuple), None, site);
            }
            Operation::Delete => {
                if plan.root != (*trigger.tg_relation).rd_id && moved::was_moved(trigger.tg_trigtuple) {
                    return moved::put_aside(plan, trigger.tg_trigtuple, statement);
                }
                event::emit(operation, row(&plan, trigger.tg_trigslot, trigger.tg_trigtuple), None, site);
            }
            Operation::Update => {
                let former = row(&plan, trigger.tg_trigslot, trigger.tg_trigtuple);
                let now = row(&plan, trigger.tg_newslot, trigger.tg_newtuple);
                event::emit(operation, now, Some(former), site);
            }
        }
    }
}

/// Deforms the row in a slot, as far as the plan needs.
unsafe fn row(plan: &Plan, slot: *mut pg_sys::TupleTableSlot, tuple: pg_sys::HeapTuple) -> CapturedRow<'_> {
    // SAFETY: a slot of the trigger in progress; it has at least as many columns as the plan of its
    // relation needs.
    unsafe {
        if usize::try_from((*slot).tts_nvalid).unwrap_or(0) < plan.attributes {
            pg_sys::slot_getsomeattrs_int(slot, plan.attributes as i32);
        }
        CapturedRow::of(plan, Values { datums: (*slot).tts_values, nulls: (*slot).tts_isnull }, tuple)
    }
}

/// Calls `take` with the event that an insert of a row of a watched table would emit, but of
/// another type.
///
/// # Errors
/// Raises the errors of a payload function and of output functions, and `program_limit_exceeded`
/// for an event over the cap if the setting is `strict`.
///
/// # Safety
/// The trigger is one of `webhook_watch`, of the open relation. The tuple is a row of that
/// relation.
pub unsafe fn represent(
    trigger: *const pg_sys::Trigger,
    relation: pg_sys::Relation,
    tuple: pg_sys::HeapTuple,
    event_type: &[u8],
    take: impl FnOnce(&outbox::NewEvent<'_>),
) {
    // SAFETY: the caller's promise; the arrays have a place for each column.
    unsafe {
        let plan = plan::of(trigger, relation);
        let descriptor = (*relation).rd_att;
        let columns = usize::try_from((*descriptor).natts).unwrap_or(0);
        let (mut datums, mut nulls) = (vec![pg_sys::Datum::from(0usize); columns], vec![true; columns]);
        pg_sys::heap_deform_tuple(tuple, descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
        let values = Values { datums: datums.as_ptr(), nulls: nulls.as_ptr() };
        event::represent_row(event_type, CapturedRow::of(&plan, values, tuple), take);
    }
}

/// Emits a deletion for each row that was set aside and whose insert did not follow.
fn give_up(next: impl Fn() -> Option<moved::Moved>) {
    while let Some(moved) = next() {
        // SAFETY: the row is of the relation of its plan.
        moved.with_row(|former| unsafe {
            event::emit(Operation::Delete, former, None, core::ptr::null_mut());
        });
    }
}

/// Ends a statement. The rows that it still has set aside are emitted as deleted.
pub fn statement_ended(statement: pg_sys::MemoryContext) {
    if moved::is_pending() {
        give_up(|| moved::take_of(statement));
    }
}

/// Ends the statements whose end no hook has reported.
pub fn settle() {
    if order::has_ended() {
        outbox::with_snapshot(|| order::settle(statement_ended));
    }
}

/// Ends all statements, because the transaction is about to commit.
pub fn statements_ended() {
    if order::is_any_in_progress() {
        outbox::with_snapshot(|| order::before_commit(statement_ended));
    }
}

/// Emits deletions for the rows that the current (sub)transaction has set aside. Call this before
/// it commits.
pub fn before_commit() {
    if moved::is_pending() {
        outbox::with_snapshot(|| give_up(moved::take_of_subtransaction));
    }
}

/// Discards the rows that an aborted subtransaction has set aside. Does not allocate, free, or
/// fail.
pub fn subtransaction_aborted(subtransaction: pg_sys::SubTransactionId) {
    moved::subtransaction_aborted(subtransaction);
}

/// Discards all rows set aside, because the transaction has ended. Does not allocate, free, or
/// fail.
pub fn forget() {
    moved::forget();
}

/// Frees the caches, because memory is short.
pub fn free_caches() {
    event::free_caches();
    plan::free_caches();
}

/// Invalidates plans after a change of a relation, a schema's name, or a cast. Does not allocate,
/// fail, or read the system catalog.
pub fn invalidate(relation: pg_sys::Oid) {
    plan::invalidate(relation);
}

extension_sql!(
    r#"
create function webhook.capture() returns trigger
    language c volatile as 'MODULE_PATHNAME', 'webhook_capture';
comment on function webhook.capture() is
    'Trigger function of watched tables: emits an event for each changed row. Its argument is written by webhook_watch()';
revoke all on function webhook.capture() from public;
"#,
    name = "capture",
    requires = ["filter"]
);
