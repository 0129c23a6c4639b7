//! Splits the OpenAPI document of the events for the page. Members keep their order, and values
//! their spelling. Pure.
//!
//! Everything that the page says about an event comes from here, so page and document cannot
//! disagree.

use delivery::members::members;
use serde_json::value::RawValue;

/// One event type.
#[derive(Debug)]
pub struct Described<'a> {
    pub event_type: String,
    pub description: Option<String>,
    /// JSON Schema of a whole body in format `standard`.
    pub schema: &'a RawValue,
    /// An example of such a body.
    pub example: &'a RawValue,
}

/// A header of every webhook.
#[derive(Debug)]
pub struct Header {
    pub name: String,
    pub description: Option<String>,
}

/// Returns a member of an object.
pub fn member<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    let found = members(object.get().as_bytes())?;
    found.into_iter().find(|(member, _)| member == name).map(|(_, value)| value)
}

/// Returns a member at a path.
pub fn at<'a>(object: &'a RawValue, path: &[&str]) -> Option<&'a RawValue> {
    path.iter().try_fold(object, |object, name| member(object, name))
}

/// Returns a member that is a text.
pub fn text(object: &RawValue, name: &str) -> Option<String> {
    serde_json::from_str(member(object, name)?.get()).ok()
}

/// Returns every event type, in the order of the document.
pub fn event_types(document: &RawValue) -> Vec<Described<'_>> {
    let webhooks = member(document, "webhooks").and_then(|all| members(all.get().as_bytes()));
    let schemas = at(document, &["components", "schemas"]).and_then(|all| members(all.get().as_bytes()));
    let (Some(webhooks), Some(schemas)) = (webhooks, schemas) else { return Vec::new() };
    // Both lists are in the order of the types.
    webhooks
        .into_iter()
        .zip(schemas)
        .filter(|((event_type, _), (of, _))| event_type == of)
        .filter_map(|((event_type, item), (_, schema))| {
            let operation = member(item, "post")?;
            let example = at(operation, &["requestBody", "content", "application/json", "example"])?;
            Some(Described { event_type, description: text(operation, "description"), schema, example })
        })
        .collect()
}

/// Returns the headers of every webhook.
pub fn headers(document: &RawValue) -> Vec<Header> {
    let parameters = at(document, &["components", "parameters"]);
    let Some(parameters) = parameters.and_then(|all| members(all.get().as_bytes())) else {
        return Vec::new();
    };
    let described = |parameter: &RawValue| text(member(parameter, "schema")?, "description");
    parameters
        .into_iter()
        .map(|(name, parameter)| Header { name, description: described(parameter) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"{"openapi":"3.1.0","info":{"version":"1f"},
        "webhooks":{"b.created":{"post":{"description":"B","requestBody":{"content":{"application/json":{"example":{"z":1.50,"a":2}}}}}},
                    "c.created":{"post":{"requestBody":{"content":{"application/json":{"example":{}}}}}}},
        "components":{"schemas":{"b.created":{"z":true},"c.created":{}},
                      "parameters":{"webhook-id":{"schema":{"description":"The event"}},"webhook-timestamp":{}}}}"#;

    #[test]
    fn it_is_taken_apart_in_its_order() {
        let document: &RawValue = serde_json::from_str(DOCUMENT).unwrap();
        let types = event_types(document);
        let seen: Vec<_> =
            types.iter().map(|one| (one.event_type.as_str(), one.description.as_deref())).collect();
        assert_eq!(seen, [("b.created", Some("B")), ("c.created", None)]);
        assert_eq!((types[0].schema.get(), types[0].example.get()), (r#"{"z":true}"#, r#"{"z":1.50,"a":2}"#));
        let names: Vec<_> =
            headers(document).into_iter().map(|header| (header.name, header.description)).collect();
        assert_eq!(
            names,
            [("webhook-id".into(), Some("The event".into())), ("webhook-timestamp".into(), None)]
        );
    }

    #[test]
    fn what_is_no_document_has_nothing() {
        for text in ["{}", "[]", "null", r#"{"webhooks":{"a.b":{}},"components":{"schemas":{"a.b":{}}}}"#] {
            let document: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!((event_types(document).len(), headers(document).len()), (0, 0), "{text}");
        }
    }
}
