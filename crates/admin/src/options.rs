//! The subscription options of the REST API, and their conversion to arguments of the SQL API.
//! Pure.
//!
//! All values are passed as text, and Postgres casts them. Only Postgres decides what is valid.

use serde_json::{Map, Value};
use std::fmt::Write;
use subscription_options::OPTIONS;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    Text(String),
    Texts(Vec<String>),
}

impl Argument {
    pub fn as_sql(&self) -> &(dyn tokio_postgres::types::ToSql + Sync) {
        match self {
            Self::Text(text) => text,
            Self::Texts(texts) => texts,
        }
    }
}

/// The named arguments of a call: the SQL, and the values of its parameters.
#[derive(Debug, Default, PartialEq)]
pub struct Arguments {
    pub sql: String,
    pub values: Vec<Argument>,
    /// Options that the call clears.
    pub clear: Vec<String>,
}

impl Arguments {
    /// Converts the members of an object. The caller has checked the names and JSON types. `first`
    /// is the number of the first parameter.
    pub fn of(members: &Map<String, Value>, first: usize) -> Self {
        let mut arguments = Self::default();
        for option in &OPTIONS {
            let Some(value) = members.get(option.name) else { continue };
            if value.is_null() {
                arguments.clear.push(option.name.to_owned());
                continue;
            }
            let argument = match value {
                Value::Array(items) if option.kind.is_array() => {
                    Argument::Texts(items.iter().map(text_of).collect())
                }
                other => Argument::Text(text_of(other)),
            };
            if !arguments.sql.is_empty() {
                arguments.sql.push_str(", ");
            }
            let number = first + arguments.values.len();
            let through = if option.kind.is_array() { "text[]" } else { "text" };
            let _ =
                write!(arguments.sql, "{} => ${number}::{through}::{}", option.name, option.kind.sql_type());
            arguments.values.push(argument);
        }
        arguments
    }
}

/// Returns a string without quotes, and any other value as JSON.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_become_named_arguments() {
        let body = json!({"retry": ["PT1S", "PT5S"], "url": "https://a", "rate_limit": 0.5, "filter": null});
        let arguments = Arguments::of(body.as_object().unwrap(), 2);
        assert_eq!(
            arguments.sql,
            "url => $2::text::text, retry => $3::text[]::interval[], rate_limit => $4::text::numeric"
        );
        assert_eq!(
            arguments.values,
            [
                Argument::Text("https://a".into()),
                Argument::Texts(vec!["PT1S".into(), "PT5S".into()]),
                Argument::Text("0.5".into())
            ]
        );
        assert_eq!(arguments.clear, ["filter"]);
    }
}
