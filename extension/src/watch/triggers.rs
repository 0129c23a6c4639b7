//! The triggers of a watch. They are created with the caller's rights, like the caller's own CREATE
//! TRIGGER. Everything else here is called as the owner of the extension.

use super::condition::Condition;
use super::table::Table;
use super::{present, retired};
use crate::definition::{Definition, Verbs};
use crate::error::Error;
use crate::rights::Caller;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use std::ffi::CString;

/// The event of one of our triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TriggerEvent {
    Insert,
    Update,
    Delete,
    Truncate,
}

/// Fires before each statement. So the library is loaded before the first row of the statement
/// changes, and can track the statement for the order of events (extension/src/order).
const STATEMENT: &str = "webhook_statement";

const EVENTS: [TriggerEvent; 4] =
    [TriggerEvent::Insert, TriggerEvent::Update, TriggerEvent::Delete, TriggerEvent::Truncate];

impl TriggerEvent {
    fn word(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    fn trigger(self) -> String {
        format!("webhook_{}", self.word())
    }

    fn is_in(self, verbs: &Verbs) -> bool {
        match self {
            Self::Insert => verbs.insert.is_some(),
            Self::Update => verbs.update.is_some(),
            Self::Delete => verbs.delete.is_some(),
            Self::Truncate => verbs.truncate.is_some(),
        }
    }
}

/// Returns the events of one table that get a trigger. The TRUNCATE of a child table does not,
/// because a TRUNCATE of its parent would emit the same event many times. For a partitioned table,
/// a delete and an insert can be the two halves of an update. So both get a trigger if any of the
/// three has a verb, and capture distinguishes them.
fn wanted<'a>(
    table: &Table,
    verbs: &'a Verbs,
    is_root: bool,
) -> impl Iterator<Item = TriggerEvent> + use<'a> {
    let by_row = [TriggerEvent::Insert, TriggerEvent::Update, TriggerEvent::Delete];
    let can_move = table.is_partitioned() && by_row.iter().any(|event| event.is_in(verbs));
    EVENTS.into_iter().filter(move |event| {
        let is_half = can_move && matches!(event, TriggerEvent::Insert | TriggerEvent::Delete);
        (is_half || event.is_in(verbs)) && (is_root || *event != TriggerEvent::Truncate)
    })
}

/// Checks that the caller may use our trigger function in a trigger.
///
/// # Errors
/// [`Error::NotAPublisher`].
pub fn check_rights(caller: Caller) -> Result<(), Error> {
    let may = Spi::get_one_with_args::<bool>(
        "select has_schema_privilege($1, 'webhook', 'usage')
            and has_function_privilege($1, 'webhook.capture()', 'execute')",
        &[caller.id.into()],
    )?;
    if may == Some(true) { Ok(()) } else { Err(Error::NotAPublisher) }
}

/// Checks that no foreign trigger has one of our names, on the table or on a partition. CREATE OR
/// REPLACE TRIGGER on a partitioned table would replace triggers of its partitions silently.
///
/// # Errors
/// [`Error::TriggerNameTaken`] with the first one.
pub fn check_names(table: &Table) -> Result<(), Error> {
    let mut relations = table.descendants()?;
    relations.push(table.oid);
    Spi::connect(|client| {
        let taken =
            client.select(include_str!("sql/triggers_of_tables.sql"), Some(1), &[relations.into()])?;
        if taken.is_empty() {
            return Ok(());
        }
        let row = taken.first();
        let relation = Table::find(row.get(1)?.unwrap_or(pg_sys::InvalidOid))?.qualified();
        Err(Error::TriggerNameTaken { relation, trigger: row.get(2)?.unwrap_or_default() })
    })
}

/// Retires our triggers that the table no longer needs, and those that a user has renamed, which
/// would capture a second time.
pub fn retire_others(table: &Table, verbs: &Verbs, is_root: bool) -> Result<(), Error> {
    for trigger in present::of(table.oid)? {
        let mut wanted = wanted(table, verbs, is_root);
        let is_wanted = wanted.any(|event| trigger.name == STATEMENT || event.trigger() == trigger.name);
        if !is_wanted {
            retired::retire(table, &trigger)?;
        }
    }
    Ok(())
}

/// Creates or replaces the triggers, as the caller. The column numbers in the definition must be
/// those of this table. Call [`check_names`] before.
///
/// # Errors
/// Raises the errors of CREATE TRIGGER.
pub fn create(
    table: &Table,
    definition: &Definition,
    condition: Option<&Condition>,
    is_root: bool,
) -> Result<(), Error> {
    // A definition consists of strings, numbers and lists, so it always has a JSON text.
    let argument = serde_json::to_string(definition).map_err(|_| Error::Missing("definition"))?;
    let always = always(table.oid)?;
    for event in wanted(table, &definition.verbs, is_root) {
        let each = if event == TriggerEvent::Truncate { "statement" } else { "row" };
        // Half of an update may lack a row that the condition uses. The trigger then fires in any
        // case.
        let condition = match (event, condition) {
            (TriggerEvent::Truncate, _) | (_, None) => String::new(),
            (TriggerEvent::Insert, Some(condition)) if condition.old => String::new(),
            (TriggerEvent::Delete, Some(condition)) if condition.new => String::new(),
            (_, Some(condition)) => condition.clause(),
        };
        Spi::run(&format!(
            "create or replace trigger {} after {} on {} for each {each} {condition} execute function webhook.capture({})",
            quote_identifier(event.trigger()),
            event.word(),
            table.qualified(),
            quote_literal(&argument),
        ))?;
        if always.contains(&event.trigger()) {
            Spi::run(&format!(
                "alter table {} enable always trigger {}",
                table.qualified(),
                quote_identifier(event.trigger())
            ))?;
        }
    }
    let words: Vec<_> = wanted(table, &definition.verbs, is_root).map(TriggerEvent::word).collect();
    if words.is_empty() {
        return Ok(());
    }
    Spi::run(&format!(
        "create or replace trigger {STATEMENT} before {} on {} for each statement execute function webhook.capture({})",
        words.join(" or "),
        table.qualified(),
        quote_literal(&argument),
    ))?;
    if !always.is_empty() {
        Spi::run(&format!("alter table {} enable always trigger {STATEMENT}", table.qualified()))?;
    }
    Ok(())
}

/// Returns the triggers that fire for replicated changes too (ALTER TABLE … ENABLE ALWAYS TRIGGER).
/// A replacement would undo that.
fn always(relation: pg_sys::Oid) -> Result<Vec<String>, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select tgname::pg_catalog.text from pg_catalog.pg_trigger where tgrelid = $1 and tgenabled = 'A'",
            None,
            &[relation.into()],
        )?;
        rows.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

/// Records that the table's triggers depend on the payload function, so that DROP FUNCTION reports
/// it.
pub fn depend(table: &Table, verbs: &Verbs, function: pg_sys::Oid) {
    for event in wanted(table, verbs, true) {
        let Ok(name) = CString::new(event.trigger()) else { continue };
        // SAFETY: two addresses of objects that exist in this transaction.
        unsafe {
            let trigger = pg_sys::ObjectAddress {
                classId: pg_sys::TriggerRelationId,
                objectId: pg_sys::get_trigger_oid(table.oid, name.as_ptr(), false),
                objectSubId: 0,
            };
            let function = pg_sys::ObjectAddress {
                classId: pg_sys::ProcedureRelationId,
                objectId: function,
                objectSubId: 0,
            };
            pg_sys::recordDependencyOn(&trigger, &function, pg_sys::DependencyType::DEPENDENCY_NORMAL);
        }
    }
}

/// Reports whether a table has enabled triggers of ours, its own or those of its root.
pub fn has_any(relation: pg_sys::Oid) -> Result<bool, Error> {
    let found = Spi::get_one_with_args::<bool>(
        "select exists (select from pg_trigger t where t.tgrelid = $1 and t.tgenabled <> 'D'
                        and t.tgfoid = 'webhook.capture()'::regprocedure)",
        &[relation.into()],
    )?;
    Ok(found == Some(true))
}
