//! The source of deliveries: reads what Postgres holds, and decides who gets it.
//!
//! # The problem
//!
//! Transactions commit in another order than they begin, clocks jump, and a bulk load commits ten
//! million events at once. Each committed event must be read exactly once, in the order of commits,
//! with the subscriptions as they were at that commit.
//!
//! # The nouns
//!
//! * The [`outbox`] is `webhook.event`. Its reader polls it, with a snapshot as its cursor.
//! * A window is what became visible between two snapshots. A large window is read in pages.
//! * The [`router`] finds the subscriptions of an event. `parsed_filters` decides most of their
//!   filters. [`matching`] evaluates the others in Postgres, on a connection of its own, and
//!   [`slow_filters`] holds subscriptions whose filter is too slow.
//! * The [`queue`] reads deliveries back that failed or had to wait.
//! * [`subscriptions`] reads who gets what, and [`secret_store`] resolves the keys that sign.
//! * [`liveness`] tells standbys that the reader is alive.
//!
//! # The flow
//!
//! [`outbox`] → [`router`] → `parsed_filters` → [`delivery::feed`], and past [`matching`] for the
//! filters that only Postgres can evaluate. The crate writes nothing.

pub mod liveness;
pub mod matching;
pub mod outbox;
mod parsed_filters;
pub mod queue;
pub mod router;
pub mod secret_store;
pub mod slow_filters;
pub mod subscriptions;
