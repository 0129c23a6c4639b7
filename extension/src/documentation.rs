//! Derives the JSON Schema keywords that follow from CHECK constraints of a column, for the
//! functions of `sql/value_schema.sql`. Reads its arguments only.

use check_constraint::{Facts, Kind};
use pgrx::JsonB;
use pgrx::prelude::*;

use crate::memory;

/// Texts of an array; a null is skipped.
type Texts<'a> = Array<'a, &'a str>;

/// Returns the keywords that follow from `expressions`. `subjects` holds, for each expression, its
/// name for the column. No keyword follows for an unknown kind.
#[pg_extern(sql = false)]
fn check_keywords(expressions: Texts<'_>, subjects: Texts<'_>, kind: &str, length: i32) -> JsonB {
    memory::settle();
    let kind = match kind {
        "integer" => Kind::Integer,
        "numeric" => Kind::Numeric { exact: false },
        "exact numeric" => Kind::Numeric { exact: true },
        "double" => Kind::Double,
        "real" => Kind::Real,
        "text" => Kind::Text,
        "padded" => Kind::Padded { length: usize::try_from(length).unwrap_or_default() },
        "enum" => Kind::Enum,
        _ => return JsonB(serde_json::json!({})),
    };
    let mut facts = Facts::default();
    for (expression, subject) in expressions.iter().flatten().zip(subjects.iter().flatten()) {
        memory::room_for_input(expression.len());
        facts.learn(expression, subject, kind);
    }
    JsonB(facts.keywords().into())
}
