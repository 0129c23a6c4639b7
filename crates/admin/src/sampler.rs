//! Samples the database every few seconds, on a session of its own, and keeps the last half hour.
//! The plots, `/metrics` and `/readyz` answer from these samples.

use crate::{
    State,
    counters::{Counts, OTHERS, OwnCounters, SUBSCRIPTIONS_MAX},
    priority::Priority,
};
use database::{
    self, Client, Purpose, Target, Watch, instance::Instance, is_lock, preflight::check_instance,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Time between two samples.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// Number of samples that are kept: half an hour.
pub const KEPT: usize = 360;

/// After a recovery, the server skips a multiple of this many numbers
/// (extension/src/outbox/number.rs). They are no events, so differences are taken modulo this.
const NUMBERS_SKIPPED: i64 = 1 << 28;

/// A sample must not burden the server, with any statistics.
const SESSION: &str = "set statement_timeout = '4s'; set synchronous_commit = off; \
    set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_material = off";

/// The cheap columns of `webhook.health`, and the number of events after the checkpoint. Whether
/// these match a subscription is not evaluated, because that costs every event times every
/// subscription.
const HEALTH: &str = concat!(
    "select c.snapshot is null or (c.system_identifier = i.system_identifier and c.database_oid = i.database_oid and c.restored_at is null),
           exists (select from pg_locks l where ",
    is_lock!(leader),
    "),
           exists (select from pg_locks l where l.mode = 'RowExclusiveLock' and ",
    is_lock!(gate),
    "),
           extract(epoch from c.saved_at)::float8, w.count,
           extract(epoch from clock_timestamp() - w.oldest)::float8, webhook.last_number(), c.instance,
           r.bytes, r.bytes_max, r.held_bytes
    from (select (pg_control_system()).system_identifier,
                 (select oid from pg_database where datname = current_database()) as database_oid) i
    left join webhook.cursor c on c.singleton
    cross join (select count(*) as count, min(p.created_at) as oldest
                from (select b.created_at from webhook.beyond_checkpoint b limit 10000) p) w
    cross join webhook.ring_size() r"
);

/// The first subscriptions have labels of their own. The others are one row, with number 0
/// ([`OTHERS`]).
const SUBSCRIPTIONS: &str = include_str!("sql/sampler_subscriptions.sql");

/// The state of one subscription, or of all those together that have no label of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionSample {
    /// Of several subscriptions: whether all are.
    pub enabled: bool,
    /// Of several subscriptions: whether at least one is.
    pub circuit_open: bool,
    /// Rows in the queue.
    pub backlog: i64,
    /// Results since the previous sample.
    pub counts: Counts,
}

impl Default for SubscriptionSample {
    fn default() -> Self {
        Self { enabled: true, circuit_open: false, backlog: 0, counts: Counts::default() }
    }
}

/// One sample.
#[derive(Debug, Clone)]
pub struct Sample {
    pub at: Instant,
    /// Seconds since the previous sample.
    pub seconds: f64,
    /// Why this daemon may not deliver from this database. `None` if it may.
    pub disarmed: Option<String>,
    pub dispatcher_running: bool,
    pub asleep: bool,
    /// Seconds since 1970. `None` if there has been no daemon yet.
    pub checkpoint_at: Option<f64>,
    /// Number of events after the checkpoint, counted up to 10 000.
    pub pending: i64,
    /// Age of the oldest of these, in seconds.
    pub lag_s: f64,
    /// The last number that was assigned.
    pub sequence: i64,
    /// Number of events captured since the first sample.
    pub captured: u64,
    /// Number of events captured since the previous sample.
    pub events: i64,
    /// Size of events and attempts, and its limit.
    pub ring_bytes: i64,
    pub ring_bytes_max: Option<i64>,
    /// Size of the slots with undelivered events.
    pub ring_held_bytes: i64,
    /// By number. [`OTHERS`] and [`super::counters::GONE`] stand for subscriptions without a label
    /// of their own.
    pub subscriptions: BTreeMap<i64, SubscriptionSample>,
}

#[cfg(test)]
impl Sample {
    /// A sample of a database in which nothing happens.
    pub fn idle(at: Instant) -> Self {
        Self {
            at,
            seconds: 5.0,
            disarmed: None,
            dispatcher_running: true,
            asleep: false,
            checkpoint_at: None,
            pending: 0,
            lag_s: 0.0,
            sequence: 0,
            captured: 0,
            events: 0,
            ring_bytes: 0,
            ring_bytes_max: None,
            ring_held_bytes: 0,
            subscriptions: BTreeMap::new(),
        }
    }
}

impl Sample {
    /// Returns all subscriptions together.
    pub fn total(&self) -> SubscriptionSample {
        self.of(|_| true)
    }

    /// Returns those subscriptions together that a caller sees.
    pub fn of(&self, sees: impl Fn(i64) -> bool) -> SubscriptionSample {
        let mut total = SubscriptionSample::default();
        for (_, standing) in self.subscriptions.iter().filter(|(id, _)| sees(**id)) {
            total.backlog += standing.backlog;
            total.counts.add(&standing.counts);
        }
        total
    }
}

/// The last samples, oldest first.
#[derive(Debug)]
pub struct History {
    kept: Mutex<VecDeque<Sample>>,
    /// Since when events wait and the checkpoint does not move.
    stands_since: Mutex<Option<Instant>>,
    /// Counts the samples, including failed ones, for pages that follow them.
    pub looks: watch::Sender<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self { kept: Mutex::default(), stands_since: Mutex::default(), looks: watch::channel(0).0 }
    }
}

impl History {
    pub fn latest(&self) -> Option<Sample> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).back().cloned()
    }

    /// Calls a function with all samples, without copying them.
    pub fn with<T>(&self, work: impl FnOnce(&VecDeque<Sample>) -> T) -> T {
        work(&self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns how long events have waited without a move of the checkpoint.
    pub fn stands_for(&self, now: Instant) -> Duration {
        let since = *self.stands_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    fn push(&self, sample: Sample) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_standing = sample.pending > 0
            && kept
                .back()
                .is_some_and(|before| before.pending > 0 && before.checkpoint_at == sample.checkpoint_at);
        let mut since = self.stands_since.lock().unwrap_or_else(PoisonError::into_inner);
        if is_standing {
            since.get_or_insert(sample.at);
        } else {
            *since = None;
        }
        kept.push_back(sample);
        if kept.len() > KEPT {
            kept.pop_front();
        }
        self.looks.send_modify(|looks| *looks += 1);
    }
}

/// Takes samples until `shutdown`.
pub async fn run(target: Target, state: State, shutdown: CancellationToken) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut session, mut counted) = (None, BTreeMap::new());
    let mut phase = state.phase.clone();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // A new phase is visible at once.
            Ok(()) = phase.changed() => {}
            () = shutdown.cancelled() => return,
        }
        state.guard.tidy();
        match look(&target, &mut session, &state, &mut counted).await {
            Ok(sample) => state.history.push(sample),
            Err(error) => {
                debug!(error = %database::chain(&error), "admin.look_failed");
                if !database::passes(&error) {
                    warn!(error = %database::chain(&error), "admin.look_refused");
                }
                session = None;
                // Pages that follow must not assume that their last sample still holds.
                state.history.looks.send_modify(|looks| *looks += 1);
            }
        }
    }
}

async fn look(
    target: &Target,
    session: &mut Option<(Client, Priority)>,
    state: &State,
    counted: &mut BTreeMap<i64, Counts>,
) -> Result<Sample, tokio_postgres::Error> {
    let (client, priority) = match session {
        Some(session) => session,
        None => {
            let client = database::connect(target, Purpose::Sampler, Watch::default()).await?;
            client.batch_execute(SESSION).await?;
            session.insert((client, Priority::default()))
        }
    };
    priority.lower(client).await?;
    let health = client.query_one(HEALTH, &[]).await?;
    let limit = i64::try_from(SUBSCRIPTIONS_MAX).unwrap_or(i64::MAX);
    let rows = client.query(SUBSCRIPTIONS, &[&limit]).await?;
    let places = places(&rows)?;
    let now = state.counters.settle(places, counted);
    let mut sample = read(&health, &rows, state.history.latest().as_ref(), &now, counted)?;
    sample.disarmed = disarmed(&health, &target.instance)?;
    *counted = now;
    Ok(sample)
}

fn disarmed(health: &Row, ours: &Instance) -> Result<Option<String>, tokio_postgres::Error> {
    let (is_this_clusters, armed): (bool, Option<&str>) = (health.try_get(0)?, health.try_get(7)?);
    if !is_this_clusters {
        return Ok(Some("this database is a copy; to deliver from it, call webhook_arm()".to_owned()));
    }
    Ok(check_instance(ours, armed).err().map(|error| error.to_string()))
}

fn places(rows: &[Row]) -> Result<OwnCounters, tokio_postgres::Error> {
    let mut named = rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<i64>, _>>()?;
    let is_full = named.remove(&OTHERS);
    Ok(OwnCounters { named, is_full })
}

fn read(
    health: &Row,
    rows: &[Row],
    before: Option<&Sample>,
    now: &BTreeMap<i64, Counts>,
    counted: &BTreeMap<i64, Counts>,
) -> Result<Sample, tokio_postgres::Error> {
    let mut subscriptions = BTreeMap::new();
    for row in rows {
        let standing = SubscriptionSample {
            enabled: row.try_get(1)?,
            circuit_open: row.try_get(2)?,
            backlog: row.try_get(3)?,
            counts: Counts::default(),
        };
        subscriptions.insert(row.try_get(0)?, standing);
    }
    let none = Counts::default();
    for (id, counts) in now {
        // Deleted subscriptions have been counted, and belong to the total.
        let standing: &mut SubscriptionSample = subscriptions.entry(*id).or_default();
        standing.counts = counts.since(counted.get(id).unwrap_or(&none));
    }
    let at = Instant::now();
    let sequence: i64 = health.try_get(6)?;
    let events = before.map_or(0, |before| (sequence - before.sequence).rem_euclid(NUMBERS_SKIPPED));
    Ok(Sample {
        at,
        seconds: before.map_or(INTERVAL, |before| at.duration_since(before.at)).as_secs_f64().max(0.001),
        disarmed: None,
        dispatcher_running: health.try_get(1)?,
        asleep: health.try_get(2)?,
        checkpoint_at: health.try_get(3)?,
        pending: health.try_get(4)?,
        lag_s: health.try_get::<_, Option<f64>>(5)?.unwrap_or(0.0).max(0.0),
        sequence,
        captured: before.map_or(0, |before| before.captured) + events.unsigned_abs(),
        events,
        ring_bytes: health.try_get(8)?,
        ring_bytes_max: health.try_get(9)?,
        ring_held_bytes: health.try_get(10)?,
        subscriptions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::GONE;

    fn sample(at: Instant, pending: i64, checkpoint_at: f64) -> Sample {
        Sample { checkpoint_at: Some(checkpoint_at), pending, ..Sample::idle(at) }
    }

    #[test]
    fn a_tenant_sees_nothing_of_those_without_a_place() {
        let standing = |backlog| SubscriptionSample { backlog, ..SubscriptionSample::default() };
        let mut look = sample(Instant::now(), 0, 1.0);
        look.subscriptions =
            BTreeMap::from([(GONE, standing(1)), (OTHERS, standing(10)), (7, standing(100))]);
        assert_eq!(look.total().backlog, 111);
        assert_eq!(look.of(|id| id == 7).backlog, 100);
    }

    #[test]
    fn standing_still_is_waiting_without_a_checkpoint_that_moves() {
        let history = History::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (seconds, pending, checkpoint, stands) in [
            (0, 5, 1.0, 0), // nothing to compare with
            (5, 9, 1.0, 0), // stands from here
            (10, 9, 1.0, 5),
            (15, 9, 2.0, 0), // it moves
            (20, 0, 2.0, 0), // nothing waits
            (25, 0, 2.0, 0),
        ] {
            history.push(sample(at(seconds), pending, checkpoint));
            assert_eq!(history.stands_for(at(seconds)), Duration::from_secs(stands), "after {seconds} s");
        }
        for seconds in 0..1000 {
            history.push(sample(at(seconds), 0, 1.0));
        }
        assert_eq!(history.with(VecDeque::len), KEPT);
    }
}
