//! Finds values that one schema accepts and another rejects, and the reasons. Pure.
//!
//! The comparison is sound but not complete. Without a reason, every value of the one schema is a
//! value of the other, except that members may be added. Where alternatives overlap, there may be a
//! reason too many.

use crate::schema::atom::{Atom, NOTHING, atoms, compare};
use serde_json::{Number, Value};

/// The rule that a difference falls under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Field,
    Required,
    Type,
    Null,
    Values,
    Range,
    Length,
    Format,
    Open,
    Described,
    Undecided,
}

impl Rule {
    /// Returns the rule's name in the breaking direction, or in the other one.
    pub fn name(self, breaking: bool) -> &'static str {
        match (self, breaking) {
            (Self::Field, true) => "field-removed",
            (Self::Field, false) => "field-added",
            (Self::Required, true) => "required-to-optional",
            (Self::Required, false) => "optional-to-required",
            (Self::Type, true) => "type-added",
            (Self::Type, false) => "type-dropped",
            (Self::Null, true) => "null-added",
            (Self::Null, false) => "null-dropped",
            (Self::Values, true) => "values-added",
            (Self::Values, false) => "values-dropped",
            (Self::Range, true) => "range-widened",
            (Self::Range, false) => "range-narrowed",
            (Self::Length, true) => "length-widened",
            (Self::Length, false) => "length-narrowed",
            (Self::Format, true) => "format-dropped",
            (Self::Format, false) => "format-added",
            (Self::Open, true) => "members-opened",
            (Self::Open, false) => "members-closed",
            (Self::Described, true) => "description-lost",
            (Self::Described, false) => "description-gained",
            (Self::Undecided, _) => "undecided",
        }
    }

    fn words(self, breaking: bool) -> &'static str {
        match (self, breaking) {
            (Self::Field, true) => "field removed",
            (Self::Field, false) => "field added",
            (Self::Required, true) => "no longer always present",
            (Self::Required, false) => "always present now",
            (Self::Type, true) => "may have another type",
            (Self::Type, false) => "no longer has that type",
            (Self::Null, true) => "may be null now",
            (Self::Null, false) => "no longer null",
            (Self::Values, true) => "additional values",
            (Self::Values, false) => "values that no longer occur",
            (Self::Range, true) => "additional numbers",
            (Self::Range, false) => "fewer numbers",
            (Self::Length, true) => "additional lengths",
            (Self::Length, false) => "fewer lengths",
            (Self::Format, true) => "no longer guaranteed",
            (Self::Format, false) => "guaranteed now",
            (Self::Open, true) => "may have additional members",
            (Self::Open, false) => "no longer has other members",
            (Self::Described, true) => "any value is possible now",
            (Self::Described, false) => "described now",
            (Self::Undecided, _) => "cannot be compared",
        }
    }
}

/// One reason why more values are accepted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    pub path: String,
    pub rule: Rule,
    /// The values, in the words of the schema. Empty if the rule says everything.
    pub detail: String,
    /// The values that were promised instead, in the same words. Empty if `detail` needs no
    /// comparison.
    pub instead_of: String,
}

impl Reason {
    fn new(path: &str, rule: Rule, detail: impl Into<String>) -> Self {
        Self { path: path.to_owned(), rule, detail: detail.into(), instead_of: String::new() }
    }

    fn instead(path: &str, rule: Rule, sent: String, promised: String) -> Self {
        Self { path: path.to_owned(), rule, detail: sent, instead_of: promised }
    }

    /// Describes the reason in the breaking direction, or in the other one.
    pub fn message(&self, breaking: bool) -> String {
        let words = self.rule.words(breaking);
        match (self.detail.as_str(), self.instead_of.as_str()) {
            ("", _) => words.to_owned(),
            (detail, "") => format!("{words}: {detail}"),
            // In the other direction the two change places.
            (sent, promised) if breaking => format!("{words}: {sent} instead of {promised}"),
            (sent, promised) => format!("{words}: {promised} instead of {sent}"),
        }
    }
}

/// Returns the reasons why `sent` accepts values that `promised` rejects, if there are any.
pub fn beyond(promised: &Value, sent: &Value) -> Vec<Reason> {
    compared("", promised, sent)
}

fn compared(path: &str, promised: &Value, sent: &Value) -> Vec<Reason> {
    if promised == sent {
        return Vec::new();
    }
    // Our own schemas have no keywords next to anyOf.
    let with_more = |schema: &Value| {
        let members = schema.as_object().filter(|schema| schema.contains_key("anyOf"));
        members.is_some_and(|schema| {
            schema.keys().any(|name| name != "anyOf" && name != "description" && name != "title")
        })
    };
    if with_more(promised) || with_more(sent) {
        return vec![Reason::new(path, Rule::Undecided, "keywords next to anyOf")];
    }
    let may_be = atoms(promised);
    let mut reasons = Vec::new();
    for atom in atoms(sent) {
        reasons.extend(uncovered(path, &may_be, &atom));
    }
    reasons
}

/// Returns the reasons why the closest alternative does not cover this one. Returns none if an
/// alternative covers it.
fn uncovered(path: &str, promised: &[Atom<'_>], sent: &Atom<'_>) -> Vec<Reason> {
    if promised.iter().any(|atom| atom.kind.is_none()) {
        return Vec::new();
    }
    let Some(kind) = sent.kind else { return vec![Reason::new(path, Rule::Described, "")] };
    let fits =
        |atom: &&Atom<'_>| atom.kind == Some(kind) || (atom.kind == Some("number") && kind == "integer");
    // A whole row must not be compared with the cut row of a large payload, however many members it
    // has lost.
    let distance = |reasons: &Vec<Reason>| {
        reasons
            .iter()
            .map(|reason| if reason.rule == Rule::Open && reason.path == path { 10_000 } else { 1 })
            .sum::<usize>()
    };
    let closest = promised.iter().filter(fits).map(|atom| of_atoms(path, atom, sent)).min_by_key(distance);
    closest.unwrap_or_else(|| {
        vec![if kind == "null" {
            Reason::new(path, Rule::Null, "")
        } else {
            Reason::new(path, Rule::Type, kind)
        }]
    })
}

/// Compares two alternatives of one type.
fn of_atoms(path: &str, promised: &Atom<'_>, sent: &Atom<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let (theirs, ours) = (promised.undecided(), sent.undecided());
    if theirs != ours {
        let names: Vec<&str> = theirs.iter().chain(&ours).map(|(name, _)| name.as_str()).collect();
        reasons.push(Reason::new(path, Rule::Undecided, names.join(", ")));
    }
    if sent.kind == Some("null") {
        return reasons;
    }
    if let Some(values) = &sent.values {
        let others: Vec<String> =
            values.iter().filter(|value| !lets(promised, value)).map(|value| value.to_string()).collect();
        if !others.is_empty() {
            reasons.push(Reason::new(path, Rule::Values, others.join(", ")));
        }
        reasons.extend(formats(path, promised, sent));
        return reasons;
    }
    if promised.values.is_some() {
        reasons.push(Reason::new(path, Rule::Values, "no longer a list of values"));
        return reasons;
    }
    match sent.kind {
        Some("integer" | "number") => reasons.extend(range(path, promised, sent)),
        Some("string") => {
            reasons.extend(length(path, promised, sent));
            reasons.extend(formats(path, promised, sent));
        }
        Some("array") => {
            let (theirs, ours) = (promised.schema.get("items"), sent.schema.get("items"));
            let anything = Value::Bool(true);
            reasons.extend(compared(
                &format!("{path}[]"),
                theirs.unwrap_or(&anything),
                ours.unwrap_or(&anything),
            ));
        }
        Some("object") => reasons.extend(members(path, promised, sent)),
        _ => {}
    }
    reasons
}

/// Reports whether a value is accepted by the rules for single values: lists, numbers, and lengths.
fn lets(atom: &Atom<'_>, value: &Value) -> bool {
    if atom.values.as_ref().is_some_and(|values| !values.iter().any(|one| same(one, value))) {
        return false;
    }
    match value {
        Value::Number(number) => {
            let above = |(bound, out): (&Number, bool)| {
                let order = compare(number, bound);
                order.is_gt() || (order.is_eq() && !out)
            };
            let below = |(bound, out): (&Number, bool)| {
                let order = compare(number, bound);
                order.is_lt() || (order.is_eq() && !out)
            };
            atom.lowest().is_none_or(above) && atom.highest().is_none_or(below)
        }
        Value::String(text) => {
            let count = text.chars().count() as u64;
            atom.length("minLength").is_none_or(|least| count >= least)
                && atom.length("maxLength").is_none_or(|most| count <= most)
        }
        Value::Null | Value::Bool(_) => true,
        // A list has matched the value as a whole. Without a list, its members are not examined, so
        // it counts as rejected.
        Value::Array(_) | Value::Object(_) => atom.values.is_some(),
    }
}

/// Reports whether two values are equal. 1 and 1.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        _ => a == b,
    }
}

fn range(path: &str, promised: &Atom<'_>, sent: &Atom<'_>) -> Option<Reason> {
    let is_within =
        |theirs: Option<(&Number, bool)>, ours: Option<(&Number, bool)>, outwards: std::cmp::Ordering| {
            let Some((theirs, excluded)) = theirs else { return true };
            ours.is_some_and(|(ours, out)| {
                let order = compare(ours, theirs);
                order != outwards && (order.is_ne() || out || !excluded)
            })
        };
    let is_within = is_within(promised.lowest(), sent.lowest(), std::cmp::Ordering::Less)
        && is_within(promised.highest(), sent.highest(), std::cmp::Ordering::Greater);
    (!is_within).then(|| Reason::instead(path, Rule::Range, span(sent), span(promised)))
}

fn span(atom: &Atom<'_>) -> String {
    let lowest = atom.lowest().map(|(bound, out)| format!("{} {bound}", if out { ">" } else { "≥" }));
    let highest = atom.highest().map(|(bound, out)| format!("{} {bound}", if out { "<" } else { "≤" }));
    let both: Vec<String> = lowest.into_iter().chain(highest).collect();
    if both.is_empty() { "any".to_owned() } else { both.join(" and ") }
}

fn length(path: &str, promised: &Atom<'_>, sent: &Atom<'_>) -> Option<Reason> {
    let least = |atom: &Atom<'_>| atom.length("minLength").unwrap_or(0);
    let most = |atom: &Atom<'_>| atom.length("maxLength").unwrap_or(u64::MAX);
    let is_within = least(sent) >= least(promised) && most(sent) <= most(promised);
    let span = |atom: &Atom<'_>| match atom.length("maxLength") {
        None if least(atom) == 0 => "any".to_owned(),
        Some(most) if least(atom) == 0 => format!("at most {most} characters"),
        Some(most) => format!("{} to {most} characters", least(atom)),
        None => format!("at least {} characters", least(atom)),
    };
    (!is_within).then(|| Reason::instead(path, Rule::Length, span(sent), span(promised)))
}

fn formats(path: &str, promised: &Atom<'_>, sent: &Atom<'_>) -> Vec<Reason> {
    let lost = |keyword| {
        let promised = promised.text(keyword)?;
        (sent.text(keyword) != Some(promised))
            .then(|| Reason::new(path, Rule::Format, format!("{keyword} {promised}")))
    };
    ["format", "pattern"].into_iter().filter_map(lost).collect()
}

fn members(path: &str, promised: &Atom<'_>, sent: &Atom<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let is_opened = promised.is_closed() && !sent.is_closed();
    if is_opened || (promised.is_empty_object() && !sent.is_empty_object()) {
        reasons.push(Reason::new(path, Rule::Open, ""));
    }
    let (theirs, ours) = (promised.properties().unwrap_or(&NOTHING), sent.properties().unwrap_or(&NOTHING));
    for (name, theirs) in theirs {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match ours.get(name) {
            // An object that is always empty lacks nothing that was required.
            None if sent.is_empty_object() && !promised.requires(name) => {}
            None => reasons.push(Reason::new(&path, Rule::Field, "")),
            Some(ours) => {
                if promised.requires(name) && !sent.requires(name) {
                    reasons.push(Reason::new(&path, Rule::Required, ""));
                }
                reasons.extend(compared(&path, theirs, ours));
            }
        }
    }
    let required = promised.schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !theirs.contains_key(name) && !sent.requires(name) {
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            reasons.push(Reason::new(&path, Rule::Required, ""));
        }
    }
    reasons
}
