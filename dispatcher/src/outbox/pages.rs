//! A window of many events, read page by page with bounded memory.
//!
//! The window's end is frozen first. Its main range (transactions that began after the cursor) is read forward along the
//! id index. Stragglers lie anywhere among older, delivered events: up to [`LISTED_MAX`] of them are listed by id and
//! fetched one by one; more than that are a bulk load, dense enough to be read along the index too. What belongs together is
//! merged by id.

use super::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX,
    extent::{Extent, Kind, Order, measure},
    row::{self, COLUMNS},
    snapshot::{Snapshot, Window},
};
use crate::{
    event::Event,
    router::{Change, Rule},
};
use event_type::Pattern;
use futures_util::TryStreamExt;
use std::{collections::VecDeque, pin::pin, sync::Arc};
use tokio_postgres::{Client, Error, IsolationLevel, Row, Statement, Transaction, types::ToSql};

/// Most stragglers that are listed by id: 16 bytes each.
const LISTED_MAX: i64 = 100_000;

/// The changes of subscriptions in the window, and what each asked for from then on.
const CHANGES: &str = "
    select e.id, e.key::bigint, array(select json_array_elements_text(e.payload -> 'events')),
           array(select json_array_elements_text(case json_typeof(e.payload -> 'exclude_origin') when 'array'
                                                 then e.payload -> 'exclude_origin' end)),
           e.payload ->> 'filter'
    from webhook.event e
    where e.id >= $1::bigint and e.id <= $2::bigint
      and e.type in ('webhook.subscription.created', 'webhook.subscription.updated', 'webhook.subscription.deleted')
      and e.key ~ '^[0-9]{1,18}$' and json_typeof(e.payload -> 'events') = 'array'
      and ((e.xid >= $3::bigint and e.xid < $4::bigint and e.xid <> all ($5::bigint[])) or e.xid = any ($6::bigint[]))
    order by e.id";

fn along_ids() -> String {
    format!(
        "select {COLUMNS} from webhook.event e
         where e.id > $1::bigint and e.id <= $2::bigint
           and ((e.xid >= $3::bigint and e.xid < $4::bigint and e.xid <> all ($5::bigint[])) or e.xid = any ($6::bigint[]))
         order by e.id limit $7::bigint"
    )
}

/// The slot lets each look-up open one partition instead of sixteen.
fn by_id() -> String {
    format!(
        "select {COLUMNS} from unnest($1::bigint[], $2::smallint[]) as p (id, slot)
         join webhook.event e on e.slot = p.slot and e.id = p.id"
    )
}

/// Where one part of the window is read from.
#[derive(Debug)]
enum Source {
    /// Forward along the id index, within a range.
    Along { after: i64, last: i64, xids: Xids },
    /// These, ascending: id and slot.
    Listed(VecDeque<(i64, i16)>),
}

#[derive(Debug, Default)]
struct Xids {
    first: i64,
    end: i64,
    except: Vec<i64>,
    also: Vec<i64>,
}

/// One part of the window with what has been read ahead of it.
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

/// A window under way.
#[derive(Debug)]
pub struct Pages {
    window: Window,
    whole: Extent,
    /// One after the other.
    groups: VecDeque<Group>,
    along_ids: Statement,
    by_id: Statement,
    /// Shrinks when rows are heavy, so that an answer is not read in vain.
    rows_max: usize,
}

/// A snapshot frozen for reading, in a transaction that sees exactly it.
pub struct Frozen<'a> {
    pub transaction: Transaction<'a>,
    pub snapshot: Snapshot,
    /// The server's clock.
    pub at_us: i64,
}

/// Takes a snapshot and keeps seeing it until the transaction ends.
///
/// # Errors
/// Those of the connection, and a snapshot that cannot be read.
pub async fn freeze(client: &mut Client) -> Result<Frozen<'_>, super::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let row = transaction
        .query_one(
            "select pg_current_snapshot()::text, (extract(epoch from clock_timestamp()) * 1000000)::bigint",
            &[],
        )
        .await?;
    let text: &str = row.try_get(0)?;
    let snapshot = text.parse()?;
    let at_us = row.try_get(1)?;
    Ok(Frozen { transaction, snapshot, at_us })
}

fn signed(xids: impl Iterator<Item = u64>) -> Vec<i64> {
    xids.map(u64::cast_signed).collect()
}

impl Pages {
    /// Measures the window between `after` and the frozen snapshot.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(frozen: &Frozen<'_>, after: Snapshot, order: Order) -> Result<Self, Error> {
        let transaction = &frozen.transaction;
        let window = Window::new(after, frozen.snapshot.clone());
        let measured = measure(transaction, &window, order).await?;
        let bulk: Vec<i64> = measured.iter().flat_map(|part| &part.bulk).map(|(xid, _)| *xid).collect();
        let not_bulk = |xid: &i64| !bulk.contains(xid);
        let (mut rest, mut loads, mut whole) = (Vec::new(), Vec::new(), Extent::default());
        for part in &measured {
            whole = whole.and(&part.rest);
            let xids = match part.kind {
                Kind::Main => Xids {
                    first: window.first().cast_signed(),
                    end: window.end().cast_signed(),
                    except: signed(window.running()).into_iter().chain(bulk.iter().copied()).collect(),
                    also: Vec::new(),
                },
                Kind::Straggler => {
                    Xids::only(signed(window.stragglers()).into_iter().filter(not_bulk).collect())
                }
            };
            rest.extend(Part::open(transaction, part.kind, &part.rest, xids).await?);
            for (xid, extent) in &part.bulk {
                whole = whole.and(extent);
                loads.extend(Part::open(transaction, part.kind, extent, Xids::only(vec![*xid])).await?);
            }
        }
        Ok(Self {
            window,
            whole,
            groups: [(rest, false), (loads, true)]
                .into_iter()
                .filter(|(parts, _)| !parts.is_empty())
                .map(|(parts, is_bulk)| Group { parts, is_bulk })
                .collect(),
            along_ids: transaction.prepare(&along_ids()).await?,
            by_id: transaction.prepare(&by_id()).await?,
            rows_max: BATCH_ROWS_MAX,
        })
    }

    /// Events in the window.
    pub fn rows(&self) -> i64 {
        self.whole.rows
    }

    /// First and last id in the window.
    pub fn ids(&self) -> (i64, i64) {
        (self.whole.first, self.whole.last)
    }

    /// Whether only bulk loads are left, which what comes later need not wait for.
    pub fn is_bulk(&self) -> bool {
        self.groups.front().is_none_or(|group| group.is_bulk)
    }

    /// The first event in it that changes a subscription.
    pub fn first_change(&self) -> Option<i64> {
        self.whole.first_change
    }

    /// The changes of subscriptions in it, ascending.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn changes(&self, frozen: &Frozen<'_>, first_change: i64) -> Result<Vec<Change>, Error> {
        let (first, end) = (self.window.first().cast_signed(), self.window.end().cast_signed());
        let (running, ended) = (signed(self.window.running()), signed(self.window.stragglers()));
        let params: [&(dyn ToSql + Sync); 6] =
            [&first_change, &self.whole.last, &first, &end, &running, &ended];
        let rows = frozen.transaction.query(CHANGES, &params).await?;
        let change = |row: &Row| {
            let (patterns, origins): (Vec<&str>, Vec<Option<&str>>) = (row.try_get(2)?, row.try_get(3)?);
            let rule = Rule {
                patterns: patterns.into_iter().filter_map(|text| Pattern::parse(text).ok()).collect(),
                exclude_origin: origins.into_iter().flatten().map(Box::from).collect(),
                filter: row.try_get::<_, Option<&str>>(4)?.map(Arc::from),
            };
            Ok(Change { event_id: row.try_get(0)?, subscription_id: row.try_get(1)?, rule })
        };
        rows.iter().map(change).collect()
    }

    /// What the window ends with.
    pub fn upto(&self) -> &Snapshot {
        self.window.upto()
    }

    /// The next events, ascending by id within a group; empty: the window has been read.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn next(&mut self, client: &Client) -> Result<Vec<Event>, Error> {
        while let Some(group) = self.groups.front_mut() {
            for part in &mut group.parts {
                while part.ahead.is_empty() && !part.exhausted {
                    part.fill(client, &self.along_ids, &self.by_id, &mut self.rows_max).await?;
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

/// As far as every part has been read; beyond that another could still bring a smaller id.
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

impl Xids {
    fn only(also: Vec<i64>) -> Self {
        Self { also, ..Self::default() }
    }
}

impl Part {
    /// The best way to read these transactions; `None`: they have written nothing.
    async fn open(
        transaction: &Transaction<'_>,
        kind: Kind,
        extent: &Extent,
        xids: Xids,
    ) -> Result<Option<Self>, Error> {
        if extent.rows == 0 {
            return Ok(None);
        }
        let source = if kind == Kind::Straggler && extent.rows <= LISTED_MAX {
            let list = "select e.id, e.slot from webhook.event e where e.xid = any ($1::bigint[])";
            let rows = transaction.query(list, &[&xids.also]).await?;
            let mut listed = rows
                .iter()
                .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
                .collect::<Result<Vec<_>, Error>>()?;
            listed.sort_unstable();
            Source::Listed(listed.into())
        } else {
            Source::Along { after: extent.first - 1, last: extent.last, xids }
        };
        Ok(Some(Self { source, ahead: VecDeque::new(), exhausted: false }))
    }

    /// Reads ahead, at least one row unless there is none left.
    async fn fill(
        &mut self,
        client: &Client,
        along_ids: &Statement,
        by_id: &Statement,
        rows_max: &mut usize,
    ) -> Result<(), Error> {
        let limit = *rows_max;
        let (events, complete) = match &mut self.source {
            Source::Along { after, last, xids } => {
                let limit = limit as i64;
                let params: [&(dyn ToSql + Sync); 7] =
                    [after, last, &xids.first, &xids.end, &xids.except, &xids.also, &limit];
                let (events, complete) = read(client, along_ids, &params).await?;
                self.exhausted = complete && (events.len() as i64) < limit;
                *after = events.last().map_or(*last, |event| event.id);
                (events, complete)
            }
            Source::Listed(listed) => {
                let share = listed.len().min(limit);
                let (ids, slots): (Vec<i64>, Vec<i16>) = listed.iter().take(share).copied().unzip();
                let (mut events, complete) = read(client, by_id, &[&ids, &slots]).await?;
                events.sort_unstable_by_key(|event| event.id);
                if complete {
                    listed.drain(..share);
                } else if share > 1 {
                    // They come in no order: ask again for fewer.
                    events.clear();
                } else {
                    listed.pop_front();
                }
                self.exhausted = listed.is_empty();
                (events, complete)
            }
        };
        *rows_max = if complete { (limit * 2).min(BATCH_ROWS_MAX) } else { (limit / 4).max(1) };
        self.ahead.extend(events);
        Ok(())
    }
}

/// Reads events until the answer ends (`true`) or weighs too much for one batch.
async fn read(
    client: &Client,
    statement: &Statement,
    params: &[&(dyn ToSql + Sync)],
) -> Result<(Vec<Event>, bool), Error> {
    let mut rows = pin!(client.query_raw(statement, params.iter().copied()).await?);
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let event = row::event(&row, 0)?;
        bytes += row::payload_bytes(&event);
        events.push(event);
        if bytes > BATCH_BYTES_MAX {
            return Ok((events, false));
        }
    }
    Ok((events, true))
}
