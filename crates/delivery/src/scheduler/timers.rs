//! Retries in memory, by the time at which they are due. Pure.
//!
//! Memory holds the earliest retries; the table holds all. A retry that is only in the table lies
//! at the *horizon* or later. If all retries are in memory, there is no horizon and nothing to
//! read. If there are too many, the latest leaves memory, and its time becomes the horizon.
//!
//! The module returns which range of the table to read, and takes the answer. It must not read
//! before the rows that left memory are committed.

use crate::queue_rows::{Retry, RetryKey};
use std::collections::BTreeMap;

/// Maximum number of retries in memory. Each takes about 150 bytes.
pub const TIMERS_MAX: usize = 50_000;

/// Retries. See the module.
#[derive(Debug)]
pub struct Timers {
    by_time: BTreeMap<RetryKey, Retry>,
    /// When each is due, by subscription and event. So the cost of a change of one subscription
    /// does not depend on the retries of the others.
    by_delivery: BTreeMap<(i64, i64), i64>,
    /// The first key that may be missing here. `None` if all retries are here.
    horizon: Option<RetryKey>,
    is_loading: bool,
    /// The first key that was left to the table since the last read was requested.
    left_since: Option<RetryKey>,
    /// Rows that left memory may not be committed yet. No read before the ledger has confirmed this
    /// many entries.
    load_after_entry: u64,
    max: usize,
}

impl Timers {
    /// Creates an empty value. All retries are still in the table.
    pub fn new(max: usize) -> Self {
        let nothing = RetryKey { next_at_us: i64::MIN, subscription_id: i64::MIN, event_id: i64::MIN };
        Self {
            by_time: BTreeMap::new(),
            by_delivery: BTreeMap::new(),
            horizon: Some(nothing),
            is_loading: false,
            left_since: None,
            load_after_entry: 0,
            max,
        }
    }

    /// Returns when the next retry is due, in microseconds since 1970.
    pub fn first_us(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|(key, _)| key.next_at_us)
    }

    /// Adds a retry. It replaces another time of the same delivery.
    pub fn insert(&mut self, key: RetryKey, retry: Retry) {
        self.remove(key.subscription_id, key.event_id);
        if self.horizon.is_some_and(|horizon| key >= horizon) {
            self.leave(key, retry);
            return;
        }
        self.put(key, retry);
        if self.by_time.len() > self.max
            && let Some((last, retry)) = self.by_time.pop_last()
        {
            self.by_delivery.remove(&(last.subscription_id, last.event_id));
            self.horizon = Some(last);
            self.leave(last, retry);
        }
    }

    /// Leaves a retry to the table, which has it once its entry is committed.
    fn leave(&mut self, key: RetryKey, retry: Retry) {
        self.load_after_entry = self.load_after_entry.max(retry.after_entry);
        self.left_since = Some(self.left_since.map_or(key, |first| first.min(key)));
    }

    fn put(&mut self, key: RetryKey, retry: Retry) {
        self.by_time.insert(key, retry);
        self.by_delivery.insert((key.subscription_id, key.event_id), key.next_at_us);
    }

    /// Removes all retries of one subscription. Rows of the table beyond the horizon stay there.
    pub fn forget(&mut self, subscription_id: i64) {
        self.take(subscription_id);
    }

    /// Reports whether a delivery is here.
    pub fn contains(&self, subscription_id: i64, event_id: i64) -> bool {
        self.by_delivery.contains_key(&(subscription_id, event_id))
    }

    /// Removes a retry, whether it is due or not.
    pub fn remove(&mut self, subscription_id: i64, event_id: i64) -> Option<Retry> {
        let next_at_us = self.by_delivery.remove(&(subscription_id, event_id))?;
        self.by_time.remove(&RetryKey { next_at_us, subscription_id, event_id })
    }

    /// Removes and returns the retries of one subscription, by event. Rows of the table beyond the
    /// horizon stay there.
    pub fn take(&mut self, subscription_id: i64) -> Vec<(RetryKey, Retry)> {
        let wanted = self.by_delivery.range((subscription_id, i64::MIN)..=(subscription_id, i64::MAX));
        let wanted: Vec<RetryKey> = wanted
            .map(|((_, event_id), next_at_us)| RetryKey {
                next_at_us: *next_at_us,
                subscription_id,
                event_id: *event_id,
            })
            .collect();
        let take = |key: RetryKey| Some((key, self.remove(subscription_id, key.event_id)?));
        wanted.into_iter().filter_map(take).collect()
    }

    /// Removes and returns the next retry that is due. A retry whose row is not committed yet
    /// delays those after it, for one flush of the ledger.
    pub fn pop_due(&mut self, now_us: i64, entries_confirmed: u64) -> Option<(RetryKey, Retry)> {
        let first = self.by_time.first_entry()?;
        if first.key().next_at_us > now_us || first.get().after_entry > entries_confirmed {
            return None;
        }
        let (key, retry) = first.remove_entry();
        self.by_delivery.remove(&(key.subscription_id, key.event_id));
        Some((key, retry))
    }

    /// Returns the first key to read (inclusive) and the number of rows, if the table should be
    /// read now. [`loaded`](Self::loaded) must follow.
    pub fn next_load(&mut self, entries_confirmed: u64) -> Option<(RetryKey, usize)> {
        let horizon = self.horizon?;
        if self.is_loading || self.by_time.len() > self.max / 2 || entries_confirmed < self.load_after_entry {
            return None;
        }
        self.is_loading = true;
        self.left_since = None;
        Some((horizon, self.max - self.by_time.len()))
    }

    /// Takes the rows that the table had from the horizon on, in order. Fewer than `asked` means
    /// that the table has no others. `is_known` reports whether a delivery is claimed already.
    pub fn loaded(
        &mut self,
        rows: Vec<(RetryKey, Retry)>,
        asked: usize,
        is_known: impl Fn(&RetryKey) -> bool,
    ) {
        self.is_loading = false;
        let read_to = rows.last().filter(|_| rows.len() >= asked).map(|(last, _)| last.next());
        // The answer lacks retries that were left to the table meanwhile, or has an old state of
        // them.
        self.horizon = [read_to, self.left_since].into_iter().flatten().min();
        for (key, retry) in rows {
            let is_within = self.horizon.is_none_or(|horizon| key < horizon);
            // The row may be older than the retry in memory.
            if is_within && !self.contains(key.subscription_id, key.event_id) && !is_known(&key) {
                self.put(key, retry);
            }
        }
    }
}

impl RetryKey {
    /// Returns the smallest key that is greater.
    fn next(self) -> Self {
        Self { event_id: self.event_id.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Place;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RETRY: Retry = Retry {
        place: Place { slot: 0, xid: 0 },
        attempts: 1,
        retry_from: 0,
        after_entry: 0,
        order_key: None,
    };

    fn key(next_at_us: i64, event_id: i64) -> RetryKey {
        RetryKey { next_at_us, subscription_id: 1, event_id }
    }

    #[test]
    fn in_order_of_time_and_only_when_due() {
        let mut timers = Timers::new(10);
        timers.next_load(0);
        timers.loaded(vec![(key(5, 1), RETRY)], 10, |_| false);
        timers.insert(key(3, 2), RETRY);
        assert_eq!(timers.first_us(), Some(3));
        assert_eq!(timers.pop_due(4, 0).map(|(key, _)| key), Some(key(3, 2)));
        assert_eq!(timers.pop_due(4, 0), None);
        timers.insert(key(9, 1), RETRY);
        assert_eq!(timers.pop_due(8, 0), None, "a new time replaces the old one");
        assert_eq!(timers.next_load(0), None, "all are in memory");
    }

    #[test]
    fn what_left_memory_is_not_read_before_it_is_committed() {
        let mut timers = Timers::new(2);
        timers.next_load(0);
        timers.loaded(Vec::new(), 2, |_| false);
        for (at, entry) in [(1, 1), (2, 2), (3, 3)] {
            timers.insert(key(at, at), Retry { after_entry: entry, ..RETRY });
        }
        while timers.pop_due(9, 9).is_some() {}
        assert_eq!(timers.next_load(2), None);
        assert_eq!(timers.next_load(3), Some((key(3, 3), 2)));
    }

    proptest! {
        /// With a table behind it and under any limit, every retry comes out once.
        #[test]
        fn none_is_lost(times in proptest::collection::vec(0i64..50, 0..80), max in 1usize..20, ahead in 0usize..80) {
            let mut table: BTreeSet<RetryKey> = BTreeSet::new();
            let mut timers = Timers::new(max);
            let mut popped = Vec::new();
            let mut entries = 0;
            let rows: Vec<RetryKey> = times.iter().zip(1..).map(|(at, id)| key(*at, id)).collect();
            let ahead = ahead.min(rows.len());
            table.extend(&rows[..ahead]);
            let mut waiting = rows[ahead..].iter();
            loop {
                if let Some((after, limit)) = timers.next_load(entries) {
                    let rows: Vec<_> = table.iter().filter(|k| **k >= after).take(limit).map(|k| (*k, RETRY)).collect();
                    timers.loaded(rows, limit, |_| false);
                }
                match waiting.next() {
                    Some(key) => {
                        entries += 1;
                        table.insert(*key);
                        timers.insert(*key, Retry { after_entry: entries, ..RETRY });
                    }
                    None => match timers.pop_due(1000, entries) {
                        Some((key, _)) => {
                            table.remove(&key);
                            popped.push(key);
                        }
                        None if timers.horizon.is_none() => break,
                        None => {}
                    },
                }
                prop_assert!(timers.by_time.len() <= max);
            }
            let mut wanted = rows.clone();
            wanted.sort_unstable();
            popped.sort_unstable();
            prop_assert_eq!(popped, wanted);
        }
    }
}
