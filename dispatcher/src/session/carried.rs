//! What a session leaves to the next: results that it could not write.
//!
//! They are written by the next session of this process, if they are still true by then: not after a failover, where the same
//! numbers may mean other events, and of what a daemon that was active in between has read too, only what cannot be wrong.

use super::History;
use crate::{
    app::Error,
    ledger::{Ledger, entry::Record},
};
use tracing::{info, warn};

/// Which history, and which takeover in it, results belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub history: History,
    pub epoch: i64,
}

/// Results without a row.
#[derive(Debug, Default)]
pub struct Carried {
    records: Vec<Record>,
    from: Option<Origin>,
    /// Another daemon has been active since.
    is_superseded: bool,
}

impl Carried {
    pub fn new(records: Vec<Record>, from: Origin) -> Self {
        Self { records, from: Some(from), is_superseded: false }
    }

    /// This session is the active one now. To be told before anything can fail: a takeover that comes to nothing is not
    /// another daemon's.
    pub fn take_over(&mut self, now: &Origin) {
        let Some(from) = self.from.replace(now.clone()) else { return };
        if from.history != now.history {
            if !self.records.is_empty() {
                warn!(results = self.records.len(), "session.results_dropped; the server has failed over");
            }
            *self = Self::default();
        } else if from.epoch + 1 != now.epoch {
            self.is_superseded = true;
        }
    }

    /// Writes down what an earlier session could not, as far as it is still true. After an error all of it is still there.
    pub async fn settle(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        if self.records.is_empty() {
            return Ok(());
        }
        if self.is_superseded {
            // The queue is as the other one has left it; the attempts were made nevertheless.
            let known = ledger.known(&self.records).await?;
            self.records.retain_mut(|record| record.is_final_or(&known) && record.keep_queue());
        }
        info!(results = self.records.len(), "session.results_carried");
        ledger.write_again(&self.records).await?;
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(epoch: i64) -> Origin {
        Origin { history: History::sample("00000001"), epoch }
    }

    fn carried(epoch: i64) -> Carried {
        Carried::new(vec![Record::Forget { subscription_id: 1 }], origin(epoch))
    }

    #[test]
    fn takeovers_of_ones_own_that_come_to_nothing_change_nothing() {
        let mut carried = carried(4);
        for epoch in 5..9 {
            carried.take_over(&origin(epoch));
        }
        assert!(!carried.is_superseded);
        carried.take_over(&origin(10));
        assert!(carried.is_superseded, "9 was another's");
        carried.take_over(&origin(11));
        assert!(carried.is_superseded, "and remains so");
    }

    #[test]
    fn after_a_failover_nothing_is_left() {
        let promoted = Origin { history: History::sample("00000002"), epoch: 5 };
        let mut carried = carried(4);
        carried.take_over(&promoted);
        assert!(carried.records.is_empty());
    }
}
