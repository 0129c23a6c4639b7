//! The places where Postgres calls this library: around statements, at the ends of transactions,
//! and when the system catalog changes.
//!
//! This module decides only the moment: from here the outbox is flushed and the gate is tried.
//! Three rules keep it safe.
//!
//! * Before a commit, errors are allowed and abort the transaction. In the commit and abort
//!   callbacks they are not allowed, because an error there takes the cluster down. Those callbacks
//!   only assign to cells, shorten vectors, and set latches.
//! * The executor and utility hooks wrap the application's own statements. An error of the
//!   application passes through their frames as Postgres throws it (longjmp), and therefore keeps
//!   every field. That is sound because the frames own nothing: no destructor is skipped. Our own
//!   work runs in [`entry`]s that the hooks call before or after.
//! * The first of our triggers that fires in the session loads the library, within a statement. The
//!   BEFORE trigger for each statement of a watched table makes that early enough for the hook at
//!   the statement's end. Where that is not early enough (COPY, a partition written directly, a
//!   watch of an earlier version), the events that the statement buffers are inserted at the next
//!   hook or before the commit, into a table that is locked while the statement runs.

use core::ffi::{c_char, c_int, c_void};
use std::cell::Cell;

use pgrx::pg_sys;

use crate::protect::entry;
use crate::{capture, compat, gate, order, outbox, watch};

thread_local! {
    static PREVIOUS_START: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
    static PREVIOUS_FINISH: Cell<pg_sys::ExecutorFinish_hook_type> = const { Cell::new(None) };
    static PREVIOUS_UTILITY: Cell<pg_sys::ProcessUtility_hook_type> = const { Cell::new(None) };
}

/// Registers callbacks and hooks. Called once per process, from `_PG_init`.
pub fn install() {
    // SAFETY: every callback has the signature that Postgres expects and lives as long as the
    // process (a loaded library is never unloaded). The backend has one thread, so the globals may
    // be changed.
    unsafe {
        let nothing = pg_sys::Datum::from(0usize);
        pg_sys::RegisterXactCallback(Some(on_transaction), core::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), core::ptr::null_mut());
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relation_change), nothing);
        for cache in [pg_sys::SysCacheIdentifier::NAMESPACEOID, pg_sys::SysCacheIdentifier::CASTSOURCETARGET]
        {
            pg_sys::CacheRegisterSyscacheCallback(cache as i32, Some(on_catalogue_change), nothing);
        }
        PREVIOUS_START.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_FINISH.set(pg_sys::ExecutorFinish_hook);
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        PREVIOUS_UTILITY.set(pg_sys::ProcessUtility_hook);
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
    order::find_outermost();
}

/// Reports whether events are still to be inserted, or a statement has ended without a hook.
fn is_pending() -> bool {
    outbox::is_pending() || order::has_ended()
}

// ── Ends of transactions ────────────────────────────────────────────────────────────────────────

// The last arms run after the point of no return. Nothing in them can panic: they assign to cells,
// shorten vectors, and set latches.
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // SAFETY: Postgres calls; this frame owns nothing.
        XACT_EVENT_PRE_COMMIT => unsafe {
            entry(|| {
                insert_all();
                watch::retired::before_commit();
                gate::before_commit();
            });
        },
        // A prepared transaction wakes no daemon. The daemon's safety poll finds the rows after
        // COMMIT PREPARED.
        // SAFETY: as above.
        XACT_EVENT_PRE_PREPARE => unsafe { entry(insert_all) },
        XACT_EVENT_COMMIT => {
            order::forget();
            capture::forget();
            outbox::forget();
            watch::retired::forget();
            gate::committed();
        }
        XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            order::forget();
            capture::forget();
            outbox::forget();
            gate::forget();
            watch::retired::forget();
        }
        _ => {}
    }
}

// As above: nothing in the last two arms can panic.
unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    subtransaction: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    match event {
        // SAFETY: as above.
        SUBXACT_EVENT_PRE_COMMIT_SUB => unsafe { entry(insert_of_subtransaction) },
        SUBXACT_EVENT_COMMIT_SUB => {
            order::subtransaction_released(subtransaction, parent);
            outbox::subtransaction_released(subtransaction, parent);
        }
        SUBXACT_EVENT_ABORT_SUB => {
            order::subtransaction_aborted(subtransaction);
            capture::subtransaction_aborted(subtransaction);
            outbox::subtransaction_aborted(subtransaction);
        }
        _ => {}
    }
}

/// Inserts everything that the ending transaction has captured.
fn insert_all() {
    capture::statements_ended();
    insert_of_subtransaction();
}

/// Inserts everything that the ending subtransaction has captured, except events that a statement
/// around it still holds.
fn insert_of_subtransaction() {
    capture::settle();
    capture::before_commit();
    outbox::flush();
}

// ── Changes of the system catalog ───────────────────────────────────────────────────────────────

// Runs wherever Postgres processes invalidations, so it must neither fail nor look anything up.
unsafe extern "C-unwind" fn on_relation_change(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    outbox::invalidate(relation);
    capture::invalidate(relation);
}

// As above. The name of a schema, or a cast to json, may be part of any plan.
unsafe extern "C-unwind" fn on_catalogue_change(_arg: pg_sys::Datum, _cache: c_int, _hash: u32) {
    capture::invalidate(pg_sys::Oid::INVALID);
}

// ── Statements ──────────────────────────────────────────────────────────────────────────────────

/// Runs before a statement. A statement that reads the outbox must see the events of earlier
/// statements.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: the hook's own arguments are passed on. The frame owns nothing; see the module's
    // second rule.
    unsafe {
        if is_pending() {
            entry(|| flush_before(query));
        }
        match PREVIOUS_START.get() {
            Some(previous) => previous(query, flags),
            None => compat::unguarded::standard_ExecutorStart(query, flags),
        }
        let flags = flags as u32;
        let changes_rows = !(*(*query).plannedstmt).resultRelations.is_null();
        if changes_rows && flags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY == 0 {
            entry(|| order::begin(query, flags));
        }
    }
}

/// Runs after a statement and its triggers.
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as above; the executor state lives until ExecutorEnd.
    unsafe {
        let statement = (*(*query).estate).es_query_cxt;
        let may_change_rows = !(*(*query).plannedstmt).resultRelations.is_null();
        let changes_rows = may_change_rows && order::begin_firing(statement);
        match PREVIOUS_FINISH.get() {
            Some(previous) => previous(query),
            None => compat::unguarded::standard_ExecutorFinish(query),
        }
        if changes_rows {
            entry(|| order::end(statement, capture::statement_ended));
        }
        if is_pending() {
            entry(|| flush_after(query));
        }
    }
}

/// Runs around a utility statement: COPY, DDL, CALL, or a transaction statement.
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    source: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: as above.
    unsafe {
        let node = (*statement).utilityStmt;
        let may_flush = may_flush_around(node);
        if may_flush && is_pending() {
            entry(flush_around_utility);
        }
        let around = entry(|| begin_utility(node));
        let next = match PREVIOUS_UTILITY.get() {
            Some(previous) => previous,
            None => compat::unguarded::standard_ProcessUtility,
        };
        next(statement, source, read_only_tree, context, params, environment, dest, completion);
        if let Some(around) = around {
            entry(|| order::end_utility(around, capture::statement_ended));
        }
        if may_flush && is_pending() {
            entry(flush_around_utility);
        }
    }
}

/// Reports whether a flush belongs around a utility statement.
///
/// Most transaction statements need none: the callbacks insert what a COMMIT or RELEASE must
/// insert, and a ROLLBACK has nothing to insert. A COMMIT whose insert fails aborts as a whole.
/// Before a SAVEPOINT, the events of earlier statements are inserted, because a ROLLBACK TO it must
/// not take them along.
unsafe fn may_flush_around(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tree of a utility statement, read according to its tag.
    unsafe {
        (*node).type_ != pg_sys::NodeTag::T_TransactionStmt
            || (*node.cast::<pg_sys::TransactionStmt>()).kind
                == pg_sys::TransactionStmtKind::TRANS_STMT_SAVEPOINT
    }
}

/// Records a utility statement whose triggers fire for rows or for a table. Returns the number of
/// statements around it.
unsafe fn begin_utility(node: *mut pg_sys::Node) -> Option<usize> {
    // SAFETY: the tree of a utility statement, read according to its tag.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_CopyStmt => {
                let copy = &*node.cast::<pg_sys::CopyStmt>();
                if !copy.is_from || copy.relation.is_null() {
                    return None;
                }
                let relation = pg_sys::RangeVarGetRelidExtended(
                    copy.relation,
                    pg_sys::NoLock as pg_sys::LOCKMODE,
                    pg_sys::RVROption::RVR_MISSING_OK,
                    None,
                    core::ptr::null_mut(),
                );
                Some(order::begin_utility(relation))
            }
            pg_sys::NodeTag::T_TruncateStmt => Some(order::begin_utility(pg_sys::Oid::INVALID)),
            _ => None,
        }
    }
}

/// Flushes before a statement that reads a table of schema `webhook`; no other statement needs it.
/// Foreign key checks start a statement per row, and a flush at each of them would write the events
/// of a bulk INSERT one by one. Statements in a function that the statement calls pass through here
/// on their own.
unsafe fn flush_before(query: *mut pg_sys::QueryDesc) {
    capture::settle();
    if !outbox::is_pending() {
        return;
    }
    let Some(schema) = outbox::schema() else { return };
    // SAFETY: every planned statement has a list of relations.
    let reads = unsafe {
        let relations = (*(*query).plannedstmt).relationOids;
        (0..pg_sys::list_length(relations)).any(|at| {
            let relation = pg_sys::list_nth_oid(relations, at);
            relation.to_u32() >= pg_sys::FirstNormalObjectId && pg_sys::get_rel_namespace(relation) == schema
        })
    };
    if reads {
        outbox::flush();
    }
}

/// Flushes after a statement, but not after a foreign key's own statements: their triggers fire at
/// the end of the statement that caused them.
unsafe fn flush_after(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the executor state lives until ExecutorEnd.
    let flags = unsafe { (*(*query).estate).es_top_eflags };
    capture::settle();
    if flags as u32 & pg_sys::EXEC_FLAG_SKIP_TRIGGERS == 0 {
        outbox::flush();
    }
}

/// Flushes around a utility statement. A transaction that has failed, or that the statement has
/// just ended, has nothing to flush.
fn flush_around_utility() {
    // SAFETY: a plain call.
    if unsafe { pg_sys::IsTransactionState() } {
        capture::settle();
        outbox::flush();
    }
}
