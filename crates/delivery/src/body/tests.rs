//! Tests every format against known bodies, and against independent parsers.

use crate::body::{text::HEADER_VALUE_BYTES_MAX, *};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

fn event() -> Event {
    Event {
        id: 42,
        slot: 3,
        xid: 7,
        created_at_us: 1_795_318_680_123_456,
        subscription_id: None,
        truncated: false,
        event_type: "order.updated".into(),
        table_name: Some("public.orders".into()),
        key: Some("17".into()),
        actor: Some("user:7".into()),
        origin: None,
        traceparent: None,
        payload: Bytes::from_static(br#"{"id":17, "total":1.50}"#),
        previous: Some(Bytes::from_static(br#"{"total":1.0}"#)),
        owner: None,
        order_key: None,
        replaced: false,
    }
}

fn shaped(event: &Event, changes: u32, format: Format, payload_mode: PayloadMode) -> Rendered {
    render(event, changes, Shape { format, payload_mode }, &Source::of_database("shop"))
}

fn text(rendered: &Rendered) -> &str {
    std::str::from_utf8(&rendered.body).unwrap()
}

/// Returns the format's headers in the order in which they are sent.
fn lines(rendered: &Rendered) -> Vec<String> {
    let headers = rendered.headers.iter().flat_map(|map| map.iter());
    headers.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

const START: &str = r#"{"id":"evt_0660d5342ff8402a","type":"order.updated","timestamp":"2026-11-22T03:38:00.123456Z","sequence":42,"#;

#[test]
fn standard_is_known_to_the_byte() {
    let body =
        |mode| format!("{START}{}", &text(&shaped(&event(), 1, Format::Standard, mode))[START.len()..]);
    let rest = [
        (
            PayloadMode::Full,
            r#""table":"public.orders","actor":"user:7","data":{"id":17, "total":1.50},"previous":{"total":1.0}}"#,
        ),
        (PayloadMode::Thin, r#""table":"public.orders","key":"17"}"#),
        (
            PayloadMode::Changed,
            r#""table":"public.orders","key":"17","actor":"user:7","data":{"total":1.50},"previous":{"total":1.0}}"#,
        ),
    ];
    for (mode, rest) in rest {
        assert_eq!(body(mode), format!("{START}{rest}"));
        assert_eq!(text(&shaped(&event(), 1, Format::Standard, mode)), format!("{START}{rest}"));
    }
    assert_eq!(public_id(&event()), "evt_0660d5342ff8402a");
}

#[test]
fn structured_is_known_to_the_byte() {
    let start = r#"{"specversion":"1.0","id":"evt_0660d5342ff8402a","source":"/shop/public.orders","type":"order.updated","time":"2026-11-22T03:38:00.123456Z","subject":"17","sequence":"0000000000000000042","table":"public.orders""#;
    for (mode, rest) in [
        (
            PayloadMode::Full,
            r#","actor":"user:7","previous":"{\"total\":1.0}","datacontenttype":"application/json","data":{"id":17, "total":1.50}}"#,
        ),
        (PayloadMode::Thin, "}"),
        (
            PayloadMode::Changed,
            r#","actor":"user:7","previous":"{\"total\":1.0}","datacontenttype":"application/json","data":{"total":1.50}}"#,
        ),
    ] {
        let rendered = shaped(&event(), 1, Format::CloudEventsStructured, mode);
        assert_eq!(text(&rendered), format!("{start}{rest}"));
        assert_eq!(rendered.headers, None);
    }
}

#[test]
fn binary_is_known_to_the_byte() {
    let attributes = [
        "ce-specversion: 1.0",
        "ce-id: evt_0660d5342ff8402a",
        "ce-source: /shop/public.orders",
        "ce-type: order.updated",
        "ce-time: 2026-11-22T03:38:00.123456Z",
        "ce-subject: 17",
        "ce-sequence: 0000000000000000042",
        "ce-table: public.orders",
    ];
    for (mode, body, has_actor) in [
        (PayloadMode::Full, r#"{"id":17, "total":1.50}"#, true),
        (PayloadMode::Thin, r#"{"table":"public.orders","key":"17"}"#, false),
        (PayloadMode::Changed, r#"{"total":1.50}"#, true),
    ] {
        let rendered = shaped(&event(), 1, Format::CloudEventsBinary, mode);
        assert_eq!(text(&rendered), body);
        let actor = has_actor.then_some("ce-actor: user:7");
        assert_eq!(lines(&rendered), attributes.into_iter().chain(actor).collect::<Vec<_>>());
    }
}

#[test]
fn a_value_that_is_too_long_for_a_header_is_left_out_and_named() {
    // The second is too long only when it is encoded.
    for key in ["k".repeat(HEADER_VALUE_BYTES_MAX + 1), "€".repeat(HEADER_VALUE_BYTES_MAX / 9 + 1)] {
        let long = Event { key: Some(key.clone().into()), actor: Some(key.into()), ..event() };
        let binary = lines(&shaped(&long, 1, Format::CloudEventsBinary, PayloadMode::Full));
        assert!(binary.contains(&"ce-omitted: subject actor".to_owned()), "{binary:?}");
        assert!(!binary.iter().any(|line| line.starts_with("ce-subject") || line.starts_with("ce-actor:")));
        for format in [Format::Raw, Format::Supabase, Format::Hasura] {
            let rendered = shaped(&long, 1, format, PayloadMode::Full);
            let headers = lines(&rendered);
            assert!(headers.contains(&"webhook-omitted: key".to_owned()), "{headers:?}");
            assert!(headers.iter().all(|line| line.len() <= HEADER_VALUE_BYTES_MAX + 20));
        }
    }
    let longest = Event { key: Some("k".repeat(HEADER_VALUE_BYTES_MAX).into()), ..event() };
    let headers = lines(&shaped(&longest, 1, Format::Raw, PayloadMode::Full));
    assert!(headers.iter().any(|line| line.starts_with("webhook-key: kkk")));
}

#[test]
fn headers_of_the_formats_are_documented_as_not_signed() {
    let page = include_str!("../../../../docs/RECEIVING.md");
    let (_, section) = page.split_once("### What the signature does not cover").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let long: Box<str> = "k".repeat(HEADER_VALUE_BYTES_MAX + 1).into();
    let marked = Event { truncated: true, replaced: true, ..event() };
    let omitted = Event { key: Some(long.clone()), actor: Some(long), ..event() };
    for (word, format) in [
        ("cloudevents-binary", Format::CloudEventsBinary),
        ("raw", Format::Raw),
        ("supabase", Format::Supabase),
        ("hasura", Format::Hasura),
    ] {
        let is_row = |line: &&str| line.starts_with('|') && line.contains(&format!("`{word}`"));
        let row = section.lines().find(is_row).unwrap_or_else(|| panic!("no row of {word}"));
        for event in [&marked, &omitted] {
            for line in lines(&shaped(event, 3, format, PayloadMode::Full)) {
                let name = line.split(':').next().unwrap();
                assert!(row.contains(&format!("`{name}`")), "{word}: {name}");
            }
        }
    }
    for format in [Format::Standard, Format::CloudEventsStructured, Format::Form] {
        assert_eq!(lines(&shaped(&marked, 3, format, PayloadMode::Full)), Vec::<String>::new(), "{format:?}");
    }
}

#[test]
fn form_is_known_to_the_byte() {
    let start = "id=evt_0660d5342ff8402a&type=order.updated&timestamp=2026-11-22T03%3A38%3A00.123456Z&sequence=42&table=public.orders";
    for (mode, rest) in [
        (
            PayloadMode::Full,
            "&actor=user%3A7&data=%7B%22id%22%3A17%2C+%22total%22%3A1.50%7D&previous=%7B%22total%22%3A1.0%7D",
        ),
        (PayloadMode::Thin, "&key=17"),
        (
            PayloadMode::Changed,
            "&key=17&actor=user%3A7&data=%7B%22total%22%3A1.50%7D&previous=%7B%22total%22%3A1.0%7D",
        ),
    ] {
        assert_eq!(text(&shaped(&event(), 1, Format::Form, mode)), format!("{start}{rest}"));
    }
}

#[test]
fn raw_is_data_and_nothing_else() {
    for (mode, body) in [
        (PayloadMode::Full, r#"{"id":17, "total":1.50}"#),
        (PayloadMode::Thin, r#"{"table":"public.orders","key":"17"}"#),
        (PayloadMode::Changed, r#"{"total":1.50}"#),
    ] {
        let rendered = shaped(&event(), 1, Format::Raw, mode);
        assert_eq!(text(&rendered), body);
        assert_eq!(
            lines(&rendered),
            ["webhook-event-type: order.updated", "webhook-sequence: 42", "webhook-key: 17"]
        );
    }
}

#[test]
fn what_there_is_not_is_absent_and_no_body_is_empty() {
    let bare = Event {
        table_name: None,
        key: None,
        actor: None,
        previous: None,
        payload: Bytes::from_static(b"null"),
        ..event()
    };
    for mode in [PayloadMode::Full, PayloadMode::Changed] {
        let parsed: Value = serde_json::from_slice(&shaped(&bare, 1, Format::Standard, mode).body).unwrap();
        let wanted = json!({"id": public_id(&bare), "type": "order.updated", "timestamp": "2026-11-22T03:38:00.123456Z",
                            "sequence": 42, "data": null});
        assert_eq!(parsed, wanted);
    }
    for (format, body) in [(Format::Raw, "{}"), (Format::CloudEventsBinary, "{}")] {
        assert_eq!(text(&shaped(&bare, 1, format, PayloadMode::Thin)), body);
    }
    let subjectless = Event { key: Some("".into()), actor: Some("".into()), ..bare };
    let binary = shaped(&subjectless, 1, Format::CloudEventsBinary, PayloadMode::Full);
    assert!(
        !lines(&binary).iter().any(|line| line.starts_with("ce-subject") || line.starts_with("ce-actor"))
    );
    let structured = shaped(&subjectless, 1, Format::CloudEventsStructured, PayloadMode::Full);
    assert!(!text(&structured).contains("subject") && text(&structured).contains(r#""source":"/shop","#));
}

#[test]
fn what_was_cut_replaced_or_compacted_says_so_in_every_format() {
    let cut = Event { truncated: true, replaced: true, previous: None, ..event() };
    let full = |format| shaped(&cut, 3, format, PayloadMode::Full);
    for format in [Format::Standard, Format::CloudEventsStructured] {
        let parsed: Value = serde_json::from_slice(&full(format).body).unwrap();
        assert_eq!((&parsed["truncated"], &parsed["compacted"]), (&json!(true), &json!(3)), "{format:?}");
        assert_eq!(parsed["replaced"], true, "{format:?}");
        let thin: Value = serde_json::from_slice(&shaped(&cut, 3, format, PayloadMode::Thin).body).unwrap();
        assert_eq!((thin.get("truncated"), &thin["compacted"]), (None, &json!(3)), "{format:?}");
    }
    for (format, prefix) in [(Format::CloudEventsBinary, "ce"), (Format::Raw, "webhook")] {
        let sent = lines(&full(format));
        for wanted in [
            format!("{prefix}-truncated: true"),
            format!("{prefix}-replaced: true"),
            format!("{prefix}-compacted: 3"),
        ] {
            assert!(sent.contains(&wanted), "{sent:?}");
        }
    }
    assert!(text(&full(Format::Form)).contains("&truncated=true&replaced=true&compacted=3&"));
}

#[test]
fn a_row_that_is_no_text_passes_through() {
    let bytes = Event {
        payload: Bytes::from_static(b"{\"a\":\"\xff\"}"),
        previous: Some(Bytes::from_static(b"{\"a\":\"\xfe\"}")),
        ..event()
    };
    for format in Format::ALL {
        for mode in PayloadMode::ALL {
            assert!(!shaped(&bytes, 1, format, mode).body.is_empty());
        }
    }
    assert_eq!(
        shaped(&bytes, 1, Format::Raw, PayloadMode::Changed).body,
        bytes.payload,
        "sent whole: it cannot be cut"
    );
    let form = shaped(&bytes, 1, Format::Form, PayloadMode::Full);
    assert!(text(&form).contains("data=%7B%22a%22%3A%22%FF%22%7D"));
}

#[test]
fn content_types() {
    for (format, one, many) in [
        (Format::Standard, "application/json", "application/json"),
        (
            Format::CloudEventsStructured,
            "application/cloudevents+json; charset=utf-8",
            "application/cloudevents-batch+json; charset=utf-8",
        ),
    ] {
        assert_eq!(content_type(format, false), one);
        assert_eq!(content_type(format, true), many);
    }
    assert_eq!(content_type(Format::Form, false), "application/x-www-form-urlencoded");
}

prop_compose! {
    fn events()(
        id in 1i64.., created_at_us in 0i64..=253_402_300_799_999_999, truncated: bool, replaced: bool, changes in 1u32..4,
        actor in proptest::option::of(any::<String>()), key in proptest::option::of(any::<String>()),
        table in proptest::option::of("[ -~]{0,20}\\.\"[a-zäöü\u{2028}]*\""),
        payload in "[a-z\\PC]{0,40}", previous in proptest::option::of("\\PC{0,10}"),
    ) -> (Event, u32) {
        let event = Event {
            id, created_at_us, truncated, replaced,
            actor: actor.map(Into::into),
            key: key.map(Into::into),
            table_name: table.map(Into::into),
            payload: json!({ "x": payload, "y": [1.5, null] }).to_string().into(),
            previous: previous.map(|was| json!({ "x": was }).to_string().into()),
            ..event()
        };
        (event, changes)
    }
}

fn modes() -> impl Strategy<Value = PayloadMode> {
    proptest::sample::select(&PayloadMode::ALL[..])
}

/// Returns the parts that a receiver must find, by their names in the standard body.
fn expected(event: &Event, changes: u32, mode: PayloadMode) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put =
        |name: &str, value: Option<Value>| drop(value.map(|value| all.insert(name.to_owned(), value)));
    let is_thin = mode == PayloadMode::Thin;
    let data: Value = serde_json::from_slice(&event.payload).unwrap();
    let is_cut = mode == PayloadMode::Changed && event.previous.is_some();
    put("id", Some(json!(public_id(event))));
    put("type", Some(json!(event.event_type)));
    put("timestamp", Some(json!(text::timestamp(event.created_at_us))));
    put("sequence", Some(json!(event.id)));
    put("table", event.table_name.as_ref().map(|table| json!(table)));
    put("key", event.key.as_ref().filter(|_| mode != PayloadMode::Full).map(|key| json!(key)));
    put("actor", event.actor.as_ref().filter(|_| !is_thin).map(|actor| json!(actor)));
    put("truncated", (event.truncated && !is_thin).then_some(json!(true)));
    put("replaced", event.replaced.then_some(json!(true)));
    put("compacted", (changes > 1).then(|| json!(changes)));
    put("data", (!is_thin).then(|| if is_cut { json!({ "x": data["x"] }) } else { data }));
    put(
        "previous",
        event.previous.as_ref().filter(|_| !is_thin).map(|was| serde_json::from_slice(was).unwrap()),
    );
    all
}

proptest! {
    #[test]
    fn standard_parses_back_to_its_parts((event, changes) in events(), mode in modes()) {
        let rendered = shaped(&event, changes, Format::Standard, mode);
        prop_assert_eq!(&rendered, &shaped(&event, changes, Format::Standard, mode));
        let parsed: Map<String, Value> = serde_json::from_slice(&rendered.body).unwrap();
        prop_assert_eq!(parsed, expected(&event, changes, mode));
    }

    #[test]
    fn form_parses_back_to_the_same_parts((event, changes) in events(), mode in modes()) {
        let rendered = shaped(&event, changes, Format::Form, mode);
        let fields: Vec<(String, String)> = url::form_urlencoded::parse(&rendered.body).into_owned().collect();
        let mut parsed = Map::new();
        for (name, value) in &fields {
            let is_text = matches!(&**name, "id" | "type" | "timestamp" | "table" | "key" | "actor");
            parsed.insert(name.clone(), if is_text { json!(value) } else { serde_json::from_str(value).unwrap() });
        }
        prop_assert_eq!(fields.len(), parsed.len(), "each field once");
        prop_assert_eq!(parsed, expected(&event, changes, mode));
    }

    /// Structured and binary mode carry the same attributes, except `previous`.
    #[test]
    fn cloudevents_parse_back_to_the_same_parts((event, changes) in events(), mode in modes()) {
        let structured: Map<String, Value> =
            serde_json::from_slice(&shaped(&event, changes, Format::CloudEventsStructured, mode).body).unwrap();
        let wanted = expected(&event, changes, mode);
        let some = |name: &str| wanted.get(name).filter(|value| **value != json!(""));
        for (attribute, member) in
            [("id", "id"), ("type", "type"), ("time", "timestamp"), ("table", "table"), ("actor", "actor"), ("data", "data"),
             ("truncated", "truncated"), ("replaced", "replaced"), ("compacted", "compacted")]
        {
            prop_assert_eq!(structured.get(attribute), some(member), "{}", attribute);
        }
        prop_assert_eq!(structured["sequence"].as_str().unwrap().parse::<i64>().unwrap(), event.id);
        let previous = structured.get("previous").map(|text| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap());
        prop_assert_eq!(previous.as_ref(), wanted.get("previous"));
        for name in structured.keys() {
            prop_assert!(name.len() <= 20 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }

        let binary = shaped(&event, changes, Format::CloudEventsBinary, mode);
        let headers: BTreeMap<String, String> = binary.headers.unwrap().iter().map(|(name, value)| {
            let escaped = value.to_str().unwrap().replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
            let decoded = url::form_urlencoded::parse(escaped.as_bytes()).next().map_or(String::new(), |(text, _)| text.into_owned());
            (name.as_str().trim_start_matches("ce-").to_owned(), decoded)
        }).collect();
        let attributes: BTreeMap<String, String> = structured.iter()
            .filter(|(name, _)| !matches!(&***name, "data" | "datacontenttype" | "previous"))
            .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect();
        prop_assert_eq!(headers, attributes);
        if let Some(data) = wanted.get("data") {
            prop_assert_eq!(&serde_json::from_slice::<Value>(&binary.body).unwrap(), data);
        }
    }
}
