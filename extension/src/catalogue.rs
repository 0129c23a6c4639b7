//! Checks which version of the extension this database has. A package replaces the library at once,
//! and ALTER EXTENSION … UPDATE follows later. Until then, capture and delivery continue as before.
//! Reads `pg_extension`.

use crate::error::Error;
use pgrx::prelude::*;

/// Checks the version before a write to columns that the former version lacked or had in another
/// form.
///
/// # Errors
/// [`Error::Outdated`] if the database has another minor version than this library.
pub fn demand_present() -> Result<(), Error> {
    if is_present()? { Ok(()) } else { Err(Error::Outdated) }
}

/// Reports whether the database has the minor version of this library.
///
/// # Errors
/// The query fails.
pub fn is_present() -> Result<bool, Error> {
    let installed: Option<String> =
        Spi::get_one("select extversion from pg_catalog.pg_extension where extname = 'pg_webhook'")?;
    Ok(installed.is_some_and(|version| minor(&version) == minor(env!("CARGO_PKG_VERSION"))))
}

/// Returns a statement for the schema of this database. In the previous one, every event is in the
/// scope of every subscription.
///
/// # Errors
/// The query fails.
pub fn in_schema(statement: &str) -> Result<String, Error> {
    Ok(match is_present()? {
        true => statement.to_owned(),
        false => statement.replace("webhook.scope_mismatch(e, s)", "null::text"),
    })
}

/// Returns `major.minor`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _patch)| minor)
}
