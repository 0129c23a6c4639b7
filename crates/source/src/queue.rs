//! Reads `webhook.queue` and the events of its rows for the scheduler. It writes nothing; the
//! ledger does.
//!
//! Rows whose filter is undecided are evaluated before they are returned, by the present filter.
//!
//! The module answers one request at a time, in order. The scheduler relies on that order.

use crate::{
    matching::{Matching, Pair},
    outbox::{
        BATCH_BYTES_MAX,
        row::{self, Columns},
    },
    slow_filters::SlowFilters,
};
use database::{Client, schema::Schema, value::Micros};
use delivery::{
    event::Place,
    feed::Request,
    message::{Budget, Message},
    queue_rows::{Due, Filtered, Load, Loaded, Ordered, OrderedPlace, QueuedRow, Retry, RetryKey, RowState},
    record::{ReceiverHealth, UNDECIDED},
};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::mpsc;
use tokio_postgres::{Error, Row, Statement, types::ToSql};

const BACKLOGGED: &str = "
    select s.id from webhook.subscription s
    where exists (select from webhook.queue q where q.subscription_id = s.id and q.state = 'backlog')";

const HEALTH: &str = "
    select r.subscription_id, r.circuit = 'open', r.consecutive_failures, r.failing_since, r.warned_at
    from webhook.receiver r where r.failing_since is not null";

/// Each row by its state. Backlog rows are included only if a crash has left them before a row that
/// waits for its time. There are few of them.
const ORDERED: &str = include_str!("sql/queue_ordered.sql");

const TIMERS: &str = include_str!("sql/queue_timers.sql");

/// The columns of a row before those of its event.
const QUEUE_COLUMNS: &str = "q.subscription_id, q.event_id, q.event_slot, q.event_xid, q.attempts, q.retry_from, q.state, q.order_key, q.next_at";
const QUEUE_COLUMN_COUNT: usize = 10;

const FILTER: &str = "select s.filter::text from webhook.subscription s where s.id = $1";

/// Those that return rows with their events. Each look-up descends one index, and each depends on
/// the one before.
struct Statements {
    timers: Statement,
    due: Statement,
    backlog: Statement,
    /// A backlog row of a group counts like a blocked one, because the earliest row matters.
    groups: Statement,
    redelivered: Statement,
}

impl Statements {
    async fn prepare(client: &Client, schema: Schema) -> Result<Self, Error> {
        let is_undecided = format!(
            "q.state = 'backlog' and q.attempts = 0 and q.last_error is not distinct from '{UNDECIDED}'"
        );
        let event = Columns::new(client.encoding(), schema).text("e.event");
        let with_event = format!("{QUEUE_COLUMNS}, {is_undecided}, {event}");
        Ok(Self {
            timers: client.prepare(TIMERS).await?,
            due: client.prepare(&format!(include_str!("sql/queue_due.sql"), columns = with_event)).await?,
            backlog: client
                .prepare(&format!(include_str!("sql/queue_backlog.sql"), columns = with_event))
                .await?,
            groups: client
                .prepare(&format!(include_str!("sql/queue_groups.sql"), columns = with_event))
                .await?,
            redelivered: client
                .prepare(&format!(include_str!("sql/queue_redelivered.sql"), columns = event))
                .await?,
        })
    }
}

/// Answers until the scheduler closes the channel.
///
/// # Errors
/// The errors of the connection.
pub async fn run(
    client: Client,
    schema: Schema,
    budget: Arc<Budget>,
    slow_filters: Arc<SlowFilters>,
    mut loads: mpsc::UnboundedReceiver<Load>,
    answers: mpsc::UnboundedSender<Loaded>,
) -> Result<(), Error> {
    let statements = Statements::prepare(&client, schema).await?;
    let mut reader = QueueReader { client, statements, budget, matching: Matching::default(), slow_filters };
    while let Some(load) = loads.recv().await {
        if answers.send(reader.answer(load).await?).is_err() {
            break;
        }
    }
    Ok(())
}

struct QueueReader {
    client: Client,
    statements: Statements,
    budget: Arc<Budget>,
    matching: Matching,
    slow_filters: Arc<SlowFilters>,
}

impl QueueReader {
    async fn answer(&mut self, load: Load) -> Result<Loaded, Error> {
        match load {
            Load::Backlogged => {
                let rows = self.client.query(BACKLOGGED, &[]).await?;
                Ok(Loaded::Backlogged(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?))
            }
            Load::ReceiverHealth => {
                let rows = self.client.query(HEALTH, &[]).await?;
                Ok(Loaded::ReceiverHealth(rows.iter().map(health).collect::<Result<_, _>>()?))
            }
            Load::Ordered => {
                let rows = self.client.query(ORDERED, &[]).await?;
                Ok(Loaded::Ordered(rows.iter().map(ordered).collect::<Result<_, _>>()?))
            }
            Load::OrderGroups { subscription_id, order_keys, limit, entries_confirmed } => {
                let params: [&(dyn ToSql + Sync); 3] = [&subscription_id, &order_keys, &(limit as i64)];
                let (mut rows, is_whole) = self.rows(&self.statements.groups, &params).await?;
                let has_slow_filter = !self.decide(subscription_id, &mut rows).await?;
                let groups = by_line(order_keys, rows, is_whole && !has_slow_filter, limit);
                Ok(Loaded::OrderGroups { subscription_id, groups, entries_confirmed, has_slow_filter })
            }
            Load::Timers { from, limit } => self.timers(from, limit).await,
            Load::Due(asked) => self.due(asked).await,
            Load::Backlog { subscription_id, after, limit } => {
                let (mut rows, is_whole) =
                    self.rows(&self.statements.backlog, &[&subscription_id, &after, &(limit as i64)]).await?;
                let is_end = is_whole && rows.len() < limit;
                let has_slow_filter = !self.decide(subscription_id, &mut rows).await?;
                let is_end = is_end && !has_slow_filter;
                Ok(Loaded::Backlog { subscription_id, rows, is_end, has_slow_filter })
            }
            Load::Request { request, even_without_row } => {
                let Request { subscription_id, event_id } = request;
                let (mut rows, _) =
                    self.rows(&self.statements.due, &[&&[subscription_id][..], &&[event_id][..]]).await?;
                if rows.is_empty() && even_without_row {
                    (rows, _) =
                        self.rows(&self.statements.redelivered, &[&subscription_id, &event_id]).await?;
                }
                Ok(Loaded::Request { request, row: rows.pop() })
            }
        }
    }

    async fn timers(&self, from: RetryKey, limit: usize) -> Result<Loaded, Error> {
        let at = Micros(from.next_at_us);
        let params: [&(dyn ToSql + Sync); 4] = [&at, &from.subscription_id, &from.event_id, &(limit as i64)];
        let rows = self.client.query(&self.statements.timers, &params).await?;
        let read = |row: &Row| {
            let next_at: Micros = row.try_get(0)?;
            let key = RetryKey {
                next_at_us: next_at.0,
                subscription_id: row.try_get(1)?,
                event_id: row.try_get(2)?,
            };
            Ok((key, retry(row, 3)?))
        };
        Ok(Loaded::Timers { rows: rows.iter().map(read).collect::<Result<_, Error>>()?, asked: limit })
    }

    async fn due(&self, asked: Vec<(i64, Due)>) -> Result<Loaded, Error> {
        let (subscriptions, events): (Vec<i64>, Vec<i64>) =
            asked.iter().map(|(id, due)| (*id, due.event_id)).unzip();
        let (rows, is_whole) = self.rows(&self.statements.due, &[&subscriptions, &events]).await?;
        let found: HashSet<(i64, i64)> = rows.iter().map(|row| (row.subscription_id, row.event_id)).collect();
        let others = asked.into_iter().filter(|(id, due)| !found.contains(&(*id, due.event_id))).collect();
        let (missing, rest) = if is_whole { (others, Vec::new()) } else { (Vec::new(), others) };
        Ok(Loaded::Due { rows, missing, rest })
    }

    /// Returns rows with their events until the answer ends (`true`), or until they are too large
    /// for memory.
    async fn rows(
        &self,
        statement: &Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(Vec<QueuedRow>, bool), Error> {
        let mut answer = self.client.query_rows(statement, params).await?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = answer.next().await? {
            let is_there = row.try_get::<_, Option<i64>>(QUEUE_COLUMN_COUNT)?.is_some();
            let event = if is_there {
                Some(row::event(&row, QUEUE_COLUMN_COUNT, self.client.encoding())?)
            } else {
                None
            };
            bytes += event.as_ref().map_or(0, row::payload_bytes);
            rows.push(QueuedRow {
                subscription_id: row.try_get(0)?,
                event_id: row.try_get(1)?,
                retry: retry(&row, 2)?,
                row: match row.try_get(6)? {
                    "waiting" => RowState::Waiting,
                    "blocked" => RowState::Blocked,
                    "asked" => RowState::Asked,
                    _ => RowState::Backlog,
                },
                message: event.map(|event| Arc::new(Message::new(event, &self.budget))),
                filtered: if row.try_get(9)? { Filtered::Undecided } else { Filtered::Passed },
                next_at_us: row.try_get::<_, Option<Micros>>(8)?.map(|at| at.0),
            });
            if bytes > BATCH_BYTES_MAX {
                return Ok((rows, false));
            }
        }
        Ok((rows, true))
    }
}

impl QueueReader {
    /// Evaluates the filter for undecided rows. Returns `false` if the filter is too slow. Then
    /// those rows and all after them are left out.
    async fn decide(&mut self, subscription_id: i64, rows: &mut Vec<QueuedRow>) -> Result<bool, Error> {
        let is_asked = |row: &&QueuedRow| row.filtered == Filtered::Undecided && row.message.is_some();
        if !rows.iter().any(|row| is_asked(&row)) {
            return Ok(true);
        }
        let found = self.client.query_opt(FILTER, &[&subscription_id]).await?;
        let filter =
            found.map(|row| row.try_get::<_, Option<&str>>(0).map(|text| text.map(Arc::<str>::from)));
        let Some(filter) = filter.transpose()?.flatten() else { return Ok(true) };
        let pair = |row: &QueuedRow| Pair {
            event_id: row.event_id,
            place: row.retry.place,
            subscription_id,
            filter: Arc::clone(&filter),
        };
        let pairs = rows.iter().filter(is_asked).map(pair).collect();
        let answer = self.matching.ask(&self.client, pairs, &self.slow_filters).await?;
        if !answer.undecided.is_empty() {
            let first = rows.iter().position(|row| is_asked(&row));
            rows.truncate(first.unwrap_or(0));
            return Ok(false);
        }
        for row in rows.iter_mut().filter(|row| is_asked(&&**row)) {
            if !answer.passed.contains(&(row.event_id, subscription_id)) {
                (row.filtered, row.message) = (Filtered::FilteredOut, None);
            }
        }
        Ok(true)
    }
}

fn retry(row: &Row, at: usize) -> Result<Retry, Error> {
    Ok(Retry {
        place: Place { slot: row.try_get(at)?, xid: row.try_get::<_, i64>(at + 1)?.unsigned_abs() },
        attempts: row.try_get(at + 2)?,
        retry_from: row.try_get(at + 3)?,
        after_entry: 0,
        order_key: row.try_get(at + 5)?,
    })
}

fn health(row: &Row) -> Result<(i64, ReceiverHealth), Error> {
    let at = |column| Ok::<_, Error>(row.try_get::<_, Option<Micros>>(column)?.map(|at| at.0));
    let health = ReceiverHealth {
        is_open: row.try_get(1)?,
        consecutive_failures: row.try_get(2)?,
        failing_since_us: at(3)?,
        warned_at_us: at(4)?,
        probe_interval_us: None,
    };
    Ok((row.try_get(0)?, health))
}

fn ordered(row: &Row) -> Result<Ordered, Error> {
    let event_id = row.try_get(2)?;
    let place = match row.try_get(3)? {
        "waiting" => OrderedPlace::Timed(event_id),
        "backlog" => OrderedPlace::Backlog(event_id),
        _ => OrderedPlace::Blocked,
    };
    Ok(Ordered { subscription_id: row.try_get(0)?, order_key: row.try_get(1)?, place })
}

/// Groups rows in the order of the requested groups. If the answer is not complete, the last group
/// and those after it are cut off.
fn by_line(
    order_keys: Vec<i64>,
    rows: Vec<QueuedRow>,
    is_whole: bool,
    limit: usize,
) -> Vec<(i64, Vec<QueuedRow>, Option<bool>)> {
    let mut rows = rows.into_iter().peekable();
    let line = |order_key: i64| {
        let mut own = Vec::new();
        while let Some(row) = rows.next_if(|row| row.retry.order_key == Some(order_key)) {
            own.push(row);
        }
        let is_cut = !is_whole && rows.peek().is_none();
        let is_end = match own.len() {
            0 if is_cut => None,
            n => Some(!is_cut && n < limit),
        };
        (order_key, own, is_end)
    };
    order_keys.into_iter().map(line).collect()
}
