//! Numeric literals, and the bounds that follow from them.

use crate::{Kind, cast::without_casts, token::Tree};
use serde_json::Value;

/// Number of decimal digits that double precision keeps.
const DIGITS_MAX: usize = 15;
/// A `real` represents every integer up to this magnitude exactly.
const REAL_INTEGER_MAX: i64 = 1 << 24;

/// A number of at most 15 digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Literal {
    value: f64,
    /// Set if the literal has no fraction.
    integer: Option<i64>,
}

/// A bound on a column's values. `exclusive` means that the bound itself is not allowed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub value: Value,
    pub exclusive: bool,
    at: f64,
}

/// Returns the number of a literal after its casts.
///
/// Returns `None` if the text is not a number, has too many digits, or has a cast that changes the
/// value.
pub fn literal(trees: &[Tree]) -> Option<Literal> {
    let (core, casts) = without_casts(trees)?;
    let ([Tree::Number(text)] | [Tree::Text(text)]) = core else { return None };
    let number = parse(text)?;
    let keeps = |cast: &String| match cast.as_str() {
        "numeric" | "double precision" => true,
        "smallint" | "integer" | "bigint" => number.integer.is_some(),
        "real" => number.is_real(),
        _ => false,
    };
    casts.iter().all(keeps).then_some(number)
}

fn parse(text: &str) -> Option<Literal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) =
        digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let count = whole.len() + fraction.map_or(0, str::len);
    if !all_digits(whole) || !fraction.is_none_or(all_digits) || count > DIGITS_MAX {
        return None;
    }
    let integer = if fraction.is_none() { Some(text.parse().ok()?) } else { None };
    Some(Literal { value: text.parse().ok()?, integer })
}

impl Literal {
    fn is_real(self) -> bool {
        self.integer.is_some_and(|integer| integer.abs() <= REAL_INTEGER_MAX)
    }

    fn json(self) -> Value {
        self.integer.map_or_else(|| self.value.into(), Value::from)
    }

    /// Returns the bound if the column is greater than this number, or also equal unless
    /// `exclusive`.
    pub fn lower(self, exclusive: bool, kind: Kind) -> Option<Bound> {
        self.bound(exclusive, kind, 1, f64::ceil)
    }

    /// Returns the bound if the column is less than this number, or also equal unless `exclusive`.
    pub fn upper(self, exclusive: bool, kind: Kind) -> Option<Bound> {
        self.bound(exclusive, kind, -1, f64::floor)
    }

    fn bound(self, exclusive: bool, kind: Kind, next: i64, inwards: fn(f64) -> f64) -> Option<Bound> {
        let exclusive = match kind {
            Kind::Integer => {
                // The number has at most 15 digits, so the conversion is exact.
                let whole = self.integer.unwrap_or_else(|| inwards(self.value) as i64);
                let whole = if exclusive && self.integer.is_some() { whole + next } else { whole };
                return Some(Bound { value: whole.into(), exclusive: false, at: whole as f64 });
            }
            // A validator may read a value just beyond the bound as the bound itself.
            Kind::Numeric { exact } => exclusive && exact,
            Kind::Double => exclusive,
            Kind::Real if self.is_real() => exclusive,
            Kind::Real | Kind::Text | Kind::Padded { .. } | Kind::Enum => return None,
        };
        Some(Bound { value: self.json(), exclusive, at: self.value })
    }

    /// Returns the number in JSON if a column of this kind can be equal to it.
    pub fn equal(self, kind: Kind) -> Option<Value> {
        let possible = match kind {
            Kind::Integer => self.integer.is_some(),
            Kind::Numeric { .. } | Kind::Double => true,
            Kind::Real => self.is_real(),
            Kind::Text | Kind::Padded { .. } | Kind::Enum => false,
        };
        possible.then(|| self.json())
    }

    /// Returns the number as a count of characters.
    pub fn as_length(self) -> Option<u64> {
        self.integer.and_then(|integer| u64::try_from(integer).ok())
    }
}

impl Bound {
    /// Keeps the narrower of two bounds. `upper` selects the side they are on.
    pub fn tighten(known: &mut Option<Self>, new: Option<Self>, upper: bool) {
        let Some(new) = new else { return };
        let narrower = known.as_ref().is_none_or(|old| {
            let (inner, outer) = if upper { (new.at, old.at) } else { (old.at, new.at) };
            inner < outer || (inner == outer && new.exclusive)
        });
        if narrower {
            *known = Some(new);
        }
    }
}
