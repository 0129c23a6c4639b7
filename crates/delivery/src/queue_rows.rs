//! Rows of `webhook.queue` as the scheduler works with them, and its requests for them. Pure.
//!
//! The scheduler asks for rows with [`Load`]. The reader of the queue answers with [`Loaded`], one
//! request at a time, in order. The scheduler relies on that order.

use crate::{event::Place, feed::Request, message::Message, receiver_health::ReceiverHealth};
use std::{sync::Arc, time::Duration};

/// A delivery that waits in memory.
#[derive(Debug)]
pub struct Item {
    pub message: Arc<Message>,
    pub attempts: i16,
    pub retry_from: i16,
    pub row: RowState,
}

/// The state of the queue row of a delivery in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// No row. The window stays open until there is one.
    None {
        window: u64,
        /// When the delivery joined the send queue.
        since: Duration,
    },
    /// A redelivery that was requested by hand. It has no window, and its row may be gone. If it
    /// fails, it gets a row again.
    Asked,
    Waiting,
    Backlog,
    Blocked,
}

impl RowState {
    /// Returns the window that is open until there is a row.
    pub fn window(self) -> Option<u64> {
        match self {
            Self::None { window, .. } => Some(window),
            Self::Asked | Self::Waiting | Self::Backlog | Self::Blocked => None,
        }
    }

    /// Reports whether the next entry for the delivery creates the row.
    pub fn is_missing(self) -> bool {
        match self {
            Self::None { .. } | Self::Asked => true,
            Self::Waiting | Self::Backlog | Self::Blocked => false,
        }
    }
}

/// Order of retries: microseconds since 1970, subscription, event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryKey {
    pub next_at_us: i64,
    pub subscription_id: i64,
    pub event_id: i64,
}

/// Data of a retry that is known without a read of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub place: Place,
    pub attempts: i16,
    pub retry_from: i16,
    /// The ledger entry that writes the row; the table does not have the row before. 0 if it was
    /// read from the table.
    pub after_entry: u64,
    /// The order group of the delivery. `None` if it obeys no order.
    pub order_key: Option<i64>,
}

/// A retry that is due and has not been read from the table yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    pub event_id: i64,
    pub retry: Retry,
}

/// A request of the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// The health of the receivers.
    ReceiverHealth,
    /// Deliveries of subscriptions with an order that block others, or that are blocked.
    Ordered,
    /// The subscriptions with a backlog.
    Backlogged,
    /// Retries from this one on, in order.
    Timers { from: RetryKey, limit: usize },
    /// These retries, with their events.
    Due(Vec<(i64, Due)>),
    /// One subscription's backlog, forward from an event.
    Backlog { subscription_id: i64, after: i64, limit: usize },
    /// The next rows in these order groups of one subscription, up to `limit` of each.
    OrderGroups { subscription_id: i64, order_keys: Vec<i64>, limit: usize, entries_confirmed: u64 },
    /// One delivery, now. If it was redelivered and its row is gone again, also without a row.
    Request { request: Request, even_without_row: bool },
}

/// The answer to a [`Load`].
#[derive(Debug)]
pub enum Loaded {
    ReceiverHealth(Vec<(i64, ReceiverHealth)>),
    Ordered(Vec<Ordered>),
    Backlogged(Vec<i64>),
    Timers {
        rows: Vec<(RetryKey, Retry)>,
        asked: usize,
    },
    /// `missing` have no row any longer. `rest` did not fit, and must be requested again.
    Due {
        rows: Vec<QueuedRow>,
        missing: Vec<(i64, Due)>,
        rest: Vec<(i64, Due)>,
    },
    Backlog {
        subscription_id: i64,
        rows: Vec<QueuedRow>,
        is_end: bool,
        has_slow_filter: bool,
    },
    /// By order group, in the order of the request. Each contains whether the rows are complete.
    /// `None` must be requested again.
    OrderGroups {
        subscription_id: i64,
        groups: Vec<(i64, Vec<QueuedRow>, Option<bool>)>,
        entries_confirmed: u64,
        has_slow_filter: bool,
    },
    Request {
        request: Request,
        row: Option<QueuedRow>,
    },
}

impl Loaded {
    /// Returns the rows with their events.
    pub fn rows_mut(&mut self) -> Box<dyn Iterator<Item = &mut QueuedRow> + '_> {
        match self {
            Self::Due { rows, .. } | Self::Backlog { rows, .. } => Box::new(rows.iter_mut()),
            Self::OrderGroups { groups, .. } => Box::new(groups.iter_mut().flat_map(|(_, rows, _)| rows)),
            Self::Request { row, .. } => Box::new(row.iter_mut()),
            Self::ReceiverHealth(_) | Self::Ordered(_) | Self::Backlogged(_) | Self::Timers { .. } => {
                Box::new(std::iter::empty())
            }
        }
    }
}

/// The state of an order group before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    pub subscription_id: i64,
    pub order_key: i64,
    pub place: OrderedPlace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderedPlace {
    /// An event that waits for its time.
    Timed(i64),
    /// An event in the backlog that is older than one that waits for its time.
    Backlog(i64),
    /// There are blocked events.
    Blocked,
}

/// A row of the queue with its event.
#[derive(Debug)]
pub struct QueuedRow {
    pub subscription_id: i64,
    pub event_id: i64,
    pub retry: Retry,
    pub row: RowState,
    /// `None` if the event is gone, or if filter or owner do not match.
    pub message: Option<Arc<Message>>,
    pub filtered: Filtered,
    /// For a retry: when it is due, in microseconds since 1970.
    pub next_at_us: Option<i64>,
}

/// The result of the filter for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filtered {
    Passed,
    /// The filter has not been evaluated.
    Undecided,
    FilteredOut,
}
