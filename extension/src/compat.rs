//! What differs between Postgres 14 and 18, and what pgrx does not declare. Nothing else.
//!
//! Reads and writes nothing of its own. No decision is taken here.

use pgrx::pg_sys;

/// Declares functions of the server that pgrx leaves out, each behind its guard: an ERROR becomes a Rust panic.
macro_rules! guarded {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $ret:ty)?;)*) => {
        mod raw {
            use super::*;
            unsafe extern "C-unwind" {
                $(pub fn $name($($arg: $type),*) $(-> $ret)?;)*
            }
        }
        $($(#[$meta])*
        #[allow(non_snake_case)]
        pub unsafe fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: the closure holds nothing but plain values; the rest is the caller's promise.
            unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| raw::$name($($arg),*)) }
        })*
    };
}

guarded! {
    /// Queues a notification for the end of the transaction (commands/async.h; the same in 14 to 18).
    fn Async_Notify(channel: *const core::ffi::c_char, payload: *const core::ffi::c_char);
}

/// Whether this session or transaction holds the lock in exactly this mode.
pub fn lock_held_by_me(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    #[cfg(any(feature = "pg14", feature = "pg15", feature = "pg16"))]
    // SAFETY: looks the tag up in the backend's own table of locks.
    unsafe {
        pg_sys::LockHeldByMe(tag, mode)
    }
    #[cfg(not(any(feature = "pg14", feature = "pg15", feature = "pg16")))]
    // SAFETY: as above.
    unsafe {
        pg_sys::LockHeldByMe(tag, mode, false)
    }
}
