//! Which history of the database a session reads: after a failover the new primary goes on from where it had come to, and hands
//! out again the transaction ids and numbers that the former one had gone on to use.

use crate::{app::Error, postgres::preflight::Identity};

/// A cluster, a database in it, and how often the cluster has changed its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub identity: Identity,
    /// First eight digits of the WAL file name; they rise with each promotion.
    pub timeline: String,
}

impl History {
    /// # Errors
    /// This process has delivered from a later timeline of the same cluster: here is a former primary that has come back, with
    /// events that were committed for nobody but itself.
    pub fn follows(&self, newest: Option<&Self>) -> Result<(), Error> {
        match newest {
            Some(newest) if newest.identity == self.identity && self.timeline < newest.timeline => {
                Err(Error::FormerPrimary { timeline: self.timeline.clone(), newest: newest.timeline.clone() })
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub fn sample(timeline: &str) -> Self {
        let identity = Identity { system_identifier: 1, database_oid: 2 };
        Self { identity, timeline: timeline.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_primary_is_refused_and_nobody_else() {
        let second = History::sample("00000002");
        assert!(History::sample("00000001").follows(Some(&second)).is_err());
        assert!(second.follows(Some(&second)).is_ok());
        assert!(History::sample("0000000A").follows(Some(&second)).is_ok(), "promoted once more");
        assert!(second.follows(None).is_ok());
        let other = Identity { database_oid: 3, ..second.identity };
        let elsewhere = History { identity: other, ..History::sample("00000001") };
        assert!(elsewhere.follows(Some(&second)).is_ok());
    }
}
