//! Which version of the extension this database has. A package brings a new library at once, and ALTER EXTENSION … UPDATE comes
//! later: until then capture and delivery go on as they were. Reads `pg_extension`.

use crate::error::Error;
use pgrx::prelude::*;

/// For what writes into columns that the former version had not, or had otherwise.
///
/// # Errors
/// [`Error::Outdated`] if the database has another minor version than this library.
pub fn demand_present() -> Result<(), Error> {
    let installed: Option<String> =
        Spi::get_one("select extversion from pg_catalog.pg_extension where extname = 'pg_webhook'")?;
    let is_present = installed.is_some_and(|version| minor(&version) == minor(env!("CARGO_PKG_VERSION")));
    if is_present { Ok(()) } else { Err(Error::Outdated) }
}

/// `major.minor`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _patch)| minor)
}
