//! Format `standard`: the event as one JSON object.

use crate::body::{
    Content,
    text::{push_text, push_timestamp},
};
use bytes::Bytes;
use std::io::Write;

/// Bytes reserved for the fixed text, three numbers, and the timestamp.
const FIXED_BYTES: usize = 220;

pub fn body(content: &Content<'_>) -> Bytes {
    let event = content.event;
    let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
    let mut out = Vec::with_capacity(
        FIXED_BYTES
            + event.event_type.len()
            + text(&event.table_name)
            + text(&event.actor)
            + content.key.map_or(0, str::len)
            + content.data.as_ref().map_or(0, |data| data.len())
            + content.previous.map_or(0, <[u8]>::len),
    );
    // Writing to a Vec cannot fail.
    let _ = write!(out, r#"{{"id":"evt_{:014x}{:x}","type":"#, event.created_at_us, event.id);
    push_text(&mut out, &event.event_type);
    out.extend_from_slice(br#","timestamp":""#);
    push_timestamp(&mut out, event.created_at_us);
    let _ = write!(out, r#"","sequence":{}"#, event.id);
    if let Some(table) = &event.table_name {
        out.extend_from_slice(br#","table":"#);
        push_text(&mut out, table);
    }
    if let Some(key) = content.key {
        out.extend_from_slice(br#","key":"#);
        push_text(&mut out, key);
    }
    if let Some(actor) = content.actor() {
        out.extend_from_slice(br#","actor":"#);
        push_text(&mut out, actor);
    }
    content.push_marks(&mut out);
    if let Some(data) = &content.data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    if let Some(previous) = content.previous {
        out.extend_from_slice(br#","previous":"#);
        out.extend_from_slice(previous);
    }
    out.push(b'}');
    out.into()
}
