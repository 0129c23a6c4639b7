//! Executes backfills step by step: `webhook.backfill_step` turns existing rows into events, in one
//! transaction of Postgres for each step.
//!
//! The receiver sets the pace. The next step begins when the last event of the previous step has
//! been attempted or queued, and the subscription's queue is short. So a backfill of any size puts
//! at most one step and a short queue in front of a slow receiver, and nothing in front of a paused
//! one. The module reads `webhook.backfill` and never a row.

use database::{Client, Purpose, Target, Watch, chain, connect, passes};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{Error, Statement, error::SqlState};
use tracing::{debug, info, warn};

/// Maximum number of rows of one step. They are locked against changes during the step, about 20
/// ms.
const STEP_ROWS_MAX: i32 = 500;

/// Maximum number of queued deliveries of a subscription when a step begins.
const QUEUED_MAX: i64 = 1_000;

/// Time between two polls for a backfill while none is running and no notification has come.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Shortest and longest time between two checks for capacity.
const ROOM_INTERVAL_MIN: Duration = Duration::from_millis(5);
const ROOM_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// A condition that a user wrote runs in a step.
const SESSION: &str = "set statement_timeout = '60s'; listen webhook_backfill";

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
    let worker = Worker {
        running: client.prepare(RUNNING).await?,
        step: client.prepare(STEP).await?,
        fail: client.prepare(FAIL).await?,
        client,
    };
    let mut wait = ROOM_INTERVAL_MIN;
    loop {
        match worker.round().await? {
            // Postgres may fail to queue notifications, so the task also polls.
            Round::Idle => {
                let _ = timeout(IDLE_INTERVAL, notified.notified()).await;
            }
            Round::Stepped => wait = ROOM_INTERVAL_MIN,
            Round::NoRoom => {
                let _ = timeout(wait, notified.notified()).await;
                wait = (wait * 2).min(ROOM_INTERVAL_MAX);
            }
        }
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
}

impl Worker {
    async fn round(&self) -> Result<Round, Error> {
        let backfills = self.client.query(&self.running, &[&QUEUED_MAX]).await?;
        let mut round = if backfills.is_empty() { Round::Idle } else { Round::NoRoom };
        for backfill in &backfills {
            let (id, has_room): (i64, bool) = (backfill.try_get(0)?, backfill.try_get(1)?);
            if has_room && self.step(id).await? {
                round = Round::Stepped;
            }
        }
        Ok(round)
    }

    /// Executes one step. Returns false if it is not possible now.
    async fn step(&self, id: i64) -> Result<bool, Error> {
        match self.client.query_one(&self.step, &[&id, &STEP_ROWS_MAX]).await {
            Ok(row) => {
                if row.try_get(0)? {
                    info!(backfill_id = id, "backfill.ended");
                }
                Ok(true)
            }
            Err(error) => {
                let Some(refusal) = error.as_db_error() else { return Err(error) };
                // A row or the table is in use, or the server has another temporary problem. A step
                // that was cancelled took too long, and would do so again.
                let is_cancelled = *refusal.code() == SqlState::QUERY_CANCELED;
                if *refusal.code() == SqlState::LOCK_NOT_AVAILABLE || (passes(&error) && !is_cancelled) {
                    debug!(backfill_id = id, error = refusal.message(), "backfill.waits");
                    return Ok(false);
                }
                let message = refusal.message();
                warn!(backfill_id = id, error = message, "backfill.failed");
                self.client.execute(&self.fail, &[&id, &message]).await?;
                Ok(true)
            }
        }
    }
}
