//! The triggers of ours that a table has.

use crate::error::Error;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// One of our triggers.
pub struct PresentTrigger {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub is_enabled: bool,
    /// `None` if `webhook_watch` did not write its argument.
    pub noun: Option<String>,
}

/// Returns the table's own triggers with our function, with any name. Those of a partition belong
/// to its root.
pub fn of(relation: pg_sys::Oid) -> Result<Vec<PresentTrigger>, Error> {
    Spi::connect(|client| {
        let rows = client.select(include_str!("sql/present_triggers.sql"), None, &[relation.into()])?;
        rows.map(|row| {
            Ok(PresentTrigger {
                oid: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
                name: row.get(2)?.unwrap_or_default(),
                is_enabled: row.get(3)?.unwrap_or(false),
                noun: row.get(4)?,
            })
        })
        .collect()
    })
}
