//! The records that the ledger writes, and the confirmations that it returns. Pure.
//!
//! Most records are entries: one per result of a delivery. The others change the state of a
//! receiver, a subscription or the checkpoint.

pub use crate::receiver_health::ReceiverHealth;

use crate::{
    event::Place,
    outcome::{Class, Outcome},
    queue_rows::{Retry, RetryKey},
    snapshot::Snapshot,
};
use std::collections::HashMap;
use std::{collections::HashSet, sync::Arc};

/// The value of `webhook.queue.last_error` while the filter of the delivery has not been evaluated.
pub const UNDECIDED: &str = "filter timed out; not evaluated yet";

/// One result: an attempt, a change of the queue, or both. They are committed together.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub subscription_id: i64,
    pub event_id: i64,
    pub place: Place,
    /// The window that waits for this delivery; the entry resolves it.
    pub window: Option<u64>,
    pub attempt: Option<Attempt>,
    pub queue: QueueChange,
    /// Set if the daemon gives up the delivery and emits `webhook.delivery.exhausted`.
    pub exhausted: Option<Box<Exhausted>>,
}

/// The members of `webhook.delivery.exhausted` that the attempt does not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// `evt_…`.
    pub event_id: Arc<str>,
    pub event_type: Box<str>,
}

/// A row of `webhook.attempt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Starts at 1.
    pub number: i16,
    pub outcome: Outcome,
    /// The time of the next attempt, in microseconds since 1970. `None` means that this was the
    /// last one.
    pub next_at_us: Option<i64>,
}

/// The change of the delivery's row in `webhook.queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueChange {
    /// Leaves the queue as it is. Usually the delivery has no row and needs none.
    Keep,
    Put {
        state: State,
        attempts: i16,
        retry_from: i16,
        /// `None` means that the delivery is in no order group.
        order_key: Option<i64>,
        /// Whether the row must be created. Otherwise the statement changes the row only if it
        /// still exists: deleting a row cancels the delivery, and older results must not bring it
        /// back.
        is_new: bool,
    },
    Delete,
}

/// `webhook.queue.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Due at this time, in microseconds since 1970.
    Waiting { next_at_us: i64 },
    /// Due as soon as the send queue has capacity, in the order of events.
    Backlog,
    /// Like `Backlog`, but the filter timed out and has not been evaluated yet.
    Undecided,
    /// Due when the earlier deliveries of its order group are final.
    Blocked,
}

/// An event about a receiver that the ledger emits for subscribers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiverEvent {
    Failing { failing_since_us: i64, failures: i32, status: Option<i16>, error: Option<String> },
    Recovered { failing_since_us: i64 },
}

/// The input of the ledger, in order. Nearly all records are entries, so boxes would save nothing.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Record {
    Entry(Entry),
    /// The scheduler no longer knows the subscription. If it is deleted, the ledger deletes its
    /// queue rows, including those of earlier entries.
    Forget {
        subscription_id: i64,
    },
    /// The health of a receiver has changed.
    ReceiverHealth {
        subscription_id: i64,
        health: ReceiverHealth,
        event: Option<ReceiverEvent>,
    },
    /// Disables the subscription. Its waiting queue rows become backlog.
    Disable {
        subscription_id: i64,
        reason: &'static str,
    },
    /// The ordering of the subscription has changed. Rows blocked by the old ordering become
    /// backlog.
    Unblock {
        subscription_id: i64,
    },
    /// All deliveries visible in the snapshot are resolved.
    Checkpoint(Snapshot),
}

/// The confirmation of committed records.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// Number of entries.
    pub entries: u64,
    /// Number of resolved deliveries by window.
    pub windows: Vec<(u64, u64)>,
    /// Number of rows put into the backlog, by subscription.
    pub spilled: Vec<(i64, u64)>,
    /// The deliveries whose queue row now matches the entry: subscription and event.
    pub settled: Vec<(i64, i64)>,
    /// A subscription that is now disabled.
    pub disabled: Option<i64>,
    /// A subscription that has no blocked rows now.
    pub unblocked: Option<i64>,
    /// Subscriptions that another session has locked. Their entries are counted here and not
    /// committed; the other members follow when they are.
    pub locked: Vec<i64>,
    /// Subscriptions of which all entries are committed again.
    pub unlocked: Vec<i64>,
    /// Retries of entries that were counted before they were committed. A read of the table in
    /// between has missed them.
    pub late_retries: Vec<(RetryKey, Retry)>,
}

impl State {
    /// Returns the word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Backlog | Self::Undecided => "backlog",
            Self::Blocked => "blocked",
        }
    }
}

impl Attempt {
    /// Reports whether no further attempt follows.
    pub fn is_final(&self) -> bool {
        self.outcome.class == Class::Succeeded || self.next_at_us.is_none()
    }
}

impl Entry {
    /// Reports whether the entry ends the scheduler's claim on the queue row.
    pub fn settles(&self) -> bool {
        match self.queue {
            QueueChange::Keep => false,
            QueueChange::Delete => true,
            // The scheduler has no claim on a new delivery that is blocked at once. Its entry has a
            // window and no attempt.
            QueueChange::Put { state: State::Blocked, .. } => self.window.is_none() || self.attempt.is_some(),
            QueueChange::Put { .. } => self.attempt.is_some(),
        }
    }

    /// Returns the result without texts that the receiver influenced, and without the event about a
    /// delivery that the daemon gave up.
    pub fn without_texts(&self) -> Self {
        let mut bare = self.clone();
        if let Some(attempt) = &mut bare.attempt {
            attempt.outcome.error = None;
            attempt.outcome.response = None;
        }
        bare.exhausted = None;
        bare
    }

    /// Reports whether the entry changes a row that users can lock: one that exists. A user's
    /// function creates no row for a delivery that the daemon is about to put into the queue. A
    /// redelivery has no window, and `webhook_redeliver` may have created its row.
    pub fn changes_row(&self) -> bool {
        match self.queue {
            QueueChange::Keep => self.attempt.as_ref().is_some_and(|attempt| attempt.number > 1),
            QueueChange::Put { is_new, .. } => !is_new || self.window.is_none(),
            QueueChange::Delete => true,
        }
    }

    /// Returns the retry that the entry puts into the queue.
    fn retry(&self) -> Option<(RetryKey, Retry)> {
        let QueueChange::Put {
            state: State::Waiting { next_at_us }, attempts, retry_from, order_key, ..
        } = self.queue
        else {
            return None;
        };
        let Self { subscription_id, event_id, place, .. } = *self;
        let key = RetryKey { next_at_us, subscription_id, event_id };
        Some((key, Retry { place, attempts, retry_from, after_entry: 0, order_key }))
    }

    /// Reports whether the entry puts a row into the backlog.
    pub fn is_spill(&self) -> bool {
        matches!(self.queue, QueueChange::Put { state: State::Backlog | State::Undecided, .. })
    }
}

impl Record {
    /// Returns the entry, if the record is one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// Returns the subscription that must be locked for this record.
    pub fn locks(&self) -> Option<i64> {
        match self {
            Self::Entry(entry) => entry.changes_row().then_some(entry.subscription_id),
            Self::ReceiverHealth { subscription_id, .. }
            | Self::Disable { subscription_id, .. }
            | Self::Unblock { subscription_id } => Some(*subscription_id),
            // A deleted subscription cannot be locked.
            Self::Forget { .. } | Self::Checkpoint(_) => None,
        }
    }

    /// Reports whether the attempt may be written although the queue stays unchanged.
    ///
    /// It may if the attempt is final, or if the delivery is among the `known` ones, which have an
    /// attempt or a queue row. In any other case, the attempt alone would make the event look
    /// handled, and no daemon would try it again.
    pub fn is_final_or(&self, known: &HashSet<(i64, i64)>) -> bool {
        let Self::Entry(entry) = self else { return false };
        entry.attempt.as_ref().is_some_and(|attempt| attempt.is_final())
            || known.contains(&(entry.subscription_id, entry.event_id))
    }

    /// Makes the record leave the queue unchanged. Reports whether there is still something to
    /// write.
    pub fn keep_queue(&mut self) -> bool {
        match self {
            Self::Entry(entry) => {
                entry.queue = QueueChange::Keep;
                entry.attempt.is_some()
            }
            _ => false,
        }
    }
}

/// Receives the results of each batch that was written.
pub trait Observer: std::fmt::Debug + Send + Sync {
    fn written(&self, entries: &[&Entry]);
}

/// Returns the confirmation of entries that were counted earlier. Entries in `later` are not
/// committed yet. A retry that a later entry of its delivery replaces is not reported.
pub fn late_summary<'a>(entries: &[&'a Entry], later: impl Iterator<Item = &'a Entry>) -> Confirmed {
    let last: HashMap<(i64, i64), &Entry> = entries
        .iter()
        .copied()
        .chain(later)
        .map(|entry| ((entry.subscription_id, entry.event_id), entry))
        .collect();
    let is_last = |entry: &&&Entry| {
        last.get(&(entry.subscription_id, entry.event_id)).is_some_and(|last| std::ptr::eq(*last, **entry))
    };
    let late_retries = entries.iter().filter(is_last).filter_map(|entry| entry.retry()).collect();
    Confirmed { entries: 0, late_retries, ..summary(entries) }
}

/// Returns the confirmation that the scheduler gets after the entries are committed.
pub fn summary(entries: &[&Entry]) -> Confirmed {
    let (mut windows, mut spilled): (HashMap<u64, u64>, HashMap<i64, u64>) = Default::default();
    let mut settled = Vec::new();
    for entry in entries {
        if let Some(window) = entry.window {
            *windows.entry(window).or_default() += 1;
        }
        if entry.is_spill() {
            *spilled.entry(entry.subscription_id).or_default() += 1;
        }
        if entry.settles() {
            settled.push((entry.subscription_id, entry.event_id));
        }
    }
    Confirmed {
        entries: entries.len() as u64,
        windows: windows.into_iter().collect(),
        spilled: spilled.into_iter().collect(),
        settled,
        ..Confirmed::default()
    }
}
