//! The example of an event as a request: the bytes that the daemon would send, in each format,
//! signed with a public example secret. Pure.

use crate::page::docs::document::{member, text};
use bytes::Bytes;
use delivery::{
    body::{Source, content_type, render},
    event::Event,
    shape::{Format, PayloadMode, Shape},
};
use serde_json::value::RawValue;
use signature::Secret;

/// The secret of the examples: 32 bytes from 0 to 31.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Second of the attempt, as in the examples of the document's headers.
pub const TIMESTAMP: i64 = 1_795_318_680;

/// A program that verifies signatures: for `RECEIVING.md`, for the tests, and for the page.
#[derive(Debug)]
pub struct Snippet {
    pub language: &'static str,
    pub file: &'static str,
    pub text: &'static str,
}

macro_rules! snippets {
    ($($language:literal $file:literal),* $(,)?) => {
        [$(Snippet { language: $language, file: $file, text: include_str!(concat!("../../../../../docs/receivers/", $file)) }),*]
    };
}

pub const SNIPPETS: [Snippet; 6] = snippets![
    "Python" "verify.py",
    "JavaScript" "verify.mjs",
    "Ruby" "verify.rb",
    "PHP" "verify.php",
    "Go" "verify.go",
    "Java" "Verify.java",
];

/// A request.
#[derive(Debug)]
pub struct EventSample {
    pub format: Format,
    pub head: String,
    pub body: Bytes,
}

/// Returns the event of an example. `key` contains the names of its key columns.
fn event(example: &RawValue, key: &[String]) -> Option<Event> {
    let created_at_us =
        i64::from_str_radix(text(example, "id")?.strip_prefix("evt_")?.get(..14)?, 16).ok()?;
    let bytes =
        |name: &str| member(example, name).map(|value| Bytes::copy_from_slice(value.get().as_bytes()));
    let data = member(example, "data")?;
    Some(Event {
        id: serde_json::from_str(member(example, "sequence")?.get()).ok()?,
        slot: 0,
        xid: 0,
        created_at_us,
        subscription_id: None,
        truncated: false,
        event_type: text(example, "type")?.into(),
        table_name: text(example, "table").map(Into::into),
        key: key_of(data, key).map(Into::into),
        actor: text(example, "actor").map(Into::into),
        origin: None,
        traceparent: None,
        payload: bytes("data")?,
        previous: bytes("previous"),
        owner: None,
        order_key: None,
        replaced: false,
    })
}

/// Returns the key as capture writes it: the text of the one key column, or a JSON array of the
/// texts of several.
fn key_of(data: &RawValue, names: &[String]) -> Option<String> {
    let texts = names.iter().map(|name| {
        let value = member(data, name)?;
        Some(text(data, name).unwrap_or_else(|| value.get().to_owned()))
    });
    let texts = texts.collect::<Option<Vec<String>>>()?;
    match texts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        all => serde_json::to_string(all).ok(),
    }
}

/// Returns the example in every format, in their order.
pub fn requests(example: &RawValue, key: &[String], source: &Source) -> Vec<EventSample> {
    let (Some(event), Ok(secret)) = (event(example, key), Secret::parse(SECRET)) else { return Vec::new() };
    let id = delivery::body::public_id(&event);
    Format::ALL
        .into_iter()
        .map(|format| {
            let rendered = render(&event, 1, Shape { format, payload_mode: PayloadMode::Full }, source);
            let mut lines = vec![
                "POST /your/path HTTP/1.1".to_owned(),
                format!("content-type: {}", String::from_utf8_lossy(content_type(format, false).as_bytes())),
                format!("webhook-id: {id}"),
                format!("webhook-timestamp: {TIMESTAMP}"),
                format!("webhook-signature: {}", signature::sign(&secret, &id, TIMESTAMP, &rendered.body)),
            ];
            for (name, value) in rendered.headers.iter().flat_map(|headers| headers.iter()) {
                lines.push(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
            }
            EventSample { format, head: lines.join("\n"), body: rendered.body }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = r#"{"id":"evt_0660d5342ff8402a","type":"order.created","timestamp":"2026-11-22T03:38:00.123456Z","sequence":42,"table":"public.orders","data":{"b":"x","id":17,"total":1.50}}"#;

    #[test]
    fn the_standard_request_is_the_document_s_example_to_the_byte() {
        let example: &RawValue = serde_json::from_str(EXAMPLE).unwrap();
        let samples = requests(example, &["id".to_owned()], &Source::of_database("shop"));
        assert_eq!(samples.len(), Format::ALL.len());
        assert_eq!(samples[0].body, EXAMPLE);
        assert!(samples[0].head.contains("\nwebhook-id: evt_0660d5342ff8402a\n"), "{}", samples[0].head);
        let binary = samples.iter().find(|one| one.format == Format::CloudEventsBinary).unwrap();
        assert!(binary.head.contains("ce-subject: 17") && binary.body == r#"{"b":"x","id":17,"total":1.50}"#);
    }

    #[test]
    fn what_is_shown_verifies() {
        let example: &RawValue = serde_json::from_str(EXAMPLE).unwrap();
        let verifier = signature::Verifier::parse(SECRET).unwrap();
        for sample in requests(example, &[], &Source::of_database("shop")) {
            let header = |name: &str| sample.head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let message =
                signature::Message { id: header("webhook-id: "), timestamp: TIMESTAMP, body: &sample.body };
            assert_eq!(verifier.verify(&message, header("webhook-signature: "), TIMESTAMP), Ok(()));
        }
    }

    #[test]
    fn a_key_is_written_as_capture_does() {
        let data: &RawValue = serde_json::from_str(r#"{"a":"x\"y","n":1.50,"z":null}"#).unwrap();
        let of =
            |names: &[&str]| key_of(data, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["a"]).as_deref(), Some("x\"y"));
        assert_eq!(of(&["n", "a"]).as_deref(), Some(r#"["1.50","x\"y"]"#));
        assert_eq!((of(&[]), of(&["b"])), (None, None));
    }

    #[test]
    fn an_example_that_is_none_makes_no_request() {
        for text in [
            "{}",
            "null",
            r#"{"id":"evt_x","sequence":1,"type":"a.b","data":{}}"#,
            r#"{"id":"evt_ä","data":1}"#,
        ] {
            let example: &RawValue = serde_json::from_str(text).unwrap();
            assert!(requests(example, &[], &Source::of_database("shop")).is_empty(), "{text}");
        }
    }
}
