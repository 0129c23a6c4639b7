//! The triggers of a watch: made, replaced and removed. Called as the owner of the extension.

use super::condition::Condition;
use super::table::Table;
use crate::definition::{Definition, Verbs};
use crate::error::Error;
use crate::rights::Caller;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_literal};
use std::ffi::CString;

/// The event of a trigger of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
}

const EVENTS: [Event; 4] = [Event::Insert, Event::Update, Event::Delete, Event::Truncate];

impl Event {
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

/// What the triggers of one table are to do.
pub struct Plan<'a> {
    pub definition: Definition,
    pub condition: Option<&'a Condition>,
    /// The function that the definition names.
    pub payload: Option<pg_sys::Oid>,
    /// Whose search path the condition's names are resolved by.
    pub caller: &'a Caller,
}

/// Gives a table exactly the triggers of the plan: replaces those it has, removes those it no longer needs.
///
/// An heir (`is_root` false) gets no TRUNCATE trigger: truncating its parent would tell the same thing many times.
/// The columns' numbers in the definition must be this table's.
///
/// # Errors
/// [`Error::TriggerNameTaken`] if a trigger of somebody else has one of our names.
pub fn attach(table: &Table, plan: &Plan, is_root: bool) -> Result<(), Error> {
    let present = present(table.oid)?;
    for event in EVENTS {
        let name = event.trigger();
        let existing = present.iter().find(|(found, _)| *found == name);
        if existing.is_some_and(|(_, ours)| !ours) {
            return Err(Error::TriggerNameTaken { relation: table.qualified(), trigger: name });
        }
        if event.is_in(&plan.definition.verbs) && (is_root || event != Event::Truncate) {
            create(table, event, plan)?;
        } else if existing.is_some() {
            drop(table, &name)?;
        }
    }
    // One that was renamed by hand would capture a second time.
    let renamed = |name: &str| EVENTS.iter().all(|event| event.trigger() != name);
    for (name, _) in present.iter().filter(|(name, ours)| *ours && renamed(name)) {
        drop(table, name)?;
    }
    Ok(())
}

/// Removes every trigger of ours that is the table's own (a partition's belong to its root). Returns how many.
pub fn detach(table: &Table) -> Result<usize, Error> {
    let mut removed = 0;
    for (name, _) in present(table.oid)?.iter().filter(|(_, ours)| *ours) {
        drop(table, name)?;
        removed += 1;
    }
    Ok(removed)
}

fn create(table: &Table, event: Event, plan: &Plan) -> Result<(), Error> {
    let name = event.trigger();
    let (each, condition) = match event {
        Event::Truncate => ("statement", String::new()),
        _ => ("row", plan.condition.map(Condition::clause).unwrap_or_default()),
    };
    // A definition is strings, numbers and lists: it always has a JSON text.
    let argument = serde_json::to_string(&plan.definition).map_err(|_| Error::Missing("definition"))?;
    let statement = format!(
        "create or replace trigger {} after {} on {} for each {each} {condition} execute function webhook.capture({})",
        quote_identifier(&name),
        event.word(),
        table.qualified(),
        quote_literal(argument),
    );
    plan.caller.with_search_path(|| Spi::run(&statement))?;
    if let Some(function) = plan.payload {
        depend(table.oid, &name, function);
    }
    Ok(())
}

/// Makes DROP FUNCTION say that the trigger needs the payload function.
fn depend(relation: pg_sys::Oid, trigger: &str, function: pg_sys::Oid) {
    let Ok(name) = CString::new(trigger) else { return };
    // SAFETY: two addresses of objects that exist in this transaction.
    unsafe {
        let trigger = pg_sys::ObjectAddress {
            classId: pg_sys::TriggerRelationId,
            objectId: pg_sys::get_trigger_oid(relation, name.as_ptr(), false),
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

fn drop(table: &Table, trigger: &str) -> Result<(), Error> {
    Spi::run(&format!("drop trigger {} on {}", quote_identifier(trigger), table.qualified()))?;
    Ok(())
}

/// The table's own triggers that bear our names or call our function, and whether they are ours.
fn present(relation: pg_sys::Oid) -> Result<Vec<(String, bool)>, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select tgname::text, tgfoid = 'webhook.capture()'::regprocedure
             from pg_trigger
             where tgrelid = $1 and not tgisinternal and tgparentid = 0
               and (tgname in ('webhook_insert', 'webhook_update', 'webhook_delete', 'webhook_truncate')
                    or tgfoid = 'webhook.capture()'::regprocedure)
             order by tgname",
            None,
            &[relation.into()],
        )?;
        rows.map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or(false)))).collect()
    })
}
