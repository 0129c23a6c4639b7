//! Compares two outputs of `webhook_openapi()`: what changed in the events, and whether a receiver
//! notices. Pure.
//!
//! A change breaks a receiver in two cases: a value may arrive that the old document excluded, or a
//! promised value is missing. Changes in the other direction, and added members, are reported but
//! break nothing, because receivers ignore unknown members. Descriptions and examples are not
//! compared. An undecidable change counts as breaking.

mod atom;
mod beyond;
#[cfg(test)]
mod tests;

pub use beyond::{Reason, Rule, beyond};

use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Change {
    pub breaking: bool,
    pub event_type: String,
    /// Path in the body, such as `data.total`. Empty for the event type itself.
    pub field: String,
    pub rule: &'static str,
    pub message: String,
}

/// The reason why a text is not an output of `webhook_openapi()`.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoDocument {
    #[error("invalid JSON: {0}")]
    NoJson(String),
    #[error("not an OpenAPI 3.1 document with webhooks; create one with webhookd schema dump")]
    NoOpenApi,
    #[error("event type {0} has no schema of a JSON body")]
    NoSchema(String),
}

/// The events of a document: a map from type to schema of the body.
#[derive(Debug, Clone, PartialEq)]
pub struct Events(BTreeMap<String, Value>);

impl Events {
    /// Parses the output of `webhook_openapi()`.
    ///
    /// # Errors
    /// Returns [`NoDocument`], which names the problem.
    pub fn parse(text: &str) -> Result<Self, NoDocument> {
        let document: Value =
            serde_json::from_str(text).map_err(|error| NoDocument::NoJson(error.to_string()))?;
        let is_known = document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1."));
        let webhooks = document["webhooks"].as_object().filter(|_| is_known).ok_or(NoDocument::NoOpenApi)?;
        let schema = |(event_type, item): (&String, &Value)| {
            let schema = &item["post"]["requestBody"]["content"]["application/json"]["schema"];
            let schema = match schema["$ref"].as_str() {
                Some(reference) => reference
                    .strip_prefix("#/components/schemas/")
                    .map_or(&Value::Null, |name| &document["components"]["schemas"][name]),
                None => schema,
            };
            if schema.is_object() || schema.is_boolean() {
                Ok((event_type.clone(), schema.clone()))
            } else {
                Err(NoDocument::NoSchema(event_type.clone()))
            }
        };
        Ok(Self(webhooks.iter().map(schema).collect::<Result<_, _>>()?))
    }

    /// Returns every difference from `self` to `new`, breaking ones first.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let mut changes = BTreeSet::new();
        for (event_type, old) in &self.0 {
            match new.0.get(event_type) {
                Some(new) => changes.extend(of_schemas(event_type, old, new)),
                None => {
                    changes.insert(removed(event_type, old, self, new));
                }
            }
        }
        for event_type in new.0.keys().filter(|event_type| !self.0.contains_key(*event_type)) {
            changes.insert(Change {
                breaking: false,
                event_type: event_type.clone(),
                field: String::new(),
                rule: "event-type-added",
                message: "event type added".to_owned(),
            });
        }
        let mut changes: Vec<Change> = changes.into_iter().collect();
        changes.sort_by_key(|change| !change.breaking);
        changes
    }
}

/// Describes a removed type. If a new type has the same verb and data, it was probably renamed.
fn removed(event_type: &str, schema: &Value, old: &Events, new: &Events) -> Change {
    let verb = |name: &str| name.rsplit_once('.').map(|(_, verb)| verb.to_owned());
    let tells_the_same = |other: &&String| {
        let data = |schema: &Value| schema["properties"]["data"].clone();
        !old.0.contains_key(*other)
            && verb(other) == verb(event_type)
            && new.0.get(*other).is_some_and(|other| data(other) == data(schema))
    };
    let message = match new.0.keys().find(tells_the_same) {
        Some(other) => format!("event type removed; {other} was added with the same data: renamed?"),
        None => "event type removed".to_owned(),
    };
    Change {
        breaking: true,
        event_type: event_type.to_owned(),
        field: String::new(),
        rule: "event-type-removed",
        message,
    }
}

/// Returns the differences between the bodies of one type.
fn of_schemas(event_type: &str, old: &Value, new: &Value) -> Vec<Change> {
    let wider = beyond(old, new).into_iter().map(|reason| (true, reason));
    // The first direction has already reported the undecidable reasons.
    let narrower = beyond(new, old)
        .into_iter()
        .filter(|reason| reason.rule != Rule::Undecided)
        .map(|reason| (false, reason));
    let all: BTreeSet<(bool, Reason)> = wider.chain(narrower).collect();
    // `previous` has the members of `data`, so one line is enough.
    let is_told_of_data = |breaking: bool, reason: &Reason| {
        let twin = reason.path.strip_prefix("previous.").map(|rest| format!("data.{rest}"));
        twin.is_some_and(|path| all.contains(&(breaking, Reason { path, ..reason.clone() })))
    };
    let told = all.iter().filter(|(breaking, reason)| !is_told_of_data(*breaking, reason));
    told.map(|(breaking, reason)| Change {
        breaking: *breaking,
        event_type: event_type.to_owned(),
        field: reason.path.clone(),
        rule: reason.rule.name(*breaking),
        message: reason.message(*breaking),
    })
    .collect()
}
