//! `webhook_dry_run`: reports which events a subscription would have received. Reads only, and
//! delivers nothing.
//!
//! The answer may be as long as the ring, so a cursor reads it page by page.

use crate::catalogue;
use crate::error::{Error, answer, given};
use crate::memory;
use crate::owner;
use crate::rights::{self, Caller};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use std::vec::IntoIter;

/// Rows per fetch.
const PAGE: core::ffi::c_long = 1000;

// Key and reason as bytes: they may contain any bytes of the database.
// The sort is in the subquery, so the reason is computed once per event.
const EVENTS: &str = include_str!("sql/dry_run_events.sql");

type DryRunRow = (
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<Vec<u8>>,
    Option<TimestampWithTimeZone>,
    Option<bool>,
    Option<Vec<u8>>,
);

#[expect(clippy::type_complexity, reason = "pgrx reads the columns here")]
#[pg_extern(sql = false)]
fn webhook_dry_run(
    subscription_id: Option<i64>,
    since: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(event_id, Option<String>),
        name!(sequence, Option<i64>),
        name!(r#type, Option<String>),
        name!(key, Option<Vec<u8>>),
        name!(created_at, Option<TimestampWithTimeZone>),
        name!(matches, Option<bool>),
        name!(reason, Option<Vec<u8>>),
    ),
> {
    answer(|| {
        let (id, since) = (given(subscription_id, "subscription_id")?, given(since, "since")?);
        let caller = Caller::present();
        let portal = rights::as_owner(|| open(caller, id, since))?;
        Ok(TableIterator::new(Pages { portal, page: Vec::new().into_iter(), is_last: false }))
    })
}

fn open(caller: Caller, id: i64, since: TimestampWithTimeZone) -> Result<String, Error> {
    owner::lock(caller, id)?;
    // An owner does not learn of events outside the scope.
    let sees_all = rights::sees_all(caller)?;
    let events = catalogue::in_schema(EVENTS)?;
    let arguments: [DatumWithOid<'_>; 3] = [id.into(), since.into(), sees_all.into()];
    Spi::connect_mut(|client| Ok(client.open_cursor(events.as_str(), &arguments).detach_into_name()))
}

/// The rest of the answer.
struct Pages {
    portal: String,
    page: IntoIter<DryRunRow>,
    is_last: bool,
}

impl Iterator for Pages {
    type Item = DryRunRow;

    fn next(&mut self) -> Option<DryRunRow> {
        if self.page.len() == 0 && !self.is_last {
            let page = answer(|| rights::as_owner(|| fetch(&self.portal)));
            self.is_last = page.len() < PAGE as usize;
            self.page = page.into_iter();
        }
        self.page.next()
    }
}

fn fetch(portal: &str) -> Result<Vec<DryRunRow>, Error> {
    Spi::connect(|client| {
        let mut cursor = client.find_cursor(portal)?;
        let mut rows = Vec::with_capacity(PAGE as usize);
        for row in cursor.fetch(PAGE)? {
            let text = |at| {
                row.get::<&str>(at).map(|text| {
                    text.map(|text| {
                        memory::room_for_input(text.len());
                        text.to_owned()
                    })
                })
            };
            let bytes = |at| {
                row.get::<&[u8]>(at).map(|bytes| {
                    bytes.map(|bytes| {
                        memory::room_for_input(bytes.len());
                        bytes.to_owned()
                    })
                })
            };
            rows.push((text(1)?, row.get(2)?, text(3)?, bytes(4)?, row.get(5)?, row.get(6)?, bytes(7)?));
        }
        if rows.len() == PAGE as usize {
            cursor.detach_into_name();
        }
        Ok(rows)
    })
}
