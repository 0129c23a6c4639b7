//! Determines the identity of a row: the key columns whose change makes it another row for
//! receivers. Reads the system catalog.

use core::ffi::CStr;

use pgrx::pg_sys;

use super::planned::PlannedColumn;
use crate::compat;

/// Returns the key columns that identify a row, as places in the key: the columns of the primary
/// key. Returns none if the key lacks a column of the primary key, because such a key names a group
/// of rows. If the table has no primary key, all columns of the key identify the row.
///
/// Postgres requires the columns that a table is partitioned by in its primary key. They place a
/// row and do not identify it, so they count only if no other column is left.
///
/// # Safety
/// The relation is open and locked. The key consists of its columns, under these names.
pub unsafe fn of(relation: pg_sys::Relation, key: &[PlannedColumn], names: &[&[u8]]) -> Box<[usize]> {
    // SAFETY: an open and locked relation; the set, null if empty, is in the current memory
    // context.
    let (primary_key, wanted, own, is_partition) = unsafe {
        let primary_key = pg_sys::RelationGetIndexAttrBitmap(
            relation,
            pg_sys::IndexAttrBitmapKind::INDEX_ATTR_BITMAP_PRIMARY_KEY,
        );
        let wanted = pg_sys::bms_num_members(primary_key) as usize;
        (primary_key, wanted, (*relation).rd_id, (*(*relation).rd_rel).relispartition)
    };
    let is_in_primary_key = |index: &usize| {
        let number = key[*index].compared.at as i32 + 1;
        // SAFETY: a set of attribute numbers, each less the number of the first system column.
        unsafe { pg_sys::bms_is_member(number - pg_sys::FirstLowInvalidHeapAttributeNumber, primary_key) }
    };
    let mut identity: Vec<usize> =
        (0..key.len()).filter(|index| wanted == 0 || is_in_primary_key(index)).collect();
    if identity.len() < wanted || names.len() != key.len() {
        return Box::default();
    }
    if is_partition {
        for placing in placing(own) {
            let others: Vec<usize> = identity
                .iter()
                .copied()
                .filter(|index| !placing.iter().any(|name| **name == *names[*index]))
                .collect();
            if !others.is_empty() {
                identity = others;
            }
        }
    }
    identity.into()
}

/// Returns the names of the partition columns of each table above a partition, from the root down.
fn placing(partition: pg_sys::Oid) -> Vec<Vec<Box<[u8]>>> {
    // SAFETY: look-ups in the system catalog; a list of OIDs; names end with a NUL, and null stands
    // for a dropped column.
    unsafe {
        let list = compat::get_partition_ancestors(partition);
        let count = if list.is_null() { 0 } else { usize::try_from((*list).length).unwrap_or(0) };
        let tables = (0..count).rev().map(|at| (*(*list).elements.add(at)).oid_value);
        tables
            .map(|table| {
                let names = compat::partition_columns(table).into_iter();
                let names = names.filter(|number| *number > 0);
                let names = names.map(|number| pg_sys::get_attname(table, number, true));
                let names = names.filter(|name| !name.is_null());
                names.map(|name| CStr::from_ptr(name).to_bytes().into()).collect()
            })
            .collect()
    }
}
