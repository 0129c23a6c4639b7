//! webhookd: the daemon and its commands. `main.rs` is a thin shell over this library.
//!
//! # The problem
//!
//! One daemon delivers from a database, and others are standbys. The leader reads events, sends
//! them, and records every outcome. It survives lost connections, and leaves a consistent state
//! when it ends at any moment.
//!
//! # The nouns
//!
//! * A [`session`] is one connected life of the daemon, from its takeover to the loss of a
//!   connection. [`app`] opens one session after another.
//! * [`leadership`] decides which daemon delivers.
//! * [`dispatch`] is the task that runs the scheduler ([`delivery::scheduler`]).
//! * [`local_senders`] make the attempts on this machine.
//! * The [`ledger`] writes results and the checkpoint.
//! * [`maintenance`] turns the ring, [`backfill`] sends existing rows, and [`verification`] asks
//!   receivers for confirmation.
//!
//! # The flow
//!
//! [`source`] (new committed events, with their subscriptions) → [`dispatch`] → [`local_senders`] →
//! [`ledger`].

pub mod app;
pub mod backfill;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dispatch;
pub mod leadership;
pub mod ledger;
pub mod local_senders;
pub mod logging;
pub mod maintenance;
pub mod reload;
pub mod schema;
pub mod service;
pub mod session;
pub mod settings;
pub mod verification;
