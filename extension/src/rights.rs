//! On whose behalf: the caller, and the owner of the extension for as long as our own tables are written.
//!
//! `webhook_watch` and `webhook_unwatch` are not SECURITY DEFINER, because inside such a function nobody can tell who
//! called it: the session's user is not it (a superuser may be running somebody else's definer function), and the
//! current user is already the definer. So they run as the caller, look, and then step up here, with a search path
//! that nobody else can put objects into. Every other function that writes is SECURITY DEFINER, declared in
//! `sql/functions.sql`.

use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Who calls, and how unqualified names are resolved for him.
pub struct Caller {
    /// The current user: SET ROLE and surrounding SECURITY DEFINER functions count.
    pub id: pg_sys::Oid,
    search_path: CString,
}

impl Caller {
    /// The one who calls now; to be asked before [`as_owner`].
    pub fn present() -> Self {
        // SAFETY: plain reads of backend state inside a transaction; the list is ours and its cells are Oids.
        unsafe {
            let schemas = pg_sys::fetch_search_path(false);
            let mut quoted = Vec::new();
            for n in 0..pg_sys::list_length(schemas) {
                let name = pg_sys::get_namespace_name((*pg_sys::list_nth_cell(schemas, n)).oid_value);
                if !name.is_null() {
                    quoted.push(CStr::from_ptr(pg_sys::quote_identifier(name)).to_bytes().to_vec());
                }
            }
            pg_sys::list_free(schemas);
            // Names cannot hold a NUL, so this keeps all of them.
            let search_path = CString::new(quoted.join(&b", "[..])).unwrap_or_default();
            Self { id: pg_sys::GetUserId(), search_path }
        }
    }

    /// Whether the caller may act as this role: is it, is a member of it, or is a superuser.
    pub fn may_act_as(&self, role: pg_sys::Oid) -> bool {
        // SAFETY: a catalogue look-up by two Oids.
        unsafe { pg_sys::has_privs_of_role(self.id, role) }
    }

    /// Does some work with the names of SQL text resolved as they are for the caller.
    pub fn with_search_path<R>(&self, work: impl FnOnce() -> R) -> R {
        with_search_path(&self.search_path, work)
    }
}

/// Does some work as the owner of the extension, names resolved in `pg_catalog` alone.
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

fn with_search_path<R>(path: &CStr, work: impl FnOnce() -> R) -> R {
    // SAFETY: a nest level that is closed below, or with the abort, like the SET clause of a function.
    let level = unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            path.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        level
    };
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
