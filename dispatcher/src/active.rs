//! Which daemon is the active one, beyond who holds the lock: a process that is stopped, or cut off from the server, holds it
//! on. The active one is therefore heard of on its control session every two seconds, and whoever stands by ends one that is not.
//!
//! Ending it means all of its sessions at once: when it is continued, it has no connection left that it could write
//! through with what it believed. Reads `pg_locks` and `pg_stat_activity`, as does `webhook.health`; there is no table to be kept up.

use crate::{app::Error, postgres::chain};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;
use tokio_postgres::{Client, error::SqlState};
use tracing::warn;

const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Idle and not heard of for so long: not while it waits for the gate behind somebody's commit.
const FROZEN: &str = "
    select a.pid, a.application_name, (extract(epoch from clock_timestamp() - a.state_change) * 1000)::bigint
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2
      and a.state = 'idle' and a.state_change < clock_timestamp() - interval '8 s'";

/// The one with the lock comes last: once it is free, nothing of that daemon can write any more.
const END: &str = "
    select pg_terminate_backend(a.pid, 2000) from pg_stat_activity a
    where a.pid = $1 or (a.datname = current_database() and a.application_name = $2 and a.application_name like 'webhookd %')
    order by a.pid = $1";

/// Speaks on the control session until it is aborted or the session has ended.
pub async fn beat(control: Arc<Client>) {
    loop {
        sleep(BEAT_INTERVAL).await;
        if control.simple_query("select 1").await.is_err() {
            return;
        }
    }
}

/// Ends the sessions of an active daemon that does nothing any more.
///
/// # Errors
/// Those of the connection. Not being allowed to is told, and waited through.
pub async fn end_frozen(control: &Client) -> Result<(), Error> {
    let Some(row) = control.query_opt(FROZEN, &[]).await.map_err(Error::of_statement)? else { return Ok(()) };
    let (pid, name, silent_ms): (i32, &str, i64) = (
        row.try_get(0).map_err(Error::of_statement)?,
        row.try_get(1).map_err(Error::of_statement)?,
        row.try_get(2).map_err(Error::of_statement)?,
    );
    warn!(pid, silent_ms, "daemon.ends_another; it holds the active lock and does nothing");
    match control.query(END, &[&pid, &name]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            warn!(error = chain(&error), "daemon.cannot_end_another; let both run as one role");
            Ok(())
        }
        Err(error) => Err(Error::of_statement(error)),
    }
}
