//! Which daemon is the active one, beyond who holds the lock: a process that is stopped, or cut off from the server, holds it
//! on. The active one is therefore heard of every two seconds, and whoever stands by ends one that is not. As long as the reader
//! looks, that is enough; only while it does not (its lanes are full, or there is no safety poll) the control session says something.
//!
//! Ending it means all of its sessions at once: when it is continued, it has no connection left that it could write
//! through with what it believed. Reads `pg_locks` and `pg_stat_activity`, as does `webhook.health`; there is no table to be kept up.

use crate::{
    app::Error,
    postgres::{Client, chain, names_of_all_lives},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tracing::warn;

const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Idle, and not heard of on any of its sessions for so long: not while it waits for the gate behind somebody's commit.
const FROZEN: &str = "
    select a.pid, a.application_name, (extract(epoch from clock_timestamp() - heard.at) * 1000)::bigint
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    cross join lateral (
        select max(o.state_change) as at from pg_stat_activity o
        where o.pid = a.pid or (o.datname = a.datname and o.application_name = a.application_name
                                and o.application_name like 'webhookd %')) heard
    where l.locktype = 'advisory' and l.granted
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2
      and a.state = 'idle' and heard.at < clock_timestamp() - interval '8 s'";

/// Whether what it does may be seen: Postgres shows that to members of its role and of pg_read_all_stats.
const IS_HIDDEN: &str = "
    select exists (
        select from pg_locks l join pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted
          and l.database = (select d.oid from pg_database d where d.datname = current_database())
          and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2 and a.state is null)";

/// The one with the lock comes last: once it is free, nothing of that daemon can write any more.
const END: &str = "
    select pg_terminate_backend(a.pid, 2000) from pg_stat_activity a
    where a.pid = $1 or (a.datname = current_database() and a.application_name = $2 and a.application_name like 'webhookd %')
    order by a.pid = $1";

/// The application name of this session names the present life.
const END_FORMER_LIVES: &str = "
    select count(*) filter (where pg_terminate_backend(a.pid, 2000)) from pg_stat_activity a
    where a.datname = current_database() and a.application_name like $1
      and a.application_name <> current_setting('application_name')";

/// When the reader was last heard of by the server.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    looked_ms: AtomicU64,
    is_asleep: AtomicBool,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { began: Instant::now(), looked_ms: AtomicU64::new(0), is_asleep: AtomicBool::new(false) }
    }
}

impl Pulse {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Just now.
    pub fn looked(&self) {
        self.looked_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// From now on, until the result is dropped, the control session is asleep in a statement: others see that it is at
    /// work, and a word on it would end the sleep.
    pub fn sleeps(self: &Arc<Self>) -> Sleeping {
        self.is_asleep.store(true, Ordering::Relaxed);
        Sleeping(Arc::clone(self))
    }

    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.looked_ms.load(Ordering::Relaxed)))
    }
}

/// As long as it lives, the control session is asleep in a statement.
#[derive(Debug)]
pub struct Sleeping(Arc<Pulse>);

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
    }
}

/// Speaks on the control session where the reader does not, until it is aborted or the session has ended.
pub async fn beat(control: Arc<Client>, pulse: Arc<Pulse>) {
    loop {
        sleep(BEAT_INTERVAL).await;
        if pulse.silent_for() < BEAT_INTERVAL || pulse.is_asleep.load(Ordering::Relaxed) {
            continue;
        }
        if control.simple_query("select 1").await.is_err() {
            return;
        }
    }
}

/// Says so if the active daemon could freeze and we would not know.
///
/// # Errors
/// Those of the connection.
pub async fn warn_if_hidden(control: &Client) -> Result<(), Error> {
    let row = control.query_one(IS_HIDDEN, &[]).await.map_err(Error::of_statement)?;
    if row.try_get(0).map_err(Error::of_statement)? {
        warn!("daemon.cannot_watch_another; should it freeze, nobody takes over: let both run as one role");
    }
    Ok(())
}

/// Ends the sessions that this process has given up and that the server still has. Reports whether
/// there were any.
///
/// # Errors
/// Those of the connection.
pub async fn end_former_lives(control: &Client) -> Result<bool, Error> {
    let row = control.query_one(END_FORMER_LIVES, &[&names_of_all_lives()]).await;
    let ended: i64 = row.and_then(|row| row.try_get(0)).map_err(Error::of_statement)?;
    if ended > 0 {
        warn!(sessions = ended, "daemon.ends_own_former_sessions; the server still has them");
    }
    Ok(ended > 0)
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
