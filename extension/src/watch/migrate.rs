//! `webhook_migrate`: ALTER TABLE of a watched table, if the condition of its watch prevents it.
//! Postgres does not change the type of a column in a trigger's WHEN. So the triggers lose their
//! conditions, the statement runs with the caller's rights, and the table is watched as before. All
//! of it is in the caller's transaction.

use super::condition::Condition;
use super::table::Table;
use super::{WatchRow, lock, triggers};
use crate::catalogue;
use crate::definition::Definition;
use crate::error::Error;
use crate::rights::{self, Caller};
use crate::subtransaction::{self, End};
use pgrx::pg_sys::{self, AsPgCStr, Oid};
use pgrx::prelude::*;

pub fn migrate(rel: Oid, statement: &str) -> Result<WatchRow, Error> {
    catalogue::demand_present()?;
    check_statement(statement)?;
    let caller = Caller::present();
    let (tables, written) = rights::as_owner(|| {
        // ALTER TABLE acquires this lock later. Acquired at once, it cannot deadlock with another
        // session that waits here.
        let table = lock(rel, caller, pg_sys::AccessExclusiveLock)?;
        triggers::check_rights(caller)?;
        if !table.is_watched()? {
            return Err(match table.watched_ancestor(&table)? {
                Some(root) => Error::WatchedThrough { relation: table.qualified(), root: root.qualified() },
                None => Error::NotWatched(table.qualified()),
            });
        }
        let written = conditions(rel)?;
        let children = super::children(&table, caller, false, false)?;
        let mut tables = vec![(definition(&table)?, table)];
        for child in children {
            tables.push((definition(&child)?, child));
        }
        Ok((tables, written))
    })?;
    // After a rename, the original text is no longer valid. Postgres has updated the text in the
    // trigger.
    let condition = match written {
        (Some(given), printed) => {
            Some(if Condition::read(&given, rel).is_ok() { given } else { printed.unwrap_or(given) })
        }
        (None, _) => None,
    };
    for (at, (definition, table)) in tables.iter().enumerate() {
        triggers::create(table, definition, None, at == 0)?;
    }
    Spi::run(statement)?;
    let again = rights::as_owner(|| watch_statement(rel, condition))?;
    Spi::connect_mut(|client| {
        client.update(&again, None, &[])?.first().get::<WatchRow>(1)?.ok_or(Error::Missing("watch"))
    })
}

/// Checks that a text contains only ALTER TABLE statements. Changes of rows by other statements
/// would be captured without the condition.
fn check_statement(statement: &str) -> Result<(), Error> {
    let bad = |reason: String| Error::BadOption {
        option: "statement",
        reason,
        hint: "Pass one or more ALTER TABLE statements, as in 'alter table orders alter column total type numeric'.",
    };
    let is_syntax = |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
    match subtransaction::attempt(End::Undo, is_syntax, || is_alter_table(statement)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(bad("must consist of ALTER TABLE statements".to_owned())),
        Err(caught) => Err(bad(caught.message)),
    }
}

fn is_alter_table(statement: &str) -> bool {
    // SAFETY: raw_parser returns a list of RawStmt, and raises an error if the text is not SQL.
    // Each has a node with a tag.
    unsafe {
        let statements = pg_sys::raw_parser(statement.as_pg_cstr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        let count = pg_sys::list_length(statements);
        let is_alter = |at| {
            let raw = pg_sys::list_nth(statements, at).cast::<pg_sys::RawStmt>();
            let node = (*raw).stmt;
            match (*node).type_ {
                pg_sys::NodeTag::T_AlterTableStmt => true,
                // Roles and databases are renamed too. A table or a column has a relation.
                pg_sys::NodeTag::T_RenameStmt => !(*node.cast::<pg_sys::RenameStmt>()).relation.is_null(),
                _ => false,
            }
        };
        count > 0 && (0..count).all(is_alter)
    }
}

/// Returns the condition as it was given, and as Postgres prints it.
fn conditions(rel: Oid) -> Result<(Option<String>, Option<String>), Error> {
    Ok(Spi::get_two_with_args(
        "select w.condition, webhook.trigger_condition(w.relation) from webhook.watch w where w.relation = $1",
        &[rel.into()],
    )?)
}

/// Returns the definition in the triggers of a table.
fn definition(table: &Table) -> Result<Definition, Error> {
    let text: Option<String> =
        Spi::get_one_with_args("select webhook.watch_definition($1)::text", &[table.oid.into()])?;
    text.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(|| Error::NotWatched(table.qualified()))
}

/// Returns the call that creates the watch again, with the present names of its columns.
fn watch_statement(rel: Oid, condition: Option<String>) -> Result<String, Error> {
    Spi::get_one_with_args(include_str!("sql/watch_statement.sql"), &[rel.into(), condition.into()])?
        .ok_or(Error::Missing("watch"))
}
