//! Format `raw`: the body is `data` as it was stored, and headers carry the other attributes. The
//! formats of other products have these headers too.

use crate::body::{Content, text::header_value};
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Returns the headers in addition to `webhook-id`. Texts are percent-encoded as in CloudEvents.
pub fn headers(content: &Content<'_>) -> HeaderMap {
    let event = content.event;
    let mut map = HeaderMap::with_capacity(6);
    if let Some(event_type) = header_value(&event.event_type) {
        map.insert(HeaderName::from_static("webhook-event-type"), event_type);
    }
    map.insert(HeaderName::from_static("webhook-sequence"), HeaderValue::from(event.id));
    if let Some(key) = event.key.as_deref().and_then(header_value) {
        map.insert(HeaderName::from_static("webhook-key"), key);
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
