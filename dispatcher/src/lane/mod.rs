//! Delivers to receivers: decides what is sent next, and makes the attempts.
//!
//! Each subscription has a send queue ([`lane::Lane`]). A send queue is bounded and paced. If its
//! receiver is slow, the send queue spills into `webhook.queue`, so it does not delay the others.
//!
//! The scheduler ([`board::Board`]) holds all send queues. It is a pure state machine with neither
//! I/O nor a clock of its own:
//!
//! * It reads events, outcomes, confirmations of the ledger, rows of the queue, and the time.
//! * It returns attempts to start, records for the ledger to write, and rows to read.
//!
//! [`dispatch`] is the task that connects the scheduler to its channels. [`crew`] makes the
//! attempts. All other modules are pure, apart from log lines.

pub mod backlog_rate;
pub mod board;
pub mod breaker;
mod bucket;
pub mod crew;
pub mod dispatch;
mod drain;
#[allow(clippy::module_inception)]
pub mod lane;
pub mod order;
mod pacing;
mod progress;
pub mod timers;

use std::time::Duration;

/// The time, as an argument of the pure modules.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time since the daemon started. It never goes back.
    pub at: Duration,
    /// Microseconds since 1970.
    pub wall_us: i64,
}
