//! Shares of the owners of subscriptions, so that none can slow the others much. Pure.
//!
//! With one owner, nothing is limited here. With several, each may use at most [`SHARE`] times what
//! is free: of the requests in flight, and of the new deliveries in memory. So one owner alone gets
//! four fifths, two busy ones four ninths each, and an owner that begins always finds something
//! free (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).

use std::{collections::HashMap, sync::Arc};

/// How many times the free part of a limit each owner may use.
const SHARE: usize = 4;

/// What the owners use. An owner keeps its number until the scheduler ends.
#[derive(Debug, Default)]
pub struct Owners {
    numbers: HashMap<Arc<str>, usize>,
    uses: Vec<Use>,
    /// New deliveries in memory that have no row, over all owners.
    fresh: usize,
}

#[derive(Debug, Default, Clone, Copy)]
struct Use {
    in_flight: usize,
    fresh: usize,
}

impl Owners {
    /// Returns the number of an owner.
    pub fn number(&mut self, name: &Arc<str>) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.uses.len();
        self.numbers.insert(Arc::clone(name), number);
        self.uses.push(Use::default());
        number
    }

    /// Reports whether there is more than one owner.
    pub fn are_several(&self) -> bool {
        self.uses.len() > 1
    }

    /// Returns how many more of `used` things an owner may use, of at most `max`.
    fn rest(&self, own: usize, used: usize, max: usize) -> usize {
        if !self.are_several() {
            return usize::MAX;
        }
        (SHARE * max.saturating_sub(used)).saturating_sub(own)
    }

    /// Returns how many more requests an owner may start.
    pub fn allowance(&self, owner: usize, in_flight: usize, max: usize) -> usize {
        self.rest(self.uses[owner].in_flight, in_flight, max)
    }

    /// Counts a request in.
    pub fn begin(&mut self, owner: usize) {
        self.uses[owner].in_flight += 1;
    }

    /// Counts a request out.
    pub fn end(&mut self, owner: usize) {
        self.uses[owner].in_flight -= 1;
    }

    /// Returns the number of new deliveries in memory, over all owners.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// Returns the number of new deliveries of an owner in memory.
    pub fn fresh_of(&self, owner: usize) -> usize {
        self.uses[owner].fresh
    }

    /// Reports whether an owner has used up its share of the new deliveries in memory.
    pub fn is_full(&self, owner: usize, max: usize) -> bool {
        self.rest(self.uses[owner].fresh, self.fresh, max) == 0
    }

    /// Counts new deliveries in.
    pub fn add_fresh(&mut self, owner: usize, count: usize) {
        self.fresh += count;
        self.uses[owner].fresh += count;
    }

    #[cfg(test)]
    pub fn use_nothing(&self) -> bool {
        self.fresh == 0 && self.uses.iter().all(|own| own.in_flight == 0 && own.fresh == 0)
    }

    /// Counts new deliveries out.
    pub fn remove_fresh(&mut self, owner: usize, count: usize) {
        self.fresh -= count;
        self.uses[owner].fresh -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_is_not_limited_and_the_first_of_several_leaves_a_fifth() {
        let mut owners = Owners::default();
        let first = owners.number(&"a".into());
        assert_eq!(owners.number(&"a".into()), first);
        assert_eq!(owners.allowance(first, 2000, 2000), usize::MAX);
        let second = owners.number(&"b".into());
        let mut in_flight = 0;
        while owners.allowance(first, in_flight, 2000) > 0 {
            owners.begin(first);
            in_flight += 1;
        }
        assert_eq!(in_flight, 1600);
        assert_eq!(owners.allowance(second, in_flight, 2000), 1600);
        while owners.allowance(second, in_flight, 2000) > 0 {
            owners.begin(second);
            in_flight += 1;
        }
        assert_eq!(in_flight, 1920);
        owners.add_fresh(first, 80);
        assert!(owners.is_full(first, 100) && !owners.is_full(second, 100));
        owners.remove_fresh(first, 40);
        assert!(!owners.is_full(first, 100));
        assert_eq!(owners.fresh(), 40);
    }
}
