//! Format `form`: the members of the standard body as the fields of an HTML form. `data` and
//! `previous` are JSON in the text of one field each.

use crate::body::{
    Content,
    text::{public_id, timestamp},
};
use bytes::Bytes;
use url::form_urlencoded::byte_serialize;

/// Returns the body in `application/x-www-form-urlencoded`, as the URL standard writes it.
pub fn body(content: &Content<'_>) -> Bytes {
    let event = content.event;
    let mut out = String::new();
    let mut field = |name: &str, value: &[u8]| {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.extend(byte_serialize(value));
    };
    field("id", public_id(event).as_bytes());
    field("type", event.event_type.as_bytes());
    field("timestamp", timestamp(event.created_at_us).as_bytes());
    field("sequence", event.id.to_string().as_bytes());
    if let Some(table) = &event.table_name {
        field("table", table.as_bytes());
    }
    if let Some(key) = content.key {
        field("key", key.as_bytes());
    }
    if let Some(actor) = content.actor() {
        field("actor", actor.as_bytes());
    }
    if content.truncated() {
        field("truncated", b"true");
    }
    if event.replaced {
        field("replaced", b"true");
    }
    if let Some(changes) = content.compacted() {
        field("compacted", changes.to_string().as_bytes());
    }
    if let Some(data) = &content.data {
        field("data", data);
    }
    if let Some(previous) = content.previous {
        field("previous", previous);
    }
    out.into()
}
