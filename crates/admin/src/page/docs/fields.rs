//! A JSON Schema as a table for people: one row for each member, with its type, whether it may be
//! null, and its constraints. Pure.
//!
//! The module knows the keywords that `sql/value_schema.sql` writes, and those usual in a
//! `data_schema`. For other keywords, the page shows the schema itself below.

use crate::page::docs::document::{member, text};
use delivery::members::members;
use serde_json::{Value, value::RawValue};

/// Maximum depth of composite values, and maximum number of rows of one schema.
const DEPTH_MAX: usize = 5;
const ROWS_MAX: usize = 2_000;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name. Members of other members have dots: `address.street`.
    pub name: String,
    pub kind: String,
    pub is_nullable: bool,
    /// The constraint in words. Empty if there is none.
    pub constraint: String,
    pub description: Option<String>,
}

/// One of the forms of a value. Events of one type can come from several tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub description: Option<String>,
    pub fields: Vec<Field>,
}

/// The title of the form of a row that is too large, or that was erased.
const KEY_ONLY: &str = "Key only";

/// Returns the alternatives of a schema, or the schema itself if it has none.
fn alternatives(schema: &RawValue) -> Vec<&RawValue> {
    let all = member(schema, "anyOf").and_then(|all| serde_json::from_str(all.get()).ok());
    all.unwrap_or_else(|| vec![schema])
}

/// Returns every form of a value that has members, except the form with the key alone.
pub fn forms(schema: &RawValue) -> Vec<Form> {
    let with_members = alternatives(schema).into_iter().filter_map(|form| {
        let properties = member(form, "properties")?;
        (text(form, "title").as_deref() != Some(KEY_ONLY)).then_some((form, properties))
    });
    with_members
        .map(|(form, properties)| {
            let mut fields = Vec::new();
            push(&mut fields, "", properties, 0);
            Form { description: text(form, "description"), fields }
        })
        .collect()
}

/// Returns the names of the members that remain of a row that is too large. `None` if the events
/// are never cut.
pub fn key(schema: &RawValue) -> Option<Vec<String>> {
    let form =
        alternatives(schema).into_iter().find(|form| text(form, "title").as_deref() == Some(KEY_ONLY))?;
    let properties = members(member(form, "properties")?.get().as_bytes())?;
    Some(properties.into_iter().map(|(name, _)| name).collect())
}

fn push(fields: &mut Vec<Field>, prefix: &str, properties: &RawValue, depth: usize) {
    for (name, schema) in members(properties.get().as_bytes()).unwrap_or_default() {
        if fields.len() >= ROWS_MAX {
            return;
        }
        let value: Value = serde_json::from_str(schema.get()).unwrap_or_default();
        let name = format!("{prefix}{name}");
        fields.push(Field {
            kind: kind(&value),
            is_nullable: is_nullable(&value),
            constraint: constraint(&value),
            description: text(schema, "description"),
            name: name.clone(),
        });
        if let Some(inner) = member(schema, "properties").filter(|_| depth < DEPTH_MAX) {
            push(fields, &format!("{name}."), inner, depth + 1);
        }
    }
}

/// Returns the alternatives of a value that are not null.
fn spellings(schema: &Value) -> Vec<&Value> {
    match schema["anyOf"].as_array() {
        Some(all) => all.iter().filter(|one| one["type"] != "null").collect(),
        None => vec![schema],
    }
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns `integer`, `array of string`, `number or string`, `anything`.
fn kind(schema: &Value) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for one in spellings(schema) {
        let mut names: Vec<String> =
            types(one)
                .into_iter()
                .filter(|name| *name != "null")
                .map(|name| {
                    if name == "array" {
                        format!("array of {}", kind(&one["items"]))
                    } else {
                        name.to_owned()
                    }
                })
                .collect();
        if names.is_empty() {
            names.extend(kinds_of_values(one));
        }
        for name in names {
            if !kinds.contains(&name) {
                kinds.push(name);
            }
        }
    }
    if kinds.is_empty() { "anything".to_owned() } else { kinds.join(" or ") }
}

/// Returns the types of the values of an enum without a type.
fn kinds_of_values(schema: &Value) -> Option<String> {
    let values = schema["enum"].as_array()?;
    let are_texts = values.iter().all(|value| value.is_string() || value.is_null());
    Some(if are_texts { "string" } else { "one of" }.to_owned())
}

/// Reports whether null is valid. A schema without constraints accepts everything.
fn is_nullable(schema: &Value) -> bool {
    if let Some(all) = schema["anyOf"].as_array() {
        return all.iter().any(is_nullable);
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(&Value::Null);
    }
    let types = types(schema);
    (types.is_empty() && schema.get("const").is_none()) || types.contains(&"null")
}

/// Returns the constraints of a value besides its type, in words.
fn constraint(schema: &Value) -> String {
    let all: Vec<String> =
        spellings(schema).into_iter().map(of_one).filter(|words| !words.is_empty()).collect();
    all.join("; or ")
}

fn of_one(schema: &Value) -> String {
    let mut words = Vec::new();
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> =
            values.iter().filter(|value| !value.is_null()).map(Value::to_string).collect();
        words.push(values.join(", "));
    }
    if let Some(value) = schema.get("const") {
        words.push(format!("always {value}"));
    }
    words.extend(range(schema));
    match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
        (Some(least), Some(most)) if least == most => words.push(format!("{least} characters")),
        (Some(least), Some(most)) => words.push(format!("{least} to {most} characters")),
        (Some(least), None) => words.push(format!("at least {least} characters")),
        (None, Some(most)) => words.push(format!("at most {most} characters")),
        (None, None) => {}
    }
    if let Some(format) = schema["format"].as_str() {
        words.push(format!("format {format}"));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        words.push(format!("matches {pattern}"));
    }
    words.join(", ")
}

fn range(schema: &Value) -> Option<String> {
    let bound = |name: &str, sign: &str| schema.get(name).map(|value| format!("{sign} {value}"));
    if let (Some(least), Some(most)) = (schema.get("minimum"), schema.get("maximum")) {
        return Some(format!("{least} to {most}"));
    }
    let least = bound("minimum", "≥").or_else(|| bound("exclusiveMinimum", ">"));
    let most = bound("maximum", "≤").or_else(|| bound("exclusiveMaximum", "<"));
    let both: Vec<String> = least.into_iter().chain(most).collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(text: &str) -> Box<RawValue> {
        serde_json::from_str(text).unwrap()
    }

    fn row(schema: &str) -> (String, bool, String) {
        let forms = forms(&raw(&format!(r#"{{"properties":{{"x":{schema}}}}}"#)));
        let field = forms[0].fields[0].clone();
        (field.kind, field.is_nullable, field.constraint)
    }

    #[test]
    fn every_spelling_of_the_catalogue_is_told_in_words() {
        for (schema, kind, nullable, words) in [
            (r#"{"type":"integer","minimum":-32768,"maximum":32767}"#, "integer", false, "-32768 to 32767"),
            (r#"{"type":["integer","null"],"minimum":1,"maximum":9}"#, "integer", true, "1 to 9"),
            (r#"{"type":"string","enum":["open","closed"]}"#, "string", false, r#""open", "closed""#),
            (r#"{"type":["string","null"],"enum":["a",null]}"#, "string", true, r#""a""#),
            (
                r#"{"anyOf":[{"type":"number","exclusiveMinimum":0,"exclusiveMaximum":1000},{"enum":["NaN"]},{"type":"null"}]}"#,
                "number or string",
                true,
                r#"> 0 and < 1000; or "NaN""#,
            ),
            (
                r#"{"anyOf":[{"type":"string","format":"date-time"},{"type":"string","pattern":"^x"}]}"#,
                "string",
                false,
                "format date-time; or matches ^x",
            ),
            (r#"{"type":"string","minLength":2,"maxLength":2}"#, "string", false, "2 characters"),
            (r#"{"type":"string","minLength":2}"#, "string", false, "at least 2 characters"),
            (r#"{"type":"string","maxLength":8}"#, "string", false, "at most 8 characters"),
            (r#"{"type":"number","minimum":0.5}"#, "number", false, "≥ 0.5"),
            (r#"{"type":"boolean","const":true}"#, "boolean", false, "always true"),
            (
                r#"{"type":["array","null"],"items":{"anyOf":[{"type":["integer","null"]},{"type":"array"}]}}"#,
                "array of integer or array of anything",
                true,
                "",
            ),
            ("{}", "anything", true, ""),
            ("true", "anything", true, ""),
        ] {
            assert_eq!(row(schema), (kind.to_owned(), nullable, words.to_owned()), "{schema}");
        }
    }

    #[test]
    fn members_keep_their_order_and_composite_values_are_taken_apart() {
        let schema = raw(r#"{"anyOf":[
              {"type":"object","description":"An order","properties":{"z":{"type":"string","description":"Last"},
                "a":{"type":"object","properties":{"street":{"type":"string"},"no":{}}}},"required":["z","a"]},
              {"title":"Key only","type":"object","properties":{"z":{}},"additionalProperties":false},
              {"type":"object","maxProperties":0}]}"#);
        let forms = forms(&schema);
        assert_eq!(forms.len(), 1);
        let names: Vec<_> = forms[0].fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["z", "a", "a.street", "a.no"]);
        assert_eq!(forms[0].description.as_deref(), Some("An order"));
        assert_eq!(forms[0].fields[0].description.as_deref(), Some("Last"));
        assert_eq!(key(&schema), Some(vec!["z".to_owned()]));
        assert_eq!(key(&raw("{}")), None);
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = (0..200).fold("{}".to_owned(), |inner, _| format!(r#"{{"properties":{{"x":{inner}}}}}"#));
        assert!(forms(&raw(&deep))[0].fields.len() <= DEPTH_MAX + 1);
        let wide: Vec<String> = (0..5000).map(|at| format!(r#""c{at}":{{}}"#)).collect();
        assert_eq!(
            forms(&raw(&format!(r#"{{"properties":{{{}}}}}"#, wide.join(","))))[0].fields.len(),
            ROWS_MAX
        );
    }

    proptest! {
        /// A schema may be entered by hand.
        #[test]
        fn no_json_is_too_strange(text in r#"\{"(anyOf|properties|type|enum|items)":(\[[a-z0-9{}"\[\],:]{0,20}\]|\{"x":[a-z0-9{}"\[\],:]{0,20}\}|null|1|"x")\}"#) {
            if let Ok(schema) = serde_json::from_str::<Box<RawValue>>(&text) {
                let _ = (forms(&schema), key(&schema));
            }
        }
    }
}
