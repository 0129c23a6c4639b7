//! webhookd: the dispatcher as a library. `main.rs` is a thin shell over it.
//!
//! Data flows in one direction: `outbox` (new committed events) → `router` (event to subscriptions)
//! → `lane` (send queues and scheduler) → `sender` (requests and outcomes) → `ledger` (outcomes to
//! rows). Modules that are called pure use neither tokio nor SQL. They get the clock, random
//! numbers and sockets as arguments.

pub mod active;
pub mod admin;
pub mod app;
pub mod backfill;
pub mod cli;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod event;
pub mod lane;
pub mod ledger;
pub mod logging;
pub mod maintenance;
pub mod matching;
pub mod message;
pub mod outbox;
pub mod overdue;
pub mod postgres;
pub mod queue;
pub mod router;
pub mod schema;
pub mod secret_store;
pub mod sender;
pub mod service;
pub mod session;
pub mod subscription;
pub mod trace;
pub mod verification;
