//! The stack of statements in progress that change rows.
//!
//! Postgres reports statements to its executor hooks. A statement that began before the library was
//! loaded is found in two ways: the client's statement in the active portal, and any other
//! statement when one of our triggers fires in it. If no hook reports its end, the end of its
//! memory context does.
//!
//! A statement is identified by the memory context of its execution. The trigger functions that are
//! called for it have the same context.

mod family;

use core::ffi::c_void;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use pgrx::pg_sys;

use super::merge::{ANY_COMMAND, List, NO_COMMAND, Version};
use family::any_relation;
pub use family::around;

use crate::compat::unguarded;
use crate::memory;

/// The kind of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A query whose triggers fire at its end.
    Whole,
    /// A foreign key action. Its triggers fire at the end of the statement that caused it.
    Part,
    /// COPY or TRUNCATE.
    Utility,
}

/// A statement in progress.
pub struct Statement {
    pub kind: Kind,
    /// Memory context of its execution; null while it is unknown.
    context: pg_sys::MemoryContext,
    /// Memory context of its portal, if it was found there; else null.
    portal: pg_sys::MemoryContext,
    /// Null for a utility statement, and for a statement that began before the library was loaded.
    query: *mut pg_sys::QueryDesc,
    /// Tables that it is known to change, in addition to those that the query names.
    relations: Vec<pg_sys::Oid>,
    /// True if it may change any table.
    is_of_all: bool,
    /// The last table that was looked up, and whether the statement changes that table.
    concerns: (pg_sys::Oid, bool),
    /// The command id of its changes, or [`ANY_COMMAND`].
    command: u32,
    /// True once its command is complete and its triggers fire.
    is_firing: bool,
    subtransaction: u32,
    /// Distinguishes a statement from another in the same memory context if no hook reports its
    /// end; else 0.
    number: u64,
    has_ended: bool,
    /// True if the tables that it will write to are locked.
    is_prepared: bool,
    /// The last version that its own events reported, while it is not the innermost statement.
    pub last: Version,
    /// Events that statements within it have emitted and that it has not passed on yet.
    pub list: List,
}

type Stack = ManuallyDrop<Vec<Statement>>;

thread_local! {
    /// Never dropped: a callback may still run when the backend exits.
    static STACK: RefCell<Stack> = const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// Memory context of the innermost statement, if a hook reports its end.
    static INNERMOST: Cell<pg_sys::MemoryContext> = const { Cell::new(core::ptr::null_mut()) };
    /// True if an event may have to be held, or others may have to be passed on before it.
    static IS_NESTED: Cell<bool> = const { Cell::new(false) };
    /// True if a statement has ended whose end no hook reports.
    static HAS_ENDED: Cell<bool> = const { Cell::new(false) };
    /// The last version that an event of the innermost statement reported. The stack holds those of
    /// the other statements.
    static LAST: Cell<Version> = const { Cell::new(Version::NONE) };
    static NUMBERS: Cell<u64> = const { Cell::new(0) };
}

/// Records the version that an event of the innermost statement reports.
pub fn note_version(version: Version) {
    LAST.set(version);
}

/// Reports whether the innermost statement has this memory context and needs no further
/// preparation.
pub fn is_innermost(context: pg_sys::MemoryContext) -> bool {
    INNERMOST.get() == context
}

/// Returns [`IS_NESTED`].
pub fn is_nested() -> bool {
    IS_NESTED.get()
}

/// Returns [`HAS_ENDED`].
pub fn has_ended() -> bool {
    HAS_ENDED.get()
}

/// Calls `work` with the statements, outermost first.
pub fn with<R>(work: impl FnOnce(&mut Vec<Statement>) -> R) -> R {
    STACK.with_borrow_mut(|stack| work(stack))
}

/// Returns the number of statements.
pub fn count() -> usize {
    STACK.with_borrow(|stack| stack.len())
}

/// Updates the cells that the hot path reads. NestedCall this after every change of the stack. Does
/// not allocate or fail.
fn note(stack: &[Statement]) {
    let innermost = stack.last().filter(|top| top.number == 0 && top.kind != Kind::Part);
    INNERMOST.set(innermost.map_or(core::ptr::null_mut(), |top| top.context));
    let is_nested = match stack {
        [] => false,
        [only] => !only.list.is_empty(),
        _ => true,
    };
    IS_NESTED.set(is_nested);
    HAS_ENDED.set(stack.iter().any(|one| one.has_ended));
}

impl Statement {
    fn new(kind: Kind, context: pg_sys::MemoryContext) -> Self {
        Self {
            kind,
            context,
            portal: core::ptr::null_mut(),
            query: core::ptr::null_mut(),
            relations: Vec::new(),
            is_of_all: false,
            concerns: (pg_sys::Oid::INVALID, false),
            command: ANY_COMMAND,
            is_firing: false,
            // SAFETY: a plain call.
            subtransaction: unsafe { unguarded::GetCurrentSubTransactionId() },
            number: 0,
            has_ended: false,
            is_prepared: true,
            last: Version::NONE,
            list: List::new(),
        }
    }

    /// Reports whether the statement runs in a memory context. Records the context if it was
    /// unknown.
    fn is_in(&mut self, context: pg_sys::MemoryContext) -> bool {
        if self.context.is_null() {
            // SAFETY: the memory context of a statement in progress; its parent still exists.
            let is_own = self.portal.is_null()
                || context == self.portal
                || unsafe { pg_sys::MemoryContextGetParent(context) } == self.portal;
            if is_own {
                self.context = context;
            }
        }
        self.context == context
    }

    /// Returns the memory context of its execution.
    pub fn context(&self) -> pg_sys::MemoryContext {
        self.context
    }

    fn add(&mut self, relation: pg_sys::Oid) {
        if !self.relations.contains(&relation) {
            memory::reserve(&mut self.relations, 1);
            self.relations.push(relation);
            self.concerns = (pg_sys::Oid::INVALID, false);
        }
    }
}

fn push(statement: Statement) {
    let pushed = with(|stack| {
        let has_room = memory::fallible(|| stack.try_reserve(1));
        if has_room.is_ok() {
            if let Some(outer) = stack.last_mut() {
                outer.last = LAST.replace(Version::NONE);
            }
            stack.push(statement);
            note(stack);
        }
        has_room
    });
    pushed.unwrap_or_else(|_| memory::out_of_memory(size_of::<Statement>()));
}

/// Pushes a query that changes rows and has just started.
///
/// # Safety
/// The executor has just started the query.
pub unsafe fn begin(query: *mut pg_sys::QueryDesc, flags: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let state = (*query).estate;
        let is_part = flags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS != 0;
        if is_part {
            // A foreign key action changes one table, or partitions of one.
            let mut relation = pg_sys::Oid::INVALID;
            any_relation((*query).plannedstmt, |first| {
                relation = first;
                true
            });
            with(|stack| {
                if let Some(whole) = stack.iter_mut().rfind(|one| one.kind != Kind::Part) {
                    whole.add(relation);
                }
            });
        }
        let kind = if is_part { Kind::Part } else { Kind::Whole };
        push(Statement {
            query,
            command: (*state).es_output_cid,
            ..Statement::new(kind, (*state).es_query_cxt)
        });
    }
}

/// Marks the commands of a query as complete: its triggers fire now. Reports whether the query
/// changes rows.
pub fn begin_firing(context: pg_sys::MemoryContext) -> bool {
    with(|stack| {
        let mut queries = stack.iter_mut().rev().filter(|one| one.kind != Kind::Utility);
        let found = queries.find_map(|one| one.is_in(context).then_some(one));
        let is_known = found.is_some();
        if let Some(statement) = found {
            statement.is_firing = true;
            // The hook that has reported this also reports the end.
            statement.number = 0;
            note(stack);
        }
        is_known
    })
}

/// Pushes COPY into a table, or TRUNCATE (`INVALID`: of any table). Returns the number of
/// statements around it.
pub fn begin_utility(relation: pg_sys::Oid) -> usize {
    let mut statement = Statement::new(Kind::Utility, core::ptr::null_mut());
    statement.is_of_all = relation == pg_sys::Oid::INVALID;
    statement.add(relation);
    push(statement);
    count() - 1
}

/// The facts that a trigger call reveals about its statement.
#[derive(Debug, Clone, Copy)]
pub struct NestedCall {
    pub context: pg_sys::MemoryContext,
    pub relation: pg_sys::Oid,
    /// True if the call is made before the statement's first row.
    pub is_before: bool,
}

/// Records the statement that a trigger is called for, unless it is known. Returns true if the
/// tables that the statement will write to must be locked first.
pub fn enter(call: NestedCall) -> bool {
    enum Known {
        Yes { is_prepared: bool },
        No,
    }
    let known = with(|stack| {
        let Some(top) = stack.last_mut() else { return Known::No };
        if !top.is_in(call.context) {
            return Known::No;
        }
        if top.number != 0 {
            top.add(call.relation);
        }
        let is_prepared = call.is_before || core::mem::replace(&mut top.is_prepared, true);
        note(stack);
        Known::Yes { is_prepared }
    });
    match known {
        Known::Yes { is_prepared } => !is_prepared,
        Known::No => {
            adopt(call);
            !call.is_before
        }
    }
}

/// Records a statement that began before the library was loaded.
fn adopt(call: NestedCall) {
    let number = next_number();
    let mut statement = Statement::new(Kind::Whole, call.context);
    statement.number = number;
    statement.is_firing = !call.is_before;
    statement.is_prepared = !call.is_before;
    statement.add(call.relation);
    push(statement);
    // SAFETY: the memory context of a statement in progress.
    unsafe { tell_end(call.context, number) };
}

/// Records the client's statement if it changes rows. The library has just been loaded within it.
pub fn find_outermost() {
    // SAFETY: the active portal and its list of planned statements, which it keeps until it is
    // dropped.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() {
            return;
        }
        let mut statement = Statement::new(Kind::Whole, core::ptr::null_mut());
        statement.portal = (*portal).portalContext;
        let planned = (*portal).stmts;
        for at in 0..pg_sys::list_length(planned) {
            let planned = pg_sys::list_nth(planned, at).cast::<pg_sys::PlannedStmt>();
            let utility = (*planned).utilityStmt;
            statement.is_of_all |= !utility.is_null()
                && matches!((*utility).type_, pg_sys::NodeTag::T_CopyStmt | pg_sys::NodeTag::T_TruncateStmt);
            any_relation(planned, |relation| {
                statement.add(relation);
                false
            });
        }
        if statement.is_of_all || !statement.relations.is_empty() {
            statement.number = next_number();
            statement.is_prepared = false;
            statement.subtransaction = statement.subtransaction.min((*portal).createSubid);
            let (memory, number) = (statement.portal, statement.number);
            push(statement);
            tell_end(memory, number);
        }
    }
}

fn next_number() -> u64 {
    let number = NUMBERS.get() + 1;
    NUMBERS.set(number);
    number
}

/// Makes the end of a memory context mark the end of a statement.
unsafe fn tell_end(memory: pg_sys::MemoryContext, number: u64) {
    // SAFETY: the callback lies in the memory context whose end it reports, and gets a number, not
    // an address.
    unsafe {
        let size = size_of::<pg_sys::MemoryContextCallback>();
        let callback = pg_sys::MemoryContextAlloc(memory, size).cast::<pg_sys::MemoryContextCallback>();
        callback.write(pg_sys::MemoryContextCallback {
            func: Some(memory_gone),
            arg: number as usize as *mut c_void,
            next: core::ptr::null_mut(),
        });
        pg_sys::MemoryContextRegisterResetCallback(memory, callback);
    }
}

/// Marks a statement as ended, because the memory of its execution is freed. Does not allocate or
/// fail.
unsafe extern "C-unwind" fn memory_gone(number: *mut c_void) {
    STACK.with(|stack| {
        if let Ok(mut stack) = stack.try_borrow_mut()
            && let Some(statement) = stack.iter_mut().find(|one| one.number == number as u64)
        {
            statement.has_ended = true;
            HAS_ENDED.set(true);
        }
    });
}

/// Returns the index of the statement with this memory context, if it changes rows.
pub fn find(context: pg_sys::MemoryContext) -> Option<usize> {
    with(|stack| stack.iter().rposition(|one| one.context == context))
}

/// Returns the index and the subtransaction of the outermost statement that has ended without a
/// hook.
pub fn first_ended() -> Option<(usize, u32)> {
    with(|stack| {
        let at = stack.iter().position(|one| one.has_ended)?;
        Some((at, stack[at].subtransaction))
    })
}

/// Removes the innermost statement from the stack and returns it.
pub fn pop() -> Option<Statement> {
    with(|stack| {
        let statement = stack.pop();
        LAST.set(stack.last().map_or(Version::NONE, |outer| outer.last));
        note(stack);
        statement
    })
}

/// Updates the cells of the hot path after a change of a list.
pub fn lists_changed() {
    STACK.with_borrow(|stack| note(stack));
}

/// Returns the command that the statement at `at` is running now.
pub fn running(stack: &[Statement], at: usize) -> u32 {
    let parts = stack[at + 1..].iter().take_while(|one| one.kind == Kind::Part);
    match parts.last() {
        Some(part) => part.command,
        None if stack[at].is_firing => NO_COMMAND,
        None => stack[at].command,
    }
}

/// Discards the statements of a subtransaction that was rolled back, and the events that they
/// emitted. Returns the place in the store where those events begin. Does not allocate or fail.
pub fn subtransaction_aborted(subtransaction: u32) -> Option<u64> {
    STACK.with(|stack| {
        let mut stack = stack.try_borrow_mut().ok()?;
        let lists = stack.iter_mut().map(|one| &mut one.list);
        let place = lists.filter_map(|list| list.abort(subtransaction)).min();
        let kept = stack.iter().take_while(|one| one.subtransaction < subtransaction).count();
        if kept < stack.len() {
            stack.truncate(kept);
            LAST.set(stack.last().map_or(Version::NONE, |outer| outer.last));
        }
        note(&stack);
        place
    })
}

/// Assigns the statements of a released subtransaction to its parent. Does not allocate or fail.
pub fn subtransaction_released(subtransaction: u32, parent: u32) {
    STACK.with(|stack| {
        if let Ok(mut stack) = stack.try_borrow_mut() {
            for one in stack.iter_mut() {
                one.list.release(subtransaction, parent);
                if one.subtransaction == subtransaction {
                    one.subtransaction = parent;
                }
            }
        }
    });
}

/// Discards all statements, because the transaction has ended. Does not allocate or fail.
pub fn forget() {
    STACK.with(|stack| {
        if let Ok(mut stack) = stack.try_borrow_mut() {
            stack.clear();
            LAST.set(Version::NONE);
            note(&stack);
        }
    });
}

/// Reports whether no event is held.
pub fn nothing_held() -> bool {
    STACK.with_borrow(|stack| stack.iter().all(|one| one.list.is_empty()))
}
