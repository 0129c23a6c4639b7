//! The ledger's SQL.

use super::batch::Batch;
use std::collections::HashMap;
use tokio_postgres::{Client, Error, Statement, types::ToSql};

/// Prepared on the ledger's session.
pub struct Statements {
    /// By slot.
    successes: HashMap<i16, Statement>,
    everything: Statement,
    pub forget: Statement,
    pub checkpoint: Statement,
}

/// Straight into the partition: no routing, and five columns less than [`EVERYTHING`].
fn successes(slot: i16) -> String {
    format!(
        "insert into webhook.attempt_{slot}
                (event_id, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
         select a.event_id, a.subscription_id, a.started_at, a.duration_ms, {slot}, a.attempt, a.status, 'succeeded'
         from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::real[], $5::smallint[], $6::smallint[])
              as a (event_id, subscription_id, started_at, duration_ms, attempt, status)"
    )
}

/// An attempt and what it does to the queue become true together. `$22`: some of the attempts may be there already.
const EVERYTHING: &str = "
    with attempted as (
        insert into webhook.attempt
            (event_id, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error, response)
        select a.*
        from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::real[], $5::smallint[], $6::smallint[],
                    $7::smallint[], $8::text[], $9::timestamptz[], $10::text[], $11::text[])
             as a (event_id, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error,
                   response)
        where not $22 or not exists (
            select from webhook.attempt o where o.slot = a.slot and o.event_id = a.event_id
                and o.subscription_id = a.subscription_id and o.started_at = a.started_at)
    ), put as (
        insert into webhook.queue as q
            (subscription_id, event_id, event_slot, attempts, retry_from, state, next_at, last_status, last_error)
        select p.subscription_id, p.event_id, p.event_slot, p.attempts, p.retry_from,
               case when p.next_at is null then 'backlog' else 'waiting' end, p.next_at, p.last_status, p.last_error
        from unnest($12::bigint[], $13::bigint[], $14::smallint[], $15::smallint[], $16::smallint[],
                    $17::timestamptz[], $18::smallint[], $19::text[])
             as p (subscription_id, event_id, event_slot, attempts, retry_from, next_at, last_status, last_error)
        on conflict (subscription_id, event_id) do update set
            attempts = greatest(q.attempts, excluded.attempts),
            retry_from = greatest(q.retry_from, excluded.retry_from),
            state = excluded.state, next_at = excluded.next_at,
            last_status = case when excluded.attempts > q.attempts then excluded.last_status else q.last_status end,
            last_error = case when excluded.attempts > q.attempts then excluded.last_error else q.last_error end
    )
    delete from webhook.queue q
    using unnest($20::bigint[], $21::bigint[]) as d (subscription_id, event_id)
    where q.subscription_id = d.subscription_id and q.event_id = d.event_id";

/// The lanes' table of subscriptions may be older than the row: the one that counts is the real one.
const FORGET: &str = "
    delete from webhook.queue where subscription_id = $1
        and not exists (select from webhook.subscription s where s.id = $1)";

/// The epoch keeps out a daemon that has been superseded and does not know it yet.
const CHECKPOINT: &str = "
    update webhook.cursor set snapshot = $1::text::pg_snapshot, saved_at = clock_timestamp() where epoch = $2";

impl Statements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            successes: HashMap::new(),
            everything: client.prepare(EVERYTHING).await?,
            forget: client.prepare(FORGET).await?,
            checkpoint: client.prepare(CHECKPOINT).await?,
        })
    }

    /// Writes a batch in one statement.
    pub async fn write(&mut self, client: &Client, batch: &Batch<'_>, is_again: bool) -> Result<(), Error> {
        let a = &batch.attempts;
        if let Some(slot) = batch.only_successes_in.filter(|_| !is_again) {
            let statement = match self.successes.get(&slot) {
                Some(statement) => statement.clone(),
                None => {
                    let prepared = client.prepare(&successes(slot)).await?;
                    self.successes.entry(slot).or_insert(prepared).clone()
                }
            };
            let params: [&(dyn ToSql + Sync); 6] =
                [&a.event_id, &a.subscription_id, &a.started_at, &a.duration_ms, &a.attempt, &a.status];
            client.execute(&statement, &params).await?;
            return Ok(());
        }
        let p = &batch.puts;
        let params: [&(dyn ToSql + Sync); 22] = [
            &a.event_id,
            &a.subscription_id,
            &a.started_at,
            &a.duration_ms,
            &a.slot,
            &a.attempt,
            &a.status,
            &a.outcome,
            &a.next_at,
            &a.error,
            &a.response,
            &p.subscription_id,
            &p.event_id,
            &p.event_slot,
            &p.attempts,
            &p.retry_from,
            &p.next_at,
            &p.last_status,
            &p.last_error,
            &batch.deleted_subscription_id,
            &batch.deleted_event_id,
            &is_again,
        ];
        client.execute(&self.everything, &params).await.map(drop)
    }
}
