//! webhookd: the dispatcher as a library; `main.rs` is a thin shell over it.
//!
//! Data flows one way: `outbox` (committed events, exactly the new ones) → `router` (event to subscriptions) → `lane`
//! (one subscription's way out) → `sender` (bytes out, outcome back) → `ledger` (outcomes into rows). The modules named
//! pure in their heads know neither tokio nor SQL: clock, randomness and sockets are arguments.

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
