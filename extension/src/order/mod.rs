//! The order of events: the events of a row are numbered in the order of its changes.
//!
//! Postgres fires a statement's AFTER triggers at its end. Before that, a trigger or a function may
//! change the same table in a statement of its own. The triggers of this *nested* statement fire
//! first, although its changes may be younger. The last event of a row would then show an older
//! state than the table holds.
//!
//! The events of a nested statement are therefore *held*, without a number, while an outer
//! statement that changes the same table (or another partition of it) is in progress. Each event of
//! the outer statement is merged with the held events ([`merge`]): those that happened before it
//! are passed on first. The remaining events are passed on when the outer statement has ended: to
//! the next outer statement that changes the table, or to the outbox, which numbers them. A change
//! that directly follows the row change just passed on does not wait. The changes that a row's own
//! trigger makes to it are therefore held only for a moment.
//!
//! All this costs nothing while no statement is nested: the hot path reads one cell.
//!
//! Held events are kept in memory up to `work_mem`, then in a temporary file ([`store`]). About 100
//! bytes of each event stay in memory. The held events of a subtransaction are discarded when it is
//! rolled back. Held events are not in webhook.event yet, so a trigger that reads the outbox does
//! not see them.

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
    NestedCall, begin, begin_firing, begin_utility, enter, find_outermost, has_ended, is_innermost,
    is_nested, note_version,
};
use store::Store;

thread_local! {
    /// Never dropped: a callback may still run when the backend exits.
    static STORE: RefCell<ManuallyDrop<Store>> = const { RefCell::new(ManuallyDrop::new(Store::new())) };
}

/// An event that is passed on.
enum Event<'a> {
    New(&'a NewEvent<'a>),
    Stored(u64),
}

/// Emits or holds the event of a row. First passes on the held events that happened before it.
///
/// # Errors
/// Raises the errors of the outbox and of a temporary file, and out of memory.
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

/// Passes on an event of the statement at `from`, to the statement around it or to the outbox.
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
        event.owner,
    ];
    with_store(|store| store.put(event.truncated, &texts))
}

fn emit_stored(place: u64) {
    let bytes = with_store(|store| store.read(place));
    let (truncated, texts) = store::parse(&bytes);
    let [event_type, table_name, key, actor, origin, traceparent, payload, previous, owner] = texts;
    let event = NewEvent {
        event_type: event_type.unwrap_or_default(),
        table_name,
        key,
        payload: payload.unwrap_or_default(),
        previous,
        subscription_id: None,
        truncated,
        owner,
    };
    outbox::emit_of(&event, &Session { actor, origin, traceparent });
}

fn with_store<R>(work: impl FnOnce(&mut Store) -> Result<R, usize>) -> R {
    STORE.with_borrow_mut(|store| work(store)).unwrap_or_else(|bytes| memory::out_of_memory(bytes))
}

/// Updates the state after a change of the lists. Clears the store if nothing is held.
fn lists_changed() {
    statement::lists_changed();
    if statement::nothing_held() {
        STORE.with_borrow_mut(|store| store.clear());
    }
}

/// Ends the statements from `at` on, innermost first. Calls `ended` for each while it is the
/// innermost one.
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

/// Ends a query whose triggers have fired.
pub fn end(context: pg_sys::MemoryContext, ended: impl Fn(pg_sys::MemoryContext)) {
    if let Some(at) = statement::find(context) {
        end_from(at, ended);
    }
}

/// Ends a utility statement that has `around` statements around it.
pub fn end_utility(around: usize, ended: impl Fn(pg_sys::MemoryContext)) {
    end_from(around, ended);
}

/// Ends the statements whose end no hook has reported.
pub fn settle(ended: impl Fn(pg_sys::MemoryContext)) {
    if let Some((at, subtransaction)) = statement::first_ended() {
        outbox::late(subtransaction, || end_from(at, ended));
    }
}

/// Reports whether a statement that changes rows is in progress, or has ended without a hook.
pub fn is_any_in_progress() -> bool {
    statement::count() > 0
}

/// Ends all statements, because the transaction is about to commit.
pub fn before_commit(ended: impl Fn(pg_sys::MemoryContext)) {
    end_from(0, ended);
}

/// Discards the statements and events of a subtransaction that was rolled back. Does not allocate
/// or fail.
pub fn subtransaction_aborted(subtransaction: u32) {
    let place = statement::subtransaction_aborted(subtransaction);
    STORE.with(|store| {
        if let (Some(place), Ok(mut store)) = (place, store.try_borrow_mut()) {
            store.cut(place);
        }
    });
}

/// Assigns the statements and events of a released subtransaction to its parent. Does not allocate
/// or fail.
pub fn subtransaction_released(subtransaction: u32, parent: u32) {
    statement::subtransaction_released(subtransaction, parent);
}

/// Discards all statements and events, because the transaction has ended. Does not allocate or
/// fail.
pub fn forget() {
    statement::forget();
    STORE.with(|store| {
        if let Ok(mut store) = store.try_borrow_mut() {
            store.forget();
        }
    });
}
