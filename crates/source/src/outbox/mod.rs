//! Reads the committed events of `webhook.event`: each new event once, routed, in batches.
//!
//! The module reads events, subscriptions and, after a start, attempts and the queue. It writes
//! nothing. The cursor is a snapshot in memory. The ledger stores the checkpoint, which survives a
//! crash.

mod durable;
pub mod extent;
mod filter;
mod filter_queue;
pub mod gate;
pub mod highest;
pub mod pages;
pub mod poll;
pub mod reader;
mod recovered;
mod requested;
pub mod ring;
pub mod row;

use thiserror::Error;

/// Why reading ended.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot read the outbox")]
    Database(#[from] tokio_postgres::Error),
    #[error("cannot read the server's snapshot")]
    Snapshot(#[from] delivery::snapshot::Invalid),
    #[error("this daemon's session no longer holds the leader's lock")]
    LockLost,
}

/// Maximum number of events in one batch. A larger window is read in pages.
pub const BATCH_ROWS_MAX: usize = 2000;

/// Maximum number of deliveries in one batch. A single event may have more.
pub const BATCH_TARGETS_MAX: usize = 20_000;

/// Maximum number of payload bytes in one batch. A single event may be larger.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

impl From<Error> for database::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => Self::of_statement(error),
            Error::Snapshot(error) => Self::Snapshot(error),
            Error::LockLost => Self::LockLost,
        }
    }
}
