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

/// When a snapshot was taken, and what it does not tell: the transactions that had begun by then. Its `xmax` is what follows the
/// last one that had *ended*, so some from there on may have been at work for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The server's clock before it was taken, in microseconds since 1970.
    pub at_us: i64,
    /// No transaction from this id on had begun.
    pub next_xid: u64,
}

impl Taken {
    /// `next_xid_low`: the lower half of the id, as [`NEXT_XID`] tells it, read after the snapshot.
    pub fn new(snapshot: &Snapshot, at_us: i64, next_xid_low: i64) -> Self {
        let low = next_xid_low.cast_unsigned() as u32;
        let ahead = low.wrapping_sub(snapshot.xmax() as u32);
        Self { at_us, next_xid: snapshot.xmax() + u64::from(ahead) }
    }
}

/// The next transaction id that will be handed out: `age()` of the first normal one measures from there, in a transaction that
/// has none of its own. Without the epoch.
pub const NEXT_XID: &str = "(age('3'::xid)::bigint + 3) & 4294967295";

/// Where reading has come to.
#[derive(Debug)]
pub struct Cursor {
    pub snapshot: Snapshot,
    text: String,
    taken: Taken,
    /// For what was running in it: a moment at which it had not begun. Its events are in the slots since then.
    begun_after_us: HashMap<u64, i64>,
    /// The same for those that had begun and are beyond its `xmax`, all together.
    tail_begun_after_us: i64,
}

impl Cursor {
    pub fn new(snapshot: Snapshot, taken: Taken) -> Self {
        let begun_after_us = snapshot.running().iter().map(|xid| (*xid, i64::MIN)).collect();
        let text = snapshot.to_string();
        Self { snapshot, text, taken, begun_after_us, tail_begun_after_us: i64::MIN }
    }

    /// Moves on to a later snapshot of the same server.
    pub fn advance(&mut self, snapshot: Snapshot, taken: Taken) {
        let begun = |xid: &u64| (*xid, self.begun_after(*xid));
        let begun_after_us = snapshot.running().iter().map(begun).collect();
        self.tail_begun_after_us = self.begun_after(snapshot.xmax());
        self.begun_after_us = begun_after_us;
        self.text = snapshot.to_string();
        self.snapshot = snapshot;
        self.taken = taken;
    }

    /// A moment at which a transaction that had not ended had not begun, nor any after it.
    fn begun_after(&self, xid: u64) -> i64 {
        match self.begun_after_us.get(&xid) {
            Some(at_us) => *at_us,
            None if xid < self.taken.next_xid => self.tail_begun_after_us,
            None => self.taken.at_us,
        }
    }

    /// The one slot that can hold events beyond the cursor, written up to a moment; `None`: there may be several.
    fn only_slot(&self, upto_us: i64) -> Option<i16> {
        let running = self.begun_after_us.values().copied();
        let oldest = running.fold(self.begun_after(self.snapshot.xmax()), i64::min);
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
    pub taken: Taken,
    /// The server's clock after the snapshot was taken: what it sees was written before that. If the clock is set on in between, by
    /// hours and over the end of a slot, the two are far apart.
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
const HEADER_COLUMNS: usize = 5;

/// Looks at the outbox through one connection.
#[derive(Debug, Default)]
pub struct Poll {
    /// By slot, or [`WHOLE_RING`].
    statements: HashMap<i16, Statement>,
    /// The server's clock and ours at the last look.
    clock: Option<(i64, Instant)>,
}

/// `now()` is when the transaction began, and with it the statement: before its snapshot. The snapshot is compared first and
/// alone: if nothing has ended, no row and no index is touched. Stragglers are cut down to those that have ended, for the index
/// also holds the rows of a bulk load that is still running.
fn statement(table: &str) -> String {
    let nulls = ["null"; COLUMN_COUNT].join(", ");
    let limit = BATCH_ROWS_MAX + 1;
    format!(
        "select pg_current_snapshot()::text, (extract(epoch from now()) * 1000000)::bigint,
                (extract(epoch from clock_timestamp()) * 1000000)::bigint, {NEXT_XID},
                case when $4 then (select l.pid from pg_locks l where l.locktype = 'advisory' and l.granted
                    and l.database = (select d.oid from pg_database d where d.datname = current_database())
                    and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) end, {nulls}
         union all
         (select null, null, null, null, null, {COLUMNS} from {table} e
          where pg_current_snapshot()::text <> $1::text and e.xid >= $2::bigint limit {limit})
         union all
         (select null, null, null, null, null, {COLUMNS} from {table} e
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
            taken: Taken { at_us: 0, next_xid: 0 },
            upto_us: 0,
            lock_holder: None,
            events: Vec::new(),
            too_many: false,
        };
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            if let Some(text) = row.try_get::<_, Option<&str>>(0)? {
                // The header: first, and there is exactly one.
                let snapshot: Snapshot = text.parse()?;
                look.taken = Taken::new(&snapshot, row.try_get(1)?, row.try_get(3)?);
                look.snapshot = (text != cursor.text).then_some(snapshot);
                look.upto_us = row.try_get(2)?;
                look.lock_holder = row.try_get(4)?;
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

    /// Nothing has begun that has not ended or is running.
    fn taken(text: &str, at_us: i64) -> (Snapshot, Taken) {
        let snapshot: Snapshot = text.parse().unwrap();
        let next_xid = snapshot.xmax();
        (snapshot, Taken { at_us, next_xid })
    }

    fn cursor(text: &str, at_us: i64) -> Cursor {
        let (snapshot, taken) = taken(text, at_us);
        Cursor::new(snapshot, taken)
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
        let mut advance = |text: &str, at_us, ahead: u64| {
            let (snapshot, taken) = taken(text, at_us);
            let next_xid = taken.next_xid + ahead;
            cursor.advance(snapshot, Taken { next_xid, ..taken });
            cursor.only_slot(at_us)
        };
        assert_eq!(advance("5:9:5", noon + HOUR_US, 0), Some(0), "begun after the cursor");
        assert_eq!(advance("5:10:5", 65 * HOUR_US, 0), None, "begun in the slot before");
        assert_eq!(advance("10:10:", 66 * HOUR_US, 2), Some(1), "ended; two have begun since 65 h");
        assert_eq!(advance("10:11:10", 125 * HOUR_US, 1), None, "they are at work still, one beyond xmax");
        assert_eq!(advance("11:11:", 126 * HOUR_US, 1), None, "and still");
        assert_eq!(advance("12:12:", 126 * HOUR_US, 0), Some(2));
    }

    #[test]
    fn the_half_of_an_id_becomes_the_whole() {
        let of = |text: &str, low: i64| Taken::new(&text.parse().unwrap(), 0, low).next_xid;
        assert_eq!(of("5:9:", 9), 9);
        assert_eq!(of("5:9:", 12), 12);
        assert_eq!(of("8589934590:8589934591:", 4294967295), 8589934591, "just before an epoch");
        assert_eq!(of("8589934590:8589934591:", 5), 8589934597, "an epoch between them");
    }

    /// A transaction of a history: begins, writes one event some time later, and ends some time after that.
    #[derive(Debug, Clone)]
    struct Past {
        begins: u64,
        writes: u64,
        ends: u64,
    }

    /// Ids are handed out in the order in which they begin; a clock runs on, and jumps.
    fn history() -> impl Strategy<Value = (Vec<Past>, Vec<u64>, Vec<u64>)> {
        let one = (0u64..60, 0u64..30, 0u64..30).prop_map(|(begins, writes, ends)| Past {
            begins,
            writes: begins + writes,
            ends: begins + writes + ends,
        });
        let jumps = proptest::collection::vec(0u64..120, 0..4);
        (proptest::collection::vec(one, 1..30), proptest::collection::btree_set(0u64..130, 2..40), jumps)
            .prop_map(|(mut pasts, looks, jumps)| {
                pasts.sort_by_key(|past| past.begins);
                (pasts, looks.into_iter().collect(), jumps)
            })
    }

    proptest! {
        /// Whatever ends between two looks lies in the one slot that is looked into, if it is one.
        #[test]
        fn nothing_lies_in_another_slot((pasts, looks, jumps) in history()) {
            const FIRST_XID: u64 = 100;
            let clock = |tick: u64| {
                let turns = jumps.iter().filter(|jump| **jump <= tick).count() as i64;
                turns * SLOT_US + SLOT_US / 2 + tick as i64
            };
            let xids = || pasts.iter().zip(FIRST_XID..);
            // Postgres tells of those below the last one that has ended.
            let look = |tick: u64| {
                let ended = |past: &Past| past.ends <= tick;
                let xmax = xids().filter(|(past, _)| ended(past)).map(|(_, xid)| xid + 1).max().unwrap_or(FIRST_XID);
                let running: Vec<u64> = xids().filter(|(past, xid)| *xid < xmax && !ended(past)).map(|(_, xid)| xid).collect();
                let xmin = running.first().copied().unwrap_or(xmax);
                let running: Vec<String> = running.iter().map(u64::to_string).collect();
                let snapshot: Snapshot = format!("{xmin}:{xmax}:{}", running.join(",")).parse().unwrap();
                let next_xid = FIRST_XID + pasts.iter().filter(|past| past.begins <= tick).count() as u64;
                (snapshot, Taken { at_us: clock(tick), next_xid })
            };
            let (snapshot, taken) = look(looks[0]);
            let mut cursor = Cursor::new(snapshot, taken);
            for &tick in &looks[1..] {
                let (snapshot, taken) = look(tick);
                if snapshot == cursor.snapshot {
                    continue;
                }
                if let Some(slot) = cursor.only_slot(clock(tick)) {
                    let found = xids().filter(|(_, xid)| snapshot.sees(*xid) && !cursor.snapshot.sees(*xid));
                    for (past, xid) in found {
                        prop_assert_eq!(ring_slot(clock(past.writes)), slot, "{} of {:?} at {}", xid, pasts, tick);
                    }
                }
                cursor.advance(snapshot, taken);
            }
        }

        #[test]
        fn spans_hold_their_ends(from in 0i64..4_000_000_000_000_000, hours in 0i64..2000) {
            let to = from + hours * HOUR_US;
            let slots = ring_slots(from, to);
            prop_assert!(slots.contains(&ring_slot(from)) && slots.contains(&ring_slot(to)));
            prop_assert!(slots.len() as i64 <= (hours / 60 + 2).min(16));
        }
    }
}
