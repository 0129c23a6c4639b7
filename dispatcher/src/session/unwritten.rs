//! The results that a session could not write.
//!
//! The next session of this process writes them, unless they have become wrong. After a failover,
//! the same numbers may mean other events, so all results are dropped. If another daemon was the
//! leader in between, it may have changed the queue, so only the attempts are written.

use crate::{ledger::Ledger, session::History};
use database::Error;
use delivery::record::Record;
use tracing::{info, warn};

/// The history that results belong to, and the takeover in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub history: History,
    pub epoch: i64,
}

/// The results that are not in the database yet.
#[derive(Debug, Default)]
pub struct UnwrittenResults {
    records: Vec<Record>,
    from: Option<Origin>,
    /// Another daemon has been the leader since.
    is_superseded: bool,
}

impl UnwrittenResults {
    pub fn new(records: Vec<Record>, from: Origin) -> Self {
        Self { records, from: Some(from), is_superseded: false }
    }

    /// Records that this session has become the leader. Call this before any step that can fail:
    /// our own failed takeover must not look like another daemon's.
    pub fn take_over(&mut self, now: &Origin) {
        let Some(from) = self.from.replace(now.clone()) else { return };
        if from.history != now.history {
            if !self.records.is_empty() {
                warn!(results = self.records.len(), "session.results_dropped; the server failed over");
            }
            *self = Self::default();
        } else if from.epoch + 1 != now.epoch {
            self.is_superseded = true;
        }
    }

    /// Writes the results that are still true. After an error, it keeps all of them.
    pub async fn settle(&mut self, ledger: &mut Ledger) -> Result<(), Error> {
        if self.records.is_empty() {
            return Ok(());
        }
        if self.is_superseded {
            // The other daemon has decided about the queue. The attempts were made in any case.
            let known = ledger.known(&self.records).await?;
            self.records.retain_mut(|record| record.is_final_or(&known) && record.keep_queue());
        }
        info!(results = self.records.len(), "session.results_rewritten");
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

    fn unwritten(epoch: i64) -> UnwrittenResults {
        UnwrittenResults::new(vec![Record::Forget { subscription_id: 1 }], origin(epoch))
    }

    #[test]
    fn own_failed_takeovers_change_nothing() {
        let mut unwritten = unwritten(4);
        for epoch in 5..9 {
            unwritten.take_over(&origin(epoch));
        }
        assert!(!unwritten.is_superseded);
        unwritten.take_over(&origin(10));
        assert!(unwritten.is_superseded, "9 was another daemon's");
        unwritten.take_over(&origin(11));
        assert!(unwritten.is_superseded, "still superseded");
    }

    #[test]
    fn a_failover_drops_all_results() {
        let promoted = Origin { history: History::sample("00000002"), epoch: 5 };
        let mut unwritten = unwritten(4);
        unwritten.take_over(&promoted);
        assert!(unwritten.records.is_empty());
    }
}
