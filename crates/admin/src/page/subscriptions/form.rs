//! The form of a subscription: the fields that it shows, and the options that they stand for. Pure.
//!
//! It converts a stored subscription to form values, and form values to the body of a REST request.
//! It checks only whether numbers and header lines can be parsed; Postgres checks the values.

use crate::{
    extract::Body,
    page::{session::Fields, text::inert},
    problem::Problem,
    subscriptions::Subscription,
};
use axum::{body::Bytes, http::StatusCode};
use maud::{Markup, html};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use subscription_options::{Control, Kind, OPTIONS, SubscriptionOption};

fn has_control(name: &str, control: Control) -> bool {
    subscription_options::find(name).is_some_and(|option| option.control == control)
}

/// A browser sends no field for an unchecked box.
fn is_json(name: &str) -> bool {
    subscription_options::find(name).is_some_and(|option| matches!(option.kind, Kind::Json { .. }))
}

fn is_checkbox(name: &str) -> bool {
    has_control(name, Control::Checkbox)
}

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
                let separator = if has_control(&name, Control::Lines) { "\n" } else { " " };
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(separator)
            }
            json if is_json(&name) => json.to_string(),
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
    for option in OPTIONS.iter().filter(|option| option.control == Control::Checkbox) {
        values.entry(option.name.to_owned()).or_insert_with(|| "false".to_owned());
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
        Some("on") if is_checkbox(name) => "true".to_owned(),
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
        OPTIONS.iter().filter(|option| fields.0.contains_key(option.name) || is_checkbox(option.name))
    {
        let (name, text) = (option.name, fields.get(option.name));
        let was = present.and_then(|values| values.get(name)).map(String::as_str);
        if present.is_some() && !is_checkbox(name) && plain(text) == was.unwrap_or_default() {
            continue;
        }
        let value = match (name, text) {
            (name, text) if is_checkbox(name) => Value::Bool(text.is_some()),
            (_, text) if option.kind == Kind::Object => pairs(name, text.unwrap_or_default())?,
            (_, None) if option.kind.is_array() && present.is_some() => Value::Array(Vec::new()),
            (_, None) if present.is_some() => Value::Null,
            (_, None) => continue,
            (_, Some(text)) if option.kind.is_array() => {
                text.split([' ', '\r', '\n', ',']).filter(|word| !word.is_empty()).map(Value::from).collect()
            }
            (_, Some(text)) if matches!(option.kind, Kind::Integer { .. } | Kind::Number) => {
                text.parse().map(Value::Number).map_err(|_| {
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: must be a number"))
                        .field(name)
                })?
            }
            (name, Some(text)) if is_json(name) => serde_json::from_str(text).map_err(|error| {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: must be JSON: {error}"))
                    .field(name)
            })?,
            (_, Some(text)) => Value::from(text),
        };
        members.insert(name.to_owned(), value);
    }
    Ok(members)
}

/// Parses lines, one `Name: value` per line.
fn pairs(option: &str, text: &str) -> Result<Value, Problem> {
    let mut pairs = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((name, value)) = line.split_once(':') else {
            let problem = Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("{option}: each line must have a colon"),
            );
            return Err(problem.field(option).hint("Enter one header per line, as in X-Team: billing."));
        };
        pairs.insert(name.trim().to_owned(), Value::from(value.trim()));
    }
    Ok(Value::Object(pairs))
}

/// Returns options as the body of a REST request.
pub fn body_of(members: Map<String, Value>) -> Body {
    Body(Bytes::from(Value::Object(members).to_string()))
}

/// Renders one field.
fn field(option: &SubscriptionOption, values: &Values, wrong: Option<&str>) -> Markup {
    let (name, value) = (option.name, values.get(option.name).map(String::as_str));
    let invalid = (wrong == Some(name)).then_some("true");
    let words = match option.kind {
        Kind::Word(words) => words,
        _ => &[],
    };
    html! {
        @if option.control == Control::Checkbox {
            p.check {
                input id=(name) name=(name) type="checkbox" value="on" checked[matches!(value, Some("true" | "on"))];
                " " label for=(name) { (option.label) }
            }
        } @else {
            div {
                label for=(name) {
                    (option.label)
                    @if !option.label_hint.is_empty() { " " small { (option.label_hint) } }
                }
                @match option.control {
                    Control::Choice => select id=(name) name=(name) aria-invalid=[invalid] {
                        @for word in words { option value=(word) selected[value == Some(word)] { (word) } }
                    }
                    Control::Lines => textarea id=(name) name=(name) aria-invalid=[invalid] { (value.unwrap_or_default()) }
                    _ => input id=(name) name=(name) value=[value] aria-invalid=[invalid];
                }
            }
        }
    }
}

/// Renders the fields of a subscription. `wrong` is the name of the field that was rejected.
pub fn fields(values: &Values, wrong: Option<&str>, known: &[&str]) -> Markup {
    let shown = |is_basic: bool, controls: &'static [Control]| {
        OPTIONS.iter().filter(move |option| option.is_basic == is_basic && controls.contains(&option.control))
    };
    let is_folded = |name: &str| subscription_options::find(name).is_some_and(|option| !option.is_basic);
    html! {
        @for option in shown(true, &[Control::Line, Control::Lines]) { (field(option, values, wrong)) }
        @if !known.is_empty() { p.hint { "Known event types: " (inert(&known.join(", "))) } }
        details open[wrong.is_some_and(is_folded)] {
            summary { "Advanced options" }
            div.grid2 {
                @for option in shown(false, &[Control::Line, Control::Choice]) { (field(option, values, wrong)) }
                @for option in shown(false, &[Control::Lines]) { (field(option, values, wrong)) }
            }
            @for option in shown(false, &[Control::Checkbox]) { (field(option, values, wrong)) }
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
            ("expected_response", r#"{"ok": true}"#),
            ("action", "x"),
        ]);
        let want = serde_json::json!({
            "url": "https://a", "events": ["order.*", "x.y"], "rate_limit": 0.5, "headers": {"X-A": "b:c"},
            "compact": false, "expected_response": {"ok": true}, "keep_response": false
        });
        assert_eq!(Value::Object(options_of(&form, None).unwrap()), want);
        assert_eq!(
            options_of(&fields(&[("headers", "nonsense")]), None).unwrap_err().field.as_deref(),
            Some("headers")
        );
        for name in ["batch_size", "expected_response"] {
            let error = options_of(&fields(&[(name, "{x")]), None).unwrap_err();
            assert_eq!(error.field.as_deref(), Some(name));
        }
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
        assert_eq!(changed, serde_json::json!({"name": null, "compact": true, "keep_response": false}));
    }

    #[test]
    fn what_was_not_ticked_stays_so() {
        let values = |pairs: &[(&str, &str)]| -> Values { fields(pairs).0 };
        assert_eq!(entered(&fields(&[("name", "a")]))["compact"], "false");
        let ticked = entered(&fields(&[("name", "b"), ("events", "x.*\r\ny.z"), ("compact", "on")]));
        assert_eq!(ticked["compact"], "on");
        let common = [("events", "x.*\ny.z"), ("keep_response", "false")];
        let stored = values(&[&common[..], &[("name", "a"), ("compact", "true"), ("url", "u")]].concat());
        assert_eq!(
            differing(&ticked, &stored),
            [("name", "a".to_owned())],
            "and what was not entered is no difference"
        );
        let stored = values(&[&common[..], &[("name", "b"), ("compact", "false")]].concat());
        assert_eq!(differing(&ticked, &stored), [("compact", "false".to_owned())]);
    }
}
