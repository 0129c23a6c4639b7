//! A row of `webhook.event` as the daemon passes it around. Pure.

use bytes::Bytes;

/// The owner of an announcement, which the subscriptions of every owner get.
pub const EVERY_OWNER: &str = "*";

/// The event type of `webhook_ping()`.
const PING: &str = "webhook.ping";

/// Locates an event, together with its id: the partition, and the index on transaction and id.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Slot of the ring.
    pub slot: i16,
    /// Full id of the top-level transaction that wrote the event.
    pub xid: u64,
}

/// A committed event. All send_queues that it belongs to share it; it never changes after it was
/// read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `webhook.event.id`, the sequence number. It increases from event to event of one row.
    pub id: i64,
    /// Slot of the ring.
    pub slot: i16,
    /// Full id of the top-level transaction that wrote the event.
    pub xid: u64,
    /// Time of the capture, in microseconds since 1970 (UTC).
    pub created_at_us: i64,
    /// The only subscription that gets the event (a ping). `None` for every subscription that
    /// matches.
    pub subscription_id: Option<i64>,
    /// The payload was over the limit and has been cut to the key columns.
    pub truncated: bool,
    /// `noun.verb` or `namespace.noun.verb`.
    pub event_type: Box<str>,
    /// Qualified table name; `None` for `webhook_emit()`.
    pub table_name: Option<Box<str>>,
    /// The key of the row or thing that the event is about.
    pub key: Option<Box<str>>,
    /// The user or program that made the change.
    pub actor: Option<Box<str>>,
    /// The system that made the change.
    pub origin: Option<Box<str>>,
    /// W3C trace context of the writing session.
    pub traceparent: Option<Box<str>>,
    /// The bytes of `data`, verbatim as stored.
    pub payload: Bytes,
    /// The bytes of `previous`, verbatim as stored.
    pub previous: Option<Bytes>,
    /// The owner whose subscriptions get the event, or [`EVERY_OWNER`]. `None`: no owner's.
    pub owner: Option<Box<str>>,
    /// The order key of the exact key, if reading may have changed the key: in a database that is
    /// not in UTF-8.
    pub order_key: Option<i64>,
    /// U+FFFD stands for a part of a text that UTF-8 lacks.
    pub replaced: bool,
}

impl Event {
    /// Returns the place of the event.
    pub fn place(&self) -> Place {
        Place { slot: self.slot, xid: self.xid }
    }

    /// Reports whether the event is a test of one receiver (`webhook_ping()`).
    pub fn is_ping(&self) -> bool {
        self.subscription_id.is_some() && &*self.event_type == PING
    }
}

#[cfg(any(test, feature = "samples"))]
impl Event {
    /// Returns an ordinary event for tests to vary.
    pub fn sample(id: i64) -> Self {
        Self {
            id,
            slot: 0,
            xid: 1000,
            created_at_us: 1_700_000_000_000_000 + id,
            subscription_id: None,
            truncated: false,
            event_type: "order.created".into(),
            table_name: None,
            key: None,
            actor: None,
            origin: None,
            traceparent: None,
            payload: Bytes::from_static(b"{}"),
            previous: None,
            owner: None,
            order_key: None,
            replaced: false,
        }
    }
}
