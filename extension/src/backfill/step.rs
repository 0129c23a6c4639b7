//! One step of a backfill: the next rows in the order of the primary key become events, in a
//! transaction of its own.
//!
//! Each row is locked FOR SHARE before it is read and until the step commits. A change that came
//! before has a lower event number and is in the snapshot. A change that comes after waits, and has
//! a higher number. A receiver that applies the events of a row in the order of their numbers
//! therefore ends with the row that the table holds: nothing is missed, and nothing is doubled.
//!
//! Rows are locked as the table's owner, and read as the role that requested the backfill. The
//! condition, the payload function, and row security act with that role's rights. The condition is
//! evaluated before the locks are taken, because that role may have no right to lock rows, and its
//! condition may take long. A row that has changed in between is evaluated again in the next step.
//! Writes `webhook.backfill` and the outbox.

use super::from_item;
use super::keys::{self, Key, Keys};
use super::scope::RowsOf;
use crate::error::Error;
use crate::filter::{Filter, Subject};
use crate::outbox::{self, NewEvent};
use crate::subtransaction::{self, End};
use crate::watch::table::Table;
use crate::{capture, rights};
use core::ffi::CStr;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::spi::SpiTupleTable;
use std::collections::HashMap;
use std::ffi::CString;

/// Most rows of one step.
const ROWS_MAX: i32 = 10_000;

/// No step waits long for a row or a table in use; the daemon tries again.
const LOCK_TIMEOUT: (&CStr, &CStr) = (c"lock_timeout", c"500ms");

/// Settings while keys are written as text, which must mean the same in every session. They do not
/// apply while rows are read: rows print as in any other session.
const KEY_SETTINGS: [(&CStr, &CStr); 6] = [
    LOCK_TIMEOUT,
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"datestyle", c"ISO, YMD"),
    (c"intervalstyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"3"),
];

/// A locked row of `webhook.backfill`.
struct Backfill {
    subscription_id: i64,
    relation: Oid,
    condition: Option<String>,
    requested_by: String,
    requester: Option<Oid>,
    search_path: String,
    after: Option<Key>,
}

/// The result of a step.
struct Progress {
    after: Option<Key>,
    rows: i64,
    last_event_id: Option<i64>,
    is_end: bool,
}

/// Returns the type of the events.
pub fn event_type(noun: &str) -> String {
    format!("{noun}.snapshot")
}

/// Runs the next step. Returns true if the backfill has ended, here or before.
///
/// # Errors
/// Returns or raises problems of the server, and locks that were not available in time: try again.
/// A problem of the backfill itself ends the backfill instead.
pub fn step(id: i64, rows_max: i32) -> Result<bool, Error> {
    // SAFETY: reads a variable of the backend.
    if unsafe { pg_sys::XactIsoLevel } != pg_sys::XACT_READ_COMMITTED as i32 {
        return Err(Error::NotReadCommitted);
    }
    let Some(backfill) = Backfill::lock(id)? else { return Ok(true) };
    let made = subtransaction::attempt(End::Keep, subtransaction::is_lasting, || {
        backfill.advance(rows_max.clamp(1, ROWS_MAX)).unwrap_or_else(|error| error.raise())
    });
    match made {
        Ok(progress) => {
            Spi::run_with_args(
                include_str!("sql/backfill_progress.sql"),
                &[id.into(), progress.after.into(), progress.rows.into(), progress.last_event_id.into()],
            )?;
            if progress.is_end {
                Spi::run_with_args("select webhook.end_backfill($1, 'done')", &[id.into()])?;
            }
            Ok(progress.is_end)
        }
        Err(caught) => {
            Spi::run_with_args(
                "select webhook.end_backfill($1, 'failed', $2)",
                &[id.into(), caught.message.into()],
            )?;
            Ok(true)
        }
    }
}

impl Backfill {
    fn lock(id: i64) -> Result<Option<Self>, Error> {
        Spi::connect_mut(|client| {
            let found = client.update(include_str!("sql/backfill_lock.sql"), Some(1), &[id.into()])?;
            if found.is_empty() {
                return Ok(None);
            }
            let row = found.first();
            Ok(Some(Self {
                subscription_id: row.get(1)?.ok_or(Error::Missing("subscription"))?,
                relation: row.get(2)?.unwrap_or(Oid::INVALID),
                condition: row.get(3)?,
                requested_by: row.get(4)?.unwrap_or_default(),
                requester: row.get(5)?,
                search_path: row.get(6)?.unwrap_or_default(),
                after: row.get::<Array<'_, &[u8]>>(7)?.map(keys::key_of),
            }))
        })
    }

    fn advance(&self, rows_max: i32) -> Result<Progress, Error> {
        let table = Table::find(self.relation)?;
        table.check_kind()?;
        let source = Source::find(&table, self.subscription_id)?;
        let requester = self.requester()?;
        let keys = Keys::of(&table)?;
        let as_owner = &KEY_SETTINGS;
        let listed = rights::as_role(table.owner, as_owner, || keys.next(self.after.as_ref(), rows_max))?;
        let wanted = self.wanted(requester, &keys, &listed)?;
        let chosen: Vec<Key> = match &wanted {
            None => listed.clone(),
            Some(wanted) => listed.iter().filter(|key| wanted.contains_key(*key)).cloned().collect(),
        };
        let (locked, done) =
            rights::as_role(table.owner, as_owner, || lock(&keys, &chosen, wanted.as_ref()))?;
        // The first key that is not done, if there is one.
        let next = chosen.get(done).and_then(|next| listed.iter().position(|key| key == next));
        let count = next.unwrap_or(listed.len());
        let after = count.checked_sub(1).and_then(|last| listed.get(last)).or(self.after.as_ref()).cloned();
        let is_end = count == listed.len() && i32::try_from(listed.len()).is_ok_and(|len| len < rows_max);
        let (rows, last_event_id) = if locked.is_empty() {
            (0, None)
        } else {
            self.send(&table, &source, requester, &keys, &locked)?
        };
        Ok(Progress { after, rows, last_event_id, is_end })
    }

    fn requester(&self) -> Result<Oid, Error> {
        let found = Spi::get_one_with_args::<Oid>(
            "select (select oid from pg_roles where oid = $1)",
            &[self.requester.into()],
        )?;
        found.ok_or_else(|| Error::RequesterGone(self.requested_by.clone()))
    }

    /// Evaluates the condition as the requester, without locks. Returns the rows that meet it, with
    /// their versions, or `None` if there is no condition.
    fn wanted(
        &self,
        requester: Oid,
        keys: &Keys,
        listed: &[Key],
    ) -> Result<Option<HashMap<Key, String>>, Error> {
        let Some(condition) = &self.condition else { return Ok(None) };
        if listed.is_empty() {
            return Ok(Some(HashMap::new()));
        }
        self.as_requester(requester, || keys.versions(listed, &format!("and ({condition}\n)"))).map(Some)
    }

    fn as_requester<R>(&self, requester: Oid, work: impl FnOnce() -> R) -> R {
        let search_path = CString::new(self.search_path.as_str()).unwrap_or_default();
        let settings = [LOCK_TIMEOUT, (c"search_path", search_path.as_c_str())];
        rights::as_role(requester, &settings, work)
    }

    /// Reads the locked rows as the requester and emits them. Returns their number, and the id of
    /// the last event.
    fn send(
        &self,
        table: &Table,
        source: &Source,
        requester: Oid,
        keys: &Keys,
        locked: &[Key],
    ) -> Result<(i64, Option<i64>), Error> {
        let query = format!(
            "select new from {} as new where {} order by {}",
            from_item(table),
            keys.among(),
            keys.columns()
        );
        self.as_requester(requester, || {
            Spi::connect_mut(|client| {
                let mut rows = client.update(query.as_str(), None, &keys.arguments(locked))?;
                source.emit(&mut rows, self.subscription_id)
            })
        })
    }
}

/// Locks rows, as the table's owner. Returns those that are locked and still exist, and the number
/// of keys that are done. Rows from the first one on that has changed since its condition was
/// evaluated are not done.
fn lock(
    keys: &Keys,
    chosen: &[Key],
    wanted: Option<&HashMap<Key, String>>,
) -> Result<(Vec<Key>, usize), Error> {
    let (mut locked, mut done) = keys.lock(chosen.to_vec())?;
    if let Some(wanted) = wanted.filter(|_| !locked.is_empty()) {
        let now = keys.versions(&locked, "")?;
        if let Some(at) = locked.iter().position(|key| now.get(key) != wanted.get(key)) {
            done = chosen.iter().position(|key| *key == locked[at]).unwrap_or(0);
            locked.truncate(at);
        }
    }
    Ok((locked, done))
}

/// The source of the events of a table.
struct Source {
    relation: Oid,
    /// Any trigger of its watch, because each carries the whole definition.
    trigger: Oid,
    event_type: String,
    filter: Option<Filter>,
    rows: RowsOf,
}

impl Source {
    /// # Errors
    /// [`Error::NotWatched`] if the table is no longer watched.
    fn find(table: &Table, subscription_id: i64) -> Result<Self, Error> {
        let filter = filter(subscription_id)?;
        let rows = RowsOf::find(subscription_id, table)?;
        Spi::connect(|client| {
            let found =
                client.select(include_str!("sql/backfill_capture.sql"), Some(1), &[table.oid.into()])?;
            if found.is_empty() {
                return Err(Error::NotWatched(table.qualified()));
            }
            let row = found.first();
            let trigger = row.get(1)?.ok_or_else(|| Error::NotWatched(table.qualified()))?;
            let event_type = event_type(&row.get::<String>(2)?.unwrap_or_default());
            Ok(Self { relation: table.oid, trigger, event_type, filter, rows })
        })
    }

    fn emit(&self, rows: &mut SpiTupleTable<'_>, subscription_id: i64) -> Result<(i64, Option<i64>), Error> {
        let (mut count, mut last) = (0, None);
        // SAFETY: the query that read the rows has locked the relation; it is closed again here or
        // by the abort. Each row is a composite value of the relation's type. The trigger is looked
        // up for each row: a payload function can make the relation cache rebuild its copy.
        unsafe {
            let relation = pg_sys::table_open(self.relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            while rows.next().is_some() {
                let Some(datum) = rows.get_datum_by_ordinal(1)? else { continue };
                let header =
                    pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: pgrx::varsize(header.cast()) as u32,
                    t_tableOid: self.relation,
                    t_data: header,
                    ..Default::default()
                };
                let trigger = self.trigger_of(relation)?;
                capture::represent(trigger, relation, &raw mut tuple, self.event_type.as_bytes(), |event| {
                    let matches = |filter: Filter| filter.matches(&subject(event));
                    if self.rows.include(event.owner) && self.filter.is_none_or(matches) {
                        let event = NewEvent { subscription_id: Some(subscription_id), ..*event };
                        last = Some(outbox::emit(&event).id);
                        count += 1;
                    }
                });
            }
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
        Ok((count, last))
    }

    unsafe fn trigger_of(&self, relation: pg_sys::Relation) -> Result<*const pg_sys::Trigger, Error> {
        // SAFETY: the caller's promise: an open relation; its description lists `numtriggers`
        // triggers.
        let triggers = unsafe {
            let description = (*relation).trigdesc;
            if description.is_null() {
                return Err(Error::Missing("trigger"));
            }
            let count = usize::try_from((*description).numtriggers).unwrap_or(0);
            core::slice::from_raw_parts((*description).triggers, count)
        };
        let found = triggers.iter().find(|trigger| trigger.tgoid == self.trigger);
        found.map(core::ptr::from_ref).ok_or(Error::Missing("trigger"))
    }
}

/// Returns the event as a filter sees it.
fn subject<'a>(event: &NewEvent<'a>) -> Subject<'a> {
    Subject {
        event_type: event.event_type,
        key: event.key,
        table_name: event.table_name,
        truncated: event.truncated,
        data: event.payload,
        ..Subject::default()
    }
}

/// Reads the subscription's filter into the current memory context.
fn filter(subscription_id: i64) -> Result<Option<Filter>, Error> {
    let path = Spi::get_one_with_args::<Vec<u8>>(
        "select (select convert_to(filter::text, 'UTF8') from webhook.subscription where id = $1)",
        &[subscription_id.into()],
    )?;
    Ok(path.map(|text| Filter::parse(&String::from_utf8_lossy(&text))))
}
