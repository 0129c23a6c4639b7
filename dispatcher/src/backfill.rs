//! Executes backfills step by step: `webhook.backfill_step` turns existing rows into events, in one
//! transaction of Postgres for each step.
//!
//! The receiver sets the pace. The next step begins when the last event of the previous step has
//! been attempted or queued, and the subscription's queue is short. So a backfill of any size puts
//! at most one step and a short queue in front of a slow receiver, and nothing in front of a paused
//! one. The module reads `webhook.backfill` and never a row.

mod turns;

use database::{Client, Purpose, Target, Watch, chain, connect, passes};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{Error, Row, Statement, error::SqlState};
use tracing::{debug, info, warn};
use turns::{Running, Turns};

/// Maximum number of queued deliveries of a subscription when a step begins.
const QUEUED_MAX: i64 = 1_000;

/// Time between two polls for a backfill while none is running and no notification has come.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Time after a notification. Notifications that arrive meanwhile count as one.
const NOTIFIED_INTERVAL: Duration = Duration::from_millis(50);

/// Shortest and longest time between two checks for capacity.
const ROOM_INTERVAL_MIN: Duration = Duration::from_millis(5);
const ROOM_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// A condition that a user wrote runs in a step.
const SESSION: &str = "set statement_timeout = '2s'; listen webhook_backfill";

/// Removes what a condition may leave in the session.
const CLEAN: &str =
    "select pg_advisory_unlock_all(); discard temp; discard sequences; listen webhook_backfill";

/// Why a backfill has failed whose steps take too long.
const TOO_SLOW: &str =
    "a step of one row takes longer than 2 s; simplify the condition or the payload function";

/// There is capacity when the last event has an attempt or a queue row, or the checkpoint has
/// passed it. The condition repeats `webhook.beyond_checkpoint`, which the previous schema does not
/// have.
const RUNNING: &str = include_str!("sql/backfill_running.sql");
const STEP: &str = "select webhook.backfill_step($1, $2)";
const FAIL: &str = "select webhook.end_backfill($1, 'failed', $2)";

/// Time after a lost connection. The session of the daemon mostly ends too, and the next one starts
/// this task again.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Executes steps, on a connection of its own, until it is aborted. Errors here stop no delivery.
pub async fn run(database: Target) {
    loop {
        let watch = Watch::default();
        let error = match connect(&database, Purpose::Backfill, watch.clone()).await {
            Ok(client) => tokio::select! {
                Err(error) = work(client, &watch.notified) => Some(error),
                () = watch.ended.cancelled() => None,
            },
            Err(error) => Some(error),
        };
        let error = error.map_or_else(|| "the connection has ended".to_owned(), |error| chain(&error));
        warn!(error, "backfill.interrupted");
        sleep(RECONNECT_INTERVAL).await;
    }
}

/// `notified` means that there may be a new backfill.
async fn work(client: Client, notified: &Notify) -> Result<(), Error> {
    client.batch_execute(SESSION).await?;
    let mut worker = Worker {
        turns: Turns::default(),
        running: client.prepare(RUNNING).await?,
        step: client.prepare(STEP).await?,
        fail: client.prepare(FAIL).await?,
        client,
    };
    let mut wait = ROOM_INTERVAL_MIN;
    loop {
        match worker.round().await? {
            // Postgres may fail to queue notifications, so the task also polls.
            Round::Idle => pause(IDLE_INTERVAL, notified).await,
            Round::Stepped => wait = ROOM_INTERVAL_MIN,
            Round::NoRoom => {
                pause(wait, notified).await;
                wait = (wait * 2).min(ROOM_INTERVAL_MAX);
            }
        }
    }
}

/// Waits for this time, or until shortly after a notification. Any role can notify, as often as it
/// likes.
async fn pause(longest: Duration, notified: &Notify) {
    if timeout(longest, notified.notified()).await.is_ok() {
        sleep(NOTIFIED_INTERVAL).await;
    }
}

/// The result of checking each backfill once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// No backfill is running.
    Idle,
    /// Their receivers have no capacity.
    NoRoom,
    Stepped,
}

struct Worker {
    client: Client,
    running: Statement,
    step: Statement,
    fail: Statement,
    turns: Turns,
}

impl Worker {
    async fn round(&mut self) -> Result<Round, Error> {
        let rows = self.client.query(&self.running, &[&QUEUED_MAX]).await?;
        let backfill = |row: &Row| {
            Ok(Running { id: row.try_get(0)?, has_room: row.try_get(1)?, requested_by: row.try_get(2)? })
        };
        let running = rows.iter().map(backfill).collect::<Result<Vec<_>, Error>>()?;
        let roles: HashSet<&str> = running.iter().map(|backfill| &*backfill.requested_by).collect();
        let mut round = if running.is_empty() { Round::Idle } else { Round::NoRoom };
        for backfill in self.turns.next(&running, Instant::now()) {
            let began = Instant::now();
            let has_stepped = self.step(backfill.id).await?;
            self.client.batch_execute(CLEAN).await?;
            self.turns.stepped(&backfill, began.elapsed(), roles.len() == 1, Instant::now());
            if has_stepped {
                round = Round::Stepped;
            }
        }
        Ok(round)
    }

    /// Executes one step. Returns false if it is not possible now.
    async fn step(&mut self, id: i64) -> Result<bool, Error> {
        let error = match self.client.query_one(&self.step, &[&id, &self.turns.rows(id)]).await {
            Ok(row) => {
                self.turns.was_quick(id);
                if row.try_get(0)? {
                    info!(backfill_id = id, "backfill.ended");
                }
                return Ok(true);
            }
            Err(error) => error,
        };
        let Some(refusal) = error.as_db_error() else { return Err(error) };
        let message = match *refusal.code() {
            SqlState::QUERY_CANCELED if self.turns.was_slow(id) => {
                debug!(backfill_id = id, rows = self.turns.rows(id), "backfill.slow");
                return Ok(true);
            }
            SqlState::QUERY_CANCELED => TOO_SLOW,
            // A row or the table is in use, or the server has another temporary problem.
            SqlState::LOCK_NOT_AVAILABLE => {
                debug!(backfill_id = id, error = refusal.message(), "backfill.waits");
                return Ok(false);
            }
            _ if passes(&error) => {
                debug!(backfill_id = id, error = refusal.message(), "backfill.waits");
                return Ok(false);
            }
            _ => refusal.message(),
        };
        warn!(backfill_id = id, error = message, "backfill.failed");
        match self.client.execute(&self.fail, &[&id, &message]).await {
            // A user has locked its row.
            Err(error) if passes(&error) => Ok(false),
            failed => failed.map(|_| true),
        }
    }
}
