//! The rows that a subscription may get: all, or those of its owner. A backfill's events are only
//! for one subscription, so the daemon does not compare their owner. The backfill therefore
//! implements the rule of `webhook.scope_mismatch` itself. Reads only.

use crate::error::Error;
use crate::watch::table::Table;
use pgrx::prelude::*;

/// The rows of a backfill.
pub enum RowsOf {
    Everybody,
    /// The owner, in the database's encoding.
    Owner(Vec<u8>),
}

impl RowsOf {
    /// Returns the rows that a subscription may get from a watched table.
    ///
    /// # Errors
    /// [`Error::BadOption`] if the subscription may get no row of the table.
    pub fn find(subscription_id: i64, table: &Table) -> Result<Self, Error> {
        let row = Spi::connect(|client| {
            let found = client.select(
                include_str!("sql/backfill_scope.sql"),
                Some(1),
                &[subscription_id.into(), table.oid.into()],
            )?;
            if found.is_empty() {
                return Ok(None);
            }
            let row = found.first();
            let has_owners = row.get::<bool>(3)? == Some(true);
            Ok::<_, Error>(Some((
                row.get::<bool>(1)?,
                row.get::<Vec<u8>>(2)?,
                has_owners,
                row.get::<String>(4)?,
            )))
        })?;
        let Some((Some(true), Some(owner), has_owners, internal_type)) = row else {
            return Ok(Self::Everybody);
        };
        let refused = |reason: String, hint: &'static str| {
            Err(Error::BadOption { option: "subscription_id", reason, hint })
        };
        if !has_owners {
            return refused(
                format!(
                    "subscription {subscription_id} has scope own, and the rows of {} have no owner",
                    table.qualified()
                ),
                "Watch the table with owner_column or owner_function, or choose a subscription with scope all.",
            );
        }
        if let Some(internal) = internal_type {
            return refused(
                format!(
                    "subscription {subscription_id} has scope own, and event type {internal} is internal"
                ),
                "Choose a subscription with scope all.",
            );
        }
        Ok(Self::Owner(owner))
    }

    /// Reports whether an event with this owner is among them.
    pub fn include(&self, owner: Option<&[u8]>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Owner(own) => owner == Some(own.as_slice()),
        }
    }
}
