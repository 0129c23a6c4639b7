//! What a CHECK constraint says about the values of one column, as keywords of JSON Schema.
//!
//! Reads the text that `pg_get_expr()` prints with nothing but `pg_catalog` in the search path, so that a name without a
//! schema is Postgres's own. Understands comparisons with a literal, BETWEEN, IN, `length()`, IS NOT NULL, and several of
//! them joined by AND; passes over everything else. Pure.
//!
//! One rule stands above all: whatever the column accepts must satisfy the keywords, as its values are *printed* and read
//! by a validator that holds numbers in double precision. Where that is not certain, nothing is said.

mod number;
mod term;
mod token;

use number::Bound;
use serde_json::{Map, Value, json};
use term::{Column, Term, elements};
use token::Tree;

/// What the column's values are, and how they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// smallint, integer, bigint.
    Integer,
    /// numeric; `exact` if its precision is at most 15 digits, which double precision tells apart.
    Numeric {
        exact: bool,
    },
    Double,
    /// Printed with fewer digits than it is compared with.
    Real,
    /// text, varchar.
    Text,
    /// `char(n)`: blanks at the end are printed, but not compared.
    Padded {
        length: usize,
    },
    Enum,
}

/// What is known of a column's values that are not null.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    minimum: Option<Bound>,
    maximum: Option<Bound>,
    one_of: Option<Vec<Value>>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    not_null: bool,
}

impl Facts {
    /// Adds what a constraint says; `subject` is the column's name, or `VALUE` in a domain.
    pub fn learn(&mut self, expression: &str, subject: &str, kind: Kind) {
        if let Some(trees) = token::parse(expression) {
            self.conjunction(&trees, Column { name: subject, kind });
        }
    }

    /// Keywords of JSON Schema, and three words of our own: `notNull`; `lower` and `upper` if there is such a bound (NaN
    /// and the infinities, which are printed as texts, are beyond one or the other).
    pub fn keywords(&self) -> Map<String, Value> {
        let mut words = Map::new();
        let mut say = |word: &str, value: Value| {
            words.insert(word.to_owned(), value);
        };
        if let Some(bound) = &self.minimum {
            say(if bound.exclusive { "exclusiveMinimum" } else { "minimum" }, bound.value.clone());
            say("lower", json!(true));
        }
        if let Some(bound) = &self.maximum {
            say(if bound.exclusive { "exclusiveMaximum" } else { "maximum" }, bound.value.clone());
            say("upper", json!(true));
        }
        if let Some(values) = &self.one_of {
            say("enum", values.clone().into());
        }
        if let Some(length) = self.min_length.filter(|length| *length > 0) {
            say("minLength", length.into());
        }
        if let Some(length) = self.max_length {
            say("maxLength", length.into());
        }
        if self.not_null {
            say("notNull", json!(true));
        }
        words
    }

    fn conjunction(&mut self, trees: &[Tree], column: Column<'_>) {
        if let [Tree::Round(inner)] = trees {
            return self.conjunction(inner, column);
        }
        let is_and = |tree: &Tree| *tree == Tree::Word("AND".to_owned());
        if trees.iter().any(is_and) && !trees.contains(&Tree::Word("CASE".to_owned())) {
            for part in trees.split(is_and) {
                self.conjunction(part, column);
            }
        } else {
            self.condition(trees, column);
        }
    }

    fn condition(&mut self, trees: &[Tree], column: Column<'_>) {
        if let [value @ .., Tree::Word(is), Tree::Word(not), Tree::Word(null)] = trees
            && [is, not, null] == ["IS", "NOT", "NULL"]
        {
            // A sub-select without a row puts a null into a column whose domain forbids it.
            self.not_null |= column.name != "VALUE" && column.term(value) == Some(Term::Value);
            return;
        }
        let compares = |tree: &Tree| matches!(tree, Tree::Operator(name) if name != "::" && name != ".");
        let Some(at) = trees.iter().position(compares) else { return };
        let (left, Tree::Operator(operator), right) = (&trees[..at], &trees[at], &trees[at + 1..]) else {
            return;
        };
        if right.iter().any(compares) {
            return;
        }
        if let [Tree::Word(any), Tree::Round(array)] = right
            && any == "ANY"
            && operator == "="
        {
            return self.one_of(left, elements(array), column);
        }
        match (column.term(left), column.term(right)) {
            (Some(term), None) => self.compare(term, operator, right, column),
            (None, Some(term)) => self.compare(term, mirrored(operator), left, column),
            _ => {}
        }
    }

    fn compare(&mut self, term: Term, operator: &str, literal: &[Tree], column: Column<'_>) {
        match (term, operator) {
            (Term::Value, "=") => self.one_of_values(vec![column.literal(literal)]),
            (Term::Value, "<>") if column.kind == Kind::Text => {
                if column.literal(literal) == Some(json!("")) {
                    self.longer_than(0);
                }
            }
            (Term::Value, _) => {
                let Some(number) = number::literal(literal) else { return };
                match operator {
                    ">" | ">=" => {
                        Bound::tighten(&mut self.minimum, number.lower(operator == ">", column.kind), false)
                    }
                    "<" | "<=" => {
                        Bound::tighten(&mut self.maximum, number.upper(operator == "<", column.kind), true)
                    }
                    _ => {}
                }
            }
            (Term::Length, _) => self.length(operator, literal),
        }
    }

    fn length(&mut self, operator: &str, literal: &[Tree]) {
        let Some(length) = number::literal(literal).and_then(|number| number.as_length()) else { return };
        match operator {
            ">" => self.longer_than(length),
            ">=" => self.min_length = self.min_length.max(Some(length)),
            "<" => self.shorter_than(length.saturating_sub(1)),
            "<=" => self.shorter_than(length),
            "=" => {
                self.min_length = self.min_length.max(Some(length));
                self.shorter_than(length);
            }
            "<>" if length == 0 => self.longer_than(0),
            _ => {}
        }
    }

    fn longer_than(&mut self, length: u64) {
        self.min_length = self.min_length.max(Some(length.saturating_add(1)));
    }

    fn shorter_than(&mut self, length: u64) {
        self.max_length = Some(self.max_length.map_or(length, |known| known.min(length)));
    }

    fn one_of(&mut self, left: &[Tree], elements: Option<Vec<&[Tree]>>, column: Column<'_>) {
        if let (Some(Term::Value), Some(elements)) = (column.term(left), elements) {
            self.one_of_values(elements.into_iter().map(|element| column.literal(element)).collect());
        }
    }

    /// One that is not understood could be any.
    fn one_of_values(&mut self, values: Vec<Option<Value>>) {
        let Some(values) = values.into_iter().collect::<Option<Vec<Value>>>() else { return };
        match &mut self.one_of {
            Some(known) => known.retain(|value| values.contains(value)),
            None => {
                let mut distinct = Vec::with_capacity(values.len());
                for value in values {
                    if !distinct.contains(&value) {
                        distinct.push(value);
                    }
                }
                self.one_of = Some(distinct);
            }
        }
    }
}

/// The operator that says the same with its sides exchanged.
fn mirrored(operator: &str) -> &str {
    match operator {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        same => same,
    }
}

#[cfg(test)]
mod tests;
