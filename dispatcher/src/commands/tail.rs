//! `webhookd tail`: prints attempts as they end, one line each. Polls `webhook.attempt`, and reads
//! only.
//!
//! An attempt's row is written after its end, and rows of one moment may come in two batches. So
//! each poll reads a little of the past again, and the command remembers the printed ones. A
//! poll reads a bounded number of rows, and the next one continues there.

use crate::{
    cli::manage::Tail,
    commands::{
        Error,
        output::{check_reader, print},
        session::{ClientSession, explain},
        terminal::clean,
    },
};
use database::{Target, Text};
use std::{
    collections::{HashMap, VecDeque},
    process::ExitCode,
    time::Duration,
};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

/// Maximum number of rows of a poll.
const ROWS_MAX: i64 = 1000;
/// Maximum number of attempts that are remembered as printed.
const SHOWN_MAX: usize = 20_000;
/// An attempt lasts 5 min at most. This bounds its start, which the index is on. `$1` is the end of
/// the newest printed attempt, in microseconds. The poll goes back 5 s from there.
const ATTEMPTS: &str = include_str!("sql/tail_attempts.sql");

type Key = (i64, i64, i16);

/// The attempts that were printed recently.
#[derive(Default)]
struct Shown {
    order: VecDeque<Key>,
    ends: HashMap<Key, i64>,
}

impl Shown {
    /// Remembers an attempt. Returns false if it was printed before.
    fn note(&mut self, key: Key, ended_us: i64) -> bool {
        if self.ends.insert(key, ended_us).is_some() {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        true
    }
}

/// Follows until `shutdown`, or until `--count` is reached.
///
/// # Errors
/// The database cannot be reached, or rejects the request.
pub async fn run(flags: &Tail, target: Target, shutdown: CancellationToken) -> Result<ExitCode, Error> {
    let session = ClientSession::open(&target).await?;
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    let began_us: i64 =
        session.client.query_one(now, &[]).await.and_then(|row| row.try_get(0)).map_err(explain)?;
    let (mut newest_us, mut left, mut shown) = (began_us, flags.count, Shown::default());
    loop {
        let mut limit = ROWS_MAX;
        loop {
            let arguments: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&newest_us, &flags.subscription, &flags.failed, &limit, &flags.output.json];
            let rows = session.client.query(ATTEMPTS, &arguments).await.map_err(explain)?;
            let mut fresh = 0;
            for row in &rows {
                let ended_us: i64 = row.try_get(0).map_err(explain)?;
                let key = (
                    row.try_get(1).map_err(explain)?,
                    row.try_get(2).map_err(explain)?,
                    row.try_get(3).map_err(explain)?,
                );
                if ended_us < began_us || !shown.note(key, ended_us) {
                    continue;
                }
                fresh += 1;
                newest_us = newest_us.max(ended_us);
                print(&line(row, flags.output.json).map_err(explain)?)?;
                if let Some(left) = &mut left {
                    *left -= 1;
                    if *left == 0 {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
            if rows.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
                break;
            }
            // There is more than one poll reads: continue behind the last row. If all rows were
            // known, read more at once.
            limit = if fresh == 0 { limit * 2 } else { ROWS_MAX };
        }
        check_reader()?;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(Duration::from_millis(flags.every_ms)) => {}
        }
    }
}

fn line(row: &Row, json: bool) -> Result<String, tokio_postgres::Error> {
    if json {
        let text: Option<Text> = row.try_get(12)?;
        return Ok(text.map(|Text(text)| text).unwrap_or_default().replace(['\n', '\r'], " ") + "\n");
    }
    let text = |at: usize| row.try_get::<_, Text>(at).map(|Text(text)| clean(&text));
    let (outcome, duration): (&str, f32) = (row.try_get(8)?, row.try_get(10)?);
    let mark = if outcome == "succeeded" { "✓" } else { "✗" };
    let (subscription, attempt): (i64, i16) = (row.try_get(2)?, row.try_get(3)?);
    let shown = format!(
        "{} {mark} {}  {}  key {}  to {subscription}  attempt {attempt}  {} {}  {duration:.1} ms  {}",
        text(4)?,
        text(6)?,
        text(5)?,
        text(7)?,
        clean(outcome),
        text(9)?,
        text(11)?
    );
    Ok(shown.trim_end().to_owned() + "\n")
}
