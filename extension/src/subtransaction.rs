//! Work whose error is an answer, not the end of the statement: a subtransaction around it, as PL/pgSQL has around a
//! block with EXCEPTION.
//!
//! Only what the caller names is caught. An error that says something about the server and not about the work (out of
//! memory, a deadlock, a cancelled query) must go on, or a passing trouble would be taken for the work's answer.

use std::panic::AssertUnwindSafe;

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

/// An error that was caught.
#[derive(Debug)]
pub struct Caught {
    pub sqlstate: PgSqlErrorCode,
    pub message: String,
    pub hint: Option<String>,
}

/// What becomes of the work when it has succeeded; when it has failed it is always undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Keep,
    Undo,
}

/// Runs `work` in a subtransaction; an error that `catches` names is undone and returned.
///
/// # Errors
/// The caught one. Raises in a parallel plan, and raises on what is not caught.
pub fn attempt<R>(
    end: End,
    catches: fn(PgSqlErrorCode) -> bool,
    work: impl FnOnce() -> R,
) -> Result<R, Caught> {
    // SAFETY: the context and the owner of resources are put back as PL/pgSQL does it around its exception blocks.
    let (context, owner) = unsafe {
        let kept = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(kept.0);
        kept
    };
    let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
    // SAFETY: ends the subtransaction begun above, before anything else can be raised: an error that went on from within
    // would end it alone, and leave the transaction around it in a state that the client does not know of.
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

/// The first two characters of an SQLSTATE.
pub fn class(sqlstate: PgSqlErrorCode) -> [u8; 2] {
    // Five characters of six bits each, counted from '0', the first in the lowest bits (utils/elog.h).
    let code = sqlstate as i32;
    [code, code >> 6].map(|bits| b'0' + (bits & 0x3f) as u8)
}

/// Whether the work or its input is at fault, not the server: the same work fails the same way again.
pub fn is_lasting(sqlstate: PgSqlErrorCode) -> bool {
    // Connection, transaction state, rollback and deadlock, resources, operator, system, configuration, internal.
    const PASSING: [&[u8; 2]; 8] = [b"08", b"25", b"40", b"53", b"57", b"58", b"F0", b"XX"];
    !PASSING.contains(&&class(sqlstate)) && sqlstate != PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
}
