//! One look at the outbox: the present snapshot and what it sees beyond the cursor, in one round
//! trip.
//!
//! A look goes into the open slots of the ring, as the cursor knows them: mostly the one that is
//! written to. It has seen everything if `webhook.ring_head` is the same in its own snapshot and in
//! the cursor's; else the whole ring is looked into. No clock is asked. docs/ARCHITECTURE.md has
//! the proof.

use super::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, Error, ring::Ring, row, snapshot::Snapshot};
use crate::{
    event::Event,
    postgres::{Client, Encoding, schema::Schema, value::Xid},
};
use std::collections::HashMap;
use tokio_postgres::{Statement, types::ToSql};

/// Where reading has come to.
#[derive(Debug)]
pub struct Cursor {
    pub snapshot: Snapshot,
    text: String,
    /// The ring as it was in the snapshot.
    ring: Ring,
}

impl Cursor {
    pub fn new(snapshot: Snapshot, ring: Ring) -> Self {
        let text = snapshot.to_string();
        Self { snapshot, text, ring }
    }

    /// Moves on to a later snapshot of the same server.
    pub fn advance(&mut self, snapshot: Snapshot, ring: Ring) {
        *self = Self::new(snapshot, ring);
    }

    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Where a look goes; empty: into the whole ring.
    fn slots(&self) -> &[i16] {
        self.ring.slots()
    }

    /// Whether a look into [`slots`](Self::slots) has seen everything, if this was the ring in its
    /// snapshot.
    fn covers(&self, ring: &Ring) -> bool {
        self.slots().is_empty() || self.ring == *ring
    }
}

/// What a look found.
#[derive(Debug)]
pub struct Look {
    /// What the server saw; `None`: the same as the cursor, nothing has ended since.
    pub snapshot: Option<Snapshot>,
    /// The ring in that snapshot.
    pub ring: Ring,
    /// Which backend holds the active lock, if that was asked for.
    pub lock_holder: Option<i32>,
    /// Ascending by id; empty if there are too many.
    pub events: Vec<Event>,
    /// There are more than fit one batch.
    pub too_many: bool,
}

/// Columns before those of the event.
const HEADER_COLUMNS: usize = 3;

/// Looks at the outbox through one connection.
#[derive(Debug)]
pub struct Poll {
    schema: Schema,
    /// By slots; none: the whole ring.
    statements: HashMap<Vec<i16>, Statement>,
}

/// The slots of a look, each a partition of its own, so that no other is opened.
fn tables(slots: &[i16]) -> Vec<String> {
    if slots.is_empty() {
        return vec!["webhook.event".to_owned()];
    }
    slots.iter().map(|slot| format!("webhook.event_{slot}")).collect()
}

/// The snapshot is compared first and alone: if nothing has ended, no row and no index is touched.
/// Stragglers are cut down to those that have ended, for the index also holds the rows of a bulk
/// load that is still running.
fn statement(slots: &[i16], schema: Schema, encoding: Encoding) -> String {
    let nulls = vec!["null"; row::column_count(encoding)].join(", ");
    let columns = row::columns(encoding, "e");
    let limit = BATCH_ROWS_MAX + 1;
    let ring = Ring::column(schema);
    let mut text = format!(
        "select pg_current_snapshot()::text,
                case when $4 then (select l.pid from pg_locks l where l.locktype = 'advisory' and l.granted
                    and l.database = (select d.oid from pg_database d where d.datname = current_database())
                    and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2) end,
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
        Self { schema, statements: HashMap::new() }
    }

    /// Looks once. With `check_lock`, tells who holds the active lock.
    ///
    /// # Errors
    /// Those of the connection, and a snapshot that cannot be read.
    pub async fn look(&mut self, client: &Client, cursor: &Cursor, check_lock: bool) -> Result<Look, Error> {
        let look = self.look_into(client, cursor, check_lock, cursor.slots()).await?;
        if cursor.covers(&look.ring) {
            return Ok(look);
        }
        self.look_into(client, cursor, check_lock, &[]).await
    }

    async fn look_into(
        &mut self,
        client: &Client,
        cursor: &Cursor,
        check_lock: bool,
        slots: &[i16],
    ) -> Result<Look, Error> {
        let statement = match self.statements.get(slots) {
            Some(statement) => statement.clone(),
            None => {
                let prepared = client.prepare(&statement(slots, self.schema, client.encoding())).await?;
                self.statements.entry(slots.to_vec()).or_insert(prepared).clone()
            }
        };
        let running: Vec<Xid> = cursor.snapshot.running().iter().copied().map(Xid).collect();
        let xmax = cursor.snapshot.xmax().cast_signed();
        let params: [&(dyn ToSql + Sync); 4] = [&cursor.text, &xmax, &running, &check_lock];
        let mut rows = client.query_rows(&statement, &params).await?;
        let mut look = Look {
            snapshot: None,
            ring: cursor.ring.clone(),
            lock_holder: None,
            events: Vec::new(),
            too_many: false,
        };
        let mut bytes = 0;
        while let Some(row) = rows.next().await? {
            if let Some(text) = row.try_get::<_, Option<&str>>(0)? {
                // The header: first, and there is exactly one.
                if text != cursor.text {
                    look.snapshot = Some(text.parse()?);
                    look.ring = Ring::of(row.try_get(2)?);
                }
                look.lock_holder = row.try_get(1)?;
                continue;
            }
            let event = row::event(&row, HEADER_COLUMNS, client.encoding())?;
            bytes += row::payload_bytes(&event);
            look.events.push(event);
            if look.events.len() > BATCH_ROWS_MAX || bytes > BATCH_BYTES_MAX {
                // What is left of the answer is dropped unread, so memory stays bounded whatever
                // the rows weigh.
                look.too_many = true;
                look.events = Vec::new();
                break;
            }
        }
        look.events.sort_unstable_by_key(|event| event.id);
        Ok(look)
    }
}

#[cfg(test)]
mod tests;
