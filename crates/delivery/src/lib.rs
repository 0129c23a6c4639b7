//! The core of deliveries: which event is sent next, in which form, and what its outcome means.
//!
//! # The problem
//!
//! A receiver may be slow, busy, broken or gone, and thousands of receivers share one daemon. Each
//! must get its events at the speed that it can take, in the order that it asked for, and none may
//! delay another. No event may be lost, and the database must always show the state of each
//! delivery.
//!
//! # The nouns
//!
//! * An [`event`] is a committed row of `webhook.event`. A [`message`] is an event on its way, with
//!   the parts that all its receivers share. A [`subscription`] says who gets it, and how.
//!   A [`scope`] says whose events.
//! * A delivery is one event for one subscription. It has a row in `webhook.queue`
//!   ([`queue_rows`]) if it failed or cannot be sent now.
//! * Each subscription has a send queue ([`send_queue`]). It is bounded and paced, and knows the
//!   health of its receiver.
//! * The [`scheduler`] holds all send queues. It starts attempts and applies their [`outcome`].
//! * The scheduler writes nothing. It returns each result as a [`record`] for the ledger.
//!
//! # The flow
//!
//! [`feed`] → [`scheduler`] → an attempt ([`body`], [`headers`], [`shape`]) → [`outcome`] →
//! [`retry_policy`] → [`record`].
//!
//! Everything here is pure, apart from log lines: no clock, no random numbers, no network and no
//! SQL. The caller passes these in. The exception is [`identity`], which reads this machine's name.

pub mod batch;
pub mod body;
pub mod causes;
pub mod compact;
pub mod event;
pub mod feed;
pub mod headers;
pub mod identity;
pub mod members;
pub mod message;
pub mod outcome;
pub mod queue_rows;
mod receiver_health;
pub mod record;
pub mod response;
pub mod retry_policy;
pub mod scheduler;
pub mod scope;
pub mod send_queue;
pub mod shape;
pub mod snapshot;
pub mod subscription;

use std::time::Duration;

/// The time, as an argument.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Time since the daemon started. It never goes back.
    pub at: Duration,
    /// Microseconds since 1970.
    pub wall_us: i64,
}
