//! Splits a schema into alternatives of one JSON type each: `anyOf` and lists of types are taken
//! apart. Pure.

use serde_json::{Map, Number, Value};
use std::cmp::Ordering;

/// The keywords that are either compared or do not restrict values. Any other keyword makes a
/// schema undecidable.
const KNOWN: [&str; 26] = [
    "type",
    "enum",
    "const",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "format",
    "pattern",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "maxProperties",
    "anyOf",
    "title",
    "description",
    "examples",
    "default",
    "deprecated",
    "$schema",
    "$comment",
    "$id",
    "example",
];

/// The keywords among them that do not restrict values.
const SILENT: [&str; 9] =
    ["title", "description", "examples", "default", "deprecated", "$schema", "$comment", "$id", "example"];

/// The types of a schema that names no type. Integers are numbers.
const KINDS: [&str; 6] = ["array", "boolean", "null", "number", "object", "string"];

/// One alternative. `kind` is its JSON type; `None` means any.
#[derive(Debug, Clone)]
pub struct Atom<'a> {
    pub kind: Option<&'a str>,
    pub schema: &'a Map<String, Value>,
    /// The values of `enum` and `const` that have this type. `None` if there is no such list.
    pub values: Option<Vec<&'a Value>>,
}

/// The keywords of an empty schema.
pub static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

/// Returns the alternatives of a schema. `false` and an empty enum have none.
pub fn atoms(schema: &Value) -> Vec<Atom<'_>> {
    let schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(false) => return Vec::new(),
        _ => &*NOTHING,
    };
    // Other keywords next to anyOf would narrow each alternative. They are ignored here. Our own
    // schemas have none, and `compared` reports a schema with them as undecided, except for an
    // anyOf that is itself an alternative.
    if let Some(all) = schema.get("anyOf").and_then(Value::as_array) {
        return all.iter().flat_map(atoms).collect();
    }
    let listed: Option<Vec<&Value>> = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => Some(values.iter().collect()),
        (_, Some(value)) => Some(vec![value]),
        _ => None,
    };
    let kinds: Vec<&str> = match (schema.get("type"), &listed) {
        (Some(Value::String(one)), _) => vec![one],
        (Some(Value::Array(all)), _) => all.iter().filter_map(Value::as_str).collect(),
        (_, Some(values)) => {
            let mut kinds: Vec<&str> = values.iter().map(|value| kind(value)).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        }
        _ if schema.keys().any(|name| !SILENT.contains(&name.as_str())) => KINDS.to_vec(),
        _ => return vec![Atom { kind: None, schema, values: None }],
    };
    let atom = |one| {
        let values = listed.as_ref().map(|values| {
            let of_kind =
                |value: &&Value| kind(value) == one || (one == "number" && kind(value) == "integer");
            values.iter().copied().filter(of_kind).collect::<Vec<_>>()
        });
        Atom { kind: Some(one), schema, values }
    };
    let atoms = kinds.into_iter().map(atom);
    atoms.filter(|atom| atom.values.as_ref().is_none_or(|values| !values.is_empty())).collect()
}

/// Returns the type of a value, as schemas name it.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_whole(number: &Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// Compares integers exactly, and all other numbers in double precision, as validators read them.
pub fn compare(a: &Number, b: &Number) -> Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
    }
}

impl<'a> Atom<'a> {
    pub fn number(&self, keyword: &str) -> Option<&'a Number> {
        self.schema.get(keyword)?.as_number()
    }

    /// Returns the lower bound, and whether it is excluded. If both keywords are set, the stricter
    /// applies.
    pub fn lowest(&self) -> Option<(&'a Number, bool)> {
        match (self.number("minimum"), self.number("exclusiveMinimum")) {
            (Some(at), Some(over)) if compare(at, over).is_gt() => Some((at, false)),
            (_, Some(over)) => Some((over, true)),
            (at, None) => at.map(|at| (at, false)),
        }
    }

    /// Returns the upper bound, and whether it is excluded. If both keywords are set, the stricter
    /// applies.
    pub fn highest(&self) -> Option<(&'a Number, bool)> {
        match (self.number("maximum"), self.number("exclusiveMaximum")) {
            (Some(at), Some(under)) if compare(at, under).is_lt() => Some((at, false)),
            (_, Some(under)) => Some((under, true)),
            (at, None) => at.map(|at| (at, false)),
        }
    }

    pub fn length(&self, keyword: &str) -> Option<u64> {
        self.schema.get(keyword)?.as_u64()
    }

    pub fn text(&self, keyword: &str) -> Option<&'a str> {
        self.schema.get(keyword)?.as_str()
    }

    pub fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.schema.get("properties")?.as_object()
    }

    pub fn requires(&self, name: &str) -> bool {
        let required = self.schema.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.iter().any(|one| one == name))
    }

    /// Reports whether members without a schema of their own are excluded.
    pub fn is_closed(&self) -> bool {
        self.schema.get("additionalProperties") == Some(&Value::Bool(false)) || self.is_empty_object()
    }

    pub fn is_empty_object(&self) -> bool {
        self.schema.get("maxProperties").and_then(Value::as_u64) == Some(0)
    }

    /// Returns the keywords that cannot be compared.
    pub fn undecided(&self) -> Vec<(&'a String, &'a Value)> {
        let is_beyond_us = |(name, value): &(&String, &Value)| match name.as_str() {
            "additionalProperties" => !value.is_boolean(),
            "maxProperties" => value.as_u64() != Some(0),
            "minLength" | "maxLength" => value.as_u64().is_none(),
            name => !KNOWN.contains(&name),
        };
        self.schema.iter().filter(is_beyond_us).collect()
    }
}
