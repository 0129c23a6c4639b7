//! One look at the outbox: the present snapshot and what it sees beyond the cursor, in one round trip.

use super::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX, Error,
    row::{self, COLUMN_COUNT, COLUMNS},
    snapshot::Snapshot,
};
use crate::{event::Event, postgres::value::Xid};
use futures_util::TryStreamExt;
use std::{collections::HashMap, pin::pin, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{Client, Statement, types::ToSql};

/// The ring: `webhook.ring_slot` in SQL.
pub const SLOTS: i64 = 16;
const SLOT_US: i64 = 216_000 * 1_000_000;

/// How far the server's clock may be set back between an event and the look that finds it.
const CLOCK_STEP_US: i64 = 600 * 1_000_000;

/// The slot of a moment in microseconds since 1970.
pub fn ring_slot(at_us: i64) -> i16 {
    i16::try_from(at_us.div_euclid(SLOT_US).rem_euclid(SLOTS)).unwrap_or_default()
}

/// The slots of a span of time, each once; all of them if the span goes once around.
pub fn ring_slots(from_us: i64, to_us: i64) -> Vec<i16> {
    let (first, last) = (from_us.div_euclid(SLOT_US), to_us.div_euclid(SLOT_US));
    let turns = first..=last.min(first.saturating_add(SLOTS - 1));
    turns.map(|turn| i16::try_from(turn.rem_euclid(SLOTS)).unwrap_or_default()).collect()
}

/// Where reading has come to.
#[derive(Debug)]
pub struct Cursor {
    pub snapshot: Snapshot,
    text: String,
    /// The server's clock just before the snapshot was taken: what the snapshot does not know is written later than that.
    at_us: i64,
    /// For what was running in it: a moment at which it had not begun. Its events are in the slots since then.
    begun_after_us: HashMap<u64, i64>,
}

impl Cursor {
    pub fn new(snapshot: Snapshot, at_us: i64) -> Self {
        let begun_after_us = snapshot.running().iter().map(|xid| (*xid, i64::MIN)).collect();
        Self { text: snapshot.to_string(), snapshot, at_us, begun_after_us }
    }

    /// Moves on to a later snapshot of the same server.
    pub fn advance(&mut self, snapshot: Snapshot, at_us: i64) {
        let begun = |xid: &u64| (*xid, self.begun_after_us.get(xid).copied().unwrap_or(self.at_us));
        self.begun_after_us = snapshot.running().iter().map(begun).collect();
        self.text = snapshot.to_string();
        self.snapshot = snapshot;
        self.at_us = at_us;
    }

    /// The one slot that can hold events beyond the cursor, written up to a moment; `None`: there may be several.
    fn only_slot(&self, upto_us: i64) -> Option<i16> {
        let oldest = self.begun_after_us.values().copied().min().unwrap_or(self.at_us).min(self.at_us);
        let from = oldest.saturating_sub(CLOCK_STEP_US).div_euclid(SLOT_US);
        let upto = upto_us.saturating_add(CLOCK_STEP_US);
        (from == upto.div_euclid(SLOT_US)).then(|| ring_slot(upto))
    }
}

/// What a look found.
#[derive(Debug)]
pub struct Look {
    /// What the server saw; `None`: the same as the cursor, nothing has ended since.
    pub snapshot: Option<Snapshot>,
    /// The server's clock just before the snapshot was taken, and after: what it sees was written before that. If the clock is
    /// set on in between, by hours and over the end of a slot, the two are far apart.
    pub at_us: i64,
    upto_us: i64,
    /// Which backend holds the active lock, if that was asked for.
    pub lock_holder: Option<i32>,
    /// Ascending by id; empty if there are too many.
    pub events: Vec<Event>,
    /// There are more than fit one batch.
    pub too_many: bool,
}

/// In place of a slot.
const WHOLE_RING: i16 = -1;

/// Columns before those of the event.
const HEADER_COLUMNS: usize = 4;

/// Looks at the outbox through one connection.
#[derive(Debug, Default)]
pub struct Poll {
    /// By slot, or [`WHOLE_RING`].
    statements: HashMap<i16, Statement>,
    /// The server's clock and ours at the last look.
    clock: Option<(i64, Instant)>,
}

/// `now()` is when the transaction began, and with it the statement: before its snapshot. The snapshot is compared first and alone: if nothing has ended, no row and no index is touched. Stragglers are cut down
/// to those that have ended, for the index also holds the rows of a bulk load that is still running.
fn statement(table: &str) -> String {
    let nulls = ["null"; COLUMN_COUNT].join(", ");
    let limit = BATCH_ROWS_MAX + 1;
    format!(
        "select pg_current_snapshot()::text, (extract(epoch from now()) * 1000000)::bigint,
                (extract(epoch from clock_timestamp()) * 1000000)::bigint,
                case when $4 then (select l.pid from pg_locks l where l.locktype = 'advisory' and l.granted
                    and l.database = (select d.oid from pg_database d where d.datname = current_database())
                    and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) end, {nulls}
         union all
         (select null, null, null, null, {COLUMNS} from {table} e
          where pg_current_snapshot()::text <> $1::text and e.xid >= $2::bigint limit {limit})
         union all
         (select null, null, null, null, {COLUMNS} from {table} e
          where pg_current_snapshot()::text <> $1::text and cardinality($3::xid8[]) > 0
            and e.xid = any (array(select x.xid::text::bigint from unnest($3::xid8[]) as x (xid)
                                   where pg_visible_in_snapshot(x.xid, pg_current_snapshot()))) limit {limit})"
    )
}

impl Poll {
    /// Looks once. With `check_lock`, tells who holds the active lock.
    ///
    /// # Errors
    /// Those of the connection, and a snapshot that cannot be read.
    pub async fn look(&mut self, client: &Client, cursor: &Cursor, check_lock: bool) -> Result<Look, Error> {
        let expected_us = self.clock.map(|(us, at)| us.saturating_add(micros(at.elapsed())));
        if let Some(slot) = expected_us.and_then(|us| cursor.only_slot(us)) {
            let look = self.look_into(client, cursor, check_lock, slot).await?;
            if cursor.only_slot(look.upto_us) == Some(slot) {
                return Ok(look);
            }
        }
        self.look_into(client, cursor, check_lock, WHOLE_RING).await
    }

    async fn look_into(
        &mut self,
        client: &Client,
        cursor: &Cursor,
        check_lock: bool,
        slot: i16,
    ) -> Result<Look, Error> {
        let statement = match self.statements.get(&slot) {
            Some(statement) => statement.clone(),
            None => {
                let table = if slot == WHOLE_RING {
                    "webhook.event".to_owned()
                } else {
                    format!("webhook.event_{slot}")
                };
                let prepared = client.prepare(&statement(&table)).await?;
                self.statements.entry(slot).or_insert(prepared).clone()
            }
        };
        let running: Vec<Xid> = cursor.snapshot.running().iter().copied().map(Xid).collect();
        let xmax = cursor.snapshot.xmax().cast_signed();
        let params: [&(dyn ToSql + Sync); 4] = [&cursor.text, &xmax, &running, &check_lock];
        let mut rows = pin!(client.query_raw(&statement, params).await?);
        let mut look = Look {
            snapshot: None,
            at_us: 0,
            upto_us: 0,
            lock_holder: None,
            events: Vec::new(),
            too_many: false,
        };
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            if let Some(snapshot) = row.try_get::<_, Option<&str>>(0)? {
                // The header: first, and there is exactly one.
                look.snapshot = if snapshot == cursor.text { None } else { Some(snapshot.parse()?) };
                look.at_us = row.try_get(1)?;
                look.upto_us = row.try_get(2)?;
                look.lock_holder = row.try_get(3)?;
                continue;
            }
            let event = row::event(&row, HEADER_COLUMNS)?;
            bytes += row::payload_bytes(&event);
            look.events.push(event);
            if look.events.len() > BATCH_ROWS_MAX || bytes > BATCH_BYTES_MAX {
                // What is left of the answer is dropped unread, so memory stays bounded whatever the rows weigh.
                look.too_many = true;
                look.events = Vec::new();
                break;
            }
        }
        look.events.sort_unstable_by_key(|event| event.id);
        self.clock = Some((look.upto_us, Instant::now()));
        Ok(look)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_US: i64 = 3_600_000_000;

    #[test]
    fn slots_follow_the_clock_and_wrap() {
        // As webhook.ring_slot() says: 2026-11-22 03:38 UTC.
        assert_eq!(ring_slot(1_795_318_680_000_000), 7);
        assert_eq!(ring_slot(0), 0);
        assert_eq!(ring_slot(-1), 15);
        assert_eq!(ring_slots(0, 59 * HOUR_US), [0]);
        assert_eq!(ring_slots(0, 60 * HOUR_US), [0, 1]);
        assert_eq!(ring_slots(15 * 60 * HOUR_US, 16 * 60 * HOUR_US), [15, 0]);
        assert_eq!(ring_slots(i64::MIN, i64::MAX).len(), 16);
    }

    fn cursor(text: &str, at_us: i64) -> Cursor {
        Cursor::new(text.parse().unwrap(), at_us)
    }

    #[test]
    fn one_slot_is_enough_unless_the_clock_or_a_straggler_says_otherwise() {
        let noon = 30 * HOUR_US;
        assert_eq!(cursor("5:5:", noon).only_slot(noon + HOUR_US), Some(0));
        assert_eq!(
            cursor("5:5:", noon).only_slot(59 * HOUR_US + 59 * HOUR_US / 60),
            None,
            "close to the boundary"
        );
        assert_eq!(cursor("5:5:", noon).only_slot(61 * HOUR_US), None);
        assert_eq!(cursor("5:9:5", noon).only_slot(noon), None, "begun at an unknown time");
        let mut cursor = cursor("5:5:", noon);
        cursor.advance("5:9:5".parse().unwrap(), noon + HOUR_US);
        assert_eq!(cursor.only_slot(noon + HOUR_US), Some(0), "begun after the cursor");
        cursor.advance("5:10:5".parse().unwrap(), 65 * HOUR_US);
        assert_eq!(cursor.only_slot(66 * HOUR_US), None, "begun in the slot before");
        cursor.advance("10:10:".parse().unwrap(), 66 * HOUR_US);
        assert_eq!(cursor.only_slot(66 * HOUR_US), Some(1), "it has ended");
    }

    proptest! {
        #[test]
        fn spans_hold_their_ends(from in 0i64..4_000_000_000_000_000, hours in 0i64..2000) {
            let to = from + hours * HOUR_US;
            let slots = ring_slots(from, to);
            prop_assert!(slots.contains(&ring_slot(from)) && slots.contains(&ring_slot(to)));
            prop_assert!(slots.len() as i64 <= (hours / 60 + 2).min(16));
        }
    }
}
