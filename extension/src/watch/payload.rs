//! The `payload` function of a watch, which converts the table's row type to the application's own
//! representation. Reads only. Called as the owner of the extension.

use super::table::Table;
use crate::error::Error;
use crate::rights::Caller;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;

/// Checks the function, and returns its quoted, qualified name.
///
/// # Errors
/// [`Error::BadPayloadFunction`] with the reason, [`Error::PayloadFunctionDenied`] if the caller
/// may not execute it.
pub fn check(function: Oid, table: &Table, caller: Caller) -> Result<String, Error> {
    Spi::connect(|client| {
        let found = client.select(
            include_str!("sql/payload_function.sql"),
            Some(1),
            &[function.into(), table.row_type.into(), caller.id.into()],
        )?;
        if found.is_empty() {
            return Err(bad(function.to_u32().to_string(), "does not exist", table));
        }
        let row = found.first();
        let schema: String = row.get(1)?.unwrap_or_default();
        let name: String = row.get(2)?.unwrap_or_default();
        let function = quote_qualified_identifier(schema, name);
        for (ordinal, wrong) in [
            (3, "is not an ordinary function"),
            (4, "does not take the row type of the table as its only argument"),
            (5, "does not return json or jsonb"),
        ] {
            if row.get(ordinal)? != Some(true) {
                return Err(bad(function, wrong, table));
            }
        }
        if row.get(6)? != Some(true) {
            return Err(Error::PayloadFunctionDenied(function));
        }
        Ok(function)
    })
}

fn bad(function: String, reason: &'static str, table: &Table) -> Error {
    Error::BadPayloadFunction { function, reason, row_type: table.qualified() }
}
