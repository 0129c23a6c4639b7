//! Triggers that a watch no longer needs. DROP TRIGGER locks readers out until the transaction
//! ends. So a trigger is first disabled (SHARE ROW EXCLUSIVE, as for CREATE TRIGGER), and dropped
//! just before the commit if no reader uses the table at that moment. Otherwise it stays, disabled,
//! and `webhook_check()` lists it. If the transaction has already locked the table against readers,
//! because it created or altered it, the trigger is dropped at once.

use super::present::PresentTrigger;
use super::table::Table;
use crate::error::Error;
use crate::subtransaction::{self, End};
use crate::{compat, outbox, rights};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;
use std::cell::RefCell;

thread_local! {
    /// Triggers that this transaction has disabled, with their tables. Their state is checked at
    /// the commit.
    static RETIRED: RefCell<Vec<(pg_sys::Oid, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
}

/// Drops a trigger if that needs no further lock. Otherwise disables it, and marks it for the
/// commit.
pub fn retire(table: &Table, trigger: &PresentTrigger) -> Result<(), Error> {
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

/// Drops the retired triggers of tables that can be locked without waiting. A problem here never
/// fails a commit.
pub fn before_commit() {
    let retired = RETIRED.with_borrow_mut(std::mem::take);
    if retired.is_empty() {
        return;
    }
    // A failure leaves a disabled trigger behind.
    let _ = subtransaction::attempt(
        End::Keep,
        |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
        || outbox::with_snapshot(|| rights::as_owner(|| drop_leftovers(&retired))),
    );
}

/// Handles the end of the transaction. Neither allocates nor fails.
pub fn forget() {
    RETIRED.with(|retired| {
        if let Ok(mut retired) = retired.try_borrow_mut() {
            retired.clear();
        }
    });
}

fn drop_leftovers(retired: &[(pg_sys::Oid, pg_sys::Oid)]) {
    let triggers: Vec<pg_sys::Oid> = retired.iter().map(|(_, trigger)| *trigger).collect();
    // Without triggers that another call uses again, or whose savepoint was rolled back.
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

/// Locks a table and its partitions as DROP TRIGGER does. Returns `false` if it would have to wait.
fn lock_at_once(relation: pg_sys::Oid) -> bool {
    let mode = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: locks by OID, without waiting.
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

/// Returns a table and its partitions, which lose their copies of its triggers.
fn family(relation: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    // SAFETY: look-ups by OID. The list is in this memory context.
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
    // SAFETY: the address of an object that exists, on tables that are locked. The copies on
    // partitions are dropped with it.
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
