//! The effects of the scheduler's decisions, and which of them are still open. Pure.

use crate::{
    event::Place,
    queue_rows::Load,
    record::{Entry, QueueChange, Record},
    scheduler::Start,
};
use std::collections::VecDeque;

/// The effects for the caller to carry out. Each list is in order.
#[derive(Debug, Default)]
pub struct Out {
    pub starts: Vec<Start>,
    pub records: Vec<Record>,
    pub loads: Vec<Load>,
}

/// A claim to release when the load with this number has been answered, because its answer may be
/// older than the confirmation.
#[derive(Debug, Clone, Copy)]
pub struct LeavingClaim {
    load: u64,
    pub subscription_id: i64,
    pub event_id: i64,
}

/// The effects, and their numbers.
#[derive(Debug, Default)]
pub struct Effects {
    pub out: Out,
    /// Numbers of entries: given to the ledger, and committed.
    entries: u64,
    confirmed: u64,
    /// Numbers of loads: requested, and answered.
    loads: u64,
    answered: u64,
    leaving: VecDeque<LeavingClaim>,
}

impl Effects {
    /// Adds an entry for the ledger, and returns its number.
    pub fn entry(&mut self, entry: Entry) -> u64 {
        self.entries += 1;
        self.out.records.push(Record::Entry(entry));
        self.entries
    }

    /// Adds an entry that deletes a queue row.
    pub fn delete(&mut self, subscription_id: i64, event_id: i64, place: Place) {
        let (window, attempt, queue, exhausted) = (None, None, QueueChange::Delete, None);
        self.entry(Entry { subscription_id, event_id, place, window, attempt, queue, exhausted });
    }

    /// Adds a record that is no entry.
    pub fn record(&mut self, record: Record) {
        self.out.records.push(record);
    }

    /// Requests rows of the queue.
    pub fn load(&mut self, load: Load) {
        self.loads += 1;
        self.out.loads.push(load);
    }

    /// Returns the number of loads that are not answered yet.
    pub fn open_loads(&self) -> u64 {
        self.loads - self.answered
    }

    /// Returns the number of the last entry.
    pub fn last_entry(&self) -> u64 {
        self.entries
    }

    /// Returns the number of committed entries.
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Returns the number of entries that were given to the ledger and are not committed yet.
    pub fn unconfirmed(&self) -> u64 {
        self.entries - self.confirmed
    }

    /// Records that entries were committed.
    pub fn confirm(&mut self, entries: u64) {
        self.confirmed += entries;
    }

    /// Keeps a claim until all loads so far have been answered. Reports whether it must be kept.
    pub fn keep_claim(&mut self, subscription_id: i64, event_id: i64) -> bool {
        let is_open = self.answered < self.loads;
        if is_open {
            self.leaving.push_back(LeavingClaim { load: self.loads, subscription_id, event_id });
        }
        is_open
    }

    /// Records that a load was answered.
    pub fn answer(&mut self) {
        self.answered += 1;
    }

    /// Returns the next kept claim that can be released.
    pub fn next_claim(&mut self) -> Option<LeavingClaim> {
        self.leaving.pop_front_if(|claim| claim.load <= self.answered)
    }
}
