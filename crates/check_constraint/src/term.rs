//! The operands of a comparison: the column, its length, and literals, with the casts that Postgres
//! prints.
//!
//! A cast is skipped only if it keeps the value.

use crate::{Kind, cast::without_casts, number, token::Tree};
use serde_json::Value;

/// The operand that is compared with a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// The column's value.
    Value,
    /// The length of the column's value in characters.
    Length,
}

#[derive(Debug, Clone, Copy)]
pub struct Column<'a> {
    /// The column's name, or `VALUE` in a domain.
    pub name: &'a str,
    pub kind: Kind,
}

impl Column<'_> {
    pub fn term(self, trees: &[Tree]) -> Option<Term> {
        let (core, casts) = without_casts(trees)?;
        match core {
            [Tree::Word(name) | Tree::Quoted(name)] if name == self.name => {
                let keeps = |cast: &String| self.kind.casts().contains(&cast.as_str());
                casts.iter().all(keeps).then_some(Term::Value)
            }
            [Tree::Word(function), Tree::Round(argument)]
                if self.kind == Kind::Text
                    && ["length", "char_length", "character_length"].contains(&function.as_str()) =>
            {
                (casts.is_empty() && self.term(argument)? == Term::Value).then_some(Term::Length)
            }
            _ => None,
        }
    }

    /// Returns the value of a literal in the form in which Postgres prints a column that is equal
    /// to it. Returns `None` if a column of this kind cannot be equal to the literal.
    pub fn literal(self, trees: &[Tree]) -> Option<Value> {
        let (core, casts) = without_casts(trees)?;
        let all = |allowed: &[&str]| casts.iter().all(|cast| allowed.contains(&cast.as_str()));
        match (self.kind, core) {
            (Kind::Text, [Tree::Text(text)]) if all(&["text", "character varying"]) => {
                Some(text.clone().into())
            }
            (Kind::Padded { length }, [Tree::Text(text)]) if all(&["bpchar"]) => {
                Some(format!("{:<length$}", text.trim_end_matches(' ')).into())
            }
            (Kind::Enum, [Tree::Text(text)]) => {
                matches!(&casts[..], [cast] if !cast.ends_with("[]")).then(|| text.clone().into())
            }
            (Kind::Integer | Kind::Numeric { .. } | Kind::Double | Kind::Real, _) => {
                number::literal(trees)?.equal(self.kind)
            }
            _ => None,
        }
    }
}

impl Kind {
    /// Lists the casts of the column that keep its value or raise an error.
    fn casts(self) -> &'static [&'static str] {
        match self {
            Self::Integer => &["smallint", "integer", "bigint", "numeric"],
            Self::Numeric { .. } => &["numeric"],
            Self::Double => &["double precision"],
            Self::Real => &["real", "double precision"],
            Self::Text => &["text", "character varying"],
            Self::Padded { .. } => &["bpchar"],
            Self::Enum => &["text"],
        }
    }
}

/// Returns the elements of `ARRAY[…]`.
pub fn elements(trees: &[Tree]) -> Option<Vec<&[Tree]>> {
    const CASTS: [&str; 3] = ["text[]", "character varying[]", "bpchar[]"];
    let (core, casts) = without_casts(trees)?;
    match core {
        [Tree::Word(array), Tree::Square(elements)]
            if array == "ARRAY" && casts.iter().all(|cast| CASTS.contains(&cast.as_str())) =>
        {
            Some(elements.split(|tree| *tree == Tree::Comma).collect())
        }
        _ => None,
    }
}
