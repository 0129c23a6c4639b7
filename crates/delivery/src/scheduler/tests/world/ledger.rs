//! The ledger of the simulated world: what it commits, and what must hold for the tables at each
//! checkpoint.

use crate::{record::Entry, scheduler::tests::world::*};

impl World {
    /// Commits some of the records. The confirmation is on its way.
    pub fn commit(&mut self) {
        let mut entries = Vec::new();
        for _ in 0..self.rng.usize(1..10) {
            let Some(record) = self.records.pop_front() else { break };
            if let Some(id) = record.locks().filter(|id| self.is_locked(*id)) {
                self.confirm_entries(&mut entries);
                self.put_aside(id, record);
                continue;
            }
            if let Record::Entry(entry) = record {
                self.apply(&entry);
                entries.push(entry);
                continue;
            }
            // Confirmations are in order: a later record is confirmed later.
            self.confirm_entries(&mut entries);
            let confirmed = self.apply_alone(record);
            self.confirmations.push_back(confirmed);
        }
        self.confirm_entries(&mut entries);
    }

    pub(super) fn confirm_entries(&mut self, entries: &mut Vec<Entry>) {
        if !entries.is_empty() {
            self.confirmations.push_back(record::summary(&entries.iter().collect::<Vec<_>>()));
            entries.clear();
        }
    }

    pub(super) fn apply_alone(&mut self, record: Record) -> Confirmed {
        let mut confirmed = Confirmed::default();
        match record {
            Record::Entry(_) => {}
            Record::Checkpoint(snapshot) => self.check_checkpoint(&snapshot),
            Record::Forget { subscription_id } => {
                assert!(self.subscriptions.contains_key(&subscription_id), "none is ever removed");
            }
            Record::ReceiverHealth { subscription_id, health, event } => {
                self.health.insert(subscription_id, health);
                self.event.extend(event);
            }
            Record::Disable { subscription_id, .. } => {
                confirmed.disabled = Some(subscription_id);
                self.replace(subscription_id, false);
                for row in self.rows_of(subscription_id) {
                    if let State::Waiting { .. } = row.state {
                        row.state = State::Backlog;
                    }
                }
            }
            Record::Unblock { subscription_id } => {
                confirmed.unblocked = Some(subscription_id);
                for row in self.rows_of(subscription_id) {
                    if row.state == State::Blocked {
                        row.state = State::Backlog;
                    }
                }
            }
        }
        confirmed
    }

    pub(super) fn rows_of(&mut self, id: i64) -> impl Iterator<Item = &mut Row> {
        self.queue.range_mut((id, i64::MIN)..=(id, i64::MAX)).map(|(_, row)| row)
    }

    pub(super) fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.place, PLACE, "a row that cannot be found again");
        let pair = (entry.subscription_id, entry.event_id);
        if let Some(Attempt { number, outcome, .. }) = &entry.attempt {
            let made = self.attempts.entry(pair).or_default();
            made.push(outcome.class);
            assert_eq!(made.len(), *number as usize, "attempts of {pair:?} are numbered without gaps");
        }
        if entry.exhausted.is_some() {
            self.told.push(pair);
        }
        match entry.queue {
            QueueChange::Keep => {}
            QueueChange::Delete => drop(self.queue.remove(&pair)),
            QueueChange::Put { state, attempts, retry_from, order_key, is_new } => {
                if !is_new && !self.queue.contains_key(&pair) {
                    assert!(
                        self.called_off.contains(&pair),
                        "the row of {pair:?} is missing, and was not deleted"
                    );
                    return;
                }
                assert!(
                    !self.called_off.contains(&pair) || self.queue.contains_key(&pair),
                    "the row of {pair:?} comes back"
                );
                self.queue.insert(pair, Row { state, attempts, retry_from, order_key });
            }
        }
    }

    /// Checks that everything up to the checkpoint has a row in the tables, as committed now.
    pub(super) fn check_checkpoint(&mut self, snapshot: &Snapshot) {
        let windows = (0..self.routed.len()).find(|window| *snapshot == end(*window as u64)).unwrap() + 1;
        for pair in self.routed[..windows].iter().flatten() {
            assert!(
                attempts_or_row(&self.attempts, &self.queue, pair)
                    || self.called_off.contains(pair)
                    || self.withheld.contains(pair),
                "the checkpoint passes {pair:?}, which has no row"
            );
        }
        self.checkpoint = windows;
    }
}
