//! A bounded cache that is keyed by trigger: a hash table of sets of eight entries. Pure.
//!
//! A key can only be stored in the eight places of one set. A lookup is therefore one
//! multiplication and at most eight comparisons, however many triggers a session fires. The table
//! doubles while sets overflow, up to [`ENTRIES_MAX`]. After that, `put` evicts an entry that was
//! not read since the last eviction in its set; the search starts at a random place. Eviction by
//! age would fail for a session that repeatedly cycles through more triggers than the table holds:
//! it would never find any of them.

use std::cell::Cell;

use crate::memory;

const WAYS: usize = 8;
/// Upper bound on the number of entries.
pub const ENTRIES_MAX: usize = 4096;

struct CacheEntry<V> {
    key: u32,
    value: V,
    /// Set by each read. An eviction that passes over the entry clears it.
    is_used: Cell<bool>,
}

pub struct Cache<V> {
    /// The sets, one after the other. Their number is zero or a power of two.
    entries: Vec<Option<CacheEntry<V>>>,
    random: u32,
}

impl<V> Cache<V> {
    pub const fn new() -> Self {
        Self { entries: Vec::new(), random: 1 }
    }

    /// Returns the index of the first entry of the key's set.
    #[inline]
    fn first(&self, key: u32) -> usize {
        let sets = self.entries.len() / WAYS;
        // The golden ratio spreads consecutive keys; the upper bits choose the set.
        let spread = u64::from(key.wrapping_mul(0x9e37_79b1));
        ((spread * sets as u64) >> 32) as usize * WAYS
    }

    #[inline]
    pub fn get(&self, key: u32) -> Option<&V> {
        let first = self.first(key);
        let set = self.entries.get(first..first + WAYS)?;
        let entry = set.iter().flatten().find(|entry| entry.key == key)?;
        entry.is_used.set(true);
        Some(&entry.value)
    }

    /// Stores a value. Returns the value that it displaced: a former value of the key, a stale
    /// value, or an evicted one. Returns the value itself if there is no memory for the table's
    /// first set.
    pub fn put(&mut self, key: u32, value: V, is_stale: impl Fn(&V) -> bool) -> Option<V> {
        let entry = Some(CacheEntry { key, value, is_used: Cell::new(false) });
        loop {
            let first = self.first(key);
            let set = self.entries.get(first..first + WAYS).unwrap_or_default();
            let place = set
                .iter()
                .position(|other| other.as_ref().is_some_and(|other| other.key == key))
                .or_else(|| set.iter().position(|other| other.as_ref().is_none_or(|o| is_stale(&o.value))));
            let place = match place {
                Some(place) => place,
                None if self.grow() => continue,
                None if self.entries.is_empty() => return entry.map(|entry| entry.value),
                None => self.unused(first),
            };
            return core::mem::replace(&mut self.entries[first + place], entry).map(|entry| entry.value);
        }
    }

    /// Returns the index, within a full set, of an entry to evict.
    fn unused(&mut self, first: usize) -> usize {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let begin = (self.random >> 29) as usize;
        let places = (0..WAYS).map(|i| (begin + i) % WAYS);
        let was_used = |place: &usize| {
            self.entries[first + place].as_ref().is_some_and(|entry| entry.is_used.replace(false))
        };
        places.into_iter().find(|place| !was_used(place)).unwrap_or(begin)
    }

    /// Doubles the table. Each set becomes two, so every entry finds a place. Returns false if the
    /// table has reached its bound, or if there is no memory.
    fn grow(&mut self) -> bool {
        let count = (self.entries.len() * 2).max(WAYS);
        let mut grown = Vec::new();
        if count > ENTRIES_MAX || memory::fallible(|| grown.try_reserve_exact(count)).is_err() {
            return false;
        }
        grown.resize_with(count, || None);
        let former = core::mem::replace(&mut self.entries, grown);
        for entry in former.into_iter().flatten() {
            let first = self.first(entry.key);
            if let Some(place) = self.entries[first..first + WAYS].iter_mut().find(|place| place.is_none()) {
                *place = Some(entry);
            }
        }
        true
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().flatten().map(|entry| &entry.value)
    }

    /// Empties the table and returns its values.
    pub fn take(&mut self) -> impl Iterator<Item = V> + use<V> {
        core::mem::take(&mut self.entries).into_iter().flatten().map(|entry| entry.value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn never(_: &u32) -> bool {
        false
    }

    #[test]
    fn half_of_the_bound_is_kept_in_full() {
        let mut cache = Cache::new();
        // Postgres assigns OIDs one after the other, with gaps.
        let keys: Vec<u32> = (0..ENTRIES_MAX as u32 / 2).map(|i| 16_384 + 5 * i).collect();
        for key in &keys {
            assert_eq!(cache.put(*key, *key, never), None);
        }
        assert!(keys.iter().all(|key| cache.get(*key) == Some(key)));
    }

    #[test]
    fn no_more_than_the_bound_is_kept() {
        let mut cache = Cache::new();
        let mut gone = 0;
        for key in 0..3 * ENTRIES_MAX as u32 {
            gone += usize::from(cache.put(key, key, never).is_some());
        }
        let kept = cache.values().count();
        assert!(kept <= ENTRIES_MAX && kept > ENTRIES_MAX * 3 / 4, "{kept}");
        assert_eq!(kept + gone, 3 * ENTRIES_MAX);
        assert_eq!(cache.take().count(), kept);
        assert_eq!(cache.values().count(), 0);
    }

    /// Eviction by age would find none.
    #[test]
    fn a_round_over_twice_the_bound_still_finds_some() {
        let mut cache = Cache::new();
        let (mut found, rounds, keys) = (0, 10, 2 * ENTRIES_MAX as u32);
        for _ in 0..rounds {
            for key in 0..keys {
                if cache.get(key).is_some() {
                    found += 1;
                } else {
                    cache.put(key, key, never);
                }
            }
        }
        let share = f64::from(found) / f64::from(rounds * keys);
        assert!(share > 0.1, "{share}");
    }

    #[test]
    fn what_is_asked_for_stays() {
        let mut cache = Cache::new();
        cache.put(1, 1, never);
        for key in 2..4 * ENTRIES_MAX as u32 {
            assert_eq!(cache.get(1), Some(&1));
            cache.put(key, key, never);
        }
    }

    proptest! {
        /// Compares the cache with a map. `get` returns the value that was put last, unless that
        /// value was displaced.
        #[test]
        fn it_is_a_map_that_forgets(steps in prop::collection::vec((0..600u32, 0..3u8), 0..2000)) {
            let mut cache = Cache::new();
            let mut model = std::collections::HashMap::new();
            for (number, (key, kind)) in (0u32..).zip(steps) {
                if kind == 0 {
                    prop_assert_eq!(cache.get(key).copied(), model.get(&key).copied());
                    continue;
                }
                // One in eight stored values is stale.
                let before = model.insert(key, number);
                let displaced = cache.put(key, number, |value| value % 8 == 0);
                match (before, displaced) {
                    (None, None) => {}
                    (Some(before), displaced) => prop_assert_eq!(displaced, Some(before)),
                    (None, Some(displaced)) => {
                        let whose: Vec<u32> =
                            model.iter().filter(|(_, value)| **value == displaced).map(|(k, _)| *k).collect();
                        prop_assert_eq!(whose.len(), 1);
                        model.remove(&whose[0]);
                    }
                }
            }
            prop_assert_eq!(cache.values().count(), model.len());
        }
    }
}
