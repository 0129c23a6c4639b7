//! The role in whose name code runs: the caller, or the owner of the extension while our own tables
//! are written.
//!
//! Functions of the SQL API that must know their caller are not SECURITY DEFINER. Such a function
//! could not determine its caller. The session's user may be another role (a superuser may be
//! running the definer function of another role), and the current user is already the definer. A
//! condition must also be parsed with its author's rights, by CREATE TRIGGER too: parsing a literal
//! can run the author's code (an array of a domain whose CHECK calls a function). These functions
//! therefore run as the caller. They become the owner here only to read the system catalog and to
//! write our tables, with a search path into which no other role can put objects. Functions that
//! the daemon calls, and functions for admins only, are SECURITY DEFINER and declared in `sql/`.

use crate::catalogue;
use crate::error::Error;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// The role that calls. SET ROLE and surrounding SECURITY DEFINER functions count.
#[derive(Clone, Copy)]
pub struct Caller {
    pub id: pg_sys::Oid,
}

impl Caller {
    /// Returns the present caller. Call this before [`as_owner`].
    pub fn present() -> Self {
        // SAFETY: reads a variable of the backend.
        Self { id: unsafe { pg_sys::GetUserId() } }
    }

    /// Reports whether the caller may act as this role: it is the role, a member of it, or a
    /// superuser.
    pub fn may_act_as(self, role: pg_sys::Oid) -> bool {
        // SAFETY: a look-up in the system catalog by two OIDs.
        unsafe { pg_sys::has_privs_of_role(self.id, role) }
    }
}

/// Reports whether a caller can read every event. The previous schema treats every owner so.
/// Call this as the extension's owner.
///
/// # Errors
/// The query fails.
pub fn sees_all(caller: Caller) -> Result<bool, Error> {
    if !catalogue::is_present()? {
        return Ok(true);
    }
    let answer = Spi::get_one_with_args::<bool>("select webhook.may_see_all($1)", &[caller.id.into()])?;
    Ok(answer == Some(true))
}

/// Runs `work` as the owner of the extension, with names resolved in `pg_catalog` alone. `work`
/// must not parse a caller's SQL, or values whose types are not built in.
///
/// If `work` raises a Postgres error, the abort of the (sub)transaction restores the user and the
/// search path. An `Err` is an ordinary return.
pub fn as_owner<R>(work: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: as SECURITY DEFINER does; the former values are restored below or by the abort.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let flags = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        pg_sys::SetUserIdAndSecContext(owner(), flags);
    }
    let result = with_search_path(c"pg_catalog, pg_temp", work);
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) };
    result
}

/// Runs `work` as a role, and undoes everything that the role's code may change. Settings return to
/// their former values. Operations that Postgres forbids in a security-restricted operation are
/// forbidden, as for the functions of an index.
///
/// Call this in a subtransaction: after an error its abort restores user and settings.
pub fn as_role<R>(role: pg_sys::Oid, settings: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: as REINDEX does for the functions of a table's owner.
    let level = unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
        pg_sys::NewGUCNestLevel()
    };
    for (name, value) in settings {
        set_locally(name, value);
    }
    let result = work();
    // SAFETY: closes the level opened above; "not a commit" reverts every setting made within it,
    // by any means.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

/// Sets a setting until the present nest level ends.
pub fn set_locally(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Sets a setting for the session, as SET does.
pub fn set_for_session(name: &CStr, value: &CStr) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SET);
}

fn set(name: &CStr, value: &CStr, action: pg_sys::GucAction::Type) {
    // SAFETY: both are NUL-terminated; a bad value raises.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// Runs `work`, which waits for each table lock no longer than 5 s, unless the caller has set a
/// `lock_timeout`. Writers queue behind such a wait.
pub fn with_bounded_locks<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::LockTimeout } > 0 { work() } else { with_setting(c"lock_timeout", c"5s", work) }
}

/// Runs `work` with this search path.
pub fn with_search_path<R>(path: &CStr, work: impl FnOnce() -> R) -> R {
    with_setting(c"search_path", path, work)
}

fn with_setting<R>(name: &CStr, value: &CStr, work: impl FnOnce() -> R) -> R {
    // SAFETY: a nest level that is closed below or by the abort, like the SET clause of a function.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    set_locally(name, value);
    let result = work();
    // SAFETY: closes the level opened above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}

/// Returns the owner of schema `webhook`: the superuser who created the extension.
fn owner() -> pg_sys::Oid {
    // SAFETY: a syscache look-up; the owner is copied before the tuple is released. Raises an error
    // if there is no such schema, which is impossible while our functions exist.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"webhook".as_ptr(), false);
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            pg_sys::Datum::from(namespace),
        );
        if tuple.is_null() {
            pgrx::error!("schema webhook does not exist");
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>()).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}
