//! The life of a subscription: subscribe, alter, pause, resume, rotate the secret, unsubscribe.
//!
//! Writes `webhook.subscription`, `webhook.secret`, `webhook.queue` and, once, `webhook.cursor`; triggers on the first
//! two tell the daemon through the outbox. All functions run with the rights of the extension's owner.

mod options;
mod secret;

use crate::error::{Error, answer, given, not_null};
use pgrx::datum::Interval;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::{AllocatedByRust, composite_type, prelude::*};

type Row = PgHeapTuple<'static, AllocatedByRust>;

/// The options of `webhook_subscribe` and `webhook_alter`, checked; `None`: the column's default, or unchanged.
struct Options {
    url: Option<String>,
    events: Option<Vec<String>>,
    name: Option<String>,
    secret: Option<signature::Secret>,
    timeout: Option<Interval>,
    retry: Option<Vec<Interval>>,
    max_in_flight: Option<i32>,
    enabled: Option<bool>,
}

impl Options {
    #[allow(clippy::too_many_arguments)] // as many as the SQL functions have
    fn check(
        url: Option<String>,
        events: Option<Vec<Option<String>>>,
        name: Option<String>,
        secret: Option<String>,
        timeout: Option<Interval>,
        retry: Option<Vec<Option<Interval>>>,
        max_in_flight: Option<i32>,
        enabled: Option<bool>,
    ) -> Result<Self, Error> {
        Ok(Self {
            url: url.map(|url| options::url(&url)).transpose()?,
            events: events.map(options::events).transpose()?,
            name: name.map(options::name).transpose()?,
            secret: secret.map(|secret| secret::parse(&secret)).transpose()?,
            timeout: timeout.map(options::timeout).transpose()?,
            retry: retry.map(options::retry).transpose()?,
            max_in_flight: max_in_flight.map(options::max_in_flight).transpose()?,
            enabled,
        })
    }
}

#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn webhook_subscribe(
    url: Option<String>,
    events: Option<Vec<Option<String>>>,
    name: Option<String>,
    secret: Option<String>,
    timeout: Option<Interval>,
    retry: Option<Vec<Option<Interval>>>,
    max_in_flight: Option<i32>,
    enabled: Option<bool>,
) -> TableIterator<'static, (name!(id, i64), name!(secret, String))> {
    answer(|| {
        given(url.as_ref(), "url")?;
        not_null(events.as_ref(), "events")?;
        not_null(timeout.as_ref(), "timeout")?;
        not_null(retry.as_ref(), "retry")?;
        not_null(max_in_flight, "max_in_flight")?;
        not_null(enabled, "enabled")?;
        let options = Options::check(url, events, name, secret, timeout, retry, max_in_flight, enabled)?;
        Ok(TableIterator::once(subscribe(options)?))
    })
}

#[allow(clippy::too_many_arguments)]
#[pg_extern(sql = false)]
fn webhook_alter(
    id: Option<i64>,
    url: Option<String>,
    events: Option<Vec<Option<String>>>,
    name: Option<String>,
    secret: Option<String>,
    timeout: Option<Interval>,
    retry: Option<Vec<Option<Interval>>>,
    max_in_flight: Option<i32>,
    enabled: Option<bool>,
) -> composite_type!('static, "webhook.subscription") {
    answer(|| {
        let id = given(id, "id")?;
        alter(id, Options::check(url, events, name, secret, timeout, retry, max_in_flight, enabled)?)
    })
}

#[pg_extern(sql = false)]
fn webhook_unsubscribe(id: Option<i64>) {
    answer(|| unsubscribe(given(id, "id")?))
}

#[pg_extern(sql = false)]
fn webhook_pause(id: Option<i64>, reason: Option<String>) {
    answer(|| pause(given(id, "id")?, reason))
}

#[pg_extern(sql = false)]
fn webhook_resume(id: Option<i64>, skip_backlog: Option<bool>) {
    answer(|| resume(given(id, "id")?, not_null(skip_backlog, "skip_backlog")?))
}

#[pg_extern(sql = false)]
fn webhook_rotate_secret(id: Option<i64>, overlap: Option<Interval>) -> String {
    answer(|| secret::rotate(given(id, "id")?, not_null(overlap, "overlap")?))
}

fn subscribe(options: Options) -> Result<(i64, String), Error> {
    let secret = match options.secret {
        Some(secret) => secret,
        None => secret::generate()?,
    };
    // The checkpoint starts before the first subscription, so that its first event lies past it. Two sessions that
    // both find none meet at the primary key.
    Spi::run(
        "insert into webhook.cursor (snapshot, system_identifier, database_oid)
         select webhook.snapshot_before_this_transaction(), (pg_control_system()).system_identifier, d.oid
         from pg_database d where d.datname = current_database()
         on conflict do nothing",
    )?;
    let id = Spi::connect_mut(|client| {
        let inserted = client.update(
            "insert into webhook.subscription (url, events, name, timeout, retry, max_in_flight, enabled)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (name) do nothing returning id",
            None,
            &[
                options.url.into(),
                options.events.into(),
                options.name.clone().into(),
                options.timeout.into(),
                options.retry.into(),
                options.max_in_flight.into(),
                options.enabled.into(),
            ],
        )?;
        if inserted.is_empty() {
            return Err(Error::NameTaken(options.name.unwrap_or_default()));
        }
        inserted.first().get_one::<i64>()?.ok_or(Error::Missing("subscription"))
    })?;
    secret::add(id, &secret)?;
    Ok((id, secret.reveal()))
}

fn alter(id: i64, options: Options) -> Result<Row, Error> {
    lock(id)?;
    if let Some(name) = &options.name {
        let taken = Spi::get_one_with_args::<bool>(
            "select exists (select from webhook.subscription where name = $2 and id <> $1)",
            &[id.into(), name.as_str().into()],
        )?;
        if taken == Some(true) {
            return Err(Error::NameTaken(name.clone()));
        }
    }
    if let Some(secret) = &options.secret {
        secret::replace(id, secret)?;
    }
    Spi::connect_mut(|client| {
        client
            .update(
                "update webhook.subscription s set
                     url = coalesce($2, url), events = coalesce($3, events), name = coalesce($4, name),
                     timeout = coalesce($5, timeout), retry = coalesce($6, retry),
                     max_in_flight = coalesce($7, max_in_flight), enabled = coalesce($8, enabled),
                     paused_reason = case when coalesce($8, enabled) then null else paused_reason end,
                     updated_at = now()
                 where id = $1 returning s",
                None,
                &[
                    id.into(),
                    options.url.into(),
                    options.events.into(),
                    options.name.into(),
                    options.timeout.into(),
                    options.retry.into(),
                    options.max_in_flight.into(),
                    options.enabled.into(),
                ],
            )?
            .first()
            .get::<Row>(1)?
            .ok_or(Error::NoSuchSubscription(id))
    })
}

fn unsubscribe(id: i64) -> Result<(), Error> {
    lock(id)?;
    Spi::run_with_args("delete from webhook.queue where subscription_id = $1", &[id.into()])?;
    // Takes the secrets along.
    Spi::run_with_args("delete from webhook.subscription where id = $1", &[id.into()])?;
    Ok(())
}

fn pause(id: i64, reason: Option<String>) -> Result<(), Error> {
    lock(id)?;
    Spi::run_with_args(
        "update webhook.subscription set enabled = false, paused_reason = $2, updated_at = now() where id = $1",
        &[id.into(), reason.into()],
    )?;
    Ok(())
}

fn resume(id: i64, skip_backlog: bool) -> Result<(), Error> {
    lock(id)?;
    if skip_backlog {
        Spi::run_with_args("delete from webhook.queue where subscription_id = $1", &[id.into()])?;
    }
    Spi::run_with_args(
        "update webhook.subscription set enabled = true, paused_reason = null, updated_at = now() where id = $1",
        &[id.into()],
    )?;
    Ok(())
}

/// Locks a subscription's row until the end of the transaction.
///
/// # Errors
/// [`Error::NoSuchSubscription`].
pub fn lock(id: i64) -> Result<(), Error> {
    Spi::connect_mut(|client| {
        let found = client.update(
            "select from webhook.subscription where id = $1 for no key update",
            Some(1),
            &[id.into()],
        )?;
        if found.is_empty() { Err(Error::NoSuchSubscription(id)) } else { Ok(()) }
    })
}
