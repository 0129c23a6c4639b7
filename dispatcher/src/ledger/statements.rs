//! The ledger's SQL.

use crate::ledger::{batch::Batch, copy};
use database::{Client, schema::Schema};
use tokio_postgres::{Error, Row, Statement, error::SqlState, types::ToSql};
use tracing::debug;

/// The statements that the ledger's session needs most.
pub struct Statements {
    /// `None` if the schema has no such function.
    lock: Option<Statement>,
    exhausted: Statement,
    /// `None` if the schema has no `webhook.given_up`.
    given_up: Option<GivenUp>,
    attempts: Statement,
    put: Statement,
    change: Statement,
    remove: Statement,
    pub checkpoint: Statement,
}

/// The statements on `webhook.given_up`.
struct GivenUp {
    add: Statement,
    remove: Statement,
}

/// Returns the INSERT into the partition, so Postgres does no routing. Plain rows have half the
/// columns of [`ATTEMPTS`].
fn successes(slot: i16, is_plain: bool) -> String {
    let (columns, arrays) = if is_plain {
        ("", "")
    } else {
        (", dns_ms, connect_ms, tls_ms, batch_id", ", $9::real[], $10::real[], $11::real[], $12::text[]")
    };
    format!(include_str!("sql/insert_successes.sql"), slot = slot, columns = columns, arrays = arrays)
}

/// Writes attempts. `$18` means that they are written again, and some may exist.
const ATTEMPTS: &str = include_str!("sql/insert_attempts.sql");

/// Puts rows into the queue: the new ones if `$14`, and the others if not.
///
/// A row that is not new is changed only if it still exists. Both kinds are upserts, because only
/// upserts always use the primary key. Postgres planned an UPDATE that joins the entries as a scan
/// of the queue, because the queue was empty at that time. For the same reason, a function deletes
/// rows one by one.
///
/// `$13` means that the rows are written again. Rows may be missing, because the server crashed
/// before their asynchronous commit was on disk. The log is in order, so this affects no row whose
/// event the checkpoint has passed. The other rows count as new, and their events are delivered
/// again.
const PUT: &str = include_str!("sql/put_queued.sql");

/// [`PUT`], and returns the rows that it restored although they were deleted.
///
/// `xmax` of a row is 0 if the statement inserted it. Then another session had deleted the row,
/// perhaps while this statement waited, and [`REMOVE`] deletes it again.
const CHANGE: &str = concat!(
    "with changed as (",
    include_str!("sql/put_queued.sql"),
    "returning q.subscription_id, q.event_id, q.xmax = 0 as came_back)
    select subscription_id, event_id from changed where came_back"
);

/// Deletes rows one by one.
const REMOVE: &str = "select webhook.remove_queued($1, $2)";

/// Emits the event about deliveries that the daemon gave up, once: with the last attempt. `$9`
/// means that the attempts are written again, and some may exist.
const EXHAUSTED: &str = include_str!("sql/tell_exhausted.sql");

/// Adds the deliveries that the daemon gave up to `webhook.given_up`.
const GIVE_UP: &str = include_str!("sql/give_up.sql");

/// Removes deliveries that succeeded after all. A redelivery that is requested during the last
/// attempt finds no row to remove.
const RECOVER: &str = "select webhook.remove_given_up($1, $2)";

/// Does not write the rate that the receiver has granted. That is written when it is granted.
pub const HEALTH: &str = include_str!("sql/put_health.sql");

/// The same for the previous schema.
pub const HEALTH_0_2: &str = include_str!("sql/put_health_0_2.sql");

pub const FAILING: &str = include_str!("sql/tell_failing.sql");

pub const RECOVERED: &str = include_str!("sql/tell_recovered.sql");

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
pub const KNOWN: &str = include_str!("sql/known_deliveries.sql");

/// The epoch excludes a former leader that does not know yet that it was superseded.
const CHECKPOINT: &str = "
    update webhook.cursor set snapshot = $1::text::pg_snapshot, saved_at = clock_timestamp() where epoch = $2";

/// Locks subscriptions before their rows are changed, or fails at once.
const LOCK: &str = "select webhook.lock_subscriptions($1)";

/// Finds the sessions that have locked subscriptions.
pub const LOCKERS: &str = "
    select l.subscription_id, l.pid, l.role::text, l.application from webhook.subscription_lockers($1) l";

pub const REPORT_LOCKED: &str = include_str!("sql/report_locked.sql");

pub const REPORT_UNLOCKED: &str = "delete from webhook.locked_subscription where subscription_id = any ($1)";

/// An earlier daemon may have left some.
pub const REPORT_NONE_LOCKED: &str = "delete from webhook.locked_subscription";

/// Executes a rare statement, which is prepared at first use.
pub async fn execute(
    client: &Client,
    sql: &'static str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(), Error> {
    let statement = client.prepare_cached(sql).await?;
    client.execute(&statement, params).await.map(drop)
}

/// Returns the subscriptions that other sessions have locked, if this is why a statement failed.
pub fn locked(error: &Error) -> Option<Vec<i64>> {
    let refusal = error.as_db_error().filter(|refusal| *refusal.code() == SqlState::LOCK_NOT_AVAILABLE)?;
    let ids: Vec<i64> = refusal.detail()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    (!ids.is_empty()).then_some(ids)
}

impl Statements {
    pub async fn prepare(client: &Client, schema: Schema) -> Result<Self, Error> {
        let given_up = match schema.is_outdated() {
            true => None,
            false => {
                Some(GivenUp { add: client.prepare(GIVE_UP).await?, remove: client.prepare(RECOVER).await? })
            }
        };
        let lock = match schema.is_outdated() {
            true => None,
            false => Some(client.prepare(LOCK).await?),
        };
        Ok(Self {
            lock,
            given_up,
            exhausted: client.prepare(EXHAUSTED).await?,
            attempts: client.prepare(ATTEMPTS).await?,
            put: client.prepare(PUT).await?,
            change: client.prepare(CHANGE).await?,
            remove: client.prepare(REMOVE).await?,
            checkpoint: client.prepare(CHECKPOINT).await?,
        })
    }

    /// Executes rare statements about one subscription in one transaction, after locking it.
    pub async fn execute_locked(
        &self,
        client: &Client,
        id: i64,
        statements: &[(&'static str, &[&(dyn ToSql + Sync)])],
    ) -> Result<(), Error> {
        let mut prepared = Vec::new();
        for (sql, _) in statements {
            prepared.push(client.prepare_cached(sql).await?);
        }
        let (ids, mut parts) = (vec![id], Vec::new());
        let lock: [&(dyn ToSql + Sync); 1] = [&ids];
        parts.extend(self.lock.as_ref().map(|statement| (statement, &lock[..])));
        parts.extend(prepared.iter().zip(statements).map(|(statement, (_, params))| (statement, *params)));
        client.query_together(&parts).await.map(drop)
    }

    /// Writes a batch in one transaction.
    pub async fn write(&self, client: &Client, batch: &Batch<'_>, is_again: bool) -> Result<(), Error> {
        match batch.only_successes_in {
            Some(slot) if !is_again => write_successes(client, batch, slot).await,
            _ => self.write_parts(client, batch, is_again).await,
        }
    }

    /// Writes each part of a batch with a statement of its own. All statements are sent at once, so
    /// this takes one round trip.
    async fn write_parts(&self, client: &Client, batch: &Batch<'_>, is_again: bool) -> Result<(), Error> {
        let puts = &batch.puts;
        let columns = batch.exhausted.columns();
        let exhausted = [&columns[..8], &[&is_again]].concat();
        let given_up = [columns[0], columns[1], columns[2], columns[6], columns[8]];
        let recovered = batch.recovered();
        let gives_up = !batch.exhausted.sequence.is_empty();
        let recovers = !batch.recovered_event_id.is_empty();
        let attempts = [&batch.attempts.columns()[..], &[&is_again]].concat();
        let put = [&puts.columns()[..], &[&is_again, &true]].concat();
        let change = [&puts.columns()[..], &[&is_again, &false]].concat();
        let remove = batch.deleted();
        let changes = puts.is_new.contains(&false);
        let lock: [&(dyn ToSql + Sync); 1] = [&batch.locks];
        let locks = self.lock.as_ref().filter(|_| !batch.locks.is_empty());
        // Before the attempts: the event of an attempt that exists has been emitted.
        let parts = [
            locks.map(|statement| (statement, &lock[..])),
            gives_up.then_some((&self.exhausted, &exhausted[..])),
            self.given_up.as_ref().filter(|_| gives_up).map(|all| (&all.add, &given_up[..])),
            self.given_up.as_ref().filter(|_| recovers).map(|all| (&all.remove, &recovered[..])),
            (!batch.attempts.event_id.is_empty()).then_some((&self.attempts, &attempts[..])),
            (is_again && !puts.is_new.is_empty() || puts.is_new.contains(&true))
                .then_some((&self.put, &put[..])),
            (!batch.deleted_event_id.is_empty()).then_some((&self.remove, &remove[..])),
            changes.then_some((&self.change, &change[..])),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let answers = client.query_together(&parts).await?;
        let Some(changed) = answers.last().filter(|_| changes) else { return Ok(()) };
        let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let came_back = changed.iter().map(pair).collect::<Result<Vec<(i64, i64)>, Error>>()?;
        let (subscriptions, events): (Vec<i64>, Vec<i64>) = came_back.into_iter().unzip();
        if !events.is_empty() {
            debug!(deliveries = events.len(), "ledger.called_off");
            let columns: [&(dyn ToSql + Sync); 2] = [&subscriptions, &events];
            let mut parts = Vec::from_iter(locks.map(|statement| (statement, &lock[..])));
            parts.push((&self.remove, &columns[..]));
            return match client.query_together(&parts).await {
                // Another user's function has the row now, and decides about it.
                Err(error) if locked(&error).is_some() => Ok(()),
                removed => removed.map(drop),
            };
        }
        Ok(())
    }
}

/// Writes successes into a partition: by COPY if there are enough.
async fn write_successes(client: &Client, batch: &Batch<'_>, slot: i16) -> Result<(), Error> {
    let a = &batch.attempts;
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
    client.execute(&statement, &params[..if batch.is_plain { 8 } else { 12 }]).await.map(drop)
}
