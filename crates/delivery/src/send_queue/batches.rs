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

/// Number of rejected events above which a send queue forgets those that were sent alone and wait
/// for a retry. A forgotten event is sent in a full batch, which is then split again. Events of
/// batches that are being split are never forgotten; all of them are in memory anyway.
const REJECTED_MAX: usize = 1024;

/// Stands for a limit of one event that has been sent alone, and was rejected.
const ALONE: usize = 0;

/// The limits of the batches of one send queue.
#[derive(Debug)]
pub struct Batches {
    /// The events that were rejected, and how many events a request with them may have.
    rejected: HashMap<i64, usize>,
    /// Number of them at which some are forgotten next.
    rejected_max: usize,
    bytes_max: usize,
}

impl Default for Batches {
    fn default() -> Self {
        Self { rejected: HashMap::new(), rejected_max: REJECTED_MAX, bytes_max: REQUEST_BYTES_MAX }
    }
}

impl Batches {
    /// Returns the size at which a request takes no further events.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns how many events a request with this event may have.
    pub fn events_max(&self, event_id: i64) -> usize {
        self.rejected.get(&event_id).map_or(usize::MAX, |events| (*events).max(1))
    }

    /// Records that the receiver rejected a request of `events`, with this one among them.
    pub fn reject(&mut self, event_id: i64, events: usize) {
        if self.rejected.len() >= self.rejected_max {
            self.rejected.retain(|_, events| *events > ALONE);
            // Without the growth, each further event would search all of them again.
            self.rejected_max = REJECTED_MAX.max(2 * self.rejected.len());
        }
        self.rejected.insert(event_id, if events > 1 { (events / 2).max(1) } else { ALONE });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_a_split_goes_on() {
        let mut batches = Batches::default();
        let split = 1..=500;
        split.clone().for_each(|event| batches.reject(event, 500));
        (1_000..200_000).for_each(|event| batches.reject(event, 1));
        assert!(batches.rejected.len() <= 2 * REJECTED_MAX, "{}", batches.rejected.len());
        assert!(split.clone().all(|event| batches.events_max(event) == 250));
        split.for_each(|event| batches.reject(event, 2));
        assert_eq!((batches.events_max(1), batches.events_max(199_999)), (1, 1));
        assert_eq!(batches.events_max(1_000), usize::MAX, "it was forgotten");
    }
}
