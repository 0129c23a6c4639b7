//! Runs work whose error is an answer and does not end the statement. It runs in a subtransaction,
//! like a block with EXCEPTION in PL/pgSQL.
//!
//! Only errors that the caller names are caught. An error that concerns the server and not the work
//! (out of memory, a deadlock, a cancelled query) must propagate. Otherwise a passing problem would
//! be taken for the answer of the work.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// A caught error.
#[derive(Debug)]
pub struct Caught {
    pub sqlstate: PgSqlErrorCode,
    pub message: String,
    pub hint: Option<String>,
}

/// The end of work that has succeeded. Failed work is always undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Keep,
    Undo,
}

/// Runs `work` in a subtransaction. Undoes and returns an error that `catches` names.
///
/// # Errors
/// Returns the caught error. Raises an error in a parallel plan, and raises errors that are not
/// caught.
pub fn attempt<R>(
    end: End,
    catches: fn(PgSqlErrorCode) -> bool,
    work: impl FnOnce() -> R,
) -> Result<R, Caught> {
    // SAFETY: the context and the resource owner are restored as PL/pgSQL does around its exception
    // blocks.
    let (context, owner) = unsafe {
        let kept = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(kept.0);
        kept
    };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
    // SAFETY: ends the subtransaction begun above, before anything else can be raised. An error
    // that propagated from within would end only the subtransaction, and leave the transaction
    // around it in a state that the client does not know.
    unsafe {
        if result.is_ok() && end == End::Keep {
            pg_sys::ReleaseCurrentSubTransaction();
        } else {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result.map_err(|error| match *error {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report)
            if catches(report.sql_error_code()) =>
        {
            Caught {
                sqlstate: report.sql_error_code(),
                message: report.message().to_owned(),
                hint: report.hint().map(str::to_owned),
            }
        }
        other => other.rethrow(),
    })
}

/// Returns the first two characters of an SQLSTATE.
pub fn class(sqlstate: PgSqlErrorCode) -> [u8; 2] {
    // Five characters of six bits each, counted from '0', the first in the lowest bits
    // (utils/elog.h).
    let code = sqlstate as i32;
    [code, code >> 6].map(|bits| b'0' + (bits & 0x3f) as u8)
}

/// Reports whether the work or its input is at fault, and not the server. The same work then fails
/// again in the same way.
pub fn is_lasting(sqlstate: PgSqlErrorCode) -> bool {
    // Connection, transaction state, rollback and deadlock, resources, operator, system,
    // configuration, internal.
    const PASSING: [&[u8; 2]; 8] = [b"08", b"25", b"40", b"53", b"57", b"58", b"F0", b"XX"];
    !PASSING.contains(&&class(sqlstate)) && sqlstate != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
}
