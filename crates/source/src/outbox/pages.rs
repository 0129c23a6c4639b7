//! Reads a window of many events page by page, with bounded memory.
//!
//! First, the window's end is frozen and its extent is measured. Rows that are not part of a bulk
//! load are read range by range of ids: the index on transaction and id finds the rows of the
//! transactions that wrote there. A bulk load is read forward by itself. The sources are merged by
//! id.

use crate::{
    outbox::{
        BATCH_BYTES_MAX, BATCH_ROWS_MAX,
        extent::{Extent, IdRange, Kind, Measured, Order, measure},
        ring::Ring,
        row::{self, Columns},
    },
    router::{Change, Rule},
};
use database::{Client, Text, Transaction, schema::Schema};
use delivery::{
    event::Event,
    scope::{Audience, InternalTypes, Scope},
    snapshot::{Snapshot, Window},
};
use event_type::Pattern;
use std::{collections::VecDeque, sync::Arc};
use tokio_postgres::{Error, Row, Statement, types::ToSql};

/// The changes of subscriptions in the window, with the events that each subscription matched from
/// then on.
const CHANGES: &str = include_str!("sql/pages_changes.sql");

/// The event types in the window that became internal, or are no longer.
const CHANGED_TYPES: &str = include_str!("sql/pages_changed_types.sql");

/// Returns the statements of the three sources, in the order of [`Source`].
fn of_range(columns: Columns) -> String {
    format!(include_str!("sql/pages_of_range.sql"), columns = columns.text("e"))
}

fn of_list(columns: Columns) -> String {
    format!(include_str!("sql/pages_of_list.sql"), columns = columns.text("e"))
}

fn of_one(columns: Columns) -> String {
    format!(include_str!("sql/pages_of_one.sql"), columns = columns.text("e"))
}

/// Returns a rule from five columns.
fn rule(row: &Row, at: usize) -> Result<Rule, tokio_postgres::Error> {
    let (patterns, origins): (Vec<&str>, Vec<Option<&str>>) = (row.try_get(at)?, row.try_get(at + 1)?);
    let owner: Option<Text> = row.try_get(at + 3)?;
    let scope = row.try_get::<_, Option<&str>>(at + 4)?.and_then(Scope::parse);
    Ok(Rule {
        patterns: patterns.into_iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
        exclude_origin: origins.into_iter().flatten().map(Box::from).collect(),
        filter: row.try_get::<_, Option<&str>>(at + 2)?.map(Arc::from),
        audience: owner.zip(scope).map(|(owner, scope)| Audience { owner: owner.0.into(), scope }),
    })
}

/// The source of one part of the window.
#[derive(Debug)]
enum Source {
    /// Transactions that began after the cursor, without `except`.
    Range { stretches: VecDeque<IdRange>, except: Vec<i64> },
    /// These transactions.
    List { stretches: VecDeque<IdRange>, xids: Vec<i64> },
    /// One transaction, ids `first` to `last`.
    One { xid: i64, first: i64, last: i64 },
}

/// One part of the window, with the events that have been read ahead.
#[derive(Debug)]
struct Part {
    source: Source,
    ahead: VecDeque<Event>,
    exhausted: bool,
}

/// Parts that are merged by id.
#[derive(Debug)]
struct Group {
    parts: Vec<Part>,
    is_bulk: bool,
}

/// How pages are requested.
#[derive(Debug)]
struct Asking {
    of_range: Statement,
    of_list: Statement,
    of_one: Statement,
    /// Shrinks for large rows, so that an answer is not read in vain.
    rows_max: usize,
    bytes_max: usize,
}

/// A window that is being read.
#[derive(Debug)]
pub struct Pages {
    window: Window,
    whole: Extent,
    /// Read one after the other.
    groups: VecDeque<Group>,
    asking: Asking,
}

/// A snapshot frozen for reading, in a transaction that sees exactly this snapshot.
pub struct Frozen<'a> {
    pub transaction: Transaction<'a>,
    pub snapshot: Snapshot,
    /// The ring in the snapshot.
    pub ring: Ring,
    pub schema: Schema,
}

/// Takes a snapshot. The transaction sees it until its end.
///
/// # Errors
/// The errors of the connection, and a snapshot that cannot be parsed.
pub async fn freeze(client: &mut Client, schema: Schema) -> Result<Frozen<'_>, super::Error> {
    let transaction = client.frozen().await?;
    let row =
        transaction.query_one(&format!("select pg_current_snapshot()::text, {}", Ring::COLUMN), &[]).await?;
    let text: &str = row.try_get(0)?;
    let snapshot = text.parse()?;
    let ring = Ring::of(row.try_get(1)?);
    Ok(Frozen { transaction, snapshot, ring, schema })
}

fn signed(xids: impl Iterator<Item = u64>) -> Vec<i64> {
    xids.map(u64::cast_signed).collect()
}

impl Pages {
    /// Measures the window between `after` and the frozen snapshot.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn open(frozen: &Frozen<'_>, after: Snapshot, order: Order) -> Result<Self, Error> {
        let transaction = &frozen.transaction;
        let window = Window::new(after, frozen.snapshot.clone());
        let measured = measure(transaction, &window).await?;
        let (mut rest, mut loads, mut whole) = (Vec::new(), Vec::new(), Extent::default());
        for Measured { kind, whole: part, stretches, bulk } in measured {
            whole = whole.and(&part);
            let is_bulk = |xid: &i64| bulk.iter().any(|(bulk, _)| bulk == xid);
            if !stretches.is_empty() {
                let stretches = stretches.into();
                rest.push(Part::new(match kind {
                    Kind::Main => {
                        let except =
                            signed(window.running()).into_iter().chain(bulk.iter().map(|(xid, _)| *xid));
                        Source::Range { stretches, except: except.collect() }
                    }
                    Kind::Straggler => {
                        let xids = signed(window.stragglers()).into_iter().filter(|xid| !is_bulk(xid));
                        Source::List { stretches, xids: xids.collect() }
                    }
                }));
            }
            let load = |(xid, Extent { first, last, .. })| Part::new(Source::One { xid, first, last });
            loads.extend(bulk.into_iter().map(load));
        }
        let (shares, columns) = (loads.len() + 1, Columns::new(transaction.encoding(), frozen.schema));
        let groups = match order {
            Order::Strict => vec![(rest.into_iter().chain(loads).collect(), false)],
            Order::BulkLast => vec![(rest, false), (loads, true)],
        };
        Ok(Self {
            window,
            whole,
            groups: groups
                .into_iter()
                .filter(|(parts, _): &(Vec<Part>, bool)| !parts.is_empty())
                .map(|(parts, is_bulk)| Group { parts, is_bulk })
                .collect(),
            asking: Asking {
                of_range: transaction.prepare(&of_range(columns)).await?,
                of_list: transaction.prepare(&of_list(columns)).await?,
                of_one: transaction.prepare(&of_one(columns)).await?,
                rows_max: BATCH_ROWS_MAX,
                bytes_max: BATCH_BYTES_MAX / shares,
            },
        })
    }

    /// Returns the number of events in the window.
    pub fn rows(&self) -> i64 {
        self.whole.rows
    }

    /// Returns the first and the last id in the window.
    pub fn ids(&self) -> (i64, i64) {
        (self.whole.first, self.whole.last)
    }

    /// Reports whether only bulk loads are left. Later events need not wait for these.
    pub fn is_bulk(&self) -> bool {
        self.groups.front().is_none_or(|group| group.is_bulk)
    }

    /// Returns the first event in the window that changes a subscription or an event type.
    pub fn first_change(&self) -> Option<i64> {
        self.whole.first_change
    }

    /// Returns the changes of subscriptions in the window, ascending.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn changes(&self, frozen: &Frozen<'_>, first_change: i64) -> Result<Vec<Change>, Error> {
        let rows = self.query(frozen, CHANGES, first_change).await?;
        let change = |row: &Row| {
            let (event_id, subscription_id) = (row.try_get(0)?, row.try_get(1)?);
            Ok(Change { event_id, subscription_id, rule: rule(row, 2)?, previous: rule(row, 7)? })
        };
        rows.iter().map(change).collect()
    }

    /// Returns the event types that changed in the window. Each was internal before or after.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn changed_types(
        &self,
        frozen: &Frozen<'_>,
        first_change: i64,
    ) -> Result<InternalTypes, Error> {
        let rows = self.query(frozen, CHANGED_TYPES, first_change).await?;
        rows.iter().map(|row| Ok(row.try_get::<_, Text>(0)?.0.into())).collect()
    }

    /// Runs a statement about the events of the window from `first_change` on.
    async fn query(&self, frozen: &Frozen<'_>, sql: &str, first_change: i64) -> Result<Vec<Row>, Error> {
        let (first, end) = (self.window.first().cast_signed(), self.window.end().cast_signed());
        let (running, ended) = (signed(self.window.running()), signed(self.window.stragglers()));
        let params: [&(dyn ToSql + Sync); 6] =
            [&first_change, &self.whole.last, &first, &end, &running, &ended];
        frozen.transaction.query(sql, &params).await
    }

    /// Returns the snapshot at the end of the window.
    pub fn upto(&self) -> &Snapshot {
        self.window.upto()
    }

    /// Returns the next events, in ascending order of ids within a group. The result is empty at
    /// the end of the window.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn next(&mut self, client: &Client) -> Result<Vec<Event>, Error> {
        while let Some(group) = self.groups.front_mut() {
            for part in &mut group.parts {
                while part.ahead.is_empty() && !part.exhausted {
                    part.fill(client, &mut self.asking).await?;
                }
            }
            let page = merge(&mut group.parts);
            debug_assert!(page.iter().all(|event| self.window.contains(event.xid)));
            if !page.is_empty() {
                return Ok(page);
            }
            self.groups.pop_front();
        }
        Ok(Vec::new())
    }
}

/// Returns the events up to the point that every part has been read to. Beyond it, another part may
/// still have a smaller id.
fn merge(group: &mut [Part]) -> Vec<Event> {
    let mut page = Vec::with_capacity(group.iter().map(|part| part.ahead.len()).max().unwrap_or(0));
    let mut bytes = 0;
    while page.len() < BATCH_ROWS_MAX
        && bytes <= BATCH_BYTES_MAX
        && group.iter().all(|part| part.exhausted || !part.ahead.is_empty())
    {
        let first =
            group.iter_mut().filter(|part| !part.ahead.is_empty()).min_by_key(|part| part.ahead[0].id);
        let Some(event) = first.and_then(|part| part.ahead.pop_front()) else { break };
        bytes += row::payload_bytes(&event);
        page.push(event);
    }
    page
}

impl Part {
    fn new(source: Source) -> Self {
        Self { source, ahead: VecDeque::new(), exhausted: false }
    }

    /// Reads ahead: at least one row, or up to the end of the next range, or nothing if none is
    /// left.
    async fn fill(&mut self, client: &Client, asking: &mut Asking) -> Result<(), Error> {
        let rows_max = asking.rows_max;
        let limit = rows_max as i64;
        let bytes_max = asking.bytes_max;
        let (events, complete) = match &self.source {
            Source::Range { stretches, except } => {
                let Some(at) = stretches.front() else { return self.end() };
                let params: [&(dyn ToSql + Sync); 6] =
                    [&at.first_xid, &at.last_xid, except, &at.first, &at.last, &limit];
                read(client, &asking.of_range, &params, bytes_max).await?
            }
            Source::List { stretches, xids } => {
                let Some(at) = stretches.front() else { return self.end() };
                read(client, &asking.of_list, &[xids, &at.first, &at.last, &limit], bytes_max).await?
            }
            Source::One { xid, first, last } => {
                read(client, &asking.of_one, &[xid, first, last, &limit], bytes_max).await?
            }
        };
        let is_whole = complete && events.len() < rows_max;
        self.advance(events.last().map(|event| event.id), is_whole);
        asking.rows_max = if complete { (rows_max * 2).min(BATCH_ROWS_MAX) } else { (rows_max / 4).max(1) };
        self.ahead.extend(events);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        self.exhausted = true;
        Ok(())
    }

    /// Records that rows up to `last` have been read. `is_whole` means that the answer was
    /// complete.
    fn advance(&mut self, last: Option<i64>, is_whole: bool) {
        let next = last.map(|id| id + 1);
        match &mut self.source {
            Source::Range { stretches, .. } | Source::List { stretches, .. } => {
                if is_whole {
                    stretches.pop_front();
                    self.exhausted = stretches.is_empty();
                } else if let (Some(at), Some(next)) = (stretches.front_mut(), next) {
                    at.first = next;
                }
            }
            Source::One { first, .. } => {
                *first = next.unwrap_or(*first);
                self.exhausted = is_whole;
            }
        }
    }
}

/// Reads events until the answer ends (`true`), or until they are too large for one batch.
async fn read(
    client: &Client,
    statement: &Statement,
    params: &[&(dyn ToSql + Sync)],
    bytes_max: usize,
) -> Result<(Vec<Event>, bool), Error> {
    let mut rows = client.query_rows(statement, params).await?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next().await? {
        let event = row::event(&row, 0, client.encoding())?;
        bytes += row::payload_bytes(&event);
        events.push(event);
        if bytes > bytes_max {
            return Ok((events, false));
        }
    }
    Ok((events, true))
}
