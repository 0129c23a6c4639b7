//! Determines which settings of a session can change the printed text of a type. Reads the system
//! catalog.

use pgrx::pg_sys;

use super::cast::cast_to_json;
use crate::compat;

/// The settings that can change the text. Each variant includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Influence {
    Nothing,
    /// TimeZone, DateStyle, IntervalStyle, bytea_output, extra_float_digits.
    Style,
    /// Also search_path and quote_all_identifiers: the type names objects.
    Names,
    /// A function of the application makes the text, and may read any setting. Its search_path is
    /// not changed: with another one it might not find the objects that it needs.
    Functions,
}

/// Bounds our recursion. Postgres's own stack already bounds the nesting of types.
const DEPTH_MAX: u32 = 100;

impl Influence {
    /// Returns the influence on a type.
    ///
    /// # Safety
    /// The type exists.
    pub unsafe fn on(oid: pg_sys::Oid) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::within(oid, 0) }
    }

    unsafe fn within(oid: pg_sys::Oid, depth: u32) -> Self {
        if depth > DEPTH_MAX {
            return Self::Functions;
        }
        // SAFETY: look-ups of types that exist; the descriptor of a row type is released.
        unsafe {
            let oid = pg_sys::getBaseType(oid);
            let element = pg_sys::get_element_type(oid);
            if element != pg_sys::Oid::INVALID {
                return Self::within(element, depth + 1);
            }
            if pg_sys::type_is_rowtype(oid) {
                // A row type can get further columns without our notice, so its influence is never
                // `Nothing`.
                return Self::on_row(oid, depth).max(Self::Style);
            }
            if pg_sys::type_is_enum(oid) {
                return Self::Nothing;
            }
            // The output function of their type prints the bounds of a range. That includes dates,
            // although a date on its own is printed in ISO 8601.
            let range = if pg_sys::type_is_multirange(oid) { pg_sys::get_multirange_range(oid) } else { oid };
            let bound = pg_sys::get_range_subtype(range);
            if bound != pg_sys::Oid::INVALID {
                return Self::within(bound, depth + 1).max(Self::Style);
            }
            if cast_to_json(oid).is_some() { Self::Functions } else { Self::on_base(oid) }
        }
    }

    unsafe fn on_row(oid: pg_sys::Oid, depth: u32) -> Self {
        if oid == pg_sys::RECORDOID {
            return Self::Functions;
        }
        // SAFETY: a named row type; its descriptor is pinned until it is released.
        unsafe {
            let descriptor = pg_sys::lookup_rowtype_tupdesc(oid, -1);
            let columns = (0..(*descriptor).natts as usize).map(|at| *compat::attribute(descriptor, at));
            let influence = columns
                .filter(|attribute| !attribute.attisdropped)
                .map(|attribute| Self::within(attribute.atttypid, depth + 1))
                .max();
            if (*descriptor).tdrefcount >= 0 {
                pg_sys::DecrTupleDescRefCount(descriptor);
            }
            influence.unwrap_or(Self::Nothing)
        }
    }

    /// Returns `Style` for types that are not known to be free of influence. Nothing helps money:
    /// the stored number means another amount under another lc_monetary.
    fn on_base(oid: pg_sys::Oid) -> Self {
        match oid {
            pg_sys::BOOLOID
            | pg_sys::CHAROID
            | pg_sys::NAMEOID
            | pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::OIDOID
            | pg_sys::NUMERICOID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
            | pg_sys::BPCHAROID
            | pg_sys::UUIDOID
            | pg_sys::JSONOID
            | pg_sys::JSONBOID
            | pg_sys::DATEOID
            | pg_sys::TIMEOID
            | pg_sys::TIMETZOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::INETOID
            | pg_sys::CIDROID
            | pg_sys::BITOID
            | pg_sys::VARBITOID => Self::Nothing,
            pg_sys::REGPROCOID
            | pg_sys::REGPROCEDUREOID
            | pg_sys::REGOPEROID
            | pg_sys::REGOPERATOROID
            | pg_sys::REGCLASSOID
            | pg_sys::REGCOLLATIONOID
            | pg_sys::REGTYPEOID
            | pg_sys::REGROLEOID
            | pg_sys::REGNAMESPACEOID
            | pg_sys::REGCONFIGOID
            | pg_sys::REGDICTIONARYOID => Self::Names,
            _ => Self::Style,
        }
    }
}
