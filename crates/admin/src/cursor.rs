//! The cursor of a paged list: an opaque text that names the last row by its sort keys. Pages stay
//! stable while rows arrive. Pure.

use crate::problem::Problem;
use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// A position in an order by two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub i64, pub i64);

impl Cursor {
    /// The position before the first row of a descending order.
    pub const NEWEST: Self = Self(i64::MAX, i64::MAX);

    /// Parses the text of a cursor.
    ///
    /// # Errors
    /// Returns 422 if the text is not a cursor.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let text = std::str::from_utf8(&bytes).ok()?;
            let (one, other) = text.split_once('.')?;
            Some(Self(one.parse().ok()?, other.parse().ok()?))
        };
        read().ok_or_else(|| {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "cursor: invalid value")
                .field("cursor")
                .hint("Pass the value of `next` from the previous page.")
        })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{}.{}", self.0, self.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_the_journey(one: i64, other: i64) {
            prop_assert_eq!(Cursor::parse(&Cursor(one, other).to_string()).unwrap(), Cursor(one, other));
        }

        #[test]
        fn anything_else_is_a_problem_and_no_panic(text in ".{0,40}") {
            if let Ok(cursor) = Cursor::parse(&text) {
                prop_assert_eq!(Cursor::parse(&cursor.to_string()).unwrap(), cursor);
            }
        }
    }
}
