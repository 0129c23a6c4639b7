//! Decides filters without Postgres, with the result of `webhook.path_matches`. Pure.
//!
//! # The problem
//!
//! A filter is an SQL/JSON path, and only Postgres knows all of that language. But most filters
//! compare a member with a value: `$.data.tenant_id == 7`. A round trip for each of them costs more
//! than everything else that the daemon does with an event.
//!
//! # The nouns
//!
//! * A [`PathFilter`] is a parsed path: comparisons (`==`, `!=`, `<`, `<=`, `>`, `>=`, `starts
//!   with`) between literals and paths of members, `exists`, `&&`, `||`, `!` and `is unknown`. A
//!   path can contain `[*]` and a condition in `?(…)`. Other paths are not parsed, and Postgres
//!   evaluates them.
//! * A [`Subject`] is the event as a filter sees it, and a [`Document`] is the parsed subject.
//! * Many filters need one [`Constant`] at a [`MemberPath`]: [`PathFilter::equality`].
//!
//! # The rule
//!
//! A wrong answer loses an event or sends one to the wrong receiver. So each function returns
//! `None` if it is not certain of the answer of Postgres: for a number with thousands of digits,
//! for deep nesting, for a document of megabytes, and for a path that visits many elements. `None`
//! means that Postgres decides. `tests/tests/delivery/filters_agree_with_postgres.rs` compares both
//! on random documents and paths.
//!
//! The texts must be UTF-8, and the database too. In another encoding, Postgres rejects escapes
//! that it cannot convert, and compares strings in a different way.

mod document;
mod equality;
mod evaluate;
mod json;
mod number;
mod parse;

pub use document::{Document, Subject};
pub use equality::{Constant, MemberPath};

use evaluate::{Evaluation, Truth};
use number::Number;

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathFilter(Kind);

/// How a filter is asked, like the two operators of Postgres.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    /// `@@`: the condition must be true. Unknown is not true.
    Condition(Condition),
    /// `@?`: the path must find an item.
    Path(Path),
}

/// A condition, which is true, false or unknown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Condition {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    IsUnknown(Box<Self>),
    Exists(Path),
    Compare(Operand, Comparison, Operand),
    StartsWith(Operand, Box<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Operand {
    Path(Path),
    Literal(Literal),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Literal {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<[u8]>),
}

/// A path from the document (`$`) or from the item that a `?(…)` examines (`@`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Path {
    is_from_root: bool,
    steps: Box<[Step]>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    /// `.name`
    Member(Box<[u8]>),
    /// `[*]`
    Elements,
    /// `?(…)`
    Filter(Condition),
}

impl PathFilter {
    /// Parses the text that Postgres prints of a jsonpath. Returns `None` for a path that Postgres
    /// must evaluate.
    pub fn parse(text: &str) -> Option<Self> {
        parse::filter(text).map(Self)
    }

    /// Reports whether an event matches. Returns `None` if Postgres must decide.
    pub fn matches(&self, document: &Document<'_>) -> Option<bool> {
        let root = match document.root() {
            document::Root::Json(root) => root,
            document::Root::NotJsonb => return Some(false),
            document::Root::Uncertain => return None,
        };
        let mut evaluation = Evaluation::new(document, root);
        let is_match = match &self.0 {
            Kind::Condition(condition) => evaluation.condition(condition, root)? == Truth::True,
            Kind::Path(path) => evaluation.exists(path, root)?,
        };
        Some(is_match)
    }
}

#[cfg(test)]
mod tests;
