//! The id and the body of a request that carries several events. Pure.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::{fmt::Write, sync::Arc};

/// Number of digest bytes in the id.
const DIGEST_BYTES: usize = 8;

/// Returns `bat_` and 16 hex digits of the SHA-256 of the events' ids, joined with commas. The same
/// events have the same id.
pub fn id(events: &[Arc<str>]) -> Arc<str> {
    let mut digest = Sha256::new();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            digest.update(b",");
        }
        digest.update(event.as_bytes());
    }
    let mut id = String::from("bat_");
    for byte in &digest.finalize()[..DIGEST_BYTES] {
        // Writing to a String cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    id.into()
}

/// Returns the JSON array of the events' bodies, each of which is JSON.
pub fn body(events: &[Bytes]) -> Bytes {
    let mut body = Vec::with_capacity(2 + events.iter().map(|event| event.len() + 1).sum::<usize>());
    body.push(b'[');
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.push(b']');
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_events_have_the_same_id() {
        let ids = ["evt_0660d5342ff8402a", "evt_0660d5342ff8402b"].map(Arc::from);
        // printf 'evt_0660d5342ff8402a,evt_0660d5342ff8402b' | sha256sum
        assert_eq!(&*id(&ids), "bat_31e74bd744d3a330");
        assert_ne!(id(&ids[..1]), id(&ids));
    }

    #[test]
    fn a_body_is_an_array() {
        assert_eq!(body(&[Bytes::from_static(b"{}"), Bytes::from_static(b"1")]), "[{},1]");
        assert_eq!(body(&[Bytes::from_static(b"{}")]), "[{}]");
    }
}
