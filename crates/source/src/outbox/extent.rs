//! The contents of a large window, measured once in the transaction that froze it.
//!
//! The only index is on transaction and id. A window is read in the order of ids. So it is cut into
//! ranges of ids, and for each range the oldest and youngest transaction with rows there are known.
//! A bulk load would make each range beside it as wide as itself, so the largest bulk loads are
//! measured separately.

use crate::outbox::BATCH_ROWS_MAX;
use database::Transaction;
use delivery::snapshot::Window;
use tokio_postgres::{Error, types::ToSql};

/// Maximum number of bulk loads that are measured separately. Each is read ahead by itself.
const BULK_MAX: i64 = 16;

/// Number of ids per measured step. Steps are joined to pages.
const STEP_IDS: i64 = 1024;

/// The events that change who gets events.
const CHANGES: &str = "e.type like 'webhook.subscription.%' or e.type = 'webhook.event_type.updated'";

/// The rows of a part of a window.
#[derive(Debug, Default, Clone)]
pub struct Extent {
    pub rows: i64,
    /// Smallest and largest id.
    pub first: i64,
    pub last: i64,
    /// The first event that changes who gets events: a subscription, or an event type.
    pub first_change: Option<i64>,
}

/// A range of ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdRange {
    pub rows: i64,
    /// Smallest and largest id.
    pub first: i64,
    pub last: i64,
    /// The oldest and the youngest transaction with rows in it.
    pub first_xid: i64,
    pub last_xid: i64,
}

/// The two ways to find a window's transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Transactions that began after the cursor. Their rows are close together, behind everything
    /// that was read before.
    Main,
    /// Transactions that were running at the cursor. Their rows may be anywhere among those that
    /// were read before.
    Straggler,
}

/// The order of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By id throughout.
    Strict,
    /// By id, but transactions with more events than one batch holds come after the others.
    BulkLast,
}

/// The transactions of one kind, and their rows.
#[derive(Debug)]
pub struct Measured {
    pub kind: Kind,
    pub whole: Extent,
    /// All transactions that are not in `bulk`, ascending.
    pub stretches: Vec<IdRange>,
    /// The largest transactions with more rows than one batch holds.
    pub bulk: Vec<(i64, Extent)>,
}

fn bulk(condition: &str) -> String {
    format!(
        "select e.xid, count(*), min(e.id), max(e.id), min(e.id) filter (where {CHANGES})
         from webhook.event e where {condition} group by e.xid having count(*) > $1::bigint
         order by 2 desc limit {BULK_MAX}"
    )
}

fn stretches(condition: &str) -> String {
    format!(
        "select count(*), min(e.id), max(e.id), min(e.xid), max(e.xid),
                min(e.id) filter (where {CHANGES})
         from webhook.event e where {condition} and e.xid <> all ($1::bigint[]) group by e.id / {STEP_IDS} order by 2"
    )
}

/// Measures a window.
///
/// # Errors
/// The errors of the connection.
pub async fn measure(transaction: &Transaction<'_>, window: &Window) -> Result<Vec<Measured>, Error> {
    let (first, end) = (window.first().cast_signed(), window.end().cast_signed());
    let ended: Vec<i64> = window.stragglers().map(u64::cast_signed).collect();
    let main: [&(dyn ToSql + Sync); 2] = [&first, &end];
    let mut parts =
        vec![part(transaction, Kind::Main, "e.xid >= $2::bigint and e.xid < $3::bigint", &main).await?];
    if !ended.is_empty() {
        parts.push(part(transaction, Kind::Straggler, "e.xid = any ($2::bigint[])", &[&ended]).await?);
    }
    Ok(parts)
}

async fn part(
    transaction: &Transaction<'_>,
    kind: Kind,
    condition: &str,
    xids: &[&(dyn ToSql + Sync)],
) -> Result<Measured, Error> {
    let rows_min = BATCH_ROWS_MAX as i64;
    let mut measured = Measured { kind, whole: Extent::default(), stretches: Vec::new(), bulk: Vec::new() };
    for row in transaction.query(&bulk(condition), &before(&rows_min, xids)).await? {
        let extent = Extent {
            rows: row.try_get(1)?,
            first: row.try_get(2)?,
            last: row.try_get(3)?,
            first_change: row.try_get(4)?,
        };
        measured.whole = measured.whole.and(&extent);
        measured.bulk.push((row.try_get(0)?, extent));
    }
    let apart: Vec<i64> = measured.bulk.iter().map(|(xid, _)| *xid).collect();
    for row in transaction.query(&stretches(condition), &before(&apart, xids)).await? {
        let range = IdRange {
            rows: row.try_get(0)?,
            first: row.try_get(1)?,
            last: row.try_get(2)?,
            first_xid: row.try_get(3)?,
            last_xid: row.try_get(4)?,
        };
        let IdRange { rows, first, last, .. } = range;
        measured.whole = measured.whole.and(&Extent { rows, first, last, first_change: row.try_get(5)? });
        join(&mut measured.stretches, range);
    }
    Ok(measured)
}

/// Puts one parameter before others.
fn before<'a>(first: &'a (dyn ToSql + Sync), rest: &[&'a (dyn ToSql + Sync)]) -> Vec<&'a (dyn ToSql + Sync)> {
    std::iter::once(first).chain(rest.iter().copied()).collect()
}

/// Appends a range, or joins it to the last one if both fit into one page.
fn join(stretches: &mut Vec<IdRange>, next: IdRange) {
    match stretches.last_mut() {
        Some(last) if last.rows + next.rows <= BATCH_ROWS_MAX as i64 => {
            last.rows += next.rows;
            last.last = next.last;
            last.first_xid = last.first_xid.min(next.first_xid);
            last.last_xid = last.last_xid.max(next.last_xid);
        }
        _ => stretches.push(next),
    }
}

impl Extent {
    /// Returns the sum of both.
    pub fn and(&self, other: &Self) -> Self {
        if self.rows == 0 || other.rows == 0 {
            return if self.rows == 0 { other.clone() } else { self.clone() };
        }
        Self {
            rows: self.rows + other.rows,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            first_change: [self.first_change, other.first_change].into_iter().flatten().min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_joined_as_long_as_they_fit_one_page() {
        let step =
            |rows, first, xid| IdRange { rows, first, last: first + 9, first_xid: xid, last_xid: xid + 1 };
        let mut joined = Vec::new();
        for (rows, first, xid) in
            [(900, 0, 50), (900, 10, 40), (900, 20, 60), (2500, 30, 70), (1, 40, 80), (2, 50, 7)]
        {
            join(&mut joined, step(rows, first, xid));
        }
        let wanted = [
            IdRange { rows: 1800, first: 0, last: 19, first_xid: 40, last_xid: 51 },
            IdRange { rows: 900, first: 20, last: 29, first_xid: 60, last_xid: 61 },
            IdRange { rows: 2500, first: 30, last: 39, first_xid: 70, last_xid: 71 },
            IdRange { rows: 3, first: 40, last: 59, first_xid: 7, last_xid: 81 },
        ];
        assert_eq!(joined, wanted);
    }
}
