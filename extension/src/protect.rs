//! Lets errors of Postgres pass through Rust code unchanged.
//!
//! pgrx's guard turns an ERROR of Postgres into a Rust panic by copying a few of its fields, and
//! raises a new error from them at the outer edge. A SQLSTATE of the application's own, the
//! constraint's name, and the CONTEXT are lost. This pair of functions replaces the guard where
//! code of others runs inside ours (a payload function, an output function, a hand-made index), and
//! where speed matters (one setjmp around a batch, instead of one around each call):
//!
//! * [`protect`] runs C code. An ERROR stays where Postgres has put it, and a panic without content
//!   unwinds our frames.
//! * [`entry`] is the outer edge of a function that Postgres calls. It lets Postgres throw the same
//!   error again.
//!
//! Together they are PG_TRY and PG_RE_THROW with Rust's destructors run in between. Those
//! destructors must not call anything that can raise an error.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;

/// The content of a panic while Postgres holds the ERROR.
struct Thrown;

thread_local! {
    /// True if the next edge outwards is an `entry`, and not an edge of pgrx.
    static WITHIN_ENTRY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` at the outer edge of a function that Postgres calls. Turns its errors and panics
/// into Postgres errors again.
///
/// # Errors
/// Raises (by longjmp) the errors of `work`.
///
/// # Safety
/// No frame between this one and Postgres has a destructor that is still to run.
pub unsafe fn entry<T>(work: impl FnOnce() -> T) -> T {
    let before = WITHIN_ENTRY.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    WITHIN_ENTRY.set(before);
    match outcome {
        Ok(value) => value,
        Err(payload) if payload.is::<Thrown>() => {
            drop(payload);
            // SAFETY: the error lies on Postgres's stack, and it goes to the handler around our
            // caller.
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
        /// Throws the error on top of Postgres's stack again (utils/elog.h).
        pub fn pg_re_throw() -> !;
    }
}

/// Runs C code that may throw.
///
/// # Errors
/// Unwinds with the error to the [`entry`] around it.
///
/// # Safety
/// `work` calls C through unguarded declarations, owns nothing that has a destructor, and does not
/// panic.
pub unsafe fn protect<T>(work: impl FnOnce() -> T) -> T {
    if !WITHIN_ENTRY.get() {
        // The caller is a function that pgrx made, which could not handle our panic.
        // SAFETY: the caller's promise.
        return unsafe { pg_sys::ffi::pg_guard_ffi_boundary(work) };
    }
    let mut result = MaybeUninit::uninit();
    // SAFETY: a backend has one thread. Postgres's handler is restored before anything else runs.
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
    // SAFETY: there was no jump, so the closure has run to its end.
    unsafe { result.assume_init() }
}
