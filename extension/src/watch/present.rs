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

impl PresentTrigger {
    /// Reports whether this enabled trigger of a child table is from another watch than the one of
    /// its parent, which has these nouns. Only a watch of its own gives a table a trigger for
    /// TRUNCATE. Without nouns, only that counts.
    pub fn is_of_another_watch(&self, nouns: &[String]) -> bool {
        let has_other_noun =
            self.noun.as_ref().is_some_and(|noun| !nouns.is_empty() && !nouns.contains(noun));
        self.is_enabled && self.noun.is_some() && (self.name == "webhook_truncate" || has_other_noun)
    }
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
