//! The body of a delivery, made from the event row alone: the same bytes for every attempt. Pure.

use crate::event::Event;
use bytes::Bytes;

/// The id receivers see: SQL's `webhook.public_id(id, created_at)`.
pub fn public_id(event: &Event) -> String {
    format!("evt_{:014x}{:x}", event.created_at_us, event.id)
}

/// The body in format `standard`.
pub fn body(_event: &Event) -> Bytes {
    todo!()
}
