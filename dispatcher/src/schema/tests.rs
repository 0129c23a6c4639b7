//! Tests each rule, and whether the comparison is sound: an independent validator checks values
//! that the new schema accepts against the old one.

use crate::schema::*;
use proptest::prelude::*;
use serde_json::json;

/// Returns a document with one type and this schema of `data`.
fn document(event_type: &str, data: &Value) -> String {
    let body = json!({ "type": "object", "required": ["id", "data"],
                       "properties": { "id": { "type": "string" }, "type": { "const": event_type }, "data": data } });
    json!({ "openapi": "3.1.0", "components": { "schemas": { event_type: body } }, "webhooks": { event_type: { "post": {
        "requestBody": { "content": { "application/json": {
            "schema": { "$ref": format!("#/components/schemas/{event_type}") } } } } } } } })
    .to_string()
}

fn events(data: &Value) -> Events {
    Events::parse(&document("order.created", data)).unwrap()
}

/// Returns `rule field` for each change of `data`, with an exclamation mark if it breaks.
fn told(old: &Value, new: &Value) -> Vec<String> {
    let changes = events(old).changes(&events(new));
    changes
        .iter()
        .map(|change| format!("{}{} {}", if change.breaking { "!" } else { "" }, change.rule, change.field))
        .collect()
}

fn row(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[test]
fn members_come_and_go() {
    let (a, b) = (row(&json!({ "x": {} }), &["x"]), row(&json!({ "x": {}, "y": {} }), &["x", "y"]));
    assert_eq!(told(&a, &b), ["field-added data.y"]);
    assert_eq!(told(&b, &a), ["!field-removed data.y"]);
    assert_eq!(told(&a, &row(&json!({ "x": {} }), &[])), ["!required-to-optional data.x"]);
    assert_eq!(told(&row(&json!({ "x": {} }), &[]), &a), ["optional-to-required data.x"]);
    // A renamed column.
    assert_eq!(told(&a, &row(&json!({ "y": {} }), &["y"])), ["!field-removed data.x", "field-added data.y"]);
}

#[test]
fn what_a_value_may_be() {
    let of = |schema: &Value| row(&json!({ "x": schema }), &["x"]);
    for (old, new, forth, back) in [
        (json!({ "type": "integer" }), json!({ "type": ["integer", "null"] }), "!null-added", "null-dropped"),
        (json!({ "type": "integer" }), json!({ "type": "number" }), "!type-added", "type-dropped"),
        (
            json!({ "type": "string" }),
            json!({ "type": ["string", "boolean"] }),
            "!type-added",
            "type-dropped",
        ),
        (json!({ "enum": ["a"] }), json!({ "enum": ["a", "b"] }), "!values-added", "values-dropped"),
        (json!({ "enum": ["a"] }), json!({ "type": "string" }), "!values-added", "values-dropped"),
        (
            json!({ "const": 1 }),
            json!({ "const": 2 }),
            "!values-added values-dropped",
            "!values-added values-dropped",
        ),
        (
            json!({ "type": "integer", "minimum": -2_147_483_648_i64, "maximum": 2_147_483_647_i64 }),
            json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }),
            "!range-widened",
            "range-narrowed",
        ),
        (
            json!({ "type": "integer", "maximum": i64::MAX - 1 }),
            json!({ "type": "integer", "maximum": i64::MAX }),
            "!range-widened",
            "range-narrowed",
        ),
        (
            json!({ "type": "number", "exclusiveMinimum": 0 }),
            json!({ "type": "number", "minimum": 0 }),
            "!range-widened",
            "range-narrowed",
        ),
        (
            json!({ "type": "string", "maxLength": 8 }),
            json!({ "type": "string", "maxLength": 9 }),
            "!length-widened",
            "length-narrowed",
        ),
        (
            json!({ "type": "string", "minLength": 1 }),
            json!({ "type": "string" }),
            "!length-widened",
            "length-narrowed",
        ),
        (
            json!({ "type": "string", "format": "uuid" }),
            json!({ "type": "string" }),
            "!format-dropped",
            "format-added",
        ),
        (json!({ "type": "string" }), json!({}), "!description-lost", "description-gained"),
    ] {
        let plain = |told: Vec<String>| told.join(" ").replace(" data.x", "");
        assert_eq!(plain(told(&of(&old), &of(&new))), forth, "{old} to {new}");
        assert_eq!(plain(told(&of(&new), &of(&old))), back, "{new} to {old}");
        assert!(told(&of(&old), &of(&old)).is_empty());
    }
    // A different type, and the same type in another spelling.
    assert_eq!(
        told(&of(&json!({ "type": "string" })), &of(&json!({ "type": "boolean" }))),
        ["!type-added data.x", "type-dropped data.x"]
    );
    assert!(
        told(
            &of(&json!({ "type": ["integer", "null"] })),
            &of(&json!({ "anyOf": [{ "type": "null" }, { "type": "integer" }] }))
        )
        .is_empty()
    );
    assert_eq!(told(&of(&json!({ "allOf": [] })), &of(&json!({ "allOf": [{}] }))), ["!undecided data.x"]);
}

#[test]
fn what_is_said_is_what_is_new_instead_of_what_was() {
    let of = |most: u8| events(&row(&json!({ "x": { "type": "string", "maxLength": most } }), &[]));
    let said = |old: &Events, new: &Events| old.changes(new)[0].message.clone();
    assert_eq!(
        said(&of(8), &of(9)),
        "additional lengths: at most 9 characters instead of at most 8 characters"
    );
    assert_eq!(said(&of(9), &of(8)), "fewer lengths: at most 8 characters instead of at most 9 characters");
}

#[test]
fn inside_of_values() {
    let of = |inner: &Value| {
        row(
            &json!({ "a": { "type": "array", "items": { "properties": { "b": inner }, "type": "object" } } }),
            &[],
        )
    };
    assert_eq!(
        told(&of(&json!({ "type": "integer" })), &of(&json!({ "type": ["null", "integer"] }))),
        ["!null-added data.a[].b"]
    );
}

/// Returns the schema that `webhook_openapi()` makes of a table: the row, or its key if it was cut.
fn with_key_only(properties: &Value, required: &[&str], key: &Value) -> Value {
    json!({ "anyOf": [row(properties, required), { "title": "Key only", "type": "object", "properties": key, "additionalProperties": false }] })
}

#[test]
fn what_is_left_of_a_row_does_not_excuse_what_is_missing() {
    let key = json!({ "id": { "type": "integer" } });
    let old = with_key_only(
        &json!({ "id": { "type": "integer" }, "x": {}, "y": {}, "z": {} }),
        &["id", "x", "y", "z"],
        &key,
    );
    let new = with_key_only(&json!({ "id": { "type": "integer" } }), &["id"], &key);
    assert_eq!(told(&old, &new), ["!field-removed data.x", "!field-removed data.y", "!field-removed data.z"]);
    let (truncate, both) = (
        json!({ "type": "object", "maxProperties": 0 }),
        json!({ "anyOf": [new, { "type": "object", "maxProperties": 0 }] }),
    );
    assert!(
        told(&both, &truncate).iter().all(|told| !told.starts_with('!')),
        "only what was possible before"
    );
    assert!(told(&truncate, &both).iter().any(|told| told.starts_with("!members-opened")));
}

#[test]
fn types_come_go_and_are_renamed() {
    let parse = |event_type: &str, data: &Value| Events::parse(&document(event_type, data)).unwrap();
    let data = row(&json!({ "x": {} }), &["x"]);
    let (old, renamed) = (parse("order.created", &data), parse("purchase.created", &data));
    let changes = old.changes(&renamed);
    assert_eq!(
        changes.iter().map(|change| (change.breaking, change.rule)).collect::<Vec<_>>(),
        [(true, "event-type-removed"), (false, "event-type-added")]
    );
    assert_eq!(
        changes[0].message,
        "event type removed; purchase.created was added with the same data: renamed?"
    );
    for other in [parse("order.updated", &data), parse("purchase.created", &json!({}))] {
        assert_eq!(old.changes(&other)[0].message, "event type removed");
    }
    assert!(old.changes(&old).is_empty());
}

#[test]
fn previous_repeats_nothing() {
    let document = |x: &Value| {
        let rows = row(&json!({ "x": x }), &[]);
        Events::parse(
            &json!({ "openapi": "3.1.0", "webhooks": { "a.b": { "post": { "requestBody": { "content": { "application/json": {
                "schema": { "type": "object", "properties": { "data": rows, "previous": rows } } } } } } } } })
            .to_string(),
        )
        .unwrap()
    };
    let changes = document(&json!({ "type": "integer" })).changes(&document(&json!({ "type": "string" })));
    assert_eq!(changes.iter().map(|change| change.field.as_str()).collect::<Vec<_>>(), ["data.x", "data.x"]);
}

#[test]
fn what_is_no_document_is_said() {
    for (text, error) in [
        ("", "invalid JSON"),
        ("{}", "not an OpenAPI"),
        (r#"{"openapi":"3.0.1","webhooks":{}}"#, "not an OpenAPI"),
        (r#"{"asyncapi":"3.0.0"}"#, "not an OpenAPI"),
        (r#"{"openapi":"3.1.0","webhooks":{"a.b":{}}}"#, "a.b has no schema"),
        (
            r##"{"openapi":"3.1.0","webhooks":{"a.b":{"post":{"requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/x"}}}}}}}}"##,
            "a.b has no schema",
        ),
    ] {
        let said = Events::parse(text).unwrap_err().to_string();
        assert!(said.contains(error), "{text}: {said}");
    }
    assert_eq!(Events::parse(r#"{"openapi":"3.1.0","webhooks":{}}"#).unwrap(), Events(BTreeMap::new()));
}

// Soundness

/// Validates a value against the schemas of the generator. Members without a schema are accepted.
fn accepts(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema != &json!(false) };
    schema.iter().all(|(keyword, rule)| match keyword.as_str() {
        "anyOf" => rule.as_array().unwrap().iter().any(|one| accepts(one, value)),
        "enum" => rule.as_array().unwrap().contains(value),
        "type" => match rule {
            Value::String(one) => is_of(one, value),
            all => all.as_array().unwrap().iter().any(|one| is_of(one.as_str().unwrap(), value)),
        },
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= rule.as_u64().unwrap()),
        "maxLength" => value.as_str().is_none_or(|text| text.len() as u64 <= rule.as_u64().unwrap()),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| accepts(rule, item))),
        "required" => value.as_object().is_none_or(|object| {
            rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
        }),
        "properties" => value.as_object().is_none_or(|object| {
            rule.as_object()
                .unwrap()
                .iter()
                .all(|(name, rule)| object.get(name).is_none_or(|value| accepts(rule, value)))
        }),
        keyword => panic!("{keyword}"),
    })
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn schemas() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!({})),
        Just(json!({ "type": "null" })),
        Just(json!({ "type": ["boolean", "null"] })),
        proptest::collection::btree_set(prop_oneof![Just(json!("a")), Just(json!("bb")), Just(json!(1)), Just(json!(null))].prop_map(|value| value.to_string()), 1..4)
            .prop_map(|values| json!({ "enum": values.iter().map(|text| serde_json::from_str(text).unwrap()).collect::<Vec<Value>>() })),
        ("integer|number", -3i8..4, 0i8..4, any::<bool>()).prop_map(|(kind, least, more, is_open)| {
            let lower = if is_open { "exclusiveMinimum" } else { "minimum" };
            json!({ "type": kind, lower: least, "maximum": least + more })
        }),
        (0u8..3, 0u8..3, any::<bool>()).prop_map(|(least, more, nullable)| {
            let kind = if nullable { json!(["string", "null"]) } else { json!("string") };
            json!({ "type": kind, "minLength": least, "maxLength": least + more })
        }),
        Just(json!({ "minimum": 2 })),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        let members = proptest::collection::btree_map("[a-c]", (inner.clone(), any::<bool>()), 0..3);
        prop_oneof![
            inner.clone().prop_map(|items| json!({ "type": "array", "items": items })),
            members.prop_map(|members| {
                let required: Vec<&String> =
                    members.iter().filter(|(_, (_, required))| *required).map(|(name, _)| name).collect();
                let properties: serde_json::Map<String, Value> =
                    members.iter().map(|(name, (schema, _))| (name.clone(), schema.clone())).collect();
                json!({ "type": "object", "properties": properties, "required": required })
            }),
            proptest::collection::vec(inner, 1..3).prop_map(|all| json!({ "anyOf": all })),
        ]
    })
}

/// Generates small values of the types that the schemas use, so that some of them match.
fn values() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-5i8..8).prop_map(Value::from),
        (-10i8..16).prop_map(|half| json!(f64::from(half) / 2.0)),
        "[ab]{0,4}".prop_map(Value::from),
    ];
    scalar.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_gets_through_that_is_not_told(old in schemas(), new in schemas(), values in proptest::collection::vec(values(), 40)) {
        if beyond(&old, &new).is_empty() {
            for value in values.iter().filter(|value| accepts(&new, value)) {
                prop_assert!(accepts(&old, value), "{} is let through by {}, and not by {}", value, new, old);
            }
        }
    }

    #[test]
    fn nothing_is_beyond_itself(schema in schemas()) {
        prop_assert_eq!(beyond(&schema, &schema), []);
        prop_assert_eq!(beyond(&json!({ "anyOf": [schema.clone(), { "type": "null" }] }), &schema), []);
        prop_assert_eq!(beyond(&json!({}), &schema), []);
    }

    /// A removed member and a member that becomes optional are reported as breaking, with their
    /// path. An added member is reported with its path too.
    #[test]
    fn what_has_been_done_is_found(
        schemas in proptest::collection::btree_map("[a-c]", schemas(), 1..3), which: proptest::sample::Index,
    ) {
        let name = which.get(&schemas.keys().collect::<Vec<_>>()).to_string();
        let all: Vec<&str> = schemas.keys().map(String::as_str).collect();
        let old = row(&json!(schemas), &all);
        let mut fewer = schemas.clone();
        fewer.remove(&name);
        let without = row(&json!(fewer), &fewer.keys().map(String::as_str).collect::<Vec<_>>());
        let path = format!("data.{name}");
        prop_assert_eq!(told(&old, &without), [format!("!field-removed {path}")]);
        prop_assert_eq!(told(&without, &old), [format!("field-added {path}")]);
        let others: Vec<&str> = all.iter().copied().filter(|one| *one != name).collect();
        prop_assert_eq!(told(&old, &row(&json!(schemas), &others)), [format!("!required-to-optional {path}")]);
    }
}
