//! Errors that pass through us unchanged.
//!
//! pgrx's guard turns an ERROR of Postgres into a Rust panic by copying a few of its fields, and raises a new error from
//! them at the outer edge: a SQLSTATE of the application's own, the constraint's name and the CONTEXT are lost. Where
//! code of others runs inside ours (a payload function, an output function, a hand-made index), and where that matters
//! for speed (one setjmp around a batch, instead of one around each call), this pair is used instead:
//!
//! * [`protect`] runs C code. An ERROR stays where Postgres has put it; a panic without content unwinds our frames.
//! * [`entry`] is the outer edge of a function that Postgres calls. It lets Postgres throw the same error again.
//!
//! It is PG_TRY and PG_RE_THROW with Rust's destructors run in between; those must not call anything that can raise.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;

/// An ERROR is on its way; Postgres holds it.
struct Thrown;

thread_local! {
    /// Whether the next edge outwards is an `entry`, and not one of pgrx's.
    static WITHIN_ENTRY: Cell<bool> = const { Cell::new(false) };
}

/// Outer edge of a function that Postgres calls: errors and panics of `work` become Postgres's again.
///
/// # Errors
/// Raises (by longjmp) what `work` raised.
///
/// # Safety
/// Nothing in the frames between this one and Postgres has a destructor that is still to run.
pub unsafe fn entry<T>(work: impl FnOnce() -> T) -> T {
    let before = WITHIN_ENTRY.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    WITHIN_ENTRY.set(before);
    match outcome {
        Ok(value) => value,
        Err(payload) if payload.is::<Thrown>() => {
            drop(payload);
            // SAFETY: the error lies on Postgres's stack, and the handler it goes to is the one around our caller.
            unsafe {
                unguarded::pg_re_throw();
            }
        }
        // SAFETY: the caller's promise; the closure owns the payload and has no other state.
        Err(payload) => unsafe {
            pg_sys::submodules::panic::pgrx_extern_c_guard(move || resume_unwind(payload))
        },
    }
}

mod unguarded {
    unsafe extern "C-unwind" {
        /// Throws the error on top of Postgres's stack once more (utils/elog.h).
        pub fn pg_re_throw() -> !;
    }
}

/// Runs C code that may throw.
///
/// # Errors
/// Unwinds with the error, to the [`entry`] around it.
///
/// # Safety
/// `work` calls C through unguarded declarations, owns nothing that has a destructor, and does not panic.
pub unsafe fn protect<T>(work: impl FnOnce() -> T) -> T {
    if !WITHIN_ENTRY.get() {
        // Called from a function of pgrx's making, which would not know what to do with ours.
        // SAFETY: the caller's promise.
        return unsafe { pg_sys::ffi::pg_guard_ffi_boundary(work) };
    }
    let mut result = MaybeUninit::uninit();
    // SAFETY: a backend has one thread. The handler is Postgres's again before anything else runs.
    let jumped = unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let handler = pg_sys::PG_exception_stack;
        let callbacks = pg_sys::error_context_stack;
        WITHIN_ENTRY.set(false);
        let jumped = call_with_sigsetjmp(false, |buffer: &SigJmpBufFields| {
            pg_sys::PG_exception_stack = core::ptr::from_ref(buffer).cast_mut().cast();
            result.write(work());
            0
        });
        WITHIN_ENTRY.set(true);
        pg_sys::PG_exception_stack = handler;
        pg_sys::error_context_stack = callbacks;
        if jumped != 0 {
            pg_sys::CurrentMemoryContext = context;
        }
        jumped != 0
    };
    if jumped {
        resume_unwind(Box::new(Thrown));
    }
    // SAFETY: no jump: the closure has run to its end.
    unsafe { result.assume_init() }
}
