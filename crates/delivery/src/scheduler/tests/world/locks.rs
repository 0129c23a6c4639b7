//! Users who lock subscriptions: the ledger puts the records aside that would wait.

use crate::scheduler::tests::world::*;

impl World {
    pub(super) fn is_locked(&self, id: i64) -> bool {
        self.locks.contains(&id) || self.aside.contains_key(&id)
    }

    /// Puts a record aside. Its entry counts as confirmed.
    pub(super) fn put_aside(&mut self, id: i64, record: Record) {
        let entries = u64::from(record.entry().is_some());
        let locked = if self.aside.contains_key(&id) { Vec::new() } else { vec![id] };
        self.aside.entry(id).or_default().push_back(record);
        self.confirmations.push_back(Confirmed { entries, locked, ..Confirmed::default() });
    }

    /// Begins or ends the transaction of a user, who may delete rows in it.
    pub fn lock_or_unlock(&mut self) {
        let id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
        if self.locks.insert(id) {
            return;
        }
        self.locks.remove(&id);
        // A deletion is noticed only in memory.
        let all_in_memory = self.plan.timers_max.min(self.plan.order_groups_max) >= 1000;
        if all_in_memory && self.rng.u8(0..4) == 0 {
            let pairs: Vec<Pair> = self.rows(|pair, _| pair.0 == id).collect();
            for pair in pairs {
                self.queue.remove(&pair);
                self.called_off.insert(pair);
            }
        }
        self.write_aside(id);
    }

    pub fn unlock_all(&mut self) {
        for id in std::mem::take(&mut self.locks) {
            self.write_aside(id);
        }
    }

    fn write_aside(&mut self, id: i64) {
        let mut records = self.aside.remove(&id).unwrap_or_default();
        while let Some(record) = records.pop_front() {
            let done = match record {
                Record::Entry(entry) => {
                    self.apply(&entry);
                    record::late_summary(&[&entry], records.iter().filter_map(Record::entry))
                }
                record => self.apply_alone(record),
            };
            self.confirmations.push_back(done);
        }
        self.confirmations.push_back(Confirmed { unlocked: vec![id], ..Confirmed::default() });
    }
}
