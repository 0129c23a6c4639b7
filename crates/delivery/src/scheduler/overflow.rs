//! New deliveries that wait until their owner may keep more of them in memory. Pure.
//!
//! Without this list, they would wait in the reader, and everybody's events behind them. A delivery
//! here counts as unresolved in its window, like one in a send queue. The list is bounded, and the
//! oldest deliveries leave it for the queue table.
//!
//! The cost of a step does not depend on the number of owners.

use crate::{message::Message, record::State};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    time::Duration,
};

/// Maximum number of deliveries, over all owners. Each takes about 50 bytes, in addition to the
/// event that it shares.
const OVERFLOW_MAX: usize = 100_000;

/// A delivery that waits.
#[derive(Debug)]
pub struct Overflowing {
    pub id: i64,
    pub message: Arc<Message>,
    pub window: u64,
    pub state: State,
    pub since: Duration,
}

/// The lists by owner, each in order of arrival.
#[derive(Debug, Default)]
pub struct Overflow {
    /// Lists that are not empty.
    by_owner: BTreeMap<usize, VecDeque<Overflowing>>,
    /// Length and owner of each list.
    by_len: BTreeSet<(usize, usize)>,
    /// The owner that [`next_owner`](Self::next_owner) returned last.
    turn: usize,
    len: usize,
}

impl Overflow {
    pub fn is_full(&self) -> bool {
        self.len >= OVERFLOW_MAX
    }

    /// Reports whether deliveries of this owner wait. Its next ones must wait behind them.
    pub fn holds(&self, owner: usize) -> bool {
        self.by_owner.contains_key(&owner)
    }

    pub fn push(&mut self, owner: usize, delivery: Overflowing) {
        self.change(owner, |list| list.push_back(delivery));
    }

    /// Returns the number of deliveries of an owner.
    pub fn len(&self, owner: usize) -> usize {
        self.by_owner.get(&owner).map_or(0, VecDeque::len)
    }

    /// Returns the number of owners with deliveries here.
    pub fn owners_len(&self) -> usize {
        self.by_owner.len()
    }

    /// Returns the owners with deliveries here.
    pub fn owners(&self) -> Vec<usize> {
        self.by_owner.keys().copied().collect()
    }

    /// Returns the next owner with deliveries here. All owners take turns.
    pub fn next_owner(&mut self) -> Option<usize> {
        let mut behind = self.by_owner.range((Excluded(self.turn), Unbounded));
        let (owner, _) = behind.next().or_else(|| self.by_owner.first_key_value())?;
        self.turn = *owner;
        Some(self.turn)
    }

    /// Returns the owner with the longest list.
    pub fn fullest(&self) -> Option<usize> {
        self.by_len.last().map(|(_, owner)| *owner)
    }

    /// Returns the oldest delivery of an owner.
    pub fn front(&self, owner: usize) -> Option<&Overflowing> {
        self.by_owner.get(&owner)?.front()
    }

    pub fn pop(&mut self, owner: usize) -> Option<Overflowing> {
        self.change(owner, VecDeque::pop_front)
    }

    /// Puts a delivery back before the others.
    pub fn push_front(&mut self, owner: usize, delivery: Overflowing) {
        self.change(owner, |list| list.push_front(delivery));
    }

    fn change<T>(&mut self, owner: usize, change: impl FnOnce(&mut VecDeque<Overflowing>) -> T) -> T {
        let list = self.by_owner.entry(owner).or_default();
        let before = list.len();
        let result = change(list);
        let after = list.len();
        self.len = self.len + after - before;
        self.by_len.remove(&(before, owner));
        if after > 0 {
            self.by_len.insert((after, owner));
        } else {
            self.by_owner.remove(&owner);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Event, message::Budget};

    #[test]
    fn owners_take_turns_and_the_longest_list_is_known() {
        let message = Arc::new(Message::new(Event::sample(1), &Arc::new(Budget::default())));
        let delivery = |id| Overflowing {
            id,
            message: Arc::clone(&message),
            window: 0,
            state: State::Backlog,
            since: Duration::ZERO,
        };
        let mut overflow = Overflow::default();
        for (owner, id) in [(5, 1), (7, 2), (5, 3), (9, 4)] {
            overflow.push(owner, delivery(id));
        }
        let turns: Vec<_> = (0..4).map(|_| overflow.next_owner()).collect();
        assert_eq!(turns, [Some(5), Some(7), Some(9), Some(5)]);
        assert_eq!((overflow.fullest(), overflow.len(5), overflow.owners_len()), (Some(5), 2, 3));
        let first = overflow.pop(5).unwrap();
        assert_eq!((first.id, overflow.fullest()), (1, Some(9)));
        overflow.push_front(5, first);
        assert_eq!((overflow.fullest(), overflow.front(5).map(|first| first.id)), (Some(5), Some(1)));
        for owner in [5, 5, 7, 9] {
            assert!(overflow.pop(owner).is_some());
        }
        assert!(overflow.pop(5).is_none() && !overflow.holds(5) && overflow.next_owner().is_none());
        assert_eq!((overflow.len, overflow.by_len.len(), overflow.by_owner.len()), (0, 0, 0));
    }
}
