//! Takes backfills on, step by step: existing rows become events in steps of Postgres's own (`webhook.backfill_step`).
//!
//! Throttled by the receiver: the next step begins when the last event of the one before has been attempted or queued,
//! and the subscription's queue is short. So a backfill of any size puts no more than a step and a short queue in front
//! of a receiver that is slow or down, and nothing in front of one that is paused. Reads `webhook.backfill`; never sees a
//! row.

use crate::postgres::{Client, Purpose, Target, Watch, chain, connect, passes};
use std::time::Duration;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{Error, Statement, error::SqlState};
use tracing::{debug, info, warn};

/// Rows of one step: they are locked against changes for as long as it takes, about 20 ms.
const STEP_ROWS_MAX: i32 = 500;

/// Deliveries of a subscription that may be queued when a step begins.
const QUEUED_MAX: i64 = 1_000;

/// Between two looks for a backfill while none is running and none has been told of.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon to look again whether there is room, at first and at the longest.
const ROOM_INTERVAL_MIN: Duration = Duration::from_millis(5);
const ROOM_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// A condition of somebody's own making runs in a step.
const SESSION: &str = "set statement_timeout = '60s'; listen webhook_backfill";

/// There is room once the last event has an attempt or a queue row, or the checkpoint is past it. What lies beyond the checkpoint is
/// said here as in `webhook.beyond_checkpoint`, which the schema of the version before does not have.
const RUNNING: &str = "
    select b.id,
           s.enabled and (s.verification = 'none' or s.verified_at is not null)
           and (select count(*) from (select from webhook.queue q where q.subscription_id = b.subscription_id limit $1) q) < $1
           and (b.last_event_id is null
                or exists (select from webhook.attempt a
                           where a.event_id = b.last_event_id and a.subscription_id = b.subscription_id offset 0)
                or exists (select from webhook.queue q
                           where q.event_id = b.last_event_id and q.subscription_id = b.subscription_id offset 0)
                or not exists (select from webhook.event e
                               where e.xid >= (select pg_snapshot_xmax(c.snapshot)::text::bigint from webhook.cursor c where c.singleton)
                                 and e.id = b.last_event_id
                               union all
                               select from webhook.event e
                               where e.xid = any (array(select x.xid::text::bigint from webhook.cursor c
                                                        cross join lateral pg_snapshot_xip(c.snapshot) x (xid) where c.singleton))
                                 and e.id = b.last_event_id)) as has_room
    from webhook.backfill b join webhook.subscription s on s.id = b.subscription_id
    where b.state = 'running' order by b.id";
const STEP: &str = "select webhook.backfill_step($1, $2)";
const FAIL: &str = "select webhook.end_backfill($1, 'failed', $2)";

/// After a lost connection. The session around this most likely ends too, and begins anew with another of these.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Takes steps, on a connection of its own, until it is aborted. What goes wrong here stops no delivery.
pub async fn run(database: Target) {
    loop {
        let watch = Watch::default();
        let error = match connect(&database, Purpose::Backfill, watch.clone()).await {
            Ok(client) => tokio::select! {
                Err(error) = work(client, &watch.rung) => Some(error),
                () = watch.ended.cancelled() => None,
            },
            Err(error) => Some(error),
        };
        let error = error.map_or_else(|| "the connection has ended".to_owned(), |error| chain(&error));
        warn!(error, "backfill.interrupted");
        sleep(RECONNECT_INTERVAL).await;
    }
}

/// `rung`: there may be a new backfill.
async fn work(client: Client, rung: &Notify) -> Result<(), Error> {
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
            // No notification is sent while the queue of them is filling up.
            Round::Idle => {
                let _ = timeout(IDLE_INTERVAL, rung.notified()).await;
            }
            Round::Stepped => wait = ROOM_INTERVAL_MIN,
            Round::NoRoom => {
                let _ = timeout(wait, rung.notified()).await;
                wait = (wait * 2).min(ROOM_INTERVAL_MAX);
            }
        }
    }
}

/// What looking at each backfill once has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// None is running.
    Idle,
    /// Their receivers are not ready for more.
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

    /// Takes one step; false: it was not to be had now.
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
                // A row or the table is in use, or the server has another trouble that passes. A step that was cancelled has
                // taken too long, and would again.
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
