//! Turns the ring, and empties slots that have expired or whose space is needed.
//! `sql/retention.sql` decides which. Writes the present names of roles.
//!
//! The module waits for no lock of a slot, and at most a second for that of a renamed role's row.
//! If one is in use, it retries later. It never reads an event, and no delivery depends on it.

use database::{Client, Purpose, Target, Watch, chain, connect};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Error, Row, Statement};
use tracing::{debug, info, warn};

/// Maximum time between two rounds.
pub const RETIRE_INTERVAL: Duration = Duration::from_secs(600);

/// Maximum time after a round that found a slot in use, and after the first.
const SOON: Duration = Duration::from_secs(60);

/// Minimum time between two rounds, unless a shorter interval is set.
const RETIRE_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// Time between two equal warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(600);

const SLOTS: std::ops::Range<i32> = 0..16;

const TURN: &str = "select webhook.turn_ring()";
const RETIRE: &str = "select webhook.retire_slot($1::integer)";
/// The previous schema has no such function.
const CAN_FOLLOW_ROLES: &str = "select to_regproc('webhook.follow_roles') is not null";
const FOLLOW_ROLES: &str = "select webhook.follow_roles()";
const RELIEVE: &str = "select r.bytes, r.bytes_max, r.held_bytes, r.slot_seconds, r.in_use, r.retired from webhook.relieve_ring() r";

/// Before a slot with tens of millions of rows is emptied, they are read. No statement needs
/// longer.
const SESSION: &str = "set statement_timeout = '10min'";

/// The result for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Retired,
    /// Some deliveries that are too old have been given up. There are more.
    Exhausting,
    InUse,
    /// The slot has not expired, or is empty.
    Stays,
}

impl Slot {
    fn of(word: &str) -> Self {
        match word {
            "retired" => Self::Retired,
            "exhausting" => Self::Exhausting,
            "in use" => Self::InUse,
            _ => Self::Stays,
        }
    }
}

/// The size of the ring after a round.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Size {
    bytes: i64,
    /// `None` means no limit.
    bytes_max: Option<i64>,
    /// Size of the slots with undelivered events. The limit does not remove these.
    held_bytes: i64,
    /// Length of a turn, in seconds.
    slot_seconds: f64,
}

/// How a size compares with its limit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Fits,
    /// Undelivered events take more than four fifths of the limit.
    NearlyFull,
    /// All remaining events are undelivered or in use, and exceed the limit.
    Over,
}

impl Size {
    fn of(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            bytes: row.try_get(0)?,
            bytes_max: row.try_get(1)?,
            held_bytes: row.try_get(2)?,
            slot_seconds: row.try_get(3)?,
        })
    }

    fn level(self) -> Level {
        match self.bytes_max {
            Some(max) if self.bytes > max => Level::Over,
            Some(max) if self.held_bytes > max / 10 * 8 => Level::NearlyFull,
            _ => Level::Fits,
        }
    }

    /// Returns the time until the next round: a fifth of a turn at most, and half of the time in
    /// which a slot fills at the rate since the last round.
    fn pause(self, before: Option<(Self, Duration)>, is_soon: bool) -> Duration {
        let turn = Duration::try_from_secs_f64(self.slot_seconds / 5.0).unwrap_or(RETIRE_INTERVAL);
        let most = if is_soon || before.is_none() { SOON } else { RETIRE_INTERVAL };
        let filled = before.zip(self.bytes_max).and_then(|((before, time), max)| {
            let share = max as f64 / 32.0 / (self.bytes - before.bytes).max(0) as f64;
            Duration::try_from_secs_f64(time.as_secs_f64() * share).ok()
        });
        turn.max(SOON).min(most).min(filled.unwrap_or(most)).max(RETIRE_INTERVAL_MIN)
    }
}

/// The last warning, and its time.
#[derive(Debug, Default)]
struct Warned(Option<(Level, Instant)>);

impl Warned {
    fn of(&mut self, size: Size, now: Instant) {
        let Size { bytes, bytes_max, held_bytes, .. } = size;
        let (level, bytes_max) = (size.level(), bytes_max.unwrap_or_default());
        if level == Level::Fits {
            if self.0.take().is_some() {
                info!(bytes, bytes_max, "ring.fits_again");
            }
            return;
        }
        if self.0.is_some_and(|(before, at)| level <= before && now.duration_since(at) < WARN_INTERVAL) {
            return;
        }
        self.0 = Some((level, now));
        if level == Level::Over {
            warn!(
                bytes,
                bytes_max,
                held_bytes,
                "ring.over_limit; only undelivered events are left; see webhook.ring and webhook.subscription_stats"
            );
        } else {
            warn!(bytes, bytes_max, held_bytes, "ring.nearly_full; undelivered events use most of it");
        }
    }
}

/// Executes rounds until it is aborted, with a connection for each round.
pub async fn run(database: Target, interval: Duration) {
    let mut warned = Warned::default();
    let mut before: Option<(Size, Instant)> = None;
    loop {
        let pause = match round(&database).await {
            Ok((size, in_use)) => {
                let now = Instant::now();
                warned.of(size, now);
                let (before, is_soon) = (before.replace((size, now)), in_use);
                size.pause(before.map(|(size, at)| (size, now.duration_since(at))), is_soon)
            }
            Err(error) => {
                warn!(error = chain(&error), "maintenance.interrupted");
                SOON
            }
        };
        sleep(interval.min(pause)).await;
    }
}

/// Turns the ring if it is time, and checks each slot once. Returns the size of the ring, and
/// whether a slot was in use.
async fn round(database: &Target) -> Result<(Size, bool), Error> {
    let client = connect(database, Purpose::Maintenance, Watch::default()).await?;
    client.batch_execute(SESSION).await?;
    if let Some(slot) = client.query_one(TURN, &[]).await?.try_get::<_, Option<i16>>(0)? {
        debug!(slot, "ring.turned");
    }
    let statement = client.prepare(RETIRE).await?;
    let mut in_use = false;
    for slot in SLOTS {
        let became = loop {
            match retire(&client, &statement, slot).await? {
                Slot::Exhausting => {}
                became => break became,
            }
        };
        match became {
            Slot::Retired => info!(slot, "ring.slot_retired"),
            Slot::InUse => debug!(slot, "ring.slot_in_use"),
            Slot::Exhausting | Slot::Stays => {}
        }
        in_use |= became == Slot::InUse;
    }
    let row = client.query_one(RELIEVE, &[]).await?;
    let size = Size::of(&row)?;
    for slot in row.try_get::<_, Vec<i16>>(5)? {
        info!(slot, bytes_max = size.bytes_max, "ring.slot_retired_early");
    }
    // A user may hold the lock of a row. The next round tries again.
    if let Err(error) = follow_roles(&client).await {
        warn!(error = chain(&error), "maintenance.interrupted");
    }
    Ok((size, in_use || row.try_get::<_, bool>(4)?))
}

async fn follow_roles(client: &Client) -> Result<(), Error> {
    if client.query_one(CAN_FOLLOW_ROLES, &[]).await?.try_get(0)? {
        client.execute(FOLLOW_ROLES, &[]).await?;
    }
    Ok(())
}

async fn retire(client: &Client, statement: &Statement, slot: i32) -> Result<Slot, Error> {
    let row = client.query_one(statement, &[&slot]).await?;
    let became = Slot::of(row.try_get(0)?);
    if became == Slot::Exhausting {
        warn!(slot, "ring.deliveries_exhausted; their events were older than max_age (webhook.setting)");
    }
    Ok(became)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_warned_of_before_and_when_undelivered_events_fill_it() {
        let size = |bytes, held_bytes| Size { bytes, bytes_max: Some(1000), held_bytes, slot_seconds: 60.0 };
        assert_eq!(size(1000, 0).level(), Level::Fits);
        assert_eq!(size(900, 801).level(), Level::NearlyFull);
        assert_eq!(size(1001, 0).level(), Level::Over);
        assert_eq!(Size { bytes_max: None, ..size(i64::MAX, i64::MAX) }.level(), Level::Fits);
        let (mut warned, now) = (Warned::default(), Instant::now());
        let mut said = |size: Size, seconds| {
            warned.of(size, now + Duration::from_secs(seconds));
            warned.0.map(|(level, at)| (level, at.duration_since(now).as_secs()))
        };
        assert_eq!(said(size(900, 0), 0), None);
        assert_eq!(said(size(900, 850), 1), Some((Level::NearlyFull, 1)));
        assert_eq!(said(size(900, 850), 60), Some((Level::NearlyFull, 1)), "said already");
        assert_eq!(said(size(1200, 850), 61), Some((Level::Over, 61)));
        assert_eq!(said(size(1200, 850), 662), Some((Level::Over, 662)), "and again after a while");
        assert_eq!(said(size(700, 0), 663), None);
    }
    #[test]
    fn rounds_are_as_many_as_the_ring_needs() {
        let size = |bytes, slot_seconds| Size { bytes, bytes_max: Some(32_000), held_bytes: 0, slot_seconds };
        let pause = |size: Size, before: Option<(Size, u64)>, is_soon| {
            size.pause(before.map(|(size, seconds)| (size, Duration::from_secs(seconds))), is_soon).as_secs()
        };
        let month = 216_000.0;
        assert_eq!(pause(size(0, month), None, false), 60);
        assert_eq!(pause(size(5, month), Some((size(5, month), 60)), false), 600, "nothing happens");
        assert_eq!(pause(size(5, month), Some((size(5, month), 60)), true), 60);
        assert_eq!(pause(size(5, 600.0), Some((size(5, 600.0), 60)), false), 120, "a fifth of a turn");
        assert_eq!(pause(size(5, 60.0), Some((size(5, 60.0), 60)), false), 60);
        // A slot has 2000 bytes. Half of it is 1000: at 25 a second, 40 s.
        assert_eq!(pause(size(1_500, month), Some((size(0, month), 60)), false), 40);
        assert_eq!(pause(size(30_000, month), Some((size(0, month), 60)), false), 5);
        assert_eq!(pause(size(0, month), Some((size(9_000, month), 60)), false), 600, "it has shrunk");
        let unlimited = Size { bytes_max: None, ..size(9_000, month) };
        assert_eq!(pause(unlimited, Some((size(0, month), 60)), false), 600);
    }
}
