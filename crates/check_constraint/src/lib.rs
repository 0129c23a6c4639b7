//! Translates the CHECK constraints of one column into keywords of JSON Schema.
//!
//! The input is the text that `pg_get_expr()` prints while `search_path` holds only `pg_catalog`,
//! so a name without a schema is one of Postgres's own. The crate understands comparisons with a
//! literal, BETWEEN, IN, `length()`, IS NOT NULL, and conjunctions of them with AND. It ignores
//! everything else. It reads and writes nothing.
//!
//! One rule has priority: every value that the column accepts must satisfy the keywords. That holds
//! for values as Postgres *prints* them and as a validator with double-precision numbers reads
//! them. If that is not certain, the crate emits no keyword.

mod cast;
mod number;
mod term;
mod token;

use number::Bound;
use serde_json::{Map, Value, json};
use term::{Column, Term, elements};
use token::Tree;

/// The type of a column's values, as far as it decides how they are compared and printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// smallint, integer, or bigint.
    Integer,
    /// numeric. `exact` means a precision of at most 15 digits, which double precision can
    /// distinguish.
    Numeric {
        exact: bool,
    },
    Double,
    /// real. Its values are printed with fewer digits than they are compared with.
    Real,
    /// text or varchar.
    Text,
    /// `char(n)`. Trailing blanks are printed but not compared.
    Padded {
        length: usize,
    },
    Enum,
}

/// The facts that the constraints establish about a column's non-null values.
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
    /// Adds the facts of one constraint. `subject` is the column's name, or `VALUE` in a domain.
    pub fn learn(&mut self, expression: &str, subject: &str, kind: Kind) {
        if let Some(trees) = token::parse(expression) {
            self.conjunction(&trees, Column { name: subject, kind });
        }
    }

    /// Returns the keywords of JSON Schema and three words of our own: `notNull`, `lower`, and
    /// `upper`.
    ///
    /// `lower` and `upper` report that the column has such a bound. A lower or an upper bound
    /// excludes the matching infinity, and an upper bound excludes NaN; Postgres prints all three
    /// as strings.
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
            // A domain's constraint proves nothing here: a sub-select without a row puts a null
            // into a column whose domain forbids nulls.
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

    /// Restricts the column to a list of values. Does nothing if one of them is unknown (`None`).
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

/// Returns the operator that means the same with its operands exchanged.
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
