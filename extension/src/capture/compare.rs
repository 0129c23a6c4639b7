//! Compares the values of two versions of a row, bit by bit.

use pgrx::pg_sys;

use super::planned::{Compared, PlannedColumn};
use super::row::CapturedRow;
use crate::compat;

/// Writes which columns of a row differ from those of its former version.
///
/// # Safety
/// The rows are of relations whose plans list these columns, each at its own place.
pub unsafe fn compare(
    columns: &[PlannedColumn],
    row: CapturedRow<'_>,
    former: CapturedRow<'_>,
    changed: &mut Vec<bool>,
) {
    changed.clear();
    // SAFETY: the caller's promise: both plans list the same columns, each at its own place.
    changed.extend(columns.iter().zip(&former.plan.columns).map(|(now, then)| unsafe {
        differ(now.compared, row.values.get(now.compared.at), former.values.get(then.compared.at))
    }));
}

/// Reports whether two values of a column differ, bit by bit.
///
/// # Safety
/// Both are values of the column's type.
pub unsafe fn differ(column: Compared, one: Option<pg_sys::Datum>, other: Option<pg_sys::Datum>) -> bool {
    match (one, other) {
        (None, None) => false,
        (Some(one), Some(other)) => {
            if column.by_value {
                return one.value() != other.value();
            }
            // SAFETY: both are values of the column's type.
            let same = unsafe {
                (column.length == -1 && is_same_toast(one, other))
                    || compat::datum_image_eq(one, other, false, i32::from(column.length))
            };
            !same
        }
        _ => true,
    }
}

/// Reports whether two values are stored in the same place out of line. An update that does not
/// change a large value keeps the pointer, so the comparison need not fetch the value.
unsafe fn is_same_toast(one: pg_sys::Datum, other: pg_sys::Datum) -> bool {
    let (one, other) = (one.cast_mut_ptr::<pg_sys::varlena>(), other.cast_mut_ptr::<pg_sys::varlena>());
    // SAFETY: varlena values; the first bytes of a pointer to an out-of-line value determine its
    // length.
    unsafe {
        if !pgrx::varatt_is_1b_e(one) || !pgrx::varatt_is_1b_e(other) {
            return false;
        }
        let on_disk = pg_sys::vartag_external::VARTAG_ONDISK as u8;
        let tag = |value: *mut pg_sys::varlena| (*value.cast::<pg_sys::varattrib_1b_e>()).va_tag;
        if tag(one) != on_disk || tag(other) != on_disk {
            return false;
        }
        let len = pg_sys::VARHDRSZ_EXTERNAL + size_of::<pg_sys::varatt_external>();
        core::slice::from_raw_parts(one.cast::<u8>(), len)
            == core::slice::from_raw_parts(other.cast::<u8>(), len)
    }
}
