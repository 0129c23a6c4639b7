//! On whose behalf: the caller, and the owner of the extension for as long as our own tables are written.
//!
//! The functions of the SQL API that ask whose a thing is are not SECURITY DEFINER. Inside such a function nobody can
//! tell who called it: the session's user is not it (a superuser may be running somebody else's definer function), and
//! the current user is already the definer. And a condition must be read with its author's rights, by CREATE TRIGGER too:
//! reading a literal can run his code (an array of a domain whose CHECK calls a function). So they run as the caller and
//! step up here only to look at catalogues and to write our tables, with a search path that nobody else can put objects
//! into. What the daemon calls, and what only admins may, is SECURITY DEFINER, declared in `sql/`.

use pgrx::pg_sys;
use std::ffi::CStr;

/// Who calls: SET ROLE and surrounding SECURITY DEFINER functions count.
#[derive(Clone, Copy)]
pub struct Caller {
    pub id: pg_sys::Oid,
}

impl Caller {
    /// The one who calls now; to be asked before [`as_owner`].
    pub fn present() -> Self {
        // SAFETY: reads a variable of the backend.
        Self { id: unsafe { pg_sys::GetUserId() } }
    }

    /// Whether the caller may act as this role: is it, is a member of it, or is a superuser.
    pub fn may_act_as(self, role: pg_sys::Oid) -> bool {
        // SAFETY: a catalogue look-up by two Oids.
        unsafe { pg_sys::has_privs_of_role(self.id, role) }
    }
}

/// Does some work as the owner of the extension, names resolved in `pg_catalog` alone. It must not read SQL or values
/// whose types are not built in.
///
/// If the work raises a Postgres error, the abort of the (sub)transaction restores user and path; an `Err` is an
/// ordinary return.
pub fn as_owner<R>(work: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: what SECURITY DEFINER does; the former values come back below, or with the abort.
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

/// Does some work as a role, with nothing left of what its code may change: settings go back to what they were, and
/// what Postgres forbids in a security-restricted operation is forbidden (as for the functions of an index).
///
/// Call it in a subtransaction: after an error its abort restores user and settings.
pub fn as_role<R>(role: pg_sys::Oid, settings: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: as REINDEX does it for the functions of a table's owner.
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
    // SAFETY: closes the level opened above; "not a commit" takes back what was set within, by whatever means.
    unsafe {
        pg_sys::AtEOXact_GUC(false, level);
        pg_sys::SetUserIdAndSecContext(user, context);
    }
    result
}

/// Sets a setting until the present nest level ends.
pub fn set_locally(name: &CStr, value: &CStr) {
    // SAFETY: both are NUL-terminated; a bad value raises.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// Does work that waits for table locks no longer than 5 s each, unless the caller has set a
/// `lock_timeout`. Writers queue behind such a wait.
pub fn with_bounded_locks<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::LockTimeout } > 0 { work() } else { with_setting(c"lock_timeout", c"5s", work) }
}

fn with_search_path<R>(path: &CStr, work: impl FnOnce() -> R) -> R {
    with_setting(c"search_path", path, work)
}

fn with_setting<R>(name: &CStr, value: &CStr, work: impl FnOnce() -> R) -> R {
    // SAFETY: a nest level that is closed below, or with the abort, like the SET clause of a function.
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    set_locally(name, value);
    let result = work();
    // SAFETY: closes the level opened above.
    unsafe { pg_sys::AtEOXact_GUC(true, level) };
    result
}

/// The owner of schema `webhook`: the superuser who created the extension.
fn owner() -> pg_sys::Oid {
    // SAFETY: a syscache look-up; the tuple is released before its copy is used. Raises an error if there is no
    // such schema, which cannot be while our functions exist.
    unsafe {
        let namespace = pg_sys::get_namespace_oid(c"webhook".as_ptr(), false);
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            pg_sys::Datum::from(namespace),
        );
        if tuple.is_null() {
            pgrx::error!("schema webhook has gone");
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>()).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        owner
    }
}
