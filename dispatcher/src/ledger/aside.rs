//! Records of subscriptions that another session has locked.
//!
//! A user can hold the lock of a subscription for as long as the transaction is open, and the
//! ledger writes for all subscriptions. So it puts the records aside that would wait, and goes on
//! with the others. It retries after at most a second. Meanwhile, the scheduler keeps the send
//! queue closed.
//!
//! The module holds the records in order. It does not write them.

use delivery::record::{Entry, Record};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;
use tracing::{info, warn};

/// Shortest and longest time between two attempts to get the locks.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A lock that is held for less time is not reported.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// The session that has locked a subscription. The process is unknown if the lock belongs to a
/// prepared transaction, or is shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locker {
    pub pid: Option<i32>,
    pub role: Option<String>,
    pub application: Option<String>,
}

/// The records of one locked subscription.
#[derive(Debug)]
pub struct Locked {
    pub records: VecDeque<Record>,
    /// Some of the attempts may be in the table: an earlier session may have written them.
    pub is_again: bool,
    since: Instant,
    reported: Option<Locker>,
}

/// The locked subscriptions, and their records.
#[derive(Debug, Default)]
pub struct Aside {
    locked: HashMap<i64, Locked>,
    retry_at: Option<Instant>,
    pause: Duration,
}

impl Aside {
    /// Reports whether the record must wait.
    pub fn holds(&self, record: &Record) -> bool {
        record.locks().is_some_and(|id| self.locked.contains_key(&id))
    }

    /// Reports whether the entry must wait. An entry that is written again may find a row that it
    /// has created before.
    pub fn holds_entry(&self, entry: &Entry, is_again: bool) -> bool {
        (is_again || entry.changes_row()) && self.locked.contains_key(&entry.subscription_id)
    }

    /// Adds a subscription that another session has locked. Returns `false` if it is here already.
    pub fn lock(&mut self, id: i64, now: Instant) -> bool {
        let is_new = !self.locked.contains_key(&id);
        if is_new {
            self.locked
                .insert(id, Locked { records: VecDeque::new(), is_again: false, since: now, reported: None });
            self.pause = RETRY_MIN;
            self.retry_at = Some(now + RETRY_MIN);
        }
        is_new
    }

    /// Puts a record aside that [`holds`](Self::holds) is true for.
    pub fn push(&mut self, record: Record) {
        if let Some(locked) = record.locks().and_then(|id| self.locked.get_mut(&id)) {
            locked.records.push_back(record);
        }
    }

    /// Puts an entry of an earlier session aside. Its window was that session's.
    pub fn adopt(&mut self, mut record: Record, id: i64) {
        let Some(locked) = self.locked.get_mut(&id) else { return };
        if let Record::Entry(entry) = &mut record {
            entry.window = None;
        }
        locked.is_again = true;
        locked.records.push_back(record);
    }

    pub fn get(&self, id: i64) -> Option<&Locked> {
        self.locked.get(&id)
    }

    /// Removes the first records of a subscription, because they are written.
    pub fn written(&mut self, id: i64, count: usize) {
        if let Some(locked) = self.locked.get_mut(&id) {
            locked.records.drain(..count);
        }
    }

    pub fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = self.locked.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Returns when to try again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Sets the time of the next attempt, after one.
    pub fn wait(&mut self, now: Instant) {
        self.retry_at = (!self.locked.is_empty()).then(|| now + self.pause);
        self.pause = (self.pause * 2).min(RETRY_MAX);
    }

    /// Removes a subscription whose records are all written. Reports whether its lock was reported.
    pub fn unlock(&mut self, id: i64) -> bool {
        self.locked.remove(&id).is_some_and(|locked| locked.reported.is_some())
    }

    /// Logs the locks that have lasted, once for each session that holds some. Returns the
    /// subscriptions to report in the table.
    pub fn report(&mut self, lockers: Vec<(i64, Locker)>, now: Instant) -> Vec<(i64, Locker)> {
        let mut by_locker: BTreeMap<Locker, Vec<i64>> = BTreeMap::new();
        let mut reported = Vec::new();
        for (id, locker) in lockers {
            let Some(locked) = self.locked.get_mut(&id) else { continue };
            let has_lasted = now.duration_since(locked.since) >= REPORT_AFTER;
            if has_lasted && locked.reported.as_ref() != Some(&locker) {
                locked.reported = Some(locker.clone());
                by_locker.entry(locker.clone()).or_default().push(id);
                reported.push((id, locker));
            }
        }
        for (Locker { pid, role, application }, ids) in by_locker {
            warn!(
                pid,
                role,
                application,
                subscriptions = ids.len(),
                first_id = ids.first(),
                "subscriptions.locked; results of their deliveries wait for the transaction of that session"
            );
        }
        reported
    }

    /// Takes all records, by subscription.
    pub fn into_records(self) -> Vec<Record> {
        let mut locked: Vec<_> = self.locked.into_iter().collect();
        locked.sort_unstable_by_key(|(id, _)| *id);
        locked.into_iter().flat_map(|(_, locked)| locked.records).collect()
    }
}

/// Logs that locks have ended.
pub fn log_unlocked(ids: &[i64]) {
    if let [first_id, ..] = ids {
        info!(subscriptions = ids.len(), first_id, "subscriptions.unlocked");
    }
}
