//! The history of the database that a session reads. After a failover, the new primary continues
//! from the position that it had reached, and uses the transaction ids again that the former primary
//! went on to use.

use crate::postgres::preflight::Identity;

/// A cluster, a database in it, and how often the cluster has changed its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub identity: Identity,
    /// First eight digits of the WAL file name; they rise with each promotion.
    pub timeline: String,
}

impl History {
    #[cfg(test)]
    pub fn sample(timeline: &str) -> Self {
        let identity = Identity { system_identifier: 1, database_oid: 2 };
        Self { identity, timeline: timeline.to_owned() }
    }
}
