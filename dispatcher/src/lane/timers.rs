//! Retries by the moment they are due. Pure.
//!
//! What is in the table and not here lies at the horizon or beyond. With everything in memory there is no horizon, and
//! nothing is ever asked of the table; over the bound, the latest leave and the horizon is where they were.

use crate::event::Place;
use std::collections::{BTreeMap, HashMap};

/// Most retries in memory; about 150 bytes each.
pub const TIMERS_MAX: usize = 50_000;

/// Orders retries: microseconds since 1970, subscription, event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub next_at_us: i64,
    pub subscription_id: i64,
    pub event_id: i64,
}

/// What is known of a retry without asking the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub place: Place,
    pub attempts: i16,
    pub retry_from: i16,
    /// Its row is written by this entry of the ledger, and is not there before; 0: it was read from the table.
    pub after_entry: u64,
    /// The line that it is in; `None`: it obeys no order.
    pub order_key: Option<i64>,
}

/// See the module.
#[derive(Debug)]
pub struct Timers {
    by_time: BTreeMap<Key, Retry>,
    by_delivery: HashMap<(i64, i64), i64>,
    /// The first one that need not be here; `None`: all are.
    horizon: Option<Key>,
    is_loading: bool,
    /// The first one that was left to the table since it was last asked.
    left_since: Option<Key>,
    /// What left memory may not be committed yet: no load before the ledger has confirmed this many entries.
    load_after_entry: u64,
    max: usize,
}

impl Timers {
    /// Empty, with everything still in the table.
    pub fn new(max: usize) -> Self {
        let nothing = Key { next_at_us: i64::MIN, subscription_id: i64::MIN, event_id: i64::MIN };
        Self {
            by_time: BTreeMap::new(),
            by_delivery: HashMap::new(),
            horizon: Some(nothing),
            is_loading: false,
            left_since: None,
            load_after_entry: 0,
            max,
        }
    }

    /// When the next one is due.
    pub fn first_us(&self) -> Option<i64> {
        self.by_time.first_key_value().map(|(key, _)| key.next_at_us)
    }

    /// Adds one; replaces another time of the same delivery.
    pub fn insert(&mut self, key: Key, retry: Retry) {
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

    /// Leaves one to the table, where it is once its entry is committed.
    fn leave(&mut self, key: Key, retry: Retry) {
        self.load_after_entry = self.load_after_entry.max(retry.after_entry);
        self.left_since = Some(self.left_since.map_or(key, |first| first.min(key)));
    }

    fn put(&mut self, key: Key, retry: Retry) {
        self.by_time.insert(key, retry);
        self.by_delivery.insert((key.subscription_id, key.event_id), key.next_at_us);
    }

    /// Takes out everything of one subscription; what the table holds beyond the horizon stays there.
    pub fn forget(&mut self, subscription_id: i64) {
        self.by_time.retain(|key, _| key.subscription_id != subscription_id);
        self.by_delivery.retain(|(id, _), _| *id != subscription_id);
    }

    /// Whether a delivery is here.
    pub fn contains(&self, subscription_id: i64, event_id: i64) -> bool {
        self.by_delivery.contains_key(&(subscription_id, event_id))
    }

    /// Takes one out, due or not.
    pub fn remove(&mut self, subscription_id: i64, event_id: i64) -> Option<Retry> {
        let next_at_us = self.by_delivery.remove(&(subscription_id, event_id))?;
        self.by_time.remove(&Key { next_at_us, subscription_id, event_id })
    }

    /// Takes out the next one that is due. One whose row is not committed yet holds up those after it: for a flush.
    pub fn pop_due(&mut self, now_us: i64, entries_confirmed: u64) -> Option<(Key, Retry)> {
        let first = self.by_time.first_entry()?;
        if first.key().next_at_us > now_us || first.get().after_entry > entries_confirmed {
            return None;
        }
        let (key, retry) = first.remove_entry();
        self.by_delivery.remove(&(key.subscription_id, key.event_id));
        Some((key, retry))
    }

    /// Where to read from, inclusive, and how many, if the table should be read now; then [`loaded`](Self::loaded) must follow.
    pub fn next_load(&mut self, entries_confirmed: u64) -> Option<(Key, usize)> {
        let horizon = self.horizon?;
        if self.is_loading || self.by_time.len() > self.max / 2 || entries_confirmed < self.load_after_entry {
            return None;
        }
        self.is_loading = true;
        self.left_since = None;
        Some((horizon, self.max - self.by_time.len()))
    }

    /// What the table held from the horizon on, in order; fewer than asked for: there is no more. `is_known` tells which
    /// deliveries are in other hands already.
    pub fn loaded(&mut self, rows: Vec<(Key, Retry)>, asked: usize, is_known: impl Fn(&Key) -> bool) {
        self.is_loading = false;
        let read_to = rows.last().filter(|_| rows.len() >= asked).map(|(last, _)| last.next());
        // What was left to the table meanwhile is not in the answer, or not as it is now.
        self.horizon = [read_to, self.left_since].into_iter().flatten().min();
        for (key, retry) in rows {
            let is_within = self.horizon.is_none_or(|horizon| key < horizon);
            // The row may be older than what we hold.
            if is_within && !self.contains(key.subscription_id, key.event_id) && !is_known(&key) {
                self.put(key, retry);
            }
        }
    }
}

impl Key {
    /// The smallest that is greater.
    fn next(self) -> Self {
        Self { event_id: self.event_id.saturating_add(1), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const RETRY: Retry = Retry {
        place: Place { slot: 0, xid: 0 },
        attempts: 1,
        retry_from: 0,
        after_entry: 0,
        order_key: None,
    };

    fn key(next_at_us: i64, event_id: i64) -> Key {
        Key { next_at_us, subscription_id: 1, event_id }
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
        /// With a table behind it, every retry comes out once and in order, whatever the bound.
        #[test]
        fn none_is_lost(times in proptest::collection::vec(0i64..50, 0..80), max in 1usize..20, ahead in 0usize..80) {
            let mut table: BTreeSet<Key> = BTreeSet::new();
            let mut timers = Timers::new(max);
            let mut popped = Vec::new();
            let mut entries = 0;
            let rows: Vec<Key> = times.iter().zip(1..).map(|(at, id)| key(*at, id)).collect();
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
