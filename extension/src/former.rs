//! The functions that only the schema of 0.2 has. Between the package and
//! `alter extension pg_webhook update`, a daemon of 0.2 that calls them gets an error, and polls at
//! an interval.

use pgrx::prelude::*;

use crate::error::{Error, answer};

#[pg_extern(sql = false)]
fn gate_sleep(_timeout_ms: i32) -> &'static str {
    answer(|| Err(Error::Outdated))
}

#[pg_extern(sql = false)]
fn gate_take() {
    answer(|| Err(Error::Outdated))
}

#[pg_extern(sql = false)]
fn gate_release() {
    answer(|| Err(Error::Outdated))
}
