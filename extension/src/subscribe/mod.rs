//! The functions that change a subscription: subscribe, alter, pause, resume, rotate the secret,
//! unsubscribe.
//!
//! They write `webhook.subscription`, `webhook.secret`, `webhook.queue` and, once,
//! `webhook.cursor`. Triggers on the first two notify the daemon through the outbox. The functions
//! run as their callers, and switch to the extension's owner (`rights.rs`). The owner of a
//! subscription decides who may change it ([`owner`]).

pub mod check;
mod fit;
mod options;
mod scope;
mod secret;

use crate::arguments::Arguments;
use crate::emit;
use crate::error::{Error, answer, given, not_null};
use crate::limits;
use crate::owner;
use crate::rights::{self, Caller};
use fit::Fit;
use options::{Of, Options};
use pgrx::datum::Interval;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{AllocatedByRust, composite_type, prelude::*};
use scope::Present;
use subscription_options::OPTIONS;

type SubscriptionRow = PgHeapTuple<'static, AllocatedByRust>;

/// Runs `work` as the extension's owner, on behalf of the caller.
fn on_behalf<T>(work: impl FnOnce(Caller) -> Result<T, Error>) -> T {
    answer(|| {
        let caller = Caller::present();
        rights::as_owner(|| work(caller))
    })
}

#[pg_extern(sql = false)]
fn webhook_subscribe(
    call: pg_sys::FunctionCallInfo,
) -> TableIterator<'static, (name!(id, i64), name!(secret, Option<String>))> {
    on_behalf(|caller| {
        // SAFETY: sql/functions.sql declares the options in this order.
        let mut arguments = unsafe { Arguments::of(call, OPTIONS.len() as i16) }?;
        let options = Options::read(&mut arguments, Of::New, caller)?;
        options.fit.check()?;
        Ok(TableIterator::once(subscribe(caller, options)?))
    })
}

#[pg_extern(sql = false)]
fn webhook_alter(call: pg_sys::FunctionCallInfo) -> composite_type!('static, "webhook.subscription") {
    on_behalf(|caller| {
        // SAFETY: sql/functions.sql declares an id, the options in this order, and a list of names.
        let mut arguments = unsafe { Arguments::of(call, OPTIONS.len() as i16 + 2) }?;
        let id = given(arguments.take::<i64>(), "id")?;
        let mut options = Options::read(&mut arguments, Of::Existing, caller)?;
        options.clear(arguments.take())?;
        owner::lock(caller, id)?;
        alter(caller, id, options)
    })
}

#[pg_extern(sql = false)]
fn webhook_unsubscribe(id: Option<i64>) {
    on_behalf(|caller| unsubscribe(caller, given(id, "id")?));
}

#[pg_extern(sql = false)]
fn webhook_pause(id: Option<i64>, reason: Option<&str>) {
    on_behalf(|caller| pause(caller, given(id, "id")?, reason));
}

#[pg_extern(sql = false)]
fn webhook_resume(id: Option<i64>, skip_backlog: Option<bool>) {
    on_behalf(|caller| resume(caller, given(id, "id")?, not_null(skip_backlog, "skip_backlog")?));
}

#[pg_extern(sql = false)]
fn webhook_rotate_secret(id: Option<i64>, overlap: Option<Interval>) -> String {
    on_behalf(|caller| {
        let (id, overlap) = (given(id, "id")?, not_null(overlap, "overlap")?);
        owner::lock(caller, id)?;
        secret::rotate(id, overlap)
    })
}

fn subscribe(caller: Caller, mut options: Options) -> Result<(i64, Option<String>), Error> {
    // The checkpoint starts before the first subscription, so that its first event is after it. If
    // two sessions create it, the primary key lets one of them win.
    Spi::run(include_str!("sql/first_cursor.sql"))?;
    let given = set_by_call(&options);
    scope::begin(caller, &mut options)?;
    let name = options.name.take().unwrap_or_default();
    let (secret, profiles) = (options.secret.take(), options.profiles.unwrap_or_default());
    let (columns, values) = options.into_columns();
    let numbers: Vec<String> = (1..=values.len()).map(|n| format!("${n}")).collect();
    let insert = format!(
        "insert into webhook.subscription ({}) values ({}) on conflict do nothing returning id",
        columns.join(", "),
        numbers.join(", ")
    );
    let id = Spi::connect_mut(|client| {
        let inserted = client.update(insert.as_str(), None, &values)?;
        if inserted.is_empty() {
            return Err(Error::NameTaken(name));
        }
        inserted.first().get_one::<i64>()?.ok_or(Error::Missing("subscription"))
    })?;
    let shown = secret::begin(id, profiles, secret)?;
    limits::check_options(caller, id, &given)?;
    limits::check_subscriptions(caller, id)?;
    warn_of_missing_keys(id)?;
    Ok((id, shown))
}

/// Warns that a subscription with order by key matches events without a key. If one of them fails,
/// it blocks all of them.
fn warn_of_missing_keys(id: i64) -> Result<(), Error> {
    let types: Option<String> =
        Spi::get_one_with_args(include_str!("sql/types_without_key.sql"), &[id.into()])?;
    if let Some(types) = types {
        crate::error::warn(
            format!("events without a key wait for one another: {types}"),
            "Name a key with webhook_watch(..., key_columns => ...), or choose ordering => 'none'."
                .to_owned(),
        );
    }
    Ok(())
}

fn alter(caller: Caller, id: i64, mut options: Options) -> Result<SubscriptionRow, Error> {
    let present = Fit::present(id)?;
    let is_reordered = options.fit.ordering.as_ref().is_some_and(|to| Some(to) != present.ordering.as_ref());
    present.changed_to(&options.fit).check()?;
    let before = Present::read(id)?;
    before.change(caller, &mut options)?;
    let names_owner = options.owner.is_some();
    if let Some(name) = namesake(id, &mut options)? {
        return Err(Error::NameTaken(name));
    }
    let given = if names_owner { limits::SET_BY_CALL.to_vec() } else { set_by_call(&options) };
    let secret = options.secret.take();
    if secret.is_some() || options.profiles.is_some() {
        let profiles = options.profiles.map_or_else(|| secret::profiles_of(id), Ok)?;
        secret::alter(id, profiles, secret)?;
    }
    let forgets_reason = if options.enabled == Some(true) { ", paused_reason = null" } else { "" };
    let (columns, mut values) = options.into_columns();
    let changes: String =
        columns.iter().enumerate().map(|(at, column)| format!(", {column} = ${}", at + 1)).collect();
    values.push(id.into());
    let update = format!(
        "update webhook.subscription s set updated_at = now(){changes}{forgets_reason} where id = ${} returning s",
        values.len()
    );
    let row = Spi::connect_mut(|client| {
        let updated = client.update(update.as_str(), None, &values)?;
        updated.first().get::<SubscriptionRow>(1)?.ok_or(Error::NoSuchSubscription(id))
    })?;
    before.check_locked(caller, id)?;
    limits::check_options(caller, id, &given)?;
    if names_owner {
        limits::check_subscriptions(caller, id)?;
    }
    if is_reordered {
        reorder(id)?;
        warn_of_missing_keys(id)?;
    }
    Ok(row)
}

/// Returns the options of the call that have a limit of their own.
fn set_by_call(options: &Options) -> Vec<&'static str> {
    let is_set = |name: &&'static str| match *name {
        "secret" => options.secret.is_some(),
        name => options.sets(name),
    };
    limits::SET_BY_CALL.into_iter().filter(is_set).collect()
}

/// Returns the name of the subscription if its owner has another one of that name.
fn namesake(id: i64, options: &mut Options) -> Result<Option<String>, Error> {
    let (name, owner, is_cleared) = (options.name.take(), options.owner.take(), options.clears("name"));
    if is_cleared || (name.is_none() && owner.is_none()) {
        return Ok(None);
    }
    Spi::connect(|client| {
        let found = client.select(
            include_str!("sql/same_name.sql"),
            Some(1),
            &[id.into(), name.into(), owner.into()],
        )?;
        if found.is_empty() { Ok(None) } else { Ok(found.first().get_one::<String>()?) }
    })
}

/// Adapts the queue of a subscription to its present order. No row becomes blocked here: only the
/// daemon knows what is in flight, and a row that waited for a final one would wait forever.
/// Blocked rows become backlog, which the daemon takes from the start and in order.
fn reorder(id: i64) -> Result<(), Error> {
    let changed = Spi::get_one_with_args::<bool>(include_str!("sql/reorder.sql"), &[id.into()])?;
    if changed == Some(true) {
        emit::backlog_requested(id);
    }
    Ok(())
}

fn unsubscribe(caller: Caller, id: i64) -> Result<(), Error> {
    owner::lock(caller, id)?;
    Spi::run_with_args("delete from webhook.queue where subscription_id = $1", &[id.into()])?;
    // Deletes the secrets too.
    Spi::run_with_args("delete from webhook.subscription where id = $1", &[id.into()])?;
    Ok(())
}

fn pause(caller: Caller, id: i64, reason: Option<&str>) -> Result<(), Error> {
    owner::lock(caller, id)?;
    Spi::run_with_args(
        "update webhook.subscription set enabled = false, paused_reason = $2, updated_at = now() where id = $1",
        &[id.into(), reason.into()],
    )?;
    Ok(())
}

fn resume(caller: Caller, id: i64, skip_backlog: bool) -> Result<(), Error> {
    owner::lock(caller, id)?;
    if skip_backlog {
        Spi::run_with_args("delete from webhook.queue where subscription_id = $1", &[id.into()])?;
    }
    Spi::run_with_args(
        "update webhook.subscription set enabled = true, paused_reason = null, updated_at = now() where id = $1",
        &[id.into()],
    )?;
    Ok(())
}
