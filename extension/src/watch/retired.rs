//! Triggers that a watch no longer needs. DROP TRIGGER locks readers out until the transaction
//! ends, so a trigger is disabled first (SHARE ROW EXCLUSIVE, as CREATE TRIGGER takes it) and
//! dropped just before the commit, if no reader has the table at that moment. Otherwise it stays,
//! disabled, and `webhook_check()` lists it. A table that the transaction has locked against
//! readers already, because it has made or altered it, loses the trigger at once.

use super::table::Table;
use super::triggers::Present;
use crate::error::Error;
use crate::subtransaction::{self, End};
use crate::{compat, outbox, rights};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use std::cell::RefCell;

thread_local! {
    /// Triggers that this transaction has disabled, with their tables. What has become of them is
    /// asked at the commit.
    static RETIRED: RefCell<Vec<(pg_sys::Oid, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
}

/// Drops a trigger if that takes no further lock. Otherwise disables it and marks it to be dropped
/// at commit.
pub fn retire(table: &Table, trigger: &Present) -> Result<(), Error> {
    let name = quote_identifier(&trigger.name);
    if family(table.oid).into_iter().all(is_locked_against_readers) {
        return Ok(Spi::run(&format!("drop trigger {name} on {}", table.qualified()))?);
    }
    if trigger.is_enabled {
        Spi::run(&format!("alter table {} disable trigger {name}", table.qualified()))?;
    }
    RETIRED.with_borrow_mut(|retired| retired.push((table.oid, trigger.oid)));
    Ok(())
}

/// Drops the retired triggers of tables that can be locked without waiting. Never fails a commit
/// for a trigger's sake.
pub fn before_commit() {
    let retired = RETIRED.with_borrow_mut(std::mem::take);
    if retired.is_empty() {
        return;
    }
    // What fails leaves a disabled trigger behind.
    let _ = subtransaction::attempt(
        End::Keep,
        |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        || outbox::with_snapshot(|| rights::as_owner(|| drop_leftovers(&retired))),
    );
}

/// The transaction has ended. Neither allocates nor fails.
pub fn forget() {
    RETIRED.with(|retired| {
        if let Ok(mut retired) = retired.try_borrow_mut() {
            retired.clear();
        }
    });
}

fn drop_leftovers(retired: &[(pg_sys::Oid, pg_sys::Oid)]) {
    let triggers: Vec<pg_sys::Oid> = retired.iter().map(|(_, trigger)| *trigger).collect();
    // Not those that another call has made use of again, or that a rolled back savepoint had
    // disabled.
    let leftovers = Spi::connect(|client| {
        let rows = client.select(
            "select l.oid, l.relation from webhook.leftover_trigger l where l.oid = any ($1)",
            None,
            &[triggers.into()],
        )?;
        rows.map(|row| Ok((row.get::<pg_sys::Oid>(1)?, row.get::<pg_sys::Oid>(2)?)))
            .collect::<Result<Vec<_>, pgrx::spi::SpiError>>()
    });
    for (trigger, relation) in leftovers.unwrap_or_default() {
        if let (Some(trigger), Some(relation)) = (trigger, relation)
            && lock_at_once(relation)
        {
            drop_trigger(trigger);
        }
    }
}

/// Locks a table and its partitions as DROP TRIGGER does; `false`: it would have to wait.
fn lock_at_once(relation: pg_sys::Oid) -> bool {
    let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: locks by number, never waiting.
    family(relation).into_iter().all(|member| unsafe { pg_sys::ConditionalLockRelationOid(member, mode) })
}

fn is_locked_against_readers(relation: pg_sys::Oid) -> bool {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: a plain global of this process, set before any SQL runs.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: relation.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    compat::lock_held_by_me(&tag, pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE)
}

/// A table, and its partitions: they lose their copies of its triggers with it.
fn family(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: look-ups by number; the list is of this memory context.
    unsafe {
        if pg_sys::get_rel_relkind(relation) as u8 != pg_sys::RELKIND_PARTITIONED_TABLE {
            return vec![relation];
        }
        let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
        let family = compat::find_all_inheritors(relation, no_lock, core::ptr::null_mut());
        (0..pg_sys::list_length(family)).map(|at| pg_sys::list_nth_oid(family, at)).collect()
    }
}

fn drop_trigger(trigger: pg_sys::Oid) {
    // SAFETY: the address of an object that exists, on tables that are locked; partitions' copies
    // go with it.
    unsafe {
        let address =
            pg_sys::ObjectAddress { classId: pg_sys::TriggerRelationId, objectId: trigger, objectSubId: 0 };
        pg_sys::performDeletion(
            &address,
            pg_sys::DropBehavior::DROP_RESTRICT,
            pg_sys::PERFORM_DELETION_INTERNAL as i32,
        );
    }
}
