//! After a start, the window since the checkpoint is read again: which deliveries of it are done already.

use super::{Batch, poll::ring_slots};
use std::collections::HashSet;
use tokio_postgres::{Client, Error, Transaction};

/// Attempts are stamped by the daemon's clock, events by the server's; both within an hour of the truth.
const CLOCKS_APART_US: i64 = 3_600_000_000;

/// What to look for, decided once for the whole window.
#[derive(Debug)]
pub struct Recovered {
    /// Slots that attempts since the checkpoint can be in; empty: there are none.
    slots: Vec<i16>,
    has_queue: bool,
}

const HAS_ATTEMPTS: &str = "
    select exists (select from webhook.attempt a where a.slot = any ($1) and a.event_id between $2 and $3)";
const ATTEMPTS: &str = "
    select a.event_id, a.subscription_id from webhook.attempt a where a.slot = any ($1) and a.event_id = any ($2)";
const QUEUED: &str = "
    select p.event_id, p.subscription_id from unnest($1::bigint[], $2::bigint[]) as p (event_id, subscription_id)
    join webhook.queue q on q.subscription_id = p.subscription_id and q.event_id = p.event_id";

impl Recovered {
    /// For the events with ids from `first` to `last`; `saved_at_us` is when the checkpoint was written, if there is one.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(
        transaction: &Transaction<'_>,
        saved_at_us: Option<i64>,
        now_us: i64,
        (first, last): (i64, i64),
    ) -> Result<Self, Error> {
        let from = saved_at_us.map_or(i64::MIN, |at| at.saturating_sub(CLOCKS_APART_US));
        let mut slots = ring_slots(from, now_us.saturating_add(CLOCKS_APART_US));
        if !transaction.query_one(HAS_ATTEMPTS, &[&slots, &first, &last]).await?.try_get::<_, bool>(0)? {
            slots.clear();
        }
        let has_queue =
            transaction.query_one("select exists (select from webhook.queue)", &[]).await?.try_get(0)?;
        Ok(Self { slots, has_queue })
    }

    /// Takes out of a batch the deliveries that have an attempt or a queue row.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn strike(&self, client: &Client, batch: &mut Batch) -> Result<(), Error> {
        if batch.targets.is_empty() || (self.slots.is_empty() && !self.has_queue) {
            return Ok(());
        }
        let mut done: HashSet<(i64, i64)> = HashSet::new();
        if !self.slots.is_empty() {
            let ids: Vec<i64> = batch.events.iter().map(|(message, _)| message.event().id).collect();
            for row in client.query(ATTEMPTS, &[&self.slots, &ids]).await? {
                done.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        if self.has_queue {
            let (ids, subscriptions): (Vec<i64>, Vec<i64>) = batch.pairs().unzip();
            for row in client.query(QUEUED, &[&ids, &subscriptions]).await? {
                done.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        if !done.is_empty() {
            batch.retain(|event_id, subscription_id| !done.contains(&(event_id, subscription_id)));
        }
        Ok(())
    }
}
