//! `webhook_watch` and `webhook_unwatch`: the triggers of a table, its row in `webhook.watch`, and
//! its event types.
//!
//! All checks come before any change, and everything is in the caller's transaction. The module
//! writes triggers, `webhook.watch` and `webhook.event_type`. It never reads or writes the table
//! itself.

pub mod condition;
mod function;
mod migrate;
mod partition;
mod present;
mod request;
pub mod retired;
pub mod table;
mod triggers;

use crate::arguments::Arguments;
use crate::definition::{Column, Definition, RowFunctionKind};
use crate::error::{Error, answer, given, not_null};
use crate::rights::{self, Caller};
use crate::{catalogue, compat};
use condition::Condition;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::{self, Oid};
use pgrx::{AllocatedByRust, JsonB, composite_type, prelude::*};
use request::{Names, OwnerRequest, Request};
use table::Table;

type WatchRow = PgHeapTuple<'static, AllocatedByRust>;

#[pg_extern(sql = false)]
fn webhook_watch(call: pg_sys::FunctionCallInfo) -> composite_type!('static, "webhook.watch") {
    answer(|| {
        // SAFETY: sql/watching.sql declares the arguments in this order.
        let mut arguments = unsafe { Arguments::of(call, 12) }?;
        catalogue::demand_present()?;
        let (rel, noun) = (arguments.take::<Oid>(), arguments.take::<String>());
        let verbs = not_null(arguments.take_json("verbs")?, "verbs")?;
        let [columns, exclude, on_columns]: [Names; 3] = std::array::from_fn(|_| arguments.take());
        let (condition, payload) = (arguments.take::<String>(), arguments.take::<Oid>());
        let key_columns: Names = arguments.take();
        if payload.is_some() && (columns.is_some() || exclude.is_some()) {
            return Err(Error::BadOption {
                option: "payload",
                reason: "cannot be combined with columns or exclude".to_owned(),
                hint: "Let the payload function omit the columns that receivers must not see.",
            });
        }
        let owner =
            OwnerRequest { column: arguments.take(), function: arguments.take(), setting: arguments.take() };
        let request = Request { noun, verbs, columns, exclude, on_columns, key_columns, owner };
        watch(given(rel, "rel")?, request, condition, payload)
    })
}

#[pg_extern(sql = false)]
fn webhook_migrate(rel: Option<Oid>, statement: Option<String>) -> composite_type!('static, "webhook.watch") {
    answer(|| migrate::migrate(given(rel, "rel")?, &given(statement, "statement")?))
}

#[pg_extern(sql = false)]
fn webhook_unwatch(rel: Option<Oid>) {
    answer(|| unwatch(given(rel, "rel")?))
}

fn watch(
    rel: Oid,
    request: Request,
    condition: Option<String>,
    payload: Option<Oid>,
) -> Result<WatchRow, Error> {
    let caller = Caller::present();
    let table = rights::as_owner(|| lock(rel, caller, pg_sys::ShareRowExclusiveLock))?;
    let owner_function = request.owner.function;
    let mut definition = request.define(&table)?;
    if let Some(name) = &definition.owner_setting {
        check_readable(name)?;
    }
    let condition = condition.map(|text| Condition::read(&text, rel)).transpose()?;
    if let Some(condition) = &condition {
        condition.check_verbs(&definition.verbs)?;
    }
    let children = rights::as_owner(|| {
        triggers::check_rights(caller)?;
        check_family(&table)?;
        triggers::check_names(&table)?;
        let check = |kind, function: Option<Oid>| {
            function.map(|function| function::check(kind, function, &table, caller)).transpose()
        };
        definition.payload = check(RowFunctionKind::Payload, payload)?;
        definition.owner_function = check(RowFunctionKind::Owner, owner_function)?;
        let children = children(&table, caller, payload.is_some(), owner_function.is_some())?;
        check_other_parents(&table, &children)?;
        check_lost_watches(&table, &children, &definition.noun)?;
        // All checks are done. The changes begin here.
        triggers::retire_others(&table, &definition.verbs, true)?;
        for child in &children {
            triggers::retire_others(child, &definition.verbs, false)?;
        }
        Ok::<_, Error>(children)
    })?;
    triggers::create(&table, &definition, condition.as_ref(), true)?;
    for child in &children {
        triggers::create(child, &numbered_for(child, &definition), condition.as_ref(), false)?;
    }
    rights::as_owner(|| {
        for function in [payload, owner_function].into_iter().flatten() {
            triggers::depend(&table, &definition.verbs, function);
        }
        if table.is_partitioned() {
            admit_partition_owners(&table)?;
        }
        record(&table, &children, &definition, condition.as_ref())
    })
}

/// Returns the child tables of this table. Each is checked like the table itself.
fn children(
    table: &Table,
    caller: Caller,
    has_payload: bool,
    has_owner_function: bool,
) -> Result<Vec<Table>, Error> {
    let children = table.children()?;
    for child in &children {
        check_owner(child, caller)?;
    }
    rights::with_bounded_locks(|| {
        children.iter().for_each(|child| lock_relation(child.oid, pg_sys::ShareRowExclusiveLock))
    });
    match children.first() {
        // Its rows have another type, and the function would make the application's statement fail.
        Some(child) if has_payload => Err(Error::BadOption {
            option: "payload",
            reason: format!("{} inherits from the table, but its rows have another type", child.qualified()),
            hint: "Use columns or exclude instead, or watch a table without child tables.",
        }),
        Some(child) if has_owner_function => Err(Error::BadOption {
            option: "owner_function",
            reason: format!("{} inherits from the table, but its rows have another type", child.qualified()),
            hint: "Use owner_column instead, or watch a table without child tables.",
        }),
        _ => Ok(children),
    }
}

/// Checks that the caller may read a setting, if it exists. Capture reads it in sessions of other
/// roles, and never fails.
///
/// # Errors
/// Raises `insufficient_privilege`.
fn check_readable(setting: &str) -> Result<(), Error> {
    let read = "select pg_catalog.current_setting($1, true)";
    Spi::get_one_with_args::<String>(read, &[setting.into()])?;
    Ok(())
}

fn unwatch(rel: Oid) -> Result<(), Error> {
    let caller = Caller::present();
    rights::as_owner(|| {
        let table = match lock(rel, caller, pg_sys::ShareRowExclusiveLock) {
            Ok(table) => table,
            // The table was dropped without our notice. Any role may delete its row.
            Err(Error::NoSuchRelation(_)) if forget(rel)? => return Ok(()),
            Err(other) => return Err(other),
        };
        let own = present::of(table.oid)?;
        if !table.is_watched()? {
            if let Some(root) = table.watched_ancestor(&table)? {
                return Err(Error::WatchedThrough { relation: table.qualified(), root: root.qualified() });
            }
            if forget_detached(rel)? && own.is_empty() {
                return Ok(());
            }
            if !own.iter().any(|trigger| trigger.is_enabled) {
                return Err(Error::NotWatched(table.qualified()));
            }
        }
        let nouns = nouns(&table)?;
        own.iter().try_for_each(|trigger| retired::retire(&table, trigger))?;
        for child in table.children()? {
            // It can be watched by itself.
            if !child.is_watched()? {
                retire_from_child(&child, &table, &nouns, caller)?;
            }
        }
        forget(rel)?;
        Ok(())
    })
}

/// Returns the nouns of a table's watch: of its row, and of its triggers, because one of the two
/// may be lost.
fn nouns(table: &Table) -> Result<Vec<String>, Error> {
    let triggers = present::of(table.oid)?.into_iter().filter_map(|trigger| trigger.noun);
    let row = Spi::connect(|client| {
        let rows =
            client.select("select noun from webhook.watch where relation = $1", None, &[table.oid.into()])?;
        rows.map(|row| row.get::<String>(1)).collect::<Result<Vec<_>, pgrx::spi::SpiError>>()
    })?;
    Ok(triggers.chain(row.into_iter().flatten()).collect())
}

/// Retires the triggers that a child table has from a watch of its parent, which has these nouns.
/// It leaves those of other watches: its own, and those of other parents.
fn retire_from_child(child: &Table, parent: &Table, nouns: &[String], caller: Caller) -> Result<(), Error> {
    let triggers = present::of(child.oid)?;
    if triggers.iter().any(|trigger| trigger.is_of_another_watch(&[])) {
        return Ok(());
    }
    let mut others = Vec::new();
    for other in child.watched_ancestors(parent)? {
        others.extend(self::nouns(&other)?);
    }
    for trigger in triggers {
        if trigger.noun.as_ref().is_some_and(|noun| nouns.contains(noun) && !others.contains(noun)) {
            check_owner(child, caller)?;
            retired::retire(child, &trigger)?;
        }
    }
    Ok(())
}

/// Locks a table against other changes of its triggers, and against being dropped, after a check of
/// the caller's rights. The columns are read afterwards.
fn lock(rel: Oid, caller: Caller, mode: u32) -> Result<Table, Error> {
    let before = Table::find(rel)?;
    before.check_kind()?;
    check_owner(&before, caller)?;
    rights::with_bounded_locks(|| {
        lock_relation(rel, mode);
        if before.is_partitioned() {
            // CREATE TRIGGER locks the partitions too, in this order, and without a limit.
            lock_members(rel, mode);
        }
    });
    let table = Table::find(rel)?;
    check_owner(&table, caller)?;
    Ok(table)
}

fn lock_relation(rel: Oid, mode: u32) {
    // SAFETY: acquires a lock by OID until the end of the transaction.
    unsafe { pg_sys::LockRelationOid(rel, mode as pg_sys::LOCKMODE) };
}

/// Locks the partitions of a table.
fn lock_members(rel: Oid, mode: u32) {
    // SAFETY: look-ups and locks by OID.
    unsafe { compat::find_all_inheritors(rel, mode as pg_sys::LOCKMODE, core::ptr::null_mut()) };
}

fn admit_partition_owners(table: &Table) -> Result<(), Error> {
    let mut relations = table.descendants()?;
    relations.push(table.oid);
    Ok(Spi::run_with_args("select webhook.admit_partition_owners($1)", &[relations.into()])?)
}

fn check_owner(table: &Table, caller: Caller) -> Result<(), Error> {
    if caller.may_act_as(table.owner) { Ok(()) } else { Err(Error::NotOwner(table.qualified())) }
}

/// Checks that a table is captured once: through itself or through its parent.
fn check_family(table: &Table) -> Result<(), Error> {
    if let Some(root) = table.watched_ancestor(table)? {
        return Err(Error::WatchedThrough { relation: table.qualified(), root: root.qualified() });
    }
    if let Some(member) = table.watched_descendant()? {
        return Err(Error::MemberWatched { relation: table.qualified(), member: member.qualified() });
    }
    Ok(())
}

/// Checks that a table with several parents is captured through one of them.
fn check_other_parents(table: &Table, children: &[Table]) -> Result<(), Error> {
    for child in children {
        if let Some(root) = child.watched_ancestor(table)? {
            return Err(Error::ChildWatched {
                relation: table.qualified(),
                child: child.qualified(),
                root: root.qualified(),
            });
        }
    }
    Ok(())
}

/// Checks that no child table has triggers from a watch of its own whose row is lost, as after a
/// restore of the table alone. The watch of the parent would replace them.
fn check_lost_watches(table: &Table, children: &[Table], noun: &str) -> Result<(), Error> {
    let mut nouns = nouns(table)?;
    nouns.push(noun.to_owned());
    for child in children {
        if present::of(child.oid)?.iter().any(|trigger| trigger.is_of_another_watch(&nouns)) {
            return Err(Error::MemberWatched { relation: table.qualified(), member: child.qualified() });
        }
    }
    Ok(())
}

/// Returns the same definition with the column numbers of a child table.
fn numbered_for(child: &Table, definition: &Definition) -> Definition {
    let renumber = |columns: &[Column]| -> Vec<Column> {
        let find = |column: &Column| child.columns.iter().find(|own| own.name == column.name);
        columns.iter().map(|column| find(column).unwrap_or(column).clone()).collect()
    };
    let renumber_some = |columns: &Option<Vec<Column>>| columns.as_deref().map(renumber);
    Definition {
        columns: renumber_some(&definition.columns),
        exclude: renumber_some(&definition.exclude),
        on_columns: renumber_some(&definition.on_columns),
        key: renumber(&definition.key),
        owner_column: renumber_some(&definition.owner_column.clone().map(Vec::from))
            .and_then(|columns| columns.try_into().ok()),
        table: Some(child.layout()),
        ..definition.clone()
    }
}

/// Writes the row of `webhook.watch` and the event types, warns about likely mistakes, and returns
/// the row.
fn record(
    table: &Table,
    children: &[Table],
    definition: &Definition,
    condition: Option<&Condition>,
) -> Result<WatchRow, Error> {
    let names = |columns: &[Column]| columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let verbs = serde_json::to_value(&definition.verbs).map_err(|_| Error::Missing("verbs"))?;
    let numbered_for: Vec<Oid> = std::iter::once(table).chain(children).map(|table| table.oid).collect();
    let former = event_types(table.oid)?;
    let row = Spi::connect_mut(|client| {
        client
            .update(
                include_str!("sql/put_watch.sql"),
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
                    numbered_for.into(),
                    definition.owner_column.as_ref().map(|[column]| column.name.clone()).into(),
                    definition.owner_function.clone().into(),
                    definition.owner_setting.clone().into(),
                ],
            )?
            .first()
            .get::<WatchRow>(1)?
            .ok_or(Error::Missing("watch"))
    })?;
    list_event_types([former, event_types(table.oid)?].concat())?;
    forget_detached(table.oid)?;
    warn(table)?;
    Ok(row)
}

/// Removes the note that a table was a partition of a watched one. Reports whether it was.
fn forget_detached(rel: Oid) -> Result<bool, Error> {
    Spi::connect_mut(|client| {
        let deleted = client.update(
            "delete from webhook.detached_partition where relation = $1 returning 1",
            None,
            &[rel.into()],
        )?;
        Ok(!deleted.is_empty())
    })
}

/// Returns the event types of the row of `webhook.watch`, if there is one.
fn event_types(rel: Oid) -> Result<Vec<String>, Error> {
    Spi::connect(|client| {
        let rows = client.select(
            "select w.noun || '.' || v.value from webhook.watch w cross join jsonb_each_text(w.verbs) v
             where w.relation = $1 and v.value is not null",
            None,
            &[rel.into()],
        )?;
        rows.map(|row| Ok(row.get(1)?.unwrap_or_default())).collect()
    })
}

fn list_event_types(types: Vec<String>) -> Result<(), Error> {
    Ok(Spi::run_with_args("select webhook.list_event_types($1)", &[types.into()])?)
}

/// Warns about the problems that `webhook_check()` would list for a new watch.
fn warn(table: &Table) -> Result<(), Error> {
    let advice: Vec<(String, String)> = Spi::connect(|client| {
        let rows = client.select(
            "select a.detail, a.repair from webhook.watch w cross join lateral webhook.advice(w) a where w.relation = $1",
            None,
            &[table.oid.into()],
        )?;
        rows.map(|row| Ok((row.get(1)?.unwrap_or_default(), row.get(2)?.unwrap_or_default())))
            .collect::<Result<_, pgrx::spi::SpiError>>()
    })?;
    for (detail, repair) in advice {
        crate::error::warn(detail, format!("Run: {repair}"));
    }
    Ok(())
}

/// Deletes the row of `webhook.watch`. Reports whether there was one.
fn forget(rel: Oid) -> Result<bool, Error> {
    let types = event_types(rel)?;
    let found = Spi::connect_mut(|client| {
        let deleted = client.update(
            "delete from webhook.watch where relation = $1 returning 1",
            None,
            &[rel.into()],
        )?;
        Ok::<_, Error>(!deleted.is_empty())
    })?;
    list_event_types(types)?;
    Ok(found)
}
