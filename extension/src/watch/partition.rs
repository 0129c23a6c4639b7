//! ATTACH and DETACH PARTITION of a watched table, in an event trigger. Postgres gives a new
//! partition the triggers of its root, and fails if the partition has triggers of these names. It
//! removes them from a partition that is detached.
//!
//! Before an ATTACH, a table's own watch ends if the root is watched, because the root then
//! captures it. After a DETACH, the table is recorded, and a warning says that it is no longer
//! captured.

use super::table::Table;
use super::{check_owner, forget, present, retired, triggers};
use crate::error::Error;
use crate::protect::entry;
use crate::rights::{self, Caller};
use core::ffi::CStr;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

#[unsafe(no_mangle)]
#[doc(hidden)]
pub extern "C" fn pg_finfo_webhook_follow_partitions() -> &'static pg_sys::Pg_finfo_record {
    const VERSION_1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &VERSION_1
}

/// `webhook.follow_partitions()`: event trigger on `ddl_command_start` and `ddl_command_end` of
/// ALTER TABLE.
///
/// # Errors
/// Raises an error if it is called otherwise, and the errors of Postgres.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn webhook_follow_partitions(info: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: Postgres calls with a valid call structure. `context` is checked before it is read as
    // an event trigger's.
    unsafe {
        entry(|| {
            let context = (*info).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
                Error::NotATrigger.raise();
            }
            let data = &*context.cast::<pg_sys::EventTriggerData>();
            if (*data.parsetree).type_ == pg_sys::NodeTag::T_AlterTableStmt {
                let is_start = CStr::from_ptr(data.event) == c"ddl_command_start";
                follow(&*data.parsetree.cast::<pg_sys::AlterTableStmt>(), is_start);
            }
        });
    }
    pg_sys::Datum::from(0usize)
}

/// # Safety
/// A parse tree of Postgres's own.
unsafe fn follow(statement: &pg_sys::AlterTableStmt, is_start: bool) {
    // SAFETY: the caller's promise: the list contains AlterTableCmd, and these two kinds contain a
    // PartitionCmd.
    unsafe {
        for at in 0..pg_sys::list_length(statement.cmds) {
            let command = pg_sys::list_nth(statement.cmds, at).cast::<pg_sys::AlterTableCmd>();
            let work: fn(&Table, &Table, Caller) -> Result<(), Error> = match (*command).subtype {
                pg_sys::AlterTableType::AT_AttachPartition if is_start => attach,
                pg_sys::AlterTableType::AT_DetachPartition if !is_start => detach,
                _ => continue,
            };
            let member = (*(*command).def.cast::<pg_sys::PartitionCmd>()).name;
            let (Some(root), Some(member)) = (find(statement.relation), find(member)) else { continue };
            let caller = Caller::present();
            rights::as_owner(|| {
                let (root, member) = (Table::find(root)?, Table::find(member)?);
                if triggers::has_any(root.oid)? { work(&root, &member, caller) } else { Ok(()) }
            })
            .unwrap_or_else(|error| error.raise());
        }
    }
}

/// Returns `None` if there is no such table. Postgres then reports it.
unsafe fn find(name: *mut pg_sys::RangeVar) -> Option<Oid> {
    let flags = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: a name of the parse tree, looked up as the statement will do it, without a lock.
    let found = unsafe {
        let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        pg_sys::RangeVarGetRelidExtended(name, no_lock, flags, None, core::ptr::null_mut())
    };
    (found != pg_sys::InvalidOid).then_some(found)
}

fn attach(root: &Table, member: &Table, caller: Caller) -> Result<(), Error> {
    // Postgres rejects a caller who owns neither.
    let may = check_owner(root, caller).and_then(|()| check_owner(member, caller));
    if may.is_err() || !member.is_watched()? {
        return Ok(());
    }
    // ATTACH acquires this lock too. A session that waits for it here would wait there.
    super::lock_relation(member.oid, pg_sys::AccessExclusiveLock);
    if member.is_partitioned() {
        super::lock_members(member.oid, pg_sys::AccessExclusiveLock);
    }
    for trigger in present::of(member.oid)? {
        retired::retire(member, &trigger)?;
    }
    forget(member.oid)?;
    pgrx::notice!(
        "the watch of {} has ended: it is now captured through {}",
        member.qualified(),
        root.qualified()
    );
    Ok(())
}

fn detach(root: &Table, member: &Table, _caller: Caller) -> Result<(), Error> {
    Spi::run_with_args(
        "insert into webhook.detached_partition (relation, root) values ($1, $2)
         on conflict (relation) do update set root = excluded.root, detached_at = now()",
        &[member.oid.into(), root.oid.into()],
    )?;
    crate::error::warn(
        format!("{} is no longer captured: it was detached from {}", member.qualified(), root.qualified()),
        "To watch the table, run the statement that webhook_check() prints. To stop this report, call webhook_unwatch() for the table."
            .to_owned(),
    );
    Ok(())
}
