//! The slot of the ring that is written to: a copy of webhook.ring_head, kept until Postgres
//! reports a change of that row.
//!
//! A slot that this backend writes to must stay open until its transaction has ended. Otherwise the
//! daemon would miss the row. So the backend first locks the partition, and then checks here
//! whether it is still the present slot. `LockRelationOid` processes every invalidation that was
//! sent before the lock was granted. A slot is closed only by a session that holds the partition in
//! share mode until the close is committed and announced (`webhook.close_slot`). The lock stays
//! until the end of the transaction, also of a prepared one.
//!
//! The module reads webhook.ring_head like the system catalog, with a snapshot of this moment. The
//! snapshot of the application's transaction may be hours old.

use core::ptr::null_mut;
use std::cell::Cell;

use pgrx::{pg_sys, prelude::*};

use super::tables::{self, RING_SLOTS};

/// Columns of webhook.ring_head that are read here. More may follow.
const PRESENT: &core::ffi::CStr = c"present";
const OPEN: &core::ffi::CStr = c"open";
const COLUMNS_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    present: u8,
    /// One bit for each slot.
    open: u16,
}

thread_local! {
    static HEAD: Cell<Option<Head>> = const { Cell::new(None) };
    /// The OID of webhook.ring_head when `HEAD` was read.
    static RELATION: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::Oid::INVALID) };
    /// Counts invalidations. Results that were read during an invalidation are not kept.
    static CHANGES: Cell<u64> = const { Cell::new(0) };
}

/// Handles a change of a relation (`INVALID` for any). Neither allocates nor fails.
pub fn invalidate(relation: pg_sys::Oid) {
    CHANGES.set(CHANGES.get().wrapping_add(1));
    if relation == pg_sys::Oid::INVALID || relation == RELATION.get() {
        HEAD.set(None);
    }
}

/// Returns the present slot. The result is certain once the partition is locked and [`is_present`]
/// agrees.
///
/// # Errors
/// Raises the errors of reading a table.
pub fn present() -> u8 {
    head().present
}

/// Reports whether a slot from [`present`] is still the present one, as far as this backend knows.
/// Neither allocates nor fails.
pub fn is_present(slot: u8) -> bool {
    HEAD.get().is_some_and(|head| head.present == slot)
}

fn head() -> Head {
    if let Some(head) = HEAD.get() {
        return head;
    }
    loop {
        let changes = CHANGES.get();
        let relation = tables::ring_head();
        let head = read(relation);
        // Something has changed meanwhile, perhaps this.
        if CHANGES.get() == changes {
            RELATION.set(relation);
            HEAD.set(Some(head));
            return head;
        }
    }
}

/// If the row was deleted, the daemon reads the whole ring, and any slot will do.
fn read(relation: pg_sys::Oid) -> Head {
    let mut head = Head { present: 0, open: u16::MAX };
    // SAFETY: the table is open and locked during the scan. The tuple is read with its own
    // descriptor, into arrays of that size, and values are copied before the scan ends.
    unsafe {
        let table = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let descriptor = (*table).rd_att;
        let columns = (*descriptor).natts as usize;
        if columns <= COLUMNS_MAX {
            let scan =
                pg_sys::systable_beginscan(table, pg_sys::Oid::INVALID, false, null_mut(), 0, null_mut());
            let tuple = pg_sys::systable_getnext(scan);
            if !tuple.is_null() {
                let mut datums = [pg_sys::Datum::from(0usize); COLUMNS_MAX];
                let mut nulls = [true; COLUMNS_MAX];
                pg_sys::heap_deform_tuple(tuple, descriptor, datums.as_mut_ptr(), nulls.as_mut_ptr());
                let place = |name: &core::ffi::CStr| {
                    (0..columns).find(|at| {
                        let attribute = crate::compat::attribute(descriptor, *at);
                        !nulls[*at]
                            && !attribute.attisdropped
                            && core::ffi::CStr::from_ptr(attribute.attname.data.as_ptr()) == name
                    })
                };
                if let (Some(present), Some(open)) = (place(PRESENT), place(OPEN)) {
                    let bit = |slot: i16| 1u16.checked_shl(u32::from(slot.unsigned_abs())).unwrap_or(0);
                    let bits =
                        |slots: Array<'_, i16>| slots.iter().flatten().map(bit).fold(0, |all, one| all | one);
                    head = Head {
                        present: (datums[present].value() as u8) % RING_SLOTS,
                        open: Array::<i16>::from_datum(datums[open], false).map_or(u16::MAX, bits),
                    };
                }
            }
            pg_sys::systable_endscan(scan);
        }
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
    }
    head
}

/// `webhook.present_slot()`: for rows that SQL inserts. It locks the partition, so that the slot
/// stays open.
#[pg_extern(sql = false)]
fn present_slot() -> i16 {
    loop {
        let slot = present();
        // SAFETY: the lock of an INSERT on one of our partitions, released with the transaction.
        unsafe { pg_sys::LockRelationOid(tables::partition(slot), pg_sys::RowExclusiveLock as i32) };
        if is_present(slot) {
            return i16::from(slot);
        }
    }
}

/// `webhook.slot_is_open()`: reports whether the daemon reads the slot.
#[pg_extern(sql = false)]
fn slot_is_open(slot: i16) -> bool {
    u32::try_from(slot).is_ok_and(|slot| slot < 16 && head().open >> slot & 1 == 1)
}

/// `webhook.ring_changed()`: at the commit of this transaction, every session discards its copy of
/// webhook.ring_head.
#[pg_extern(sql = false)]
fn ring_changed() {
    // SAFETY: a plain call with the OID of an existing relation.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(tables::ring_head()) };
}
