//! What the ledger writes: one entry per result of a delivery. Pure.

use crate::{
    delivery::outcome::{Class, Outcome},
    event::Place,
    outbox::snapshot::Snapshot,
};
use std::{collections::HashSet, sync::Arc};

/// One result: an attempt, a change of the queue, or both, that become true together.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub subscription_id: i64,
    pub event_id: i64,
    pub place: Place,
    /// The window in which this resolves a delivery.
    pub window: Option<u64>,
    pub attempt: Option<Attempt>,
    pub queue: QueueChange,
    /// The last attempt has failed, and subscribers to such things are to know.
    pub exhausted: Option<Box<Exhausted>>,
}

/// What `webhook.delivery.exhausted` says beside the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhausted {
    /// `evt_…`.
    pub event_id: Arc<str>,
    pub event_type: Box<str>,
}

/// A row of `webhook.attempt`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: i16,
    pub outcome: Outcome,
    /// When the next one is due, in microseconds since 1970; `None`: this was the last.
    pub next_at_us: Option<i64>,
}

/// What becomes of the row in `webhook.queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueChange {
    /// There is none and none is needed.
    Keep,
    Put {
        state: State,
        attempts: i16,
        retry_from: i16,
        /// `None`: it obeys no order.
        order_key: Option<i64>,
        /// There is no row yet. Otherwise the row is changed if it is still there: deleting a row calls the delivery off, and
        /// nothing that was known before brings it back.
        is_new: bool,
    },
    Delete,
}

/// `webhook.queue.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Due at this moment, in microseconds since 1970.
    Waiting { next_at_us: i64 },
    /// As soon as the lane can, in order of events.
    Backlog,
    /// The same, if the filter lets it through: that has yet to be asked.
    Undecided,
    /// Once the former deliveries of its order key are final.
    Blocked,
}

/// A row of `webhook.receiver`, but for what the receiver itself has granted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub is_open: bool,
    pub consecutive_failures: i32,
    /// Microseconds since 1970.
    pub failing_since_us: Option<i64>,
    pub warned_at_us: Option<i64>,
}

/// What subscribers to such things are told of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    Failing { failing_since_us: i64, failures: i32, status: Option<i16>, error: Option<String> },
    Recovered { failing_since_us: i64 },
}

/// What the ledger is given, in order. Nearly all of it is entries, so that boxes would save nothing.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub enum Record {
    Entry(Entry),
    /// The subscription is gone, as far as the lanes know: if it is, so are its queue rows, those of earlier entries too.
    Forget {
        subscription_id: i64,
    },
    /// A receiver's standing has changed.
    Standing {
        subscription_id: i64,
        standing: Standing,
        news: Option<News>,
    },
    /// The subscription is to be disabled, and what waits for its time becomes backlog.
    Disable {
        subscription_id: i64,
        reason: &'static str,
    },
    /// The subscription's order is another now: what was blocked under the old one becomes backlog.
    Unblock {
        subscription_id: i64,
    },
    /// Everything visible in it is resolved.
    Checkpoint(Snapshot),
}

/// Entries that are committed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// How many.
    pub entries: u64,
    /// Deliveries resolved, by window.
    pub windows: Vec<(u64, u64)>,
    /// Rows put into the backlog, by subscription.
    pub spilled: Vec<(i64, u64)>,
    /// Deliveries whose queue row has become what the entry says: subscription and event.
    pub settled: Vec<(i64, i64)>,
    /// A subscription that has been disabled.
    pub disabled: Option<i64>,
    /// A subscription of which nothing is blocked any more.
    pub unblocked: Option<i64>,
}

impl State {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Backlog | Self::Undecided => "backlog",
            Self::Blocked => "blocked",
        }
    }
}

impl Attempt {
    /// No further attempt follows from it.
    pub fn is_final(&self) -> bool {
        self.outcome.class == Class::Succeeded || self.next_at_us.is_none()
    }
}

impl Entry {
    /// It ends our hold on the queue row.
    pub fn settles(&self) -> bool {
        match self.queue {
            QueueChange::Keep => false,
            QueueChange::Delete => true,
            // One that was never in our hands has a window.
            QueueChange::Put { state: State::Blocked, .. } => self.window.is_none() || self.attempt.is_some(),
            QueueChange::Put { .. } => self.attempt.is_some(),
        }
    }

    /// The same result without what a receiver had a hand in.
    pub fn without_texts(&self) -> Self {
        let mut bare = self.clone();
        if let Some(attempt) = &mut bare.attempt {
            attempt.outcome.error = None;
            attempt.outcome.response = None;
        }
        bare.exhausted = None;
        bare
    }

    /// A row in the backlog.
    pub fn is_spill(&self) -> bool {
        matches!(self.queue, QueueChange::Put { state: State::Backlog | State::Undecided, .. })
    }
}

impl Record {
    /// The entry, if it is one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            _ => None,
        }
    }

    /// Whether its attempt may be written although the queue is left alone: no further one is to come of it, or the delivery
    /// is among those that are `known` to have an attempt or a queue row. An attempt that stood alone would say that the event
    /// has been dealt with, and nobody would try again.
    pub fn is_final_or(&self, known: &HashSet<(i64, i64)>) -> bool {
        let Self::Entry(entry) = self else { return false };
        entry.attempt.as_ref().is_some_and(|attempt| attempt.is_final())
            || known.contains(&(entry.subscription_id, entry.event_id))
    }

    /// Leaves the queue alone; tells whether anything is left to be written.
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
