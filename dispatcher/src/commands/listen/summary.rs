//! The summary of a webhook in any format. Pure.

use delivery::members::members;
use hyper::header::HeaderMap;
use serde_json::value::RawValue;
use std::borrow::Cow;
use url::form_urlencoded;

/// The parts for one line. Texts are as they were sent, including control characters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The types of the events, in order. A batch has several.
    pub types: Vec<String>,
    pub sequence: Option<i64>,
    pub table: Option<String>,
    pub actor: Option<String>,
    /// Number of changes that the event merges.
    pub compacted: Option<u64>,
}

impl Summary {
    /// A body with the signed id comes first: headers are not signed, so they must not replace its
    /// members. Then headers: if a format has its attributes there, the body contains only data.
    pub fn of(headers: &HeaderMap, body: &[u8], json: Option<&RawValue>) -> Self {
        let id = headers.get("webhook-id").and_then(|value| value.to_str().ok());
        if let Some(member) = json.map(texts)
            && id.is_some()
            && member("id").as_deref() == id
        {
            return Self::from_members(member("type"), member);
        }
        let attribute = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(decoded);
        for (event_type, prefix) in [("ce-type", "ce"), ("webhook-event-type", "webhook")] {
            if let Some(event_type) = attribute(event_type) {
                let member = |name: &str| attribute(&format!("{prefix}-{name}"));
                return Self::from_members(Some(event_type), member);
            }
        }
        if is_form(headers) {
            let fields: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(body).collect();
            let field = |name: &str| {
                fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.to_string())
            };
            return Self::from_members(field("type"), field);
        }
        let Some(json) = json else { return Self::default() };
        if let Ok(events) = serde_json::from_str::<Vec<&RawValue>>(json.get()) {
            let types = events.into_iter().filter_map(|event| texts(event)("type")).collect();
            return Self { types, ..Self::default() };
        }
        let member = texts(json);
        Self::from_members(member("type"), member)
    }

    fn from_members(event_type: Option<String>, member: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            types: event_type.into_iter().collect(),
            sequence: member("sequence").and_then(|text| text.parse().ok()),
            table: member("table"),
            actor: member("actor"),
            compacted: member("compacted").and_then(|text| text.parse().ok()),
        }
    }
}

/// Reports whether the body is a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim() == "application/x-www-form-urlencoded"
}

/// Finds a member of an object, a text or a number, because CloudEvents have their sequence as a
/// text. Of several members with one name, the last counts. The contents of members are not parsed,
/// so numbers and depth are not limited.
fn texts(event: &RawValue) -> impl Fn(&str) -> Option<String> {
    let members = members(event.get().as_bytes()).unwrap_or_default();
    move |name| {
        let (_, value) = members.iter().rev().find(|(member, _)| member == name)?;
        match value.get().as_bytes() {
            [b'"', ..] => serde_json::from_str(value.get()).ok(),
            [b'-' | b'0'..=b'9', ..] => Some(value.get().to_owned()),
            _ => None,
        }
    }
}

/// Removes percent-encoding. Invalid encoding stays unchanged.
fn decoded(text: &str) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let escape = match tail {
            [high, low, after @ ..] if *first == b'%' => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*first, tail));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::{
        body::{Source, content_type, render},
        event::Event,
        shape::{Format, PayloadMode, Shape},
    };
    use std::collections::BTreeSet;

    #[test]
    fn every_format_says_the_same() {
        let event = Event {
            table_name: Some("public.\"Größe\"".into()),
            actor: Some("user 7%".into()),
            payload: "{\"type\":\"decoy\"}".into(),
            ..Event::sample(42)
        };
        for format in Format::ALL {
            let shape = Shape { format, payload_mode: PayloadMode::Full };
            let rendered = render(&event, 3, shape, &Source::of_database("shop"));
            let mut headers = rendered.headers.map(|map| (*map).clone()).unwrap_or_default();
            headers.insert("content-type", content_type(format, false));
            let json: Option<&RawValue> = serde_json::from_slice(&rendered.body).ok();
            let is_raw = matches!(format, Format::Raw | Format::Supabase | Format::Hasura);
            let wanted = Summary {
                types: vec!["order.created".into()],
                sequence: Some(42),
                table: (!is_raw).then(|| "public.\"Größe\"".into()),
                actor: (!is_raw).then(|| "user 7%".into()),
                compacted: Some(3),
            };
            assert_eq!(Summary::of(&headers, &rendered.body, json), wanted, "{format:?}");
        }
    }

    #[test]
    fn a_header_does_not_replace_a_member_of_the_signed_body() {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "evt_1".parse().unwrap());
        headers.insert("ce-type", "order.deleted".parse().unwrap());
        let of = |body: &str| Summary::of(&headers, body.as_bytes(), serde_json::from_str(body).ok()).types;
        assert_eq!(of(r#"{"id":"evt_1","type":"order.updated","data":{}}"#), ["order.updated"]);
        assert_eq!(of(r#"{"id":17,"type":"a column"}"#), ["order.deleted"]);
    }

    #[test]
    fn a_batch_has_the_types_of_its_events() {
        let json = r#"[{"type": "a.b", "sequence": 1}, {"type": "c.d", "data": 1e400}, 7]"#;
        let summary = Summary::of(&HeaderMap::new(), b"", serde_json::from_str(json).ok());
        assert_eq!(summary, Summary { types: vec!["a.b".into(), "c.d".into()], ..Summary::default() });
    }

    #[test]
    fn only_escapes_are_decoded() {
        let texts = ["100%", "%zz%4", "%C3%A4+%20", "%FF"].map(decoded);
        assert_eq!(texts, ["100%", "%zz%4", "ä+ ", "\u{fffd}"]);
        assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), 4);
    }
}
