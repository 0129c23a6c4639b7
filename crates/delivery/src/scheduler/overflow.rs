//! New deliveries that wait until their owner may keep more of them in memory. Pure.
//!
//! Without this list, they would wait in the reader, and everybody's events behind them. A delivery
//! here counts as unresolved in its window, like one in a send queue. The list is bounded, and the
//! oldest deliveries leave it for the queue table.

use crate::{message::Message, record::State};
use std::{collections::VecDeque, sync::Arc, time::Duration};

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
    by_owner: Vec<VecDeque<Overflowing>>,
    len: usize,
}

impl Overflow {
    pub fn is_full(&self) -> bool {
        self.len >= OVERFLOW_MAX
    }

    /// Reports whether deliveries of this owner wait. Its next ones must wait behind them.
    pub fn holds(&self, owner: usize) -> bool {
        self.len(owner) > 0
    }

    pub fn push(&mut self, owner: usize, delivery: Overflowing) {
        if self.by_owner.len() <= owner {
            self.by_owner.resize_with(owner + 1, VecDeque::new);
        }
        self.by_owner[owner].push_back(delivery);
        self.len += 1;
    }

    /// Returns the number of deliveries of an owner.
    pub fn len(&self, owner: usize) -> usize {
        self.by_owner.get(owner).map_or(0, VecDeque::len)
    }

    /// Returns the owners with deliveries here.
    pub fn owners(&self) -> Vec<usize> {
        (0..self.by_owner.len()).filter(|owner| self.holds(*owner)).collect()
    }

    /// Returns the owner with the longest list.
    pub fn fullest(&self) -> Option<usize> {
        self.owners().into_iter().max_by_key(|owner| self.len(*owner))
    }

    /// Returns the oldest delivery of an owner.
    pub fn front(&self, owner: usize) -> Option<&Overflowing> {
        self.by_owner.get(owner)?.front()
    }

    pub fn pop(&mut self, owner: usize) -> Option<Overflowing> {
        let popped = self.by_owner.get_mut(owner)?.pop_front();
        self.len -= usize::from(popped.is_some());
        popped
    }

    /// Puts a delivery back before the others.
    pub fn push_front(&mut self, owner: usize, delivery: Overflowing) {
        self.by_owner[owner].push_front(delivery);
        self.len += 1;
    }
}
