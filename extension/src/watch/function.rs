//! The functions of a watch that take the table's row type: `payload`, which returns the
//! application's own representation, and `owner_function`, which returns the owner of the event.
//! Reads only. Called as the owner of the extension.

use super::table::Table;
use crate::definition::RowFunctionKind;
use crate::error::Error;
use crate::rights::Caller;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;

/// Checks a function, and returns its quoted, qualified name.
///
/// # Errors
/// [`Error::BadRowFunction`] with the reason, [`Error::RowFunctionDenied`] if the caller may not
/// execute it.
pub fn check(kind: RowFunctionKind, function: Oid, table: &Table, caller: Caller) -> Result<String, Error> {
    let bad = |function: String, reason: &'static str| {
        Err(Error::BadRowFunction { kind, function, reason, row_type: table.qualified() })
    };
    let (types, wrong_type) = match kind {
        RowFunctionKind::Payload => {
            (vec![pg_sys::JSONOID, pg_sys::JSONBOID], "does not return json or jsonb")
        }
        RowFunctionKind::Owner => (vec![pg_sys::TEXTOID], "does not return text"),
    };
    Spi::connect(|client| {
        let found = client.select(
            include_str!("sql/row_function.sql"),
            Some(1),
            &[function.into(), table.row_type.into(), caller.id.into(), types.into()],
        )?;
        if found.is_empty() {
            return bad(function.to_u32().to_string(), "does not exist");
        }
        let row = found.first();
        let schema: String = row.get(1)?.unwrap_or_default();
        let name: String = row.get(2)?.unwrap_or_default();
        let function = quote_qualified_identifier(schema, name);
        for (ordinal, wrong) in [
            (3, "is not an ordinary function"),
            (4, "does not take the row type of the table as its only argument"),
            (5, wrong_type),
        ] {
            if row.get(ordinal)? != Some(true) {
                return bad(function, wrong);
            }
        }
        if row.get(6)? != Some(true) {
            return Err(Error::RowFunctionDenied { kind, function });
        }
        Ok(function)
    })
}
