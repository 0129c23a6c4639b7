//! Subscriptions whose filter needs a member with one value, by that value. Pure.
//!
//! A thousand filters like `$.data.tenant_id == 7` cost an event one look-up, and not a thousand
//! evaluations. The look-up only leaves out subscriptions whose filter rejects the event. It
//! decides no filter.

use super::names::Names;
use path_filter::{Constant, Document, MemberPath, PathFilter};
use std::collections::{BTreeSet, HashMap};

/// Audience, pattern, path, value, subscription.
type ValueEntry = (u32, u32, u32, u32, i64);

/// See the module. Audiences and patterns are numbers of the index.
#[derive(Debug, Default, Clone)]
pub struct ByValue {
    paths: Names<MemberPath>,
    path_of: HashMap<u32, MemberPath>,
    values: Names<Constant>,
    entries: BTreeSet<ValueEntry>,
}

/// Returns what a filter needs at least, if it can be looked up.
pub fn needs(filter: Option<&str>) -> Option<(MemberPath, Constant)> {
    PathFilter::parse(filter?)?.equality()
}

impl ByValue {
    /// Adds a subscription. One with several patterns is added for each.
    pub fn add(&mut self, audience: u32, pattern: u32, (path, value): &(MemberPath, Constant), id: i64) {
        let number = self.paths.take(path, || path.clone());
        self.path_of.entry(number).or_insert_with(|| path.clone());
        let value = self.values.take(value, || value.clone());
        self.entries.insert((audience, pattern, number, value, id));
    }

    /// Removes a subscription that was added so.
    pub fn remove(&mut self, audience: u32, pattern: u32, (path, value): &(MemberPath, Constant), id: i64) {
        let (Some(number), Some(of_value)) = (self.paths.number(path), self.values.number(value)) else {
            return;
        };
        self.entries.remove(&(audience, pattern, number, of_value, id));
        self.values.release(value);
        self.paths.release(path);
        if self.paths.number(path).is_none() {
            self.path_of.remove(&number);
        }
    }

    /// Calls `each` for the subscriptions of an audience and a pattern that have the value they
    /// need. Without a document, or if a value is not certain, those are all. Returns the number of
    /// ascending runs.
    pub fn find(
        &self,
        (audience, pattern): (u32, u32),
        document: Option<&Document<'_>>,
        mut each: impl FnMut(i64),
    ) -> usize {
        let (mut runs, mut from) = (0, 0);
        while let Some(path) = self.next_path(audience, pattern, from) {
            let of_path = self.path_of.get(&path).zip(document);
            let values = of_path.and_then(|(path, document)| path.values(document));
            let ranges: Vec<(u32, u32)> = match values {
                // A value that is there twice is found twice, as a subscription with two patterns.
                Some(values) => {
                    values.iter().filter_map(|value| self.values.number(value)).map(|n| (n, n)).collect()
                }
                None => vec![(0, u32::MAX)],
            };
            for (low, high) in ranges {
                let range =
                    (audience, pattern, path, low, i64::MIN)..=(audience, pattern, path, high, i64::MAX);
                let mut last = None;
                for (.., value, id) in self.entries.range(range) {
                    runs += usize::from(last.replace(value) != Some(value));
                    each(*id);
                }
            }
            let Some(next) = path.checked_add(1) else { break };
            from = next;
        }
        runs
    }

    /// Returns the first path from this number on that subscriptions of the audience and pattern
    /// have.
    fn next_path(&self, audience: u32, pattern: u32, from: u32) -> Option<u32> {
        let range =
            (audience, pattern, from, 0, i64::MIN)..=(audience, pattern, u32::MAX, u32::MAX, i64::MAX);
        self.entries.range(range).next().map(|(_, _, path, ..)| *path)
    }

    /// Calls `each` with every audience and pattern from this audience on.
    pub fn groups(&self, first: u32, mut each: impl FnMut((u32, u32))) {
        let mut from = (first, 0, 0, 0, i64::MIN);
        while let Some((audience, pattern, ..)) = self.entries.range(from..).next() {
            each((*audience, *pattern));
            from = (*audience, *pattern, u32::MAX, u32::MAX, i64::MAX);
        }
    }

    /// Returns how many paths and values have a number.
    #[cfg(test)]
    pub fn names(&self) -> (usize, usize) {
        (self.paths.len(), self.values.len())
    }
}
