//! An event on its way out: what every subscription of it shares, made once, and counted against the memory bound. Pure.

use crate::{delivery::payload, event::Event};
use bytes::Bytes;
use sha2::{Digest, Sha256};
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
    order_key: OnceLock<i64>,
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
        Self {
            event,
            changes,
            order_key: OnceLock::new(),
            id: OnceLock::new(),
            body: OnceLock::new(),
            bytes,
            budget,
        }
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

    /// What `webhook.queue.order_key` holds with ordering `key`: the first 8 bytes of the SHA-256 of the event's key; an
    /// event without one belongs with those of its table, or of its type.
    pub fn order_key(&self) -> i64 {
        *self.order_key.get_or_init(|| {
            let event = &self.event;
            let text = event.key.as_ref().or(event.table_name.as_ref()).unwrap_or(&event.event_type);
            let digest = Sha256::digest(text.as_bytes());
            digest.iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_key_is_what_sql_makes_of_it() {
        let key = |event| Message::new(event, &Arc::default()).order_key();
        // printf 17 | sha256sum, the first 8 bytes as a signed number
        assert_eq!(key(Event { key: Some("17".into()), ..Event::sample(1) }), 4981918036555779351);
        let table = Some("17".into());
        assert_eq!(key(Event { table_name: table, ..Event::sample(1) }), 4981918036555779351);
        assert_eq!(key(Event { event_type: "17".into(), ..Event::sample(1) }), 4981918036555779351);
    }
}
