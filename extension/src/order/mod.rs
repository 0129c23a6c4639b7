//! The order of events: those of a row are numbered in the order in which its changes happened.
//!
//! Postgres fires a statement's AFTER triggers at its end. A trigger or a function that changes the same table in a
//! statement of its own comes in between: the *nested* statement's triggers fire first, although its changes may be the
//! younger ones. The last event of a row would then tell an older state than the table holds.
//!
//! So the events of a nested statement are *held*, without a number, while a statement around it that changes the same
//! table (or another partition of it) is in progress. Each event of that outer statement is merged with them
//! ([`merge`]): held events that happened before it are passed on first. The rest is passed on when the outer statement
//! has ended: to the next statement around it that changes the table, or to the outbox, which numbers it. A change of a
//! row that directly follows the one just passed on does not wait: what a row's own trigger does to it is held for a
//! moment only.
//!
//! Nothing of this costs anything when no statement is nested: the hot path asks one cell.
//!
//! Held events lie in memory up to `work_mem`, then in a temporary file ([`store`]); about 100 bytes of each stay in
//! memory. Those of a rolled back subtransaction go with it. Held events are not in webhook.event yet, so a trigger that
//! reads the outbox does not see them.

mod merge;
mod statement;
mod store;

use std::cell::RefCell;
use std::mem::ManuallyDrop;

use pgrx::pg_sys;

use crate::compat::unguarded;
use crate::outbox::{self, NewEvent, Session};
use crate::{guc, memory};
pub use merge::{Change, NO_COMMAND, Version};
use merge::{Entry, List};
pub use statement::{
    Call, begin, begin_firing, begin_utility, enter, find_outermost, has_ended, is_innermost, is_nested,
    note_version,
};
use store::Store;

thread_local! {
    /// Never dropped: a callback may still come when the backend exits.
    static STORE: RefCell<ManuallyDrop<Store>> = const { RefCell::new(ManuallyDrop::new(Store::new())) };
}

/// An event on its way.
enum Event<'a> {
    New(&'a NewEvent<'a>),
    Stored(u64),
}

/// Emits or holds the event of a row, after those held ones that happened before it.
///
/// # Errors
/// Raises what the outbox raises, out of memory, and what a temporary file raises.
pub fn emit(event: &NewEvent<'_>, change: &Change) {
    let count = statement::count();
    let Some(own) = count.checked_sub(1) else {
        outbox::emit(event);
        return;
    };
    let older = statement::with(|stack| stack[own].list.before(change));
    for _ in 0..older {
        let entry = statement::with(|stack| stack[own].list.pop_front());
        if let Some(entry) = entry.filter(|entry| !List::is_taken(entry)) {
            pass_on(own, &entry.change, &Event::Stored(entry.place));
        }
    }
    note_version(change.now);
    pass_on(own, change, &Event::New(event));
    let mut version = change.now;
    while let Some(entry) = statement::with(|stack| stack[own].list.take_next(version)) {
        version = entry.change.now;
        note_version(version);
        pass_on(own, &entry.change, &Event::Stored(entry.place));
    }
    lists_changed();
}

/// Passes an event of the statement at `from` on: to the statement around it, or to the outbox.
fn pass_on(from: usize, change: &Change, event: &Event<'_>) {
    let mut below = from;
    while let Some(at) = statement::around(below, change.root.into()) {
        let follows = statement::with(|stack| {
            let outer = &mut stack[at];
            let follows = outer.list.is_empty() && change.follows(outer.last);
            if follows {
                outer.last = change.now;
            }
            follows
        });
        if !follows {
            hold(at, change, event);
            return;
        }
        below = at;
    }
    match event {
        Event::New(event) => {
            outbox::emit(event);
        }
        Event::Stored(place) => emit_stored(*place),
    }
}

fn hold(at: usize, change: &Change, event: &Event<'_>) {
    let place = match event {
        Event::New(event) => store_event(event),
        Event::Stored(place) => *place,
    };
    // SAFETY: a plain call.
    let subtransaction = unsafe { unguarded::GetCurrentSubTransactionId() };
    let pushed = statement::with(|stack| {
        let during = statement::running(stack, at);
        stack[at].list.push(Entry::new(*change, during, subtransaction, place))
    });
    pushed.unwrap_or_else(|_| memory::out_of_memory(size_of::<Entry>()));
}

fn store_event(event: &NewEvent<'_>) -> u64 {
    let texts = [
        Some(event.event_type),
        event.table_name,
        event.key,
        guc::actor(),
        guc::origin(),
        guc::traceparent(),
        Some(event.payload),
        event.previous,
    ];
    with_store(|store| store.put(event.truncated, &texts))
}

fn emit_stored(place: u64) {
    let bytes = with_store(|store| store.read(place));
    let (truncated, texts) = store::parse(&bytes);
    let [event_type, table_name, key, actor, origin, traceparent, payload, previous] = texts;
    let event = NewEvent {
        event_type: event_type.unwrap_or_default(),
        table_name,
        key,
        payload: payload.unwrap_or_default(),
        previous,
        subscription_id: None,
        truncated,
    };
    outbox::emit_of(&event, &Session { actor, origin, traceparent });
}

fn with_store<R>(work: impl FnOnce(&mut Store) -> Result<R, usize>) -> R {
    STORE.with_borrow_mut(|store| work(store)).unwrap_or_else(|bytes| memory::out_of_memory(bytes))
}

/// After a change of the lists: the store is free when nothing is held.
fn lists_changed() {
    statement::lists_changed();
    if statement::nothing_held() {
        STORE.with_borrow_mut(|store| store.clear());
    }
}

/// Ends the statements from `at` on, the innermost first; `ended` is called for each while it is the innermost one.
fn end_from(at: usize, ended: impl Fn(pg_sys::MemoryContext)) {
    while statement::count() > at {
        if let Some(context) = statement::with(|stack| stack.last().map(|top| top.context())) {
            ended(context);
        }
        let place = statement::count() - 1;
        let Some(mut statement) = statement::pop() else { break };
        if statement.list.is_empty() {
            continue;
        }
        while let Some(entry) = statement.list.pop_front() {
            if !List::is_taken(&entry) {
                pass_on(place, &entry.change, &Event::Stored(entry.place));
            }
        }
        lists_changed();
    }
}

/// A query and its triggers are done.
pub fn end(context: pg_sys::MemoryContext, ended: impl Fn(pg_sys::MemoryContext)) {
    if let Some(at) = statement::find(context) {
        end_from(at, ended);
    }
}

/// A utility statement with `around` statements around it is done.
pub fn end_utility(around: usize, ended: impl Fn(pg_sys::MemoryContext)) {
    end_from(around, ended);
}

/// Ends the statements whose end no hook has told.
pub fn settle(ended: impl Fn(pg_sys::MemoryContext)) {
    if let Some(at) = statement::first_ended() {
        end_from(at, ended);
    }
}

/// Whether a statement that changes rows is in progress, or has ended without a hook.
pub fn is_any_in_progress() -> bool {
    statement::count() > 0
}

/// The transaction is about to commit: no statement is in progress any more.
pub fn before_commit(ended: impl Fn(pg_sys::MemoryContext)) {
    end_from(0, ended);
}

/// A subtransaction has been rolled back. Neither allocates nor fails.
pub fn subtransaction_aborted(subtransaction: u32) {
    let place = statement::subtransaction_aborted(subtransaction);
    STORE.with(|store| {
        if let (Some(place), Ok(mut store)) = (place, store.try_borrow_mut()) {
            store.cut(place);
        }
    });
}

/// A subtransaction has been released. Neither allocates nor fails.
pub fn subtransaction_released(subtransaction: u32, parent: u32) {
    statement::subtransaction_released(subtransaction, parent);
}

/// The transaction has ended. Neither allocates nor fails.
pub fn forget() {
    statement::forget();
    STORE.with(|store| {
        if let Ok(mut store) = store.try_borrow_mut() {
            store.forget();
        }
    });
}
