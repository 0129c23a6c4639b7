//! Which thing a row is: what of its key must change for it to be another one. Reads the catalogue.

use core::ffi::CStr;

use pgrx::pg_sys;

use super::plan::Column;
use crate::compat;

/// The columns of a key that say which thing a row is, as places in the key: those of the primary
/// key. None if the key lacks one of them, for then it names a group of rows. Of a table without a
/// primary key the key is all that is known.
///
/// What a table is partitioned by is in its primary key because it must be: it places a row and
/// does not identify it. It counts where there is nothing else.
///
/// # Safety
/// The relation is open and locked; the key is of its columns, under these names.
pub unsafe fn of(relation: pg_sys::Relation, key: &[Column], names: &[&[u8]]) -> Box<[usize]> {
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
        // SAFETY: a set of attribute numbers, less that of the first system column.
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

/// The names of the columns that each table above a partition is partitioned by, from the root
/// down.
fn placing(partition: pg_sys::Oid) -> Vec<Vec<Box<[u8]>>> {
    // SAFETY: look-ups in the catalogue; a list of numbers; names end with a NUL, and null stands
    // for a column that is gone.
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
