//! What a large window holds, and where: measured once, in the transaction that froze it.

use super::{BATCH_ROWS_MAX, snapshot::Window};
use tokio_postgres::{Error, Transaction, types::ToSql};

/// Rows of part of a window.
#[derive(Debug, Default, Clone)]
pub struct Extent {
    pub rows: i64,
    /// Smallest and largest id.
    pub first: i64,
    pub last: i64,
    /// The first event that changes a subscription.
    pub first_change: Option<i64>,
}

/// The two ways in which a window's transactions are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They began after the cursor: their rows lie close together, behind all that was read before.
    Main,
    /// They were running at the cursor: their rows lie anywhere among those that were read before.
    Straggler,
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By id throughout.
    Strict,
    /// By id, but transactions with more events than fit a batch come after the others.
    BulkLast,
}

/// Transactions of one kind and their rows.
#[derive(Debug)]
pub struct Measured {
    pub kind: Kind,
    /// All that are not in `bulk`.
    pub rest: Extent,
    /// Bulk loads, one by one.
    pub bulk: Vec<(i64, Extent)>,
}

/// `id + 0` keeps the planner on the index of xid: with the plain column it walks the whole id index for the smallest.
fn by_transaction(condition: &str) -> String {
    format!(
        "with measured as materialized (
            select e.xid, count(*) as n, min(e.id + 0) as first, max(e.id + 0) as last,
                   min(e.id + 0) filter (where e.type like 'webhook.subscription.%') as first_change
            from webhook.event e where {condition} group by e.xid)
         select null::bigint, sum(n)::bigint, min(first), max(last), min(first_change)
         from measured where n <= $1::bigint having count(*) > 0
         union all
         select xid, n, first, last, first_change from measured where n > $1::bigint"
    )
}

/// Measures a window.
///
/// # Errors
/// Those of the connection.
pub async fn measure(
    transaction: &Transaction<'_>,
    window: &Window,
    order: Order,
) -> Result<Vec<Measured>, Error> {
    let bulk_rows_min = match order {
        Order::Strict => i64::MAX,
        Order::BulkLast => BATCH_ROWS_MAX as i64,
    };
    let (first, end) = (window.first().cast_signed(), window.end().cast_signed());
    let ended: Vec<i64> = window.stragglers().map(u64::cast_signed).collect();
    let main: [&(dyn ToSql + Sync); 3] = [&bulk_rows_min, &first, &end];
    let stragglers: [&(dyn ToSql + Sync); 2] = [&bulk_rows_min, &ended];
    let mut parts =
        vec![part(transaction, Kind::Main, "e.xid >= $2::bigint and e.xid < $3::bigint", &main).await?];
    if !ended.is_empty() {
        parts.push(part(transaction, Kind::Straggler, "e.xid = any ($2::bigint[])", &stragglers).await?);
    }
    Ok(parts)
}

async fn part(
    transaction: &Transaction<'_>,
    kind: Kind,
    condition: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Measured, Error> {
    let mut measured = Measured { kind, rest: Extent::default(), bulk: Vec::new() };
    for row in transaction.query(&by_transaction(condition), params).await? {
        let extent = Extent {
            rows: row.try_get(1)?,
            first: row.try_get(2)?,
            last: row.try_get(3)?,
            first_change: row.try_get(4)?,
        };
        match row.try_get(0)? {
            Some(xid) => measured.bulk.push((xid, extent)),
            None => measured.rest = extent,
        }
    }
    Ok(measured)
}

impl Extent {
    /// Both together.
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
