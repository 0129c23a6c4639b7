//! Which deliveries go together in one request. Pure.
//!
//! A receiver may reject a batch because of one event in it, or because of its size. Then half as
//! many of its events go together at most, until an event that is rejected is alone. Such an event
//! stays alone until its delivery is final, so it spoils no other batch.

use crate::{
    queue_rows::Item,
    send_queue::{NextSource, SendQueue},
};
use std::collections::HashMap;

/// A request of this size takes no further events.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Maximum number of rejected events that a send queue remembers. An event that was forgotten is
/// sent in a full batch, which is then split again.
const REJECTED_MAX: usize = 100_000;

/// The limits of the batches of one send queue.
#[derive(Debug)]
pub struct Batches {
    /// The events that were rejected, and how many events a request with them may have.
    rejected: HashMap<i64, usize>,
    bytes_max: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Self { rejected: HashMap::new(), bytes_max: REQUEST_BYTES_MAX }
    }
}

impl Batches {
    /// Returns the size at which a request takes no further events.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns how many events a request with this event may have.
    pub fn events_max(&self, event_id: i64) -> usize {
        self.rejected.get(&event_id).copied().unwrap_or(usize::MAX)
    }

    /// Records that the receiver rejected a request of `events`, with this one among them.
    pub fn reject(&mut self, event_id: i64, events: usize) {
        if self.rejected.len() >= REJECTED_MAX {
            self.rejected.clear();
        }
        self.rejected.insert(event_id, (events / 2).max(1));
    }

    /// Records that a request of several events, with this size, was too large for the receiver.
    pub fn too_large(&mut self, bytes: usize) {
        self.bytes_max = self.bytes_max.min(bytes / 2).max(1);
    }

    /// Forgets a delivery that is final.
    pub fn forget(&mut self, event_id: i64) {
        if !self.rejected.is_empty() {
            self.rejected.remove(&event_id);
        }
    }
}

impl SendQueue {
    /// Returns the delivery that starts next.
    pub fn front(&self) -> Option<&Item> {
        match &self.groups {
            Some(groups) => self.queued.front().or_else(|| groups.front()),
            None if self.takes_fresh() => self.fresh.front(),
            None => self.queued.front(),
        }
    }

    /// Takes the next delivery of a send queue without an order. Rows of the queue and new events
    /// take turns.
    pub fn pop_front(&mut self) -> Option<Item> {
        let is_fresh = self.takes_fresh();
        self.next = if is_fresh { NextSource::Queued } else { NextSource::New };
        if is_fresh { self.fresh.pop_front() } else { self.queued.pop_front() }
    }

    fn takes_fresh(&self) -> bool {
        self.queued.is_empty() || (self.next == NextSource::New && !self.fresh.is_empty())
    }

    /// Takes the head of the next order group, and the deliveries behind it that go into the same
    /// request, which has `events` already. `room` is the limit of the request; each delivery may
    /// lower it.
    pub fn take_group(
        &mut self,
        events: usize,
        room: &mut usize,
        mut goes_too: impl FnMut(&Item, &Item) -> bool,
    ) -> Option<(i64, Vec<Item>)> {
        let Self { groups, batches, .. } = self;
        let mut count = events + 1;
        groups.as_mut()?.take(*room - events, |last, next| {
            let max = batches.events_max(next.message.event().id).min(*room);
            let goes = count < max && goes_too(last, next);
            if goes {
                count += 1;
                *room = max;
            }
            goes
        })
    }
}
