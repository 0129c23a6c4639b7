//! What the ledger writes: one entry per result of a delivery. Pure.

use crate::{delivery::outcome::Outcome, outbox::snapshot::Snapshot};

/// One result: an attempt, a change of the queue, or both, that become true together.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub subscription_id: i64,
    pub event_id: i64,
    pub event_slot: i16,
    /// The window in which this resolves a delivery.
    pub window: Option<u64>,
    pub attempt: Option<Attempt>,
    pub queue: QueueChange,
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
}

impl Entry {
    /// It ends our hold on the queue row.
    pub fn settles(&self) -> bool {
        self.queue == QueueChange::Delete || (self.attempt.is_some() && self.queue != QueueChange::Keep)
    }

    /// The same result without what a receiver had a hand in.
    pub fn without_texts(&self) -> Self {
        let mut bare = self.clone();
        if let Some(attempt) = &mut bare.attempt {
            attempt.outcome.error = None;
            attempt.outcome.response = None;
        }
        bare
    }

    /// A row in the backlog.
    pub fn is_spill(&self) -> bool {
        matches!(self.queue, QueueChange::Put { state: State::Backlog, .. })
    }
}

impl Record {
    /// The entry, if it is one.
    pub fn entry(&self) -> Option<&Entry> {
        match self {
            Self::Entry(entry) => Some(entry),
            Self::Forget { .. } | Self::Checkpoint(_) => None,
        }
    }

    /// Leaves the queue alone.
    pub fn keep_queue(&mut self) {
        if let Self::Entry(entry) = self {
            entry.queue = QueueChange::Keep;
        }
    }
}
