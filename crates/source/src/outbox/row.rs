//! Parses one row of `webhook.event`.

use bytes::Bytes;
use database::{
    Encoding,
    schema::Schema,
    value::{Micros, Raw},
};
use delivery::event::Event;
use tokio_postgres::{Error, Row};

const COLUMNS: &str = "e.id, e.slot, e.xid, e.created_at, e.subscription_id, e.truncated, e.type, e.table_name, \
     e.key, e.actor, e.origin, e.traceparent, e.payload, e.previous";
const COLUMN_COUNT: usize = 15;

/// The columns of an event that the database has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    pub encoding: Encoding,
    /// The previous schema has no owners of events.
    pub has_owner: bool,
}

impl Columns {
    pub fn new(encoding: Encoding, schema: Schema) -> Self {
        Self { encoding, has_owner: !schema.is_outdated() }
    }

    /// Returns the columns of [`event`], of a table with alias `e`; `whole` is the whole row. Where
    /// a key may have been changed in reading, its order key comes with it.
    pub fn text(self, whole: &str) -> String {
        let owner = if self.has_owner { "e.owner" } else { "null::text" };
        match self.encoding {
            Encoding::Utf8 => format!("{COLUMNS}, {owner}"),
            Encoding::None | Encoding::Other => {
                format!("{COLUMNS}, {owner}, webhook.order_key('key', {whole})")
            }
        }
    }

    /// Returns the number of these columns.
    pub fn count(self) -> usize {
        COLUMN_COUNT + usize::from(self.encoding != Encoding::Utf8)
    }
}

/// Reads an event from its [`Columns`], which begin at column `at`.
///
/// # Errors
/// A column of another type: the extension is of another version.
pub fn event(row: &Row, at: usize, encoding: Encoding) -> Result<Event, Error> {
    let mut reader = RowReader { row, encoding, is_replaced: false };
    let mut event = Event {
        id: row.try_get(at)?,
        slot: row.try_get(at + 1)?,
        xid: row.try_get::<_, i64>(at + 2)?.unsigned_abs(),
        created_at_us: row.try_get::<_, Micros>(at + 3)?.0,
        subscription_id: row.try_get(at + 4)?,
        truncated: row.try_get(at + 5)?,
        event_type: reader.text(at + 6)?.unwrap_or_default(),
        table_name: reader.text(at + 7)?,
        key: reader.text(at + 8)?,
        actor: reader.text(at + 9)?,
        origin: reader.text(at + 10)?,
        traceparent: reader.text(at + 11)?,
        payload: reader.bytes(at + 12)?.unwrap_or_default(),
        previous: reader.bytes(at + 13)?,
        owner: reader.text(at + 14)?,
        order_key: None,
        replaced: false,
    };
    if encoding != Encoding::Utf8 {
        event.order_key = row.try_get(at + COLUMN_COUNT)?;
        event.replaced = reader.is_replaced;
    }
    Ok(event)
}

/// Reads texts, and records whether a part of one was replaced.
struct RowReader<'a> {
    row: &'a Row,
    encoding: Encoding,
    is_replaced: bool,
}

impl RowReader<'_> {
    fn text(&mut self, at: usize) -> Result<Option<Box<str>>, Error> {
        let raw: Option<Raw<'_>> = self.row.try_get(at)?;
        Ok(raw.map(|raw| {
            let (text, is_replaced) = self.encoding.read(raw.0);
            self.is_replaced |= is_replaced;
            text.into()
        }))
    }

    fn bytes(&mut self, at: usize) -> Result<Option<Bytes>, Error> {
        let raw: Option<Raw<'_>> = self.row.try_get(at)?;
        Ok(raw.map(|raw| {
            if self.encoding == Encoding::Utf8 {
                return Bytes::copy_from_slice(raw.0);
            }
            let (text, is_replaced) = self.encoding.read(raw.0);
            self.is_replaced |= is_replaced;
            Bytes::from(text.into_owned())
        }))
    }
}

/// Returns the size of an event in a batch, in bytes.
pub fn payload_bytes(event: &Event) -> usize {
    event.payload.len() + event.previous.as_ref().map_or(0, Bytes::len)
}
