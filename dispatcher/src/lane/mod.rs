//! Every subscription's way out: bounded, paced, and spilling into the queue rather than holding up the others.
//!
//! `board` is the state of all lanes, a pure machine: events, outcomes, confirmations, queue rows and the clock go in;
//! attempts to start, rows to write and rows to read come out. `dispatch` is the task around it, `crew` makes the attempts.

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

/// The clock as the pure part sees it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the daemon started; never goes back.
    pub at: Duration,
    /// Microseconds since 1970.
    pub wall_us: i64,
}
