//! One poll of the outbox: the present snapshot and everything that it sees beyond the cursor, in
//! one round trip.
//!
//! A poll reads the open slots of the ring that the cursor knows, mostly the present
//! slot. It has seen everything if `webhook.ring_head` is the same in its own snapshot and in the
//! cursor's. Otherwise, the whole ring is read. No clock is involved. docs/ARCHITECTURE.md has the
//! proof.

use crate::outbox::{
    BATCH_BYTES_MAX, BATCH_ROWS_MAX, Error,
    ring::Ring,
    row::{self, Columns},
};
use database::{Client, is_lock, schema::Schema, value::Xid};
use delivery::{event::Event, snapshot::Snapshot};
use tokio_postgres::{Statement, types::ToSql};

/// The position up to which the outbox has been read.
#[derive(Debug)]
pub struct Cursor {
    pub snapshot: Snapshot,
    text: String,
    /// The ring in the snapshot.
    ring: Ring,
}

impl Cursor {
    pub fn new(snapshot: Snapshot, ring: Ring) -> Self {
        let text = snapshot.to_string();
        Self { snapshot, text, ring }
    }

    /// Advances to a later snapshot of the same server.
    pub fn advance(&mut self, snapshot: Snapshot, ring: Ring) {
        *self = Self::new(snapshot, ring);
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Returns the slots to read, or none for the whole ring.
    fn slots(&self) -> &[i16] {
        self.ring.slots()
    }

    /// Reports whether a poll of [`slots`](Self::slots) has seen everything, if this was the ring
    /// in its snapshot.
    fn covers(&self, ring: &Ring) -> bool {
        self.slots().is_empty() || self.ring == *ring
    }
}

/// The result of a poll.
#[derive(Debug)]
pub struct PollResult {
    /// The server's snapshot. `None` if it equals the cursor: no transaction has ended since.
    pub snapshot: Option<Snapshot>,
    /// The ring in that snapshot.
    pub ring: Ring,
    /// The backend that holds the leader's lock, if the caller asked for it.
    pub lock_holder: Option<i32>,
    /// In ascending order of ids. Empty if there are too many.
    pub events: Vec<Event>,
    /// There are more events than one batch holds.
    pub too_many: bool,
}

/// Number of columns before the event's.
const HEADER_COLUMNS: usize = 3;

/// Polls the outbox over one connection.
#[derive(Debug)]
pub struct Poll {
    schema: Schema,
    /// The statement of the last poll, and its slots.
    last: Option<(Vec<i16>, Statement)>,
}

/// Returns the tables of a poll. Each slot is a partition of its own, so Postgres opens no other.
fn tables(slots: &[i16]) -> Vec<String> {
    if slots.is_empty() {
        return vec!["webhook.event".to_owned()];
    }
    slots.iter().map(|slot| format!("webhook.event_{slot}")).collect()
}

/// The statement compares the snapshot first. If no transaction has ended, it touches no row and no
/// index. It limits stragglers to those that have ended, because the index also contains the rows
/// of a bulk load that is still running.
fn statement(slots: &[i16], columns: Columns) -> String {
    let nulls = vec!["null"; columns.count()].join(", ");
    let columns = columns.text("e");
    let limit = BATCH_ROWS_MAX + 1;
    let ring = Ring::COLUMN;
    let is_leader = is_lock!(leader);
    let mut text = format!(
        "select pg_current_snapshot()::text,
                case when $4 then (select l.pid from pg_locks l where {is_leader}) end,
                case when pg_current_snapshot()::text <> $1::text then {ring} end, {nulls}"
    );
    for table in tables(slots) {
        text += &format!(
            "
         union all
         (select null, null, null, {columns} from {table} e
          where pg_current_snapshot()::text <> $1::text and e.xid >= $2::bigint limit {limit})
         union all
         (select null, null, null, {columns} from {table} e
          where pg_current_snapshot()::text <> $1::text and cardinality($3::xid8[]) > 0
            and e.xid = any (array(select x.xid::text::bigint from unnest($3::xid8[]) as x (xid)
                                   where pg_visible_in_snapshot(x.xid, pg_current_snapshot()))) limit {limit})"
        );
    }
    text
}

impl Poll {
    pub fn new(schema: Schema) -> Self {
        Self { schema, last: None }
    }

    /// Polls once. With `check_lock`, it also returns the holder of the leader's lock.
    ///
    /// # Errors
    /// The errors of the connection, and a snapshot that cannot be parsed.
    pub async fn run(
        &mut self,
        client: &Client,
        cursor: &Cursor,
        check_lock: bool,
    ) -> Result<PollResult, Error> {
        let result = self.read(client, cursor, check_lock, cursor.slots()).await?;
        if cursor.covers(&result.ring) {
            return Ok(result);
        }
        self.read(client, cursor, check_lock, &[]).await
    }

    async fn read(
        &mut self,
        client: &Client,
        cursor: &Cursor,
        check_lock: bool,
        slots: &[i16],
    ) -> Result<PollResult, Error> {
        let columns = Columns::new(client.encoding(), self.schema);
        let statement = match &self.last {
            Some((last, statement)) if last == slots => statement.clone(),
            _ => {
                let prepared = client.prepare_cached(&statement(slots, columns)).await?;
                self.last = Some((slots.to_vec(), prepared.clone()));
                prepared
            }
        };
        let running: Vec<Xid> = cursor.snapshot.running().iter().copied().map(Xid).collect();
        let xmax = cursor.snapshot.xmax().cast_signed();
        let params: [&(dyn ToSql + Sync); 4] = [&cursor.text, &xmax, &running, &check_lock];
        let mut rows = client.query_rows(&statement, &params).await?;
        let mut result = PollResult {
            snapshot: None,
            ring: cursor.ring.clone(),
            lock_holder: None,
            events: Vec::new(),
            too_many: false,
        };
        let mut bytes = 0;
        while let Some(row) = rows.next().await? {
            if let Some(text) = row.try_get::<_, Option<&str>>(0)? {
                // The header is the first row, and there is exactly one.
                if text != cursor.text {
                    result.snapshot = Some(text.parse()?);
                    result.ring = Ring::of(row.try_get(2)?);
                }
                result.lock_holder = row.try_get(1)?;
                continue;
            }
            let event = row::event(&row, HEADER_COLUMNS, client.encoding())?;
            bytes += row::payload_bytes(&event);
            result.events.push(event);
            if result.events.len() > BATCH_ROWS_MAX || bytes > BATCH_BYTES_MAX {
                // The rest of the answer is dropped unread, so memory is bounded for rows of any
                // size.
                result.too_many = true;
                result.events = Vec::new();
                break;
            }
        }
        result.events.sort_unstable_by_key(|event| event.id);
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
