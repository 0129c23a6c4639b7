//! The form of a subscription: the fields that it shows, and the options that they stand for. Pure.
//!
//! It converts a stored subscription to form values, and form values to the body of a REST request.
//! It checks only whether numbers and header lines can be parsed; Postgres checks the values.

use crate::{
    extract::Body,
    options::OPTIONS,
    page::{session::Fields, text::inert},
    problem::Problem,
    subscriptions::Subscription,
};
use axum::{body::Bytes, http::StatusCode};
use delivery::shape::Format;
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Fields of the form that hold several values, one per line.
const LINES: [&str; 2] = ["events", "exclude_origin"];

/// Checkboxes. A browser sends no field for an unchecked box.
const TICKED: [&str; 1] = ["compact"];

/// The values of a form, by field name.
pub type Values = BTreeMap<String, String>;

/// Returns the form values of a stored subscription.
pub fn values_of(subscription: &Subscription) -> Values {
    let mut values = Values::new();
    let Ok(Value::Object(members)) = serde_json::to_value(subscription) else { return values };
    for (name, value) in members {
        let text = match &value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let separator = if LINES.contains(&name.as_str()) { "\n" } else { " " };
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
            }
            Value::Object(pairs) => pairs
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join("\n"),
            other => other.to_string(),
        };
        values.insert(name, text);
    }
    values
}

/// Returns the submitted values, for a form that is shown again.
pub fn entered(fields: &Fields) -> Values {
    let mut values = fields.0.clone();
    for name in TICKED {
        values.entry(name.to_owned()).or_insert_with(|| "false".to_owned());
    }
    values
}

/// Trims a value, and normalizes line ends: browsers send CR LF.
fn plain(text: Option<&str>) -> String {
    text.unwrap_or_default().trim().replace("\r\n", "\n")
}

/// Returns the fields whose submitted value differs from the stored one, with the stored value.
pub fn differing(entered: &Values, stored: &Values) -> Vec<(&'static str, String)> {
    let text = |values: &Values, name: &str| match values.get(name).map(String::as_str) {
        Some("on") if TICKED.contains(&name) => "true".to_owned(),
        text => plain(text),
    };
    OPTIONS
        .iter()
        .filter(|option| entered.contains_key(option.name))
        .map(|option| (option.name, text(stored, option.name)))
        .filter(|(name, stored)| text(entered, name) != *stored)
        .collect()
}

/// Converts form fields to options. An empty field has no value: it is left out for a new
/// subscription. For an existing one (`present`) it becomes null or an empty array, which clears
/// the old value.
pub fn options_of(fields: &Fields, present: Option<&Values>) -> Result<Map<String, Value>, Problem> {
    let mut members = Map::new();
    for option in
        OPTIONS.iter().filter(|option| fields.0.contains_key(option.name) || TICKED.contains(&option.name))
    {
        let (name, text) = (option.name, fields.get(option.name));
        let was = present.and_then(|values| values.get(name)).map(String::as_str);
        if present.is_some() && !TICKED.contains(&name) && plain(text) == was.unwrap_or_default() {
            continue;
        }
        let value = match (name, text) {
            (name, text) if TICKED.contains(&name) => Value::Bool(text.is_some()),
            ("headers", text) => headers(text.unwrap_or_default())?,
            (_, None) if option.is_array && present.is_some() => Value::Array(Vec::new()),
            (_, None) if present.is_some() => Value::Null,
            (_, None) => continue,
            (_, Some(text)) if option.is_array => {
                text.split([' ', '\r', '\n', ',']).filter(|word| !word.is_empty()).map(Value::from).collect()
            }
            (_, Some(text)) if matches!(option.cast, "integer" | "numeric") => {
                text.parse().map(Value::Number).map_err(|_| {
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: this is no number"))
                        .field(name)
                })?
            }
            (_, Some(text)) => Value::from(text),
        };
        members.insert(name.to_owned(), value);
    }
    Ok(members)
}

/// Parses header lines, one `Name: value` per line.
fn headers(text: &str) -> Result<Value, Problem> {
    let mut pairs = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "headers: a line has no colon");
            return Err(problem.field("headers").hint("Write one in a line, as in X-Team: billing."));
        };
        pairs.insert(name.trim().to_owned(), Value::from(value.trim()));
    }
    Ok(Value::Object(pairs))
}

/// Returns options as the body of a REST request.
pub fn body_of(members: Map<String, Value>) -> Body {
    Body(Bytes::from(Value::Object(members).to_string()))
}

/// Renders the fields of a subscription. `wrong` is the name of the field that was rejected.
pub fn fields(values: &Values, wrong: Option<&str>, known: &[&str], is_new: bool) -> Markup {
    let text = |name: &'static str, label: &str, hint: &str| {
        html! {
            div {
                label for=(name) { (label) " " small { (hint) } }
                input id=(name) name=(name) value=[values.get(name)] aria-invalid=[(wrong == Some(name)).then_some("true")];
            }
        }
    };
    let choice = |name: &'static str, label: &str, words: &[&str]| {
        html! {
            div {
                label for=(name) { (label) }
                select id=(name) name=(name) aria-invalid=[(wrong == Some(name)).then_some("true")] {
                    @for word in words { option value=(word) selected[values.get(name).is_some_and(|value| value == word)] { (word) } }
                }
            }
        }
    };
    let area = |name: &'static str, label: &str, hint: &str| {
        html! {
            div {
                label for=(name) { (label) " " small { (hint) } }
                textarea id=(name) name=(name) aria-invalid=[(wrong == Some(name)).then_some("true")] { (values.get(name).map(String::as_str).unwrap_or_default()) }
            }
        }
    };
    html! {
        (text("url", "URL", "where requests go"))
        (text("name", "Name", "may be left out"))
        (area("events", "Events", "patterns, one in a line: order.paid, order.*, *"))
        @if !known.is_empty() { p.hint { "Known here: " (inert(&known.join(", "))) } }
        details open[wrong.is_some_and(|name| !matches!(name, "url" | "name" | "events"))] {
            summary { "How requests look, and when they are made" }
            div.grid2 {
                (text("filter", "Filter", "SQL/JSON path, as in $.data.total > 100"))
                (choice("format", "Format", &Format::ALL.map(Format::as_str)))
                (choice("payload_mode", "Payload", &["full", "thin", "changed"]))
                (choice("ordering", "Order", &["none", "key", "strict"]))
                (choice("verification", "Confirmation", &["none", "ping", "handshake"]))
                (text("signature", "Signature", "standard, standard-v1a, svix, github, stripe, none"))
                (text("timeout", "Timeout", "as in PT15S or 15 s"))
                (text("retry", "Waits between attempts", "as in PT5S PT5M"))
                (text("max_in_flight", "At once", "1 to 4096"))
                (text("rate_limit", "A second, at most", "empty: no limit"))
                (text("batch_size", "Events in a request", "1 to 1000"))
                (text("batch_window", "Wait for a batch", "up to PT1M"))
                (text("owner", "Owner", if is_new { "left out: you" } else { "a role or a tenant" }))
                (text("tls", "Certificates", "a set of the daemon's configuration"))
                (area("headers", "Headers", "Name: value, one in a line"))
                (area("exclude_origin", "Not from these origins", "one in a line"))
            }
            p.check { input #compact name="compact" type="checkbox" value="on" checked[values.get("compact").is_some_and(|value| value == "true" || value == "on")]; " " label for="compact" { "Several changes of one key become one event while undelivered" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_form_becomes_options() {
        let form = fields(&[
            ("url", "https://a"),
            ("name", ""),
            ("events", "order.*\r\nx.y"),
            ("rate_limit", "0.5"),
            ("headers", "X-A: b:c\n"),
            ("action", "x"),
        ]);
        let want = serde_json::json!({"url": "https://a", "events": ["order.*", "x.y"], "rate_limit": 0.5, "headers": {"X-A": "b:c"}, "compact": false});
        assert_eq!(Value::Object(options_of(&form, None).unwrap()), want);
        assert_eq!(
            options_of(&fields(&[("headers", "nonsense")]), None).unwrap_err().field.as_deref(),
            Some("headers")
        );
        assert_eq!(
            options_of(&fields(&[("batch_size", "x")]), None).unwrap_err().field.as_deref(),
            Some("batch_size")
        );
    }

    #[test]
    fn only_what_was_changed_is_said() {
        let present: Values =
            [("name", "a"), ("url", "https://a"), ("events", "x.*\ny.z"), ("compact", "true")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let form = fields(&[
            ("name", ""),
            ("url", "https://a"),
            ("events", "x.*\r\ny.z"),
            ("filter", ""),
            ("compact", "on"),
        ]);
        let changed = Value::Object(options_of(&form, Some(&present)).unwrap());
        assert_eq!(changed, serde_json::json!({"name": null, "compact": true}));
    }

    #[test]
    fn what_was_not_ticked_stays_so() {
        let values = |pairs: &[(&str, &str)]| -> Values { fields(pairs).0 };
        assert_eq!(entered(&fields(&[("name", "a")]))["compact"], "false");
        let ticked = entered(&fields(&[("name", "b"), ("events", "x.*\r\ny.z"), ("compact", "on")]));
        assert_eq!(ticked["compact"], "on");
        let stored = values(&[("name", "a"), ("events", "x.*\ny.z"), ("compact", "true"), ("url", "u")]);
        assert_eq!(
            differing(&ticked, &stored),
            [("name", "a".to_owned())],
            "and what was not entered is no difference"
        );
        let stored = values(&[("name", "b"), ("events", "x.*\ny.z"), ("compact", "false")]);
        assert_eq!(differing(&ticked, &stored), [("compact", "false".to_owned())]);
    }
}
