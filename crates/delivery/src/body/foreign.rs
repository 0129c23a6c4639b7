//! Formats `supabase` and `hasura`: the bodies of Supabase's Database Webhooks and of Hasura's
//! event triggers, for receivers that already exist. Pure.
//!
//! Sources: <https://supabase.com/docs/guides/database/webhooks>,
//! <https://hasura.io/docs/latest/event-triggers/payload>.
//!
//! With the payload mode `full`, both formats carry the whole row before and after the change. The
//! old row is `data` with the values of `previous` put back. The verb selects the operation, so a
//! watch with custom verbs needs verbs that this module knows. An event with `previous` is an
//! update under any other verb.
//!
//! A body is the same for every attempt, so it cannot carry Hasura's counter of attempts.
//! `delivery_info` is that of a trigger without retries.

use crate::{
    body::{
        Content,
        text::{push_text, push_timestamp},
    },
    event::Event,
    members,
};
use bytes::Bytes;
use std::{borrow::Cow, io::Write};

/// Bytes reserved for the names of the members, the id, and the time.
const FIXED_BYTES: usize = 320;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation<'a> {
    Insert,
    Update,
    Delete,
    Truncate,
    /// An existing row, sent by a backfill.
    Snapshot,
    /// An operation that neither the verb nor the event reveals.
    Other(&'a str),
}

impl<'a> Operation<'a> {
    fn of(event: &'a Event) -> Self {
        match event.event_type.rsplit_once('.').map_or(&*event.event_type, |(_, verb)| verb) {
            "created" | "inserted" | "insert" => Self::Insert,
            "updated" | "update" => Self::Update,
            "deleted" | "delete" => Self::Delete,
            "truncated" | "truncate" => Self::Truncate,
            "snapshot" => Self::Snapshot,
            _ if event.previous.is_some() => Self::Update,
            verb => Self::Other(verb),
        }
    }
}

/// The row after and before the change.
struct Rows<'a> {
    new: Option<&'a [u8]>,
    old: Option<Cow<'a, [u8]>>,
}

impl<'a> Rows<'a> {
    fn of(content: &'a Content<'_>, operation: Operation<'_>) -> Self {
        let data = content.data.as_deref();
        match operation {
            Operation::Insert | Operation::Snapshot | Operation::Other(_) => Self { new: data, old: None },
            Operation::Delete => Self { new: None, old: data.map(Cow::Borrowed) },
            Operation::Truncate => Self { new: None, old: None },
            Operation::Update => {
                let before = |previous: &'a [u8]| {
                    data.and_then(|data| members::restored(data, previous))
                        .map_or(Cow::Borrowed(previous), Cow::Owned)
                };
                Self { new: data, old: content.previous.map(before) }
            }
        }
    }

    fn len(&self) -> usize {
        self.new.map_or(0, <[u8]>::len) + self.old.as_ref().map_or(0, |old| old.len())
    }
}

/// Returns `{"type":"UPDATE","table":"orders","schema":"public","record":{…},"old_record":{…}}`.
pub fn supabase(content: &Content<'_>) -> Bytes {
    let operation = Operation::of(content.event);
    let rows = Rows::of(content, operation);
    let (schema, table) = names(content.event);
    let mut out = Vec::with_capacity(FIXED_BYTES + rows.len());
    out.extend_from_slice(br#"{"type":"#);
    push_text(&mut out, &supabase_type(operation));
    push_member(&mut out, "table", |out| push_text_or_null(out, table.as_deref()));
    push_member(&mut out, "schema", |out| push_text_or_null(out, schema.as_deref()));
    push_member(&mut out, "record", |out| push_or_null(out, rows.new));
    push_member(&mut out, "old_record", |out| push_or_null(out, rows.old.as_deref()));
    out.push(b'}');
    out.into()
}

/// Returns `TG_OP`. A backfilled row is new to the receiver, so it counts as an insert.
fn supabase_type<'a>(operation: Operation<'a>) -> Cow<'a, str> {
    match operation {
        Operation::Insert | Operation::Snapshot => "INSERT".into(),
        Operation::Update => "UPDATE".into(),
        Operation::Delete => "DELETE".into(),
        Operation::Truncate => "TRUNCATE".into(),
        Operation::Other(verb) => verb.to_uppercase().into(),
    }
}

/// Returns the body of a Hasura event trigger:
/// `{"created_at":…,"delivery_info":…,"event":{"data":{"new":…,"old":…},"op":…,…},"id":…,…}`.
pub fn hasura(content: &Content<'_>) -> Bytes {
    let event = content.event;
    let operation = Operation::of(event);
    let rows = Rows::of(content, operation);
    let (schema, table) = names(event);
    let noun = event.event_type.rsplit_once('.').map_or("", |(noun, _)| noun);
    let mut out = Vec::with_capacity(FIXED_BYTES + rows.len() + content.actor().map_or(0, str::len));
    out.extend_from_slice(br#"{"created_at":""#);
    push_timestamp(&mut out, event.created_at_us);
    out.extend_from_slice(
        br#"","delivery_info":{"current_retry":0,"max_retries":0},"event":{"data":{"new":"#,
    );
    push_or_null(&mut out, rows.new);
    push_member(&mut out, "old", |out| push_or_null(out, rows.old.as_deref()));
    out.push(b'}');
    push_member(&mut out, "op", |out| push_text(out, hasura_op(operation)));
    push_member(&mut out, "session_variables", |out| push_session_variables(out, content.actor()));
    push_member(&mut out, "trace_context", |out| push_trace_context(out, event.traceparent.as_deref()));
    // Writing to a Vec cannot fail.
    let _ = write!(out, r#"}},"id":"{}","table":{{"name":"#, uuid(event));
    push_text_or_null(&mut out, table.as_deref());
    push_member(&mut out, "schema", |out| push_text_or_null(out, schema.as_deref()));
    out.extend_from_slice(br#"},"trigger":{"name":"#);
    push_text(&mut out, noun);
    out.extend_from_slice(b"}}");
    out.into()
}

/// Returns Hasura's `op`. An event that is not a change of a row counts as a manual invocation.
fn hasura_op(operation: Operation<'_>) -> &'static str {
    match operation {
        Operation::Insert => "INSERT",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Truncate | Operation::Snapshot | Operation::Other(_) => "MANUAL",
    }
}

/// Writes `session_variables`. An actor that is a JSON object, as in `hasura.user`, is used as it
/// is. Any other text becomes the user's id.
fn push_session_variables(out: &mut Vec<u8>, actor: Option<&str>) {
    let Some(actor) = actor else { return out.extend_from_slice(b"null") };
    if actor.starts_with('{') && serde_json::from_str::<&serde_json::value::RawValue>(actor).is_ok() {
        return out.extend_from_slice(actor.as_bytes());
    }
    out.extend_from_slice(br#"{"x-hasura-user-id":"#);
    push_text(out, actor);
    out.push(b'}');
}

/// Writes the trace id and the span id of `00-<trace id>-<span id>-<flags>`.
fn push_trace_context(out: &mut Vec<u8>, traceparent: Option<&str>) {
    let is_hex =
        |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<&str> = traceparent.unwrap_or_default().split('-').collect();
    match parts.as_slice() {
        [_, trace, span, ..] if is_hex(trace, 32) && is_hex(span, 16) => {
            // Writing to a Vec cannot fail.
            let _ = write!(out, r#"{{"span_id":"{span}","trace_id":"{trace}"}}"#);
        }
        _ => out.extend_from_slice(b"null"),
    }
}

/// Returns the two numbers of an event's id as a UUID of version 8. It is as unique as the id, and
/// the same for every attempt.
fn uuid(event: &Event) -> String {
    let bits = (u128::from(event.created_at_us.cast_unsigned()) << 64 | u128::from(event.id.cast_unsigned()))
        & (u128::MAX >> 6);
    let (high, middle, low) = (bits >> 74, bits >> 62 & 0xfff, bits & (u128::MAX >> 66));
    let all = high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low;
    let hex = format!("{all:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Splits a qualified name with SQL's quoting into schema and table.
fn names(event: &Event) -> (Option<String>, Option<String>) {
    let Some(name) = event.table_name.as_deref() else { return (None, None) };
    let (mut parts, mut is_quoted) = (vec![String::new()], false);
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.next_if_eq(&'"').is_some() => push_last(&mut parts, '"'),
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            other => push_last(&mut parts, other),
        }
    }
    let table = parts.pop();
    (parts.pop(), table)
}

fn push_last(parts: &mut [String], character: char) {
    if let Some(last) = parts.last_mut() {
        last.push(character);
    }
}

fn push_member(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(b',');
    push_text(out, name);
    out.push(b':');
    value(out);
}

fn push_or_null(out: &mut Vec<u8>, json: Option<&[u8]>) {
    out.extend_from_slice(json.unwrap_or(b"null"));
}

fn push_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::PayloadMode;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::HashSet;

    fn event(event_type: &str) -> Event {
        Event {
            created_at_us: 1_795_318_680_123_456,
            event_type: event_type.into(),
            table_name: Some("public.orders".into()),
            key: Some("17".into()),
            payload: Bytes::from_static(br#"{"id":17, "total":1.50,"note":null}"#),
            ..Event::sample(42)
        }
    }

    fn text(body: Bytes) -> String {
        String::from_utf8(body.to_vec()).unwrap()
    }

    fn in_supabase(event: &Event) -> String {
        text(supabase(&Content::of(event, 1, PayloadMode::Full)))
    }

    fn in_hasura(event: &Event) -> String {
        text(hasura(&Content::of(event, 1, PayloadMode::Full)))
    }

    #[test]
    fn supabase_is_known_to_the_byte() {
        let row = r#"{"id":17, "total":1.50,"note":null}"#;
        let of = |kind: &str, new: &str, old: &str| {
            format!(
                r#"{{"type":"{kind}","table":"orders","schema":"public","record":{new},"old_record":{old}}}"#
            )
        };
        assert_eq!(in_supabase(&event("order.created")), of("INSERT", row, "null"));
        assert_eq!(in_supabase(&event("sales.order.deleted")), of("DELETE", "null", row));
        assert_eq!(in_supabase(&event("order.snapshot")), of("INSERT", row, "null"));
        assert_eq!(in_supabase(&event("order.truncated")), of("TRUNCATE", "null", "null"));
        let previous = Some(Bytes::from_static(br#"{"total":1.0}"#));
        for verb in ["updated", "changed"] {
            let update = Event { previous: previous.clone(), ..event(&format!("order.{verb}")) };
            assert_eq!(in_supabase(&update), of("UPDATE", row, r#"{"id":17,"total":1.0,"note":null}"#));
        }
        assert_eq!(in_supabase(&event("order.placed")), of("PLACED", row, "null"));
        let bare = Event { table_name: None, ..event("webhook.ping") };
        assert_eq!(
            in_supabase(&bare),
            format!(r#"{{"type":"PING","table":null,"schema":null,"record":{row},"old_record":null}}"#)
        );
    }

    #[test]
    fn hasura_is_known_to_the_byte() {
        let update = Event {
            previous: Some(Bytes::from_static(br#"{"total":1.0}"#)),
            actor: Some("7".into()),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..event("order.updated")
        };
        assert_eq!(
            in_hasura(&update),
            r#"{"created_at":"2026-11-22T03:38:00.123456Z","delivery_info":{"current_retry":0,"max_retries":0},"event":{"data":{"new":{"id":17, "total":1.50,"note":null},"old":{"id":17,"total":1.0,"note":null}},"op":"UPDATE","session_variables":{"x-hasura-user-id":"7"},"trace_context":{"span_id":"b7ad6b7169203331","trace_id":"0af7651916cd43dd8448eb211c80319c"}},"id":"0198354d-0bfe-8100-8000-00000000002a","table":{"name":"orders","schema":"public"},"trigger":{"name":"order"}}"#
        );
        for (event_type, op) in [
            ("a.created", "INSERT"),
            ("a.deleted", "DELETE"),
            ("a.snapshot", "MANUAL"),
            ("a.b", "MANUAL"),
            ("a.truncated", "MANUAL"),
        ] {
            let parsed: Value = serde_json::from_str(&in_hasura(&event(event_type))).unwrap();
            assert_eq!(parsed["event"]["op"], op, "{event_type}");
            assert_eq!(parsed["event"]["session_variables"], Value::Null);
            let (new, old) = (&parsed["event"]["data"]["new"], &parsed["event"]["data"]["old"]);
            assert_eq!(
                (new.is_null(), old.is_null()),
                (["DELETE"].contains(&op) || event_type == "a.truncated", op != "DELETE"),
                "{event_type}"
            );
        }
    }

    #[test]
    fn session_variables_are_passed_on_as_they_are() {
        let of = |actor: &str| {
            let body = in_hasura(&Event { actor: Some(actor.into()), ..event("order.created") });
            serde_json::from_str::<Value>(&body).unwrap()["event"]["session_variables"].clone()
        };
        assert_eq!(
            of(r#"{"x-hasura-role":"user","x-hasura-user-id":"7"}"#),
            json!({ "x-hasura-role": "user", "x-hasura-user-id": "7" })
        );
        assert_eq!(of("user \"7\""), json!({ "x-hasura-user-id": "user \"7\"" }));
        assert_eq!(of("{broken"), json!({ "x-hasura-user-id": "{broken" }));
    }

    #[test]
    fn what_is_no_trace_is_none() {
        for traceparent in ["", "00-x-y-01", "00-0af7651916cd43dd8448eb211c80319c", "\""] {
            let body = in_hasura(&Event { traceparent: Some(traceparent.into()), ..event("order.created") });
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["event"]["trace_context"], Value::Null);
        }
    }

    #[test]
    fn a_former_row_that_is_no_object_is_told_as_it_is() {
        let odd = Event { payload: "[1]".into(), previous: Some("[0]".into()), ..event("a.updated") };
        assert_eq!(serde_json::from_str::<Value>(&in_supabase(&odd)).unwrap()["old_record"], json!([0]));
    }

    proptest! {
        #[test]
        fn a_name_comes_apart_as_it_was_put_together(schema in "\\PC{1,12}", table in "\\PC{1,12}") {
            let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
            let name = format!("{}.{}", quoted(&schema), quoted(&table));
            let event = Event { table_name: Some(name.into()), ..event("a.b") };
            prop_assert_eq!(names(&event), (Some(schema), Some(table)));
        }

        #[test]
        fn uuids_are_as_unique_as_events(all in proptest::collection::hash_set((0i64..1 << 56, 0i64..=i64::MAX), 2..20)) {
            let uuids: HashSet<String> =
                all.iter().map(|(us, id)| uuid(&Event { created_at_us: *us, ..Event::sample(*id) })).collect();
            prop_assert_eq!(uuids.len(), all.len());
            for text in uuids {
                let parts: Vec<&str> = text.split('-').collect();
                prop_assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
                prop_assert!(parts[2].starts_with('8') && parts[3].starts_with(['8', '9', 'a', 'b']), "{}", text);
            }
        }

        #[test]
        fn both_are_json_whatever_is_in_them(
            verb in "[a-z]{1,8}|created|updated|deleted", table in proptest::option::of("\\PC{0,12}"), actor in proptest::option::of("\\PC{0,12}"),
            x in "\\PC{0,8}", previous in proptest::option::of("\\PC{0,8}"),
        ) {
            let event = Event {
                event_type: format!("a.{verb}").into(),
                table_name: table.map(Into::into),
                actor: actor.map(Into::into),
                payload: json!({ "x": x, "y": 1 }).to_string().into(),
                previous: previous.map(|was| json!({ "x": was }).to_string().into()),
                ..event("a.b")
            };
            for body in [in_supabase(&event), in_hasura(&event)] {
                prop_assert!(serde_json::from_str::<Value>(&body).is_ok(), "{}", body);
            }
        }
    }
}
