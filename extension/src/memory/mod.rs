//! Memory of the extension's Rust code, and the response to a shortage.
//!
//! Rust ends the process when an allocation fails. Postgres answers the end of a backend with crash
//! recovery of the whole cluster. Three lines of defence turn the failure into Postgres's own error
//! 53200 (`out_of_memory`), which undoes only the statement:
//!
//! 1. Memory that grows with the data (texts of events, the outbox buffer, lists of JSON members)
//!    grows by [`Bytes`] or [`reserve`], which raise the error. A step whose memory grows with its
//!    input in many small pieces (a plan, the arguments of an SQL function) first checks that there
//!    is [`room_for`] it.
//! 2. Small allocations, including those for an error, come from a reserve ([`reserve::Reserve`])
//!    when the system has no memory left. The next step that begins ([`settle`]) frees the caches
//!    of the session, and raises the error unless there is memory again.
//! 3. A request that neither can serve ends this session alone (FATAL, 53200), as an administrator
//!    would end it: locks are released and the transaction is undone. No known input leads here;
//!    `extension/tests/memory_runs_out.sh` searches for one.
//!
//! An allocator must not unwind, so it cannot raise the error itself.

mod allocator;
mod bytes;
mod reserve;

use core::ffi::c_int;
use std::collections::TryReserveError;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::PgSqlErrorCode;

use crate::compat::unguarded;
use crate::protect::protect;
pub use bytes::Bytes;

/// Levels of a report (utils/elog.h).
const ERROR: c_int = 21;
const FATAL: c_int = 22;

/// True after the reserve has served a request, until [`settle`] has handled the shortage. A
/// backend has one thread.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

thread_local! {
    static FREE_CACHES: core::cell::Cell<Option<fn()>> = const { core::cell::Cell::new(None) };
}
/// True while the caller can handle a failed allocation.
static IS_FALLIBLE: AtomicBool = AtomicBool::new(false);

/// Runs `attempt`. Its allocations return their failure and are not served from the reserve.
pub fn fallible<T>(attempt: impl FnOnce() -> Result<T, TryReserveError>) -> Result<T, TryReserveError> {
    IS_FALLIBLE.store(true, Ordering::Relaxed);
    let result = attempt();
    IS_FALLIBLE.store(false, Ordering::Relaxed);
    result
}

/// Makes room for `additional` elements.
///
/// # Errors
/// Raises `out_of_memory`.
#[inline]
pub fn reserve<T>(vec: &mut Vec<T>, additional: usize) {
    if vec.capacity() - vec.len() < additional {
        grow(vec, additional);
    }
}

/// Doubles the capacity if there is memory for that, which keeps appending cheap. Otherwise
/// allocates only the capacity needed.
#[cold]
fn grow<T>(vec: &mut Vec<T>, additional: usize) {
    let grown = fallible(|| vec.try_reserve(additional).or_else(|_| vec.try_reserve_exact(additional)));
    if grown.is_err() {
        out_of_memory((vec.len() + additional).saturating_mul(size_of::<T>()));
    }
}

/// Checks, as far as possible, that this many bytes can be allocated in pieces.
///
/// # Errors
/// Raises `out_of_memory`.
pub fn room_for(bytes: usize) {
    if !allocator::has(bytes) {
        out_of_memory(bytes);
    }
}

/// Checks that there is room for what Rust makes of this many bytes of text: copies, lists of short
/// texts, and errors that quote it.
///
/// # Errors
/// Raises `out_of_memory`.
pub fn room_for_input(bytes: usize) {
    const FIXED_BYTES: usize = 64 * 1024;
    const BYTES_PER_BYTE: usize = 8;
    room_for(FIXED_BYTES + bytes.saturating_mul(BYTES_PER_BYTE));
}

/// Sets the function that frees the caches of this backend when memory is short.
pub fn on_shortage(free: fn()) {
    FREE_CACHES.set(Some(free));
}

/// Handles a shortage that earlier steps survived. Call this when a step begins that may fail.
///
/// # Errors
/// Raises `out_of_memory` if the shortage lasts.
#[inline]
pub fn settle() {
    if IS_SHORT.load(Ordering::Relaxed) {
        free_caches();
    }
}

#[cold]
fn free_caches() {
    if let Some(free) = FREE_CACHES.get() {
        free();
    }
    room_for(reserve::RESERVE_BYTES);
    IS_SHORT.store(false, Ordering::Relaxed);
}

/// Raises Postgres's error for a failed allocation. The error needs little memory, and the reserve
/// has that.
pub fn out_of_memory(bytes: usize) -> ! {
    // SAFETY: the closure owns nothing; it calls C, which raises the error.
    unsafe { protect(|| report(ERROR, bytes)) };
    unreachable!("ERROR does not return")
}

/// Reports a failed allocation at a level.
///
/// # Safety
/// An error of Postgres may pass through the caller's frame.
unsafe fn report(level: c_int, bytes: usize) {
    // SAFETY: NUL-terminated texts, and an argument of the type that the format names.
    unsafe {
        if unguarded::errstart(level, core::ptr::null()) {
            unguarded::errcode(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY as i32);
            unguarded::errmsg_internal(c"out of memory".as_ptr());
            unguarded::errdetail_internal(c"pg_webhook failed on a request of %zu bytes.".as_ptr(), bytes);
            unguarded::errfinish(c"memory".as_ptr(), 0, c"report".as_ptr());
        }
    }
}
