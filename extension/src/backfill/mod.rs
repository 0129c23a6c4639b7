//! `webhook_backfill`: sends the rows that a watched table already has, as `noun.snapshot` events,
//! to one subscription.
//!
//! Writes `webhook.backfill`. The daemon then runs the backfill step by step (see [`step`]). Runs
//! as its caller, for the same reasons as `webhook_watch` (`rights.rs`): it must know its caller,
//! and it parses the condition with the caller's rights.

mod keys;
mod scope;
mod step;

use crate::catalogue;
use crate::definition::RowFunctionKind;
use crate::emit;
use crate::error::{Error, answer, given};
use crate::memory;
use crate::owner;
use crate::rights::{self, Caller};
use crate::subtransaction::{self, End};
use crate::watch::condition;
use crate::watch::table::Table;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;
use scope::RowsOf;

#[pg_extern(sql = false)]
fn webhook_backfill(subscription_id: Option<i64>, rel: Option<Oid>, condition: Option<&str>) -> i64 {
    answer(|| backfill(given(subscription_id, "subscription_id")?, given(rel, "rel")?, condition))
}

#[pg_extern(sql = false)]
fn webhook_backfill_cancel(id: Option<i64>) -> bool {
    answer(|| {
        let (id, caller) = (given(id, "id")?, Caller::present());
        rights::as_owner(|| cancel(caller, id))
    })
}

#[pg_extern(sql = false)]
fn backfill_step(id: Option<i64>, rows_max: Option<i32>) -> bool {
    answer(|| step::step(given(id, "id")?, given(rows_max, "rows_max")?))
}

/// Returns a table as it is written in FROM: without child tables, whose rows have keys of their
/// own, but with partitions.
fn from_item(table: &Table) -> String {
    let only = if table.is_partitioned() { "" } else { "only " };
    format!("{only}{}", table.qualified())
}

fn backfill(subscription_id: i64, rel: Oid, condition: Option<&str>) -> Result<i64, Error> {
    let caller = Caller::present();
    let table = rights::as_owner(|| {
        let table = Table::find(rel)?;
        table.check_kind()?;
        check_source(&table, caller)?;
        Ok::<_, Error>(table)
    })?;
    if let Some(text) = condition {
        memory::room_for_input(text.len());
        condition::check_syntax(text)?;
        let query = format!("select 1 from {} as new where ({text}\n) limit 0", from_item(&table));
        let is_caught = |sqlstate| sqlstate != PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
        subtransaction::attempt(End::Undo, is_caught, || Spi::run(&query)).map_err(|caught| {
            condition::misfit(text, caught, "The row is named new. Its columns do not need a prefix.")
        })??;
    }
    let search_path: Option<String> = Spi::get_one("select pg_catalog.current_setting('search_path')")?;
    rights::as_owner(|| record(subscription_id, &table, condition, caller, search_path.unwrap_or_default()))
}

/// Checks that a table can be backfilled, and that this caller may do it.
fn check_source(table: &Table, caller: Caller) -> Result<(), Error> {
    let (may_select, noun, function, may_execute) = Spi::connect(|client| {
        let row = client.select(
            include_str!("sql/backfill_rights.sql"),
            Some(1),
            &[caller.id.into(), table.oid.into()],
        )?;
        let row = row.first();
        let kind = match row.get(5)? {
            Some(true) => RowFunctionKind::Owner,
            _ => RowFunctionKind::Payload,
        };
        let function = row.get::<String>(3)?.map(|function| (kind, function));
        Ok::<_, Error>((row.get(1)?, row.get::<String>(2)?, function, row.get(4)?))
    })?;
    if may_select != Some(true) && !caller.may_act_as(table.owner) {
        return Err(Error::NoSelect(table.qualified()));
    }
    let Some(noun) = noun else {
        if let Some(root) = table.watched_ancestor(table)? {
            return Err(Error::WatchedThrough { relation: table.qualified(), root: root.qualified() });
        }
        return Err(Error::NotWatched(table.qualified()));
    };
    match (function, may_execute) {
        (None, _) | (_, Some(true)) => {}
        (Some((kind, function)), Some(false)) => return Err(Error::RowFunctionDenied { kind, function }),
        (Some((kind, function)), None) => return Err(Error::NoRowFunction { kind, function }),
    }
    if table.primary_key.is_empty() {
        return Err(Error::NoPrimaryKey(table.qualified()));
    }
    let text = step::event_type(&noun);
    event_type::check_type(&text).map_err(|reason| Error::BadEventType { text, reason })
}

/// Writes the row. Notifies the daemon, and emits an event for all others.
fn record(
    subscription_id: i64,
    table: &Table,
    condition: Option<&str>,
    caller: Caller,
    search_path: String,
) -> Result<i64, Error> {
    owner::lock(caller, subscription_id)?;
    RowsOf::find(subscription_id, table)?;
    let statement = match catalogue::is_present()? {
        true => include_str!("sql/backfill_insert.sql"),
        false => include_str!("sql/backfill_insert_0_2.sql"),
    };
    let id = Spi::connect_mut(|client| {
        let inserted = client.update(
            statement,
            None,
            &[
                subscription_id.into(),
                table.oid.into(),
                condition.map(str::to_owned).into(),
                caller.id.into(),
                search_path.into(),
            ],
        )?;
        if inserted.is_empty() {
            return Err(Error::BackfillRunning { relation: table.qualified(), subscription_id });
        }
        inserted.first().get_one::<i64>()?.ok_or(Error::Missing("backfill"))
    })?;
    let payload = Spi::get_one_with_args::<String>(
        "select json_build_object('id', b.id, 'subscription_id', b.subscription_id, 'table', b.relation::text,
                                  'requested_by', b.requested_by)::text
         from webhook.backfill b where b.id = $1",
        &[id.into()],
    )?;
    // A full queue would fail the commit. In that case the daemon finds the backfill by its own
    // clock.
    Spi::run("select pg_notify('webhook_backfill', '') where pg_notification_queue_usage() < 0.5")?;
    emit::backfill_requested(id, subscription_id, &payload.unwrap_or_default())?;
    Ok(id)
}

/// Ends a running backfill. The events that it has sent remain.
fn cancel(caller: Caller, id: i64) -> Result<bool, Error> {
    let subscription = Spi::get_one_with_args::<i64>(
        "select (select subscription_id from webhook.backfill where id = $1)",
        &[id.into()],
    )?;
    // The answer does not reveal the backfills of other owners either.
    match subscription.map(|subscription| owner::lock(caller, subscription)) {
        None | Some(Err(Error::NoSuchSubscription(_))) => return Err(Error::NoSuchBackfill(id)),
        Some(locked) => locked?,
    }
    let ended = Spi::get_one_with_args::<bool>("select webhook.end_backfill($1, 'cancelled')", &[id.into()])?;
    Ok(ended == Some(true))
}
