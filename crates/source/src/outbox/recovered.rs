//! After a start, finds the deliveries since the checkpoint that are already done.

use database::{Client, Transaction};
use delivery::feed::Batch;
use std::collections::HashSet;
use tokio_postgres::Error;

/// The query, decided once for the whole window.
#[derive(Debug)]
pub struct Recovered {
    /// Slots with attempts for events of the window. Empty if there are none.
    slots: Vec<i16>,
    has_queue: bool,
}

const SLOTS: &str = "
    select array(select s.slot from (select n::smallint as slot from generate_series(0, 15) n) s
                 where exists (select from webhook.attempt a where a.slot = s.slot and a.event_id between $1 and $2 offset 0))";
const ATTEMPTS: &str = "
    select a.event_id, a.subscription_id from webhook.attempt a where a.slot = any ($1) and a.event_id = any ($2)";
const QUEUED: &str = include_str!("sql/recovered_queued.sql");

impl Recovered {
    /// Creates the query for the events with ids from `first` to `last`.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn open(transaction: &Transaction<'_>, (first, last): (i64, i64)) -> Result<Self, Error> {
        let slots = transaction.query_one(SLOTS, &[&first, &last]).await?.try_get(0)?;
        let has_queue =
            transaction.query_one("select exists (select from webhook.queue)", &[]).await?.try_get(0)?;
        Ok(Self { slots, has_queue })
    }

    /// Removes from a batch the deliveries that have an attempt or a queue row.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn filter_out(&self, client: &Client, batch: &mut Batch) -> Result<(), Error> {
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
