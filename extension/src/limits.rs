//! The limits that an operator sets for owners (`webhook.owner_limit`). Reads them and counts what
//! an owner has, on behalf of a caller. Admins may exceed them.
//!
//! Call these functions after the change: the error undoes it.

use crate::catalogue;
use crate::error::Error;
use crate::gate;
use crate::rights::Caller;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CString;

/// The class of the locks by which sessions of one owner count one after the other.
const OWNER_CLASS: u16 = 8;

/// The options whose limits apply only to calls that set them. So an option that an admin has set
/// beyond its limit prevents no other change.
pub const SET_BY_CALL: [&str; 3] = ["max_in_flight", "tls", "secret"];

/// Checks the options of a subscription. `given` names those of [`SET_BY_CALL`] that the call sets.
///
/// # Errors
/// [`Error::LimitExceeded`].
pub fn check_options(caller: Caller, id: i64, given: &[&str]) -> Result<(), Error> {
    // The previous schema has no limits.
    if !catalogue::is_present()? {
        return Ok(());
    }
    let given: Vec<String> = given.iter().map(|&option| option.to_owned()).collect();
    Spi::connect(|client| {
        let statement = include_str!("sql/exceeded_limit.sql");
        let found = client.select(statement, Some(1), &[id.into(), caller.id.into(), given.into()])?;
        if found.is_empty() {
            return Ok(());
        }
        let (option, reason) = found.first().get_two::<String, String>()?;
        let option = option.ok_or(Error::Missing("option"))?;
        Err(Error::LimitExceeded { option, reason: reason.unwrap_or_default() })
    })
}

/// Checks how many subscriptions the owner of a new subscription has.
///
/// # Errors
/// [`Error::LimitExceeded`].
pub fn check_subscriptions(caller: Caller, id: i64) -> Result<(), Error> {
    check_count(caller, id, "subscriptions", include_str!("sql/count_subscriptions.sql"))
}

/// Checks how many deliveries of the owner are in the queue.
///
/// # Errors
/// [`Error::LimitExceeded`].
pub fn check_queued(caller: Caller, id: i64) -> Result<(), Error> {
    check_count(caller, id, "queued", include_str!("sql/count_queued.sql"))
}

/// Rejects a count of what the owner of subscription `id` has above its limit. `statement` counts
/// up to one more than the limit, its second argument.
fn check_count(caller: Caller, id: i64, name: &str, statement: &str) -> Result<(), Error> {
    if !catalogue::is_present()? {
        return Ok(());
    }
    let Some((owner, key, limit)) = limit_of(caller, id, name)? else { return Ok(()) };
    lock_owner(key);
    let count = with_latest_snapshot(|| count(statement, id, limit))?;
    if count <= i64::from(limit) {
        return Ok(());
    }
    let reason = match name {
        "subscriptions" => format!("owner \"{owner}\" can have at most {limit}"),
        _ => format!("owner \"{owner}\" can have at most {limit} deliveries in the queue"),
    };
    Err(Error::LimitExceeded { option: name.to_owned(), reason })
}

/// Returns the owner of a subscription, the key of its lock, and its limit of this name. Returns
/// `None` if there is no limit, or the caller is an admin.
fn limit_of(caller: Caller, id: i64, name: &str) -> Result<Option<(String, i32, i32)>, Error> {
    Spi::connect(|client| {
        let found = client.select(
            include_str!("sql/owner_limit.sql"),
            Some(1),
            &[id.into(), caller.id.into(), name.into()],
        )?;
        if found.is_empty() {
            return Ok(None);
        }
        let (owner, key, limit) = found.first().get_three::<String, i32, i32>()?;
        Ok(owner.zip(key).zip(limit).map(|((owner, key), limit)| (owner, key, limit)))
    })
}

/// Waits until no other transaction counts for this owner, and keeps others waiting until this
/// transaction ends. Owners whose keys are equal wait for one another.
fn lock_owner(key: i32) {
    let tag = gate::tag_in(OWNER_CLASS, key.cast_unsigned());
    // SAFETY: the tag outlives the call. The end of the transaction releases the lock.
    unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false) };
}

/// Runs `work` with a snapshot of this moment. At a higher isolation level, the snapshot of the
/// transaction does not see what others have committed before they released the owner's lock.
fn with_latest_snapshot<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: popped below, or by the abort of the (sub)transaction.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let result = work();
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    result
}

/// Counts with the active snapshot. pgrx would take the snapshot of the transaction.
fn count(statement: &str, id: i64, limit: i32) -> Result<i64, Error> {
    let statement = CString::new(statement).map_err(|_| Error::Missing("count"))?;
    Spi::connect(|_| {
        let mut types = [pg_sys::INT8OID, pg_sys::INT4OID];
        let mut values = [pg_sys::Datum::from(id), pg_sys::Datum::from(limit)];
        let (arguments, types) = (values.as_mut_ptr(), types.as_mut_ptr());
        // SAFETY: connected to SPI; two types and two values, none of them null. A read-only
        // statement uses the active snapshot.
        let status = unsafe {
            pg_sys::SPI_execute_with_args(statement.as_ptr(), 2, types, arguments, core::ptr::null(), true, 1)
        };
        // SAFETY: the statement has returned one row with one column of type bigint.
        unsafe {
            if status != pg_sys::SPI_OK_SELECT as i32 || pg_sys::SPI_processed != 1 {
                return Err(Error::Missing("count"));
            }
            let (table, mut is_null) = (pg_sys::SPI_tuptable, false);
            let value = pg_sys::SPI_getbinval(*(*table).vals, (*table).tupdesc, 1, &raw mut is_null);
            if is_null { Err(Error::Missing("count")) } else { Ok(value.value() as i64) }
        }
    })
}
