//! `webhook_watch` and `webhook_unwatch`: a table's triggers, its row in `webhook.watch`, its event types.
//!
//! Everything is checked before anything is touched, and all of it is the caller's transaction. Writes triggers,
//! `webhook.watch` and `webhook.event_type`; never reads or writes the table itself.

pub mod condition;
mod payload;
mod request;
pub mod table;
mod triggers;

use crate::arguments::Arguments;
use crate::catalogue;
use crate::definition::{Column, Definition};
use crate::error::{Error, answer, given, not_null};
use crate::rights::{self, Caller};
use condition::Condition;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::{self, Oid};
use pgrx::{AllocatedByRust, JsonB, composite_type, prelude::*};
use request::{Names, Request};
use table::Table;

type Row = PgHeapTuple<'static, AllocatedByRust>;

#[pg_extern(sql = false)]
fn webhook_watch(call: pg_sys::FunctionCallInfo) -> composite_type!('static, "webhook.watch") {
    answer(|| {
        // SAFETY: sql/functions.sql declares the arguments in this order.
        let mut arguments = unsafe { Arguments::of(call, 9) }?;
        catalogue::demand_present()?;
        let (rel, noun) = (arguments.take::<Oid>(), arguments.take::<String>());
        let verbs = not_null(arguments.take_json("verbs")?, "verbs")?;
        let [columns, exclude, on_columns]: [Names; 3] = std::array::from_fn(|_| arguments.take());
        let (condition, payload) = (arguments.take::<String>(), arguments.take::<Oid>());
        let key_columns: Names = arguments.take();
        if payload.is_some() && (columns.is_some() || exclude.is_some()) {
            return Err(Error::BadOption {
                option: "payload",
                reason: "columns and exclude have nothing to shape beside it".to_owned(),
                hint: "Let the payload function leave out what is not to be seen.",
            });
        }
        let request = Request { noun, verbs, columns, exclude, on_columns, key_columns };
        watch(given(rel, "rel")?, request, condition, payload)
    })
}

#[pg_extern(sql = false)]
fn webhook_unwatch(rel: Option<Oid>) {
    answer(|| unwatch(given(rel, "rel")?))
}

fn watch(rel: Oid, request: Request, condition: Option<String>, payload: Option<Oid>) -> Result<Row, Error> {
    let caller = Caller::present();
    let table = rights::as_owner(|| lock(rel, caller))?;
    let mut definition = request.define(&table)?;
    let condition = condition.map(|text| Condition::read(&text, rel)).transpose()?;
    if let Some(condition) = &condition {
        condition.check_verbs(&definition.verbs)?;
    }
    let heirs = rights::as_owner(|| {
        triggers::check_rights(caller)?;
        check_family(&table)?;
        triggers::check_names(&table)?;
        definition.payload = payload.map(|function| payload::check(function, &table, caller)).transpose()?;
        let heirs = heirs(&table, caller, payload.is_some())?;
        check_other_parents(&table, &heirs)?;
        // From here on things change.
        triggers::remove_others(&table, &definition.verbs, true)?;
        for heir in &heirs {
            triggers::remove_others(heir, &definition.verbs, false)?;
        }
        Ok::<_, Error>(heirs)
    })?;
    triggers::create(&table, &definition, condition.as_ref(), true)?;
    for heir in &heirs {
        triggers::create(heir, &numbered_for(heir, &definition), condition.as_ref(), false)?;
    }
    rights::as_owner(|| {
        if let Some(function) = payload {
            triggers::depend(&table, &definition.verbs, function);
        }
        record(&table, &definition, condition.as_ref())
    })
}

/// The tables that inherit from this one, each checked as the table itself was.
fn heirs(table: &Table, caller: Caller, has_payload: bool) -> Result<Vec<Table>, Error> {
    let heirs = table.heirs()?;
    for heir in &heirs {
        check_owner(heir, caller)?;
    }
    match heirs.first() {
        // Its rows are of another type, and the function would fail the application's statement.
        Some(heir) if has_payload => Err(Error::BadOption {
            option: "payload",
            reason: format!("{} inherits from the table, and its rows are of another type", heir.qualified()),
            hint: "Shape the payload with columns or exclude, or watch tables without heirs.",
        }),
        _ => Ok(heirs),
    }
}

fn unwatch(rel: Oid) -> Result<(), Error> {
    let caller = Caller::present();
    rights::as_owner(|| {
        let table = match lock(rel, caller) {
            Ok(table) => table,
            // Dropped without our noticing: its row can go, whoever asks.
            Err(Error::NoSuchRelation(_)) if forget(rel)? => return Ok(()),
            Err(other) => return Err(other),
        };
        if let Some(root) = table.watched_ancestor(&table)? {
            return Err(Error::WatchedThrough { relation: table.qualified(), root: root.qualified() });
        }
        let mut found = triggers::detach(&table)? > 0;
        for heir in table.heirs()? {
            // It can have several parents, and be watched through another one.
            if heir.watched_ancestor(&table)?.is_none() {
                found |= triggers::detach(&heir)? > 0;
            }
        }
        // Both must be done, whatever the other found.
        found |= forget(rel)?;
        if found { Ok(()) } else { Err(Error::NotWatched(table.qualified())) }
    })
}

/// Locks a table against other changes of its triggers, and against being dropped, once it is clear that the caller
/// may do that to it. Its columns are read afterwards.
fn lock(rel: Oid, caller: Caller) -> Result<Table, Error> {
    let before = Table::find(rel)?;
    before.check_kind()?;
    check_owner(&before, caller)?;
    // SAFETY: takes the lock that CREATE TRIGGER takes, until the end of the transaction.
    unsafe { pg_sys::LockRelationOid(rel, pg_sys::ShareRowExclusiveLock as pg_sys::LOCKMODE) };
    let table = Table::find(rel)?;
    check_owner(&table, caller)?;
    Ok(table)
}

fn check_owner(table: &Table, caller: Caller) -> Result<(), Error> {
    if caller.may_act_as(table.owner) { Ok(()) } else { Err(Error::NotOwner(table.qualified())) }
}

/// A table is captured once: through itself or through the table it belongs to.
fn check_family(table: &Table) -> Result<(), Error> {
    if let Some(root) = table.watched_ancestor(table)? {
        return Err(Error::WatchedThrough { relation: table.qualified(), root: root.qualified() });
    }
    if let Some(member) = table.watched_descendant()? {
        return Err(Error::MemberWatched { relation: table.qualified(), member: member.qualified() });
    }
    Ok(())
}

/// A table that inherits from several is captured through one of them.
fn check_other_parents(table: &Table, heirs: &[Table]) -> Result<(), Error> {
    for heir in heirs {
        if let Some(root) = heir.watched_ancestor(table)? {
            return Err(Error::HeirWatched {
                relation: table.qualified(),
                heir: heir.qualified(),
                root: root.qualified(),
            });
        }
    }
    Ok(())
}

/// The same definition with the numbers that an heir gives the columns.
fn numbered_for(heir: &Table, definition: &Definition) -> Definition {
    let renumber = |columns: &[Column]| -> Vec<Column> {
        let find = |column: &Column| heir.columns.iter().find(|own| own.name == column.name);
        columns.iter().map(|column| find(column).unwrap_or(column).clone()).collect()
    };
    let renumber_some = |columns: &Option<Vec<Column>>| columns.as_deref().map(renumber);
    Definition {
        columns: renumber_some(&definition.columns),
        exclude: renumber_some(&definition.exclude),
        on_columns: renumber_some(&definition.on_columns),
        key: renumber(&definition.key),
        table: Some(heir.layout()),
        ..definition.clone()
    }
}

/// Writes the row of `webhook.watch` and the event types, and returns the row.
fn record(table: &Table, definition: &Definition, condition: Option<&Condition>) -> Result<Row, Error> {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let verbs = serde_json::to_value(&definition.verbs).map_err(|_| Error::Missing("verbs"))?;
    Spi::connect_mut(|client| {
        let row = client
            .update(
                "insert into webhook.watch as w
                     (relation, noun, verbs, columns, exclude, on_columns, condition, payload, key_columns)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 on conflict (relation) do update set
                     noun = excluded.noun, verbs = excluded.verbs, columns = excluded.columns,
                     exclude = excluded.exclude, on_columns = excluded.on_columns,
                     condition = excluded.condition, payload = excluded.payload, key_columns = excluded.key_columns
                 returning w",
                None,
                &[
                    table.oid.into(),
                    definition.noun.clone().into(),
                    JsonB(verbs).into(),
                    definition.columns.as_deref().map(names).into(),
                    definition.exclude.as_deref().map(names).into(),
                    definition.on_columns.as_deref().map(names).into(),
                    condition.map(|condition| condition.text().to_owned()).into(),
                    definition.payload.clone().into(),
                    names(&definition.key).into(),
                ],
            )?
            .first()
            .get::<Row>(1)?
            .ok_or(Error::Missing("watch"))?;
        client.update("select webhook.list_event_types()", None, &[])?;
        Ok(row)
    })
}

/// Deletes the row of `webhook.watch`; whether there was one.
fn forget(rel: Oid) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let deleted = client.update(
            "delete from webhook.watch where relation = $1 returning 1",
            None,
            &[rel.into()],
        )?;
        let found = !deleted.is_empty();
        client.update("select webhook.list_event_types()", None, &[])?;
        Ok(found)
    })
}
