//! An event on its way out: what every subscription of it shares, made once, and counted against the memory bound. Pure.

use crate::{delivery::payload, event::Event};
use bytes::Bytes;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes of events in memory; every [`Message`] counts itself in and out.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

impl Budget {
    pub fn bytes_held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An event with its body and public id, both made when first asked for.
#[derive(Debug)]
pub struct Message {
    event: Event,
    /// How many changes it is made of.
    changes: u32,
    id: OnceLock<Arc<str>>,
    body: OnceLock<Bytes>,
    bytes: usize,
    budget: Arc<Budget>,
}

/// What a message takes beside its texts: the struct, its lane's entry, allocator overhead.
const OVERHEAD_BYTES: usize = 512;

impl Message {
    pub fn new(event: Event, budget: &Arc<Budget>) -> Self {
        Self::compacted(event, 1, budget)
    }

    /// An event that stands for so many changes of one key.
    pub fn compacted(event: Event, changes: u32, budget: &Arc<Budget>) -> Self {
        // The body repeats payload and previous.
        let bytes =
            OVERHEAD_BYTES + 2 * (event.payload.len() + event.previous.as_ref().map_or(0, Bytes::len));
        budget.0.fetch_add(bytes, Ordering::Relaxed);
        let budget = Arc::clone(budget);
        Self { event, changes, id: OnceLock::new(), body: OnceLock::new(), bytes, budget }
    }

    /// What it counts for in the budget.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn event(&self) -> &Event {
        &self.event
    }

    /// How many changes it is made of: 1, unless several of one key became one event.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// `evt_…`, the `webhook-id`.
    pub fn id(&self) -> Arc<str> {
        Arc::clone(self.id.get_or_init(|| payload::public_id(&self.event).into()))
    }

    /// The same bytes for every attempt and every subscription.
    pub fn body(&self) -> Bytes {
        self.body.get_or_init(|| payload::body(&self.event)).clone()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
