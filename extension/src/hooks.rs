//! Where Postgres calls us unasked: ends of transactions.
//!
//! Before a commit, errors are allowed and abort the transaction. In the commit and abort callbacks they are not (an
//! error there takes the cluster down): those set a few cells and do nothing else.

use core::ffi::c_void;

use pgrx::{pg_sys, prelude::*};

use crate::gate;

/// Registers the callbacks; called once per process, from `_PG_init`.
pub fn install() {
    // SAFETY: the callback is a guarded function with the signature Postgres expects, and lives as long as the process
    // (a loaded library is never unloaded).
    unsafe { pg_sys::RegisterXactCallback(Some(on_transaction), core::ptr::null_mut()) };
}

// The guard turns a Rust panic into a Postgres error. In the arms that run after the point of no return nothing can
// panic: they assign to cells.
#[pg_guard]
unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT => gate::before_commit(),
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => gate::forget(),
        _ => {}
    }
}
