//! Format `raw`: the body is `data` as it was stored, and headers carry the other attributes. The
//! formats of other products have these headers too.

use crate::body::{Content, text::header_value};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Returns the headers in addition to `webhook-id`. Texts are percent-encoded as in CloudEvents. A
/// key that is too long is left out, and `webhook-omitted` says so.
pub fn headers(content: &Content<'_>) -> HeaderMap {
    let event = content.event;
    let mut map = HeaderMap::with_capacity(6);
    if let Some(event_type) = header_value(&event.event_type) {
        map.insert(HeaderName::from_static("webhook-event-type"), event_type);
    }
    map.insert(HeaderName::from_static("webhook-sequence"), HeaderValue::from(event.id));
    match event.key.as_deref().map(header_value) {
        Some(Some(key)) => drop(map.insert(HeaderName::from_static("webhook-key"), key)),
        Some(None) => {
            map.insert(HeaderName::from_static("webhook-omitted"), HeaderValue::from_static("key"));
        }
        None => {}
    }
    if content.truncated() {
        map.insert(HeaderName::from_static("webhook-truncated"), HeaderValue::from_static("true"));
    }
    if event.replaced {
        map.insert(HeaderName::from_static("webhook-replaced"), HeaderValue::from_static("true"));
    }
    if let Some(changes) = content.compacted() {
        map.insert(HeaderName::from_static("webhook-compacted"), HeaderValue::from(changes));
    }
    map
}
