//! Leadership: a heartbeat of the leader, and the end of a leader that has stopped.
//!
//! A process that is stopped, or cut off from the server, keeps its lock. So the leader executes a
//! statement at least every two seconds, and a standby terminates a leader that has been silent for
//! 8 s. The reader's polls count as a heartbeat. The control connection sends one only while the
//! reader does not poll: its send queues are full, or there is no safety poll.
//!
//! A standby terminates all sessions of the leader at once. If that process continues later, it has
//! no connection over which it could write. The module reads `pg_locks` and `pg_stat_activity`, as
//! `webhook.health` does. It needs no table.

use database::{Client, Error, chain, is_lock, names_of_all_lives};
use source::liveness::{BEAT_INTERVAL, Liveness};
use std::sync::Arc;
use tokio::time::sleep;
use tokio_postgres::error::SqlState;
use tracing::warn;

/// Finds a leader that is idle and has been silent on all its sessions for 8 s. Sessions of other
/// roles do not count, because any session can choose an application name. A leader that waits
/// for a lock is not idle. A leader whose control session sleeps while its reader polls
/// (`outbox::gate`) is idle.
const FROZEN: &str = concat!(include_str!("sql/leadership_frozen.sql"), is_lock!(leader));

/// Reports whether the leader's activity is hidden from this role. Postgres shows it to members of
/// the leader's role and of `pg_read_all_stats`.
const IS_HIDDEN: &str = concat!(
    "select exists (select from pg_locks l join pg_stat_activity a on a.pid = l.pid where a.state is null and ",
    is_lock!(leader),
    ")"
);

/// Ends the session with the lock last. When the lock is free, that daemon can no longer write.
const END: &str = include_str!("sql/leadership_end.sql");

/// The application name of this session contains the number of the present session.
const END_FORMER_LIVES: &str = include_str!("sql/leadership_end_former_lives.sql");

/// Speaks on the control session where the reader does not, until it is aborted or the session has
/// ended.
pub async fn beat(control: Arc<Client>, liveness: Arc<Liveness>) {
    loop {
        sleep(BEAT_INTERVAL).await;
        if liveness.silent_for() < BEAT_INTERVAL || liveness.is_asleep() {
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
/// The errors of the connection.
pub async fn warn_if_hidden(control: &Client) -> Result<(), Error> {
    let row = control.query_one(IS_HIDDEN, &[]).await.map_err(Error::of_statement)?;
    if row.try_get(0).map_err(Error::of_statement)? {
        warn!(
            "daemon.cannot_watch_another; if the leader freezes, no standby takes over; run both daemons as the same role"
        );
    }
    Ok(())
}

/// Terminates former sessions of this process that the server still has. Reports whether there were
/// any.
///
/// # Errors
/// The errors of the connection.
pub async fn end_former_lives(control: &Client) -> Result<bool, Error> {
    let row = control.query_one(END_FORMER_LIVES, &[&names_of_all_lives()]).await;
    let ended: i64 = row.and_then(|row| row.try_get(0)).map_err(Error::of_statement)?;
    if ended > 0 {
        warn!(sessions = ended, "daemon.ends_own_former_sessions; they are still open on the server");
    }
    Ok(ended > 0)
}

/// Terminates the sessions of a leader that has stopped.
///
/// # Errors
/// The errors of the connection. If the role may not terminate it, the function logs a warning.
pub async fn end_frozen(control: &Client) -> Result<(), Error> {
    let Some(row) = control.query_opt(FROZEN, &[]).await.map_err(Error::of_statement)? else { return Ok(()) };
    let (pid, name, silent_ms): (i32, &str, i64) = (
        row.try_get(0).map_err(Error::of_statement)?,
        row.try_get(1).map_err(Error::of_statement)?,
        row.try_get(2).map_err(Error::of_statement)?,
    );
    warn!(pid, silent_ms, "daemon.ends_another; it holds the leader's lock and is silent");
    match control.query(END, &[&pid, &name]).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            warn!(error = chain(&error), "daemon.cannot_end_another; run both daemons as the same role");
            Ok(())
        }
        Err(error) => Err(Error::of_statement(error)),
    }
}
