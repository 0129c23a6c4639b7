//! The ledger's SQL.

use crate::ledger::{batch::Batch, copy};
use database::Client;
use tokio_postgres::{Error, Row, Statement, types::ToSql};
use tracing::debug;

/// The statements that the ledger's session needs most.
pub struct Statements {
    everything: Statement,
    pub checkpoint: Statement,
}

/// Returns the INSERT into the partition, so Postgres does no routing. Plain rows have half the
/// columns of [`everything`].
fn successes(slot: i16, is_plain: bool) -> String {
    let (columns, arrays) = if is_plain {
        ("", "")
    } else {
        (", dns_ms, connect_ms, tls_ms, batch_id", ", $9::real[], $10::real[], $11::real[], $12::text[]")
    };
    format!(
        "insert into webhook.attempt_{slot}
             (event_id, subscription_id, started_at, duration_ms, attempt, status, first_byte_ms, event_xid{columns},
              slot, outcome)
         select a.*, {slot}, 'succeeded'
         from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::real[], $5::smallint[], $6::smallint[],
                     $7::real[], $8::bigint[]{arrays}) as a"
    )
}

/// Returns the statement that writes attempts and changes of the queue together. It returns the
/// rows that it restored although they were deleted.
///
/// A row that is not new is changed only if it still exists. Both kinds are upserts, because only
/// upserts always use the primary key. Postgres planned an UPDATE that joins the entries as a scan
/// of the queue, because the queue was empty at that time. For the same reason, a function deletes
/// rows one by one. `xmax` of a row is 0 if the statement inserted it. Then another session had
/// deleted the row, perhaps while this statement waited, and [`CALLED_OFF`] deletes it again.
///
/// `$22` means that the entries are written again. Some of the attempts may exist. Rows may be
/// missing, because the server crashed before their asynchronous commit was on disk. The log is in
/// order, so this affects no row whose event the checkpoint has passed. The other events are
/// delivered again.
fn everything(tells: bool) -> String {
    // The first condition of each branch shows without reading the entries whether there are any.
    // Mostly all entries are of one kind.
    let put = |gate: &str, condition: &str| {
        format!(
            "insert into webhook.queue as q
                 (subscription_id, event_id, event_slot, attempts, retry_from, next_at, last_status, last_error, state,
                  order_key, event_xid)
             select p.subscription_id, p.event_id, p.event_slot, p.attempts, p.retry_from, p.next_at, p.last_status,
                    p.last_error, p.state, p.order_key, p.event_xid
             from unnest($12::bigint[], $13::bigint[], $14::smallint[], $15::smallint[], $16::smallint[],
                         $17::timestamptz[], $18::smallint[], $19::text[], $23::text[], $24::bigint[], $31::bigint[],
                         $32::boolean[])
                  as p (subscription_id, event_id, event_slot, attempts, retry_from, next_at, last_status, last_error,
                        state, order_key, event_xid, is_new)
             where {gate} and {condition} (p.is_new or $22 and pg_visible_in_snapshot(p.event_xid::text::xid8,
                       (select c.snapshot from webhook.cursor c where c.singleton)) is not true)
             on conflict (subscription_id, event_id) do update set
                 attempts = greatest(q.attempts, excluded.attempts),
                 retry_from = greatest(q.retry_from, excluded.retry_from),
                 state = excluded.state, next_at = excluded.next_at, order_key = excluded.order_key,
                 last_status = case when excluded.attempts > q.attempts then excluded.last_status else q.last_status end,
                 last_error = case when excluded.attempts > q.attempts then excluded.last_error else q.last_error end"
        )
    };
    let (made, changed) = (put("$33", ""), put("$34", "not"));
    let told = if tells { TELL } else { "" };
    format!(
        "with attempted as (
             insert into webhook.attempt
                 (event_id, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at, error,
                  response, dns_ms, connect_ms, tls_ms, first_byte_ms, batch_id, event_xid)
             select a.*
             from unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::real[], $5::smallint[], $6::smallint[],
                         $7::smallint[], $8::text[], $9::timestamptz[], $10::text[], $11::text[],
                         $25::real[], $26::real[], $27::real[], $28::real[], $29::text[], $30::bigint[])
                  as a (event_id, subscription_id, started_at, duration_ms, slot, attempt, status, outcome, next_at,
                        error, response, dns_ms, connect_ms, tls_ms, first_byte_ms, batch_id, event_xid)
             where not $22 or not exists (
                 select from webhook.attempt o where o.event_id = a.event_id
                     and o.subscription_id = a.subscription_id and o.started_at = a.started_at offset 0)
         ), made as ({made}
         ), changed as ({changed}
             returning q.subscription_id, q.event_id, q.xmax = 0 as came_back
         )
         select c.subscription_id, c.event_id, null::text from changed c where c.came_back
         union all
         select null, null, webhook.remove_queued($20::bigint[], $21::bigint[])::text
         where cardinality($20::bigint[]) > 0{told}"
    )
}

/// Emits the event about deliveries that the daemon gave up, once: with the last attempt.
const TELL: &str = "
    union all
    select null, null, webhook.tell('webhook.delivery.exhausted', x.subscription_id, json_build_object(
        'subscription_id', x.subscription_id, 'event_id', x.event_id, 'event_type', x.event_type,
        'sequence', x.sequence, 'attempts', x.attempts, 'last_status', x.status, 'last_error', x.error))::text
    from unnest($35::bigint[], $36::bigint[], $37::timestamptz[], $38::text[], $39::text[], $40::smallint[],
                $41::smallint[], $42::text[])
         as x (subscription_id, sequence, started_at, event_id, event_type, attempts, status, error)
    where not $22 or not exists (
        select from webhook.attempt o where o.event_id = x.sequence and o.subscription_id = x.subscription_id
            and o.started_at = x.started_at offset 0)";

/// Deletes rows that an upsert has restored although another session had deleted them.
const CALLED_OFF: &str = "select webhook.remove_queued($1, $2)";

/// Does not write the rate that the receiver has granted. That is written when it is granted.
pub const HEALTH: &str = "
    insert into webhook.receiver as r
        (subscription_id, circuit, consecutive_failures, failing_since, warned_at, updated_at)
    select s.id, case when $2 then 'open' else 'closed' end, $3, $4, $5, clock_timestamp()
    from webhook.subscription s where s.id = $1
    on conflict (subscription_id) do update set
        circuit = excluded.circuit, consecutive_failures = excluded.consecutive_failures,
        failing_since = excluded.failing_since, warned_at = excluded.warned_at, updated_at = excluded.updated_at";

pub const FAILING: &str = "
    select webhook.tell('webhook.subscription.failing', s.id, json_build_object(
        'id', s.id, 'name', s.name, 'failing_since', $2::timestamptz, 'consecutive_failures', $3::integer,
        'last_status', $4::smallint, 'last_error', $5::text))
    from webhook.subscription s where s.id = $1";

pub const RECOVERED: &str = "
    select webhook.tell('webhook.subscription.recovered', s.id, json_build_object(
        'id', s.id, 'name', s.name, 'failing_since', $2::timestamptz))
    from webhook.subscription s where s.id = $1";

pub const DISABLE: &str = "select webhook.disable_subscription($1::bigint, $2::text)";

pub const PARK: &str = "
    update webhook.queue set state = 'backlog', next_at = null where subscription_id = $1 and state = 'waiting'";

pub const UNBLOCK: &str = "
    update webhook.queue set state = 'backlog' where subscription_id = $1 and state = 'blocked'";

/// The scheduler's table of subscriptions may be older than the row. The row in the database
/// decides.
pub const FORGET: &str = "
    delete from webhook.queue where subscription_id = $1
        and not exists (select from webhook.subscription s where s.id = $1)";

/// Finds the deliveries that have an attempt or a queue row.
pub const KNOWN: &str = "
    select p.subscription_id, p.event_id
    from (select distinct * from unnest($1::bigint[], $2::bigint[]) as u (subscription_id, event_id)) p
    where exists (select from webhook.queue q
                  where q.subscription_id = p.subscription_id and q.event_id = p.event_id offset 0)
       or exists (select from webhook.attempt a
                  where a.event_id = p.event_id and a.subscription_id = p.subscription_id offset 0)";

/// The epoch excludes a former leader that does not know yet that it was superseded.
const CHECKPOINT: &str = "
    update webhook.cursor set snapshot = $1::text::pg_snapshot, saved_at = clock_timestamp() where epoch = $2";

/// Executes a rare statement, which is prepared at first use.
pub async fn execute(
    client: &Client,
    sql: &'static str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(), Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, params).await.map(drop)
}

impl Statements {
    pub async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            everything: client.prepare(&everything(false)).await?,
            checkpoint: client.prepare(CHECKPOINT).await?,
        })
    }

    /// Writes a batch in one statement.
    pub async fn write(&mut self, client: &Client, batch: &Batch<'_>, is_again: bool) -> Result<(), Error> {
        let a = &batch.attempts;
        if let Some(slot) = batch.only_successes_in.filter(|_| !is_again) {
            if a.event_id.len() >= copy::ROWS_MIN
                && let Some(rows) = copy::rows(a, batch.is_plain)
            {
                let statement = client.prepare_cached(&copy::statement(slot, batch.is_plain)).await?;
                return client.copy_in(&statement, rows).await.map(drop);
            }
            let statement = client.prepare_cached(&successes(slot, batch.is_plain)).await?;
            let params: [&(dyn ToSql + Sync); 12] = [
                &a.event_id,
                &a.subscription_id,
                &a.started_at,
                &a.duration_ms,
                &a.attempt,
                &a.status,
                &a.first_byte_ms,
                &a.event_xid,
                &a.dns_ms,
                &a.connect_ms,
                &a.tls_ms,
                &a.batch_id,
            ];
            client.execute(&statement, &params[..if batch.is_plain { 8 } else { 12 }]).await?;
            return Ok(());
        }
        let p = &batch.puts;
        let x = &batch.exhausted;
        let may_make = is_again || p.is_new.contains(&true);
        let may_change = p.is_new.contains(&false);
        let params: [&(dyn ToSql + Sync); 42] = [
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
            &p.state,
            &p.order_key,
            &a.dns_ms,
            &a.connect_ms,
            &a.tls_ms,
            &a.first_byte_ms,
            &a.batch_id,
            &a.event_xid,
            &p.event_xid,
            &p.is_new,
            &may_make,
            &may_change,
            &x.subscription_id,
            &x.sequence,
            &x.started_at,
            &x.event_id,
            &x.event_type,
            &x.attempts,
            &x.status,
            &x.error,
        ];
        let rows = if x.sequence.is_empty() {
            client.query(&self.everything, &params[..34]).await?
        } else {
            client.query(&client.prepare_cached(&everything(true)).await?, &params).await?
        };
        let pair = |row: &Row| Ok(row.try_get::<_, Option<i64>>(0)?.zip(row.try_get::<_, Option<i64>>(1)?));
        let came_back = rows.iter().map(pair).collect::<Result<Vec<_>, Error>>()?;
        let (subscriptions, events): (Vec<i64>, Vec<i64>) = came_back.into_iter().flatten().unzip();
        if !events.is_empty() {
            debug!(deliveries = events.len(), "ledger.called_off");
            execute(client, CALLED_OFF, &[&subscriptions, &events]).await?;
        }
        Ok(())
    }
}
