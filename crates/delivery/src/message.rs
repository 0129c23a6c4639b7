//! An event on its way to the receivers. Pure.
//!
//! A message holds the parts that all subscriptions of the event share. Each part is made once. The
//! message counts its memory against the budget.

use crate::{
    body::{self, Rendered, Source},
    event::Event,
    shape::Shape,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// The number of bytes of events in memory. Each [`Message`] adds and removes its own.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

impl Budget {
    pub fn bytes_held(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An event with its body and public id, which are made on first use.
#[derive(Debug)]
pub struct Message {
    event: Event,
    /// The number of changes that the event is made of.
    changes: u32,
    order_key: OnceLock<i64>,
    id: OnceLock<Arc<str>>,
    /// The body in the shape that most subscriptions have.
    body: OnceLock<Rendered>,
    /// The bodies in the other shapes, by the shape's index minus one.
    others: OnceLock<Box<[OnceLock<Rendered>; Shape::COUNT - 1]>>,
    bytes: usize,
    /// Additional bytes of the other shapes.
    others_bytes: AtomicUsize,
    budget: Arc<Budget>,
}

/// Memory of a message besides its payload: the struct, the entry in its send queue, allocator
/// overhead.
const OVERHEAD_BYTES: usize = 512;

impl Message {
    pub fn new(event: Event, budget: &Arc<Budget>) -> Self {
        Self::compacted(event, 1, budget)
    }

    /// Returns the message of an event that merges `changes` changes of one key.
    pub fn compacted(event: Event, changes: u32, budget: &Arc<Budget>) -> Self {
        // The body repeats payload and previous.
        let bytes =
            OVERHEAD_BYTES + 2 * (event.payload.len() + event.previous.as_ref().map_or(0, Bytes::len));
        budget.0.fetch_add(bytes, Ordering::Relaxed);
        Self {
            event,
            changes,
            order_key: OnceLock::new(),
            id: OnceLock::new(),
            body: OnceLock::new(),
            others: OnceLock::new(),
            bytes,
            others_bytes: AtomicUsize::new(0),
            budget: Arc::clone(budget),
        }
    }

    /// Returns the bytes that the message counted when it was made. Bodies in other shapes are
    /// excluded.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Returns the number of changes: 1, unless several changes of one key were merged.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// Returns the value of `webhook.queue.order_key` for the ordering `key`: the first 8 bytes of
    /// the SHA-256 of the event's key. An event without a key uses its table, or else its type.
    pub fn order_key(&self) -> i64 {
        *self.order_key.get_or_init(|| {
            let event = &self.event;
            if let Some(exact) = event.order_key {
                return exact;
            }
            let text = event.key.as_ref().or(event.table_name.as_ref()).unwrap_or(&event.event_type);
            let digest = Sha256::digest(text.as_bytes());
            digest.iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
        })
    }

    /// Returns `evt_…`, the `webhook-id`.
    pub fn id(&self) -> Arc<str> {
        Arc::clone(self.id.get_or_init(|| body::public_id(&self.event).into()))
    }

    /// Returns the body in a shape. It has the same bytes for every attempt and for every
    /// subscription with that shape.
    pub fn rendered(&self, shape: Shape, source: &Source) -> &Rendered {
        let render = || body::render(&self.event, self.changes, shape, source);
        let Some(place) = shape.index().checked_sub(1) else { return self.body.get_or_init(render) };
        self.others.get_or_init(Box::default)[place].get_or_init(|| {
            let rendered = render();
            let bytes = rendered.bytes();
            self.others_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.budget.0.fetch_add(bytes, Ordering::Relaxed);
            rendered
        })
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let others_bytes = *self.others_bytes.get_mut();
        self.budget.0.fetch_sub(self.bytes + others_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Format, PayloadMode};

    #[test]
    fn subscriptions_of_one_shape_share_a_body_and_every_body_is_counted() {
        let budget = Arc::new(Budget::default());
        let source = Source::of_database("shop");
        let message = Message::new(Event { payload: vec![b'1'; 10_000].into(), ..Event::sample(1) }, &budget);
        let held = budget.bytes_held();
        assert!(held >= 20_000, "the first body is in the estimate");
        message.rendered(Shape::default(), &source);
        assert_eq!(budget.bytes_held(), held);
        for format in Format::ALL {
            for payload_mode in PayloadMode::ALL {
                let shape = Shape { format, payload_mode };
                let (once, again) = (message.rendered(shape, &source), message.rendered(shape, &source));
                assert!(std::ptr::eq(once, again));
                assert!(!once.body.is_empty());
            }
        }
        assert!(budget.bytes_held() > held + 60_000, "the other bodies with data");
        drop(message);
        assert_eq!(budget.bytes_held(), 0);
    }

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
