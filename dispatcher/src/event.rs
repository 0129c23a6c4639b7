//! One row of `webhook.event`, as it travels through the daemon. Pure.

use bytes::Bytes;

/// Where an event is found, with its id: the partition and the index on transaction and id.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Slot of the ring.
    pub slot: i16,
    /// Full id of the top-level transaction that wrote it.
    pub xid: u64,
}

/// A committed event. Shared by all lanes it belongs to; never changed after it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `webhook.event.id`: the sequence number; the events of one row rise.
    pub id: i64,
    /// Slot of the ring.
    pub slot: i16,
    /// Full id of the top-level transaction that wrote it.
    pub xid: u64,
    /// When the change was captured, in microseconds since 1970 (UTC).
    pub created_at_us: i64,
    /// For this subscription alone (a ping); `None`: for all that match.
    pub subscription_id: Option<i64>,
    /// The payload was over the cap and has been cut to the key columns.
    pub truncated: bool,
    /// `noun.verb` or `namespace.noun.verb`.
    pub event_type: Box<str>,
    /// Qualified table name; `None` for `webhook_emit()`.
    pub table_name: Option<Box<str>>,
    /// Which thing it is about.
    pub key: Option<Box<str>>,
    /// Who did it.
    pub actor: Option<Box<str>>,
    /// Which system did it.
    pub origin: Option<Box<str>>,
    /// W3C trace context of the writing session.
    pub traceparent: Option<Box<str>>,
    /// The bytes of `data`, verbatim as stored.
    pub payload: Bytes,
    /// The bytes of `previous`, verbatim as stored.
    pub previous: Option<Bytes>,
}

impl Event {
    /// Where it is found.
    pub fn place(&self) -> Place {
        Place { slot: self.slot, xid: self.xid }
    }
}

#[cfg(test)]
impl Event {
    /// An unremarkable event, for tests to vary.
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
        }
    }
}
