//! The locks that decide which daemon delivers: `leader` and `writer`.
//!
//! A session holds them until it ends. They are in the class of the gate, which the lock functions
//! of SQL cannot take. Otherwise, any role that can connect could keep every daemon from
//! delivering.

use crate::error::{Error, answer, given};
use crate::gate;
use pgrx::{pg_sys, prelude::*};

/// The names and the second keys of the locks. crates/database/src/locks.rs and
/// `webhook.daemon_lock` have the same.
const LOCKS: [(&str, u32); 2] = [("leader", 1), ("writer", 3)];

fn tag(name: Option<&str>) -> Result<pg_sys::LOCKTAG, Error> {
    let name = given(name, "name")?;
    let found = LOCKS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| gate::tag_of(*number)).ok_or_else(|| Error::BadOption {
        option: "name",
        reason: format!("\"{name}\" is not a lock of the daemon"),
        hint: "Use leader or writer.",
    })
}

#[pg_extern(sql = false)]
fn try_daemon_lock(name: Option<&str>) -> bool {
    answer(|| {
        let tag = tag(name)?;
        // SAFETY: the tag outlives the call. A lock of the session has no resource owner; the end
        // of the session releases it.
        let got = unsafe { pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, true, true) };
        Ok(got != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL)
    })
}

#[pg_extern(sql = false)]
fn release_daemon_lock(name: Option<&str>) -> bool {
    answer(|| {
        let tag = tag(name)?;
        // SAFETY: the tag outlives the call. Postgres warns if this session does not hold the lock.
        Ok(unsafe { pg_sys::LockRelease(&tag, pg_sys::ExclusiveLock as i32, true) })
    })
}

extension_sql!(
    r#"
create function webhook.try_daemon_lock(name text) returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'try_daemon_lock_wrapper';
comment on function webhook.try_daemon_lock(text) is
    'Daemon: takes the lock leader or writer of this database until the session ends; false: another session has it';
revoke all on function webhook.try_daemon_lock(text) from public;

create function webhook.release_daemon_lock(name text) returns boolean
    language c volatile parallel unsafe as 'MODULE_PATHNAME', 'release_daemon_lock_wrapper';
comment on function webhook.release_daemon_lock(text) is 'Daemon: releases a lock of webhook.try_daemon_lock()';
revoke all on function webhook.release_daemon_lock(text) from public;
"#,
    name = "daemon_locks",
    requires = ["gate"]
);
