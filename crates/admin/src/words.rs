//! The words of fixed sets, for the API's document. Postgres decides which words are valid.

use delivery::outcome::Class;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// The states of `webhook.delivery`.
pub const STATES: [&str; 4] = ["delivered", "retrying", "queued", "exhausted"];

fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

pub fn states() -> Object {
    one_of(STATES)
}

pub fn outcomes() -> Object {
    one_of(Class::ALL.map(Class::as_str))
}
