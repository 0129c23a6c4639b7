//! Which settings of a session can change how values of a type are printed. Reads the catalogue.

use pgrx::pg_sys;

use super::value::cast_to_json;
use crate::compat;

/// Each stands for those before it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Influence {
    Nothing,
    /// TimeZone, DateStyle, IntervalStyle, bytea_output, extra_float_digits.
    Style,
    /// search_path and quote_all_identifiers as well: the type names objects.
    Names,
    /// A function of the application makes the text, and may read any setting. Its search_path is
    /// left alone: with another one it might not find what it calls.
    Functions,
}

/// Types nest no deeper than Postgres's own stack allows; this is a bound on ours.
const DEPTH_MAX: u32 = 100;

impl Influence {
    /// # Safety
    /// A type that exists.
    pub unsafe fn on(oid: pg_sys::Oid) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::within(oid, 0) }
    }

    unsafe fn within(oid: pg_sys::Oid, depth: u32) -> Self {
        if depth > DEPTH_MAX {
            return Self::Functions;
        }
        // SAFETY: look-ups of types that exist; the descriptor of a row type is given back.
        unsafe {
            let oid = pg_sys::getBaseType(oid);
            let element = pg_sys::get_element_type(oid);
            if element != pg_sys::Oid::INVALID {
                return Self::within(element, depth + 1);
            }
            if pg_sys::type_is_rowtype(oid) {
                // A row type can be given further columns without our noticing, so it is never
                // without influence.
                return Self::on_row(oid, depth).max(Self::Style);
            }
            if pg_sys::type_is_enum(oid) {
                return Self::Nothing;
            }
            // Bounds are printed by the output function of their type: dates too, which stand alone
            // in ISO 8601.
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
        // SAFETY: a named row type; its descriptor is pinned until it is given back.
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

    /// What is not known to be free of influence is printed as if it were not. Nothing helps money:
    /// the number that is stored means another amount under another lc_monetary.
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
