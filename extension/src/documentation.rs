//! The documentation of events for receivers, which `sql/documentation.sql` makes. The public
//! functions run as their callers, to know which event types these see, and read the tables as the
//! extension's owner.
//!
//! Also derives the JSON Schema keywords that follow from CHECK constraints of a column, for the
//! functions of `sql/value_schema.sql`.

use check_constraint::{Facts, Kind};
use pgrx::JsonB;
use pgrx::prelude::*;

use crate::delivery::texts;
use crate::error::{Error, answer};
use crate::memory;
use crate::rights::{self, Caller};
use pgrx::datum::DatumWithOid;

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

#[pg_extern(sql = false)]
fn webhook_event_schema(event_type: Option<&str>) -> Option<Vec<u8>> {
    document("documented_schema", event_type.into())
}

#[pg_extern(sql = false)]
fn webhook_event_example(event_type: Option<&str>) -> Option<Vec<u8>> {
    document("documented_example", event_type.into())
}

#[pg_extern(sql = false)]
fn webhook_openapi(events: Option<Texts<'_>>) -> Option<Vec<u8>> {
    memory::settle();
    document("documented_openapi", events.map(texts).into())
}

#[pg_extern(sql = false)]
fn webhook_asyncapi(events: Option<Texts<'_>>) -> Option<Vec<u8>> {
    memory::settle();
    document("documented_asyncapi", events.map(texts).into())
}

/// Calls a function of `sql/documentation.sql` with an argument, and whether the caller sees all
/// event types. Returns the JSON in the encoding of the database.
fn document(function: &str, argument: DatumWithOid<'_>) -> Option<Vec<u8>> {
    answer(|| {
        let caller = Caller::present();
        let statement = format!(
            "select convert_to(webhook.{function}($1, webhook.sees_all_types($2))::text, getdatabaseencoding())"
        );
        rights::as_owner(|| {
            Spi::connect(|client| {
                let row = client.select(statement.as_str(), Some(1), &[argument, caller.id.into()])?;
                Ok(row.first().get_one::<&[u8]>()?.map(owned))
            })
        })
    })
}

#[pg_extern(sql = false)]
fn described_event_types()
-> TableIterator<'static, (name!(r#type, Option<String>), name!(description, Option<Vec<u8>>))> {
    const TYPES: &str = "select t.type, convert_to(t.description, getdatabaseencoding())
         from webhook.described_types(webhook.sees_all_types($1)) t";
    answer(|| {
        let caller = Caller::present();
        let rows = rights::as_owner(|| {
            Spi::connect(|client| {
                let found = client.select(TYPES, None, &[caller.id.into()])?;
                let rows = found.map(|row| Ok((row.get(1)?, row.get::<&[u8]>(2)?.map(owned))));
                rows.collect::<Result<Vec<_>, Error>>()
            })
        })?;
        Ok(TableIterator::new(rows))
    })
}

fn owned(bytes: &[u8]) -> Vec<u8> {
    memory::room_for_input(bytes.len());
    bytes.to_owned()
}
