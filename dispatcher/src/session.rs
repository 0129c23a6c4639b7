//! One life of the daemon's connections: open four, become the active daemon, run the tasks, and end them in order.
//!
//! A session is never repaired. When one of its connections breaks, all of it ends; attempts under way get a moment to
//! finish, what could not be written is carried into the next session, and that one starts from the checkpoint.

use crate::{
    active,
    app::{Error, Phase, Settings},
    backfill,
    lane::{
        board::Limits,
        crew::Crew,
        dispatch::{self, Stop, Wiring},
        order::LINES_MAX,
        timers::TIMERS_MAX,
    },
    ledger::{self, Ledger, entry::Record},
    maintenance,
    message::Budget,
    outbox::{self, gate::Gate, reader, snapshot::Snapshot},
    postgres::{
        Purpose, Watch, connect,
        preflight::{Identity, backend_pid, preflight, refuse_transaction_pooler},
        schema::Schema,
        value::Micros,
    },
    queue,
    sender::Sender,
    verification::{self, Desk},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Between two attempts to become the active daemon.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// After a lost connection, how long attempts under way may take to finish; those that do not will be made again.
const LOST_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// At shutdown, how long the last writes may take.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks whether an outdated schema has been updated.
const UPDATED_INTERVAL: Duration = Duration::from_secs(1);
const VERSION: &str = "select extversion from pg_extension where extname = 'pg_webhook'";

const TRY_LOCK: &str = "select pg_try_advisory_lock(1885820776, 1)";
const UNLOCK: &str = "select pg_advisory_unlock(1885820776, 1)";

/// The first daemon of a database makes the cursor; every one that takes over raises the epoch.
const ADOPT: &str = "
    insert into webhook.cursor (snapshot, system_identifier, database_oid) values ($1::text::pg_snapshot, $2, $3)
    on conflict (singleton) do nothing";
const TAKE_OVER: &str = "
    update webhook.cursor set epoch = epoch + 1 where system_identifier = $1 and database_oid = $2 and restored_at is null
    returning epoch, snapshot::text, saved_at";
const TAKE_OVER_0_1: &str = "
    update webhook.cursor set epoch = epoch + 1 where system_identifier = $1 and database_oid = $2
    returning epoch, snapshot::text, saved_at";

/// What a session leaves to the next.
#[derive(Debug, Default)]
pub struct Carried {
    records: Vec<Record>,
    from: Option<Origin>,
}

/// Which server, and which takeover of it, results belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    identity: Identity,
    timeline: String,
    epoch: i64,
}

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// As asked, with everything written.
    Shutdown,
    Lost {
        error: Error,
        was_active: bool,
    },
}

/// Connected and checked; not yet active.
pub struct Session {
    control: Client,
    control_pid: i32,
    reader: Client,
    ledger: Client,
    queue: Client,
    watch: Watch,
    identity: Identity,
    timeline: String,
    schema: Schema,
}

impl Session {
    /// Connects and checks what the daemon demands.
    ///
    /// # Errors
    /// The first demand that is not met.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let watch = Watch::default();
        let open = |purpose| connect(&settings.database, purpose, watch.clone());
        let control = open(Purpose::Control).await.map_err(Error::Connect)?;
        let report = preflight(&control).await?;
        let (reader, ledger, queue) =
            futures_util::try_join!(open(Purpose::Reader), open(Purpose::Ledger), open(Purpose::Queue))
                .map_err(Error::Connect)?;
        refuse_transaction_pooler(&control, &reader).await?;
        let control_pid = backend_pid(&control).await?;
        let (identity, timeline, schema) = (report.identity, report.timeline, report.schema);
        if schema.is_outdated() {
            warn!(
                installed = report.extension_version,
                "extension.outdated; alter extension pg_webhook update"
            );
        }
        Ok(Self { control, control_pid, reader, ledger, queue, watch, identity, timeline, schema })
    }

    /// Waits for its turn, then delivers until `shutdown` or until a connection is lost.
    pub async fn run(
        self,
        settings: &Settings,
        sender: &Arc<impl Sender>,
        shutdown: &CancellationToken,
        carried: &mut Carried,
    ) -> Ended {
        let active = tokio::select! {
            active = self.become_active(settings) => active,
            () = self.watch.ended.cancelled() => Err(Error::ConnectionLost),
            () = shutdown.cancelled() => return Ended::Shutdown,
        };
        match active {
            Ok(takeover) => match self.deliver(takeover, settings, sender, shutdown, carried).await {
                Ok(()) => Ended::Shutdown,
                Err(error) => Ended::Lost { error, was_active: true },
            },
            Err(error) => Ended::Lost { error, was_active: false },
        }
    }

    /// Takes the lock of the active daemon, waiting for another to let go of it, and then the cursor.
    async fn become_active(&self, settings: &Settings) -> Result<Takeover, Error> {
        let mut is_told = false;
        while !self
            .control
            .query_one(TRY_LOCK, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(Error::of_statement)?
        {
            if !is_told {
                info!("daemon.stands_by; another one is active");
                settings.phase.send_replace(Phase::StandsBy);
                is_told = true;
            }
            active::end_frozen(&self.control).await?;
            sleep(STANDBY_INTERVAL).await;
        }
        let Identity { system_identifier, database_oid } = self.identity;
        let beginning = Snapshot::beginning().to_string();
        self.ledger
            .execute(ADOPT, &[&beginning, &system_identifier, &database_oid])
            .await
            .map_err(Error::of_statement)?;
        let take_over = match self.schema {
            Schema::V0_1 => TAKE_OVER_0_1,
            Schema::V0_2 => TAKE_OVER,
        };
        let row = self
            .ledger
            .query_opt(take_over, &[&system_identifier, &database_oid])
            .await
            .map_err(Error::of_statement)?;
        let takeover = Takeover::read(&row.ok_or(Error::OtherCluster)?).map_err(Error::of_statement)?;
        settings.phase.send_replace(Phase::Active { epoch: takeover.epoch });
        info!(epoch = takeover.epoch, checkpoint = %takeover.checkpoint, "daemon.active");
        Ok(takeover)
    }

    async fn deliver(
        self,
        takeover: Takeover,
        settings: &Settings,
        sender: &Arc<impl Sender>,
        shutdown: &CancellationToken,
        carried: &mut Carried,
    ) -> Result<(), Error> {
        let Self { control, control_pid, reader, ledger, queue, watch, identity, timeline, schema } = self;
        let control = Arc::new(control);
        let origin = Origin { identity, timeline, epoch: takeover.epoch };
        let pulse = Arc::new(active::Pulse::default());
        let heartbeat = tokio::spawn(active::beat(Arc::clone(&control), Arc::clone(&pulse)));
        let gate = Gate::open(Arc::clone(&control), watch.rung).await.map_err(Error::of_statement)?;
        let ledger = Ledger::open(ledger, takeover.epoch).await.map_err(Error::of_statement)?;
        let mut ledger = ledger.observed_by(settings.observer.clone());
        carried.settle(&mut ledger, &origin).await?;

        let budget = Arc::new(Budget::default());
        let (stop_reading, give_up, abandon) =
            <(CancellationToken, CancellationToken, CancellationToken)>::default();
        let (feed, fed) = mpsc::channel(1);
        let (finished_tx, finished) = mpsc::unbounded_channel();
        let (confirmed_tx, confirmed) = mpsc::unbounded_channel();
        let (loaded_tx, loaded) = mpsc::unbounded_channel();
        let (records, records_rx) = mpsc::unbounded_channel();
        let (loads, loads_rx) = mpsc::unbounded_channel();
        let (drain, stop) = oneshot::channel();
        let crew_size = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let crew = Crew::start(crew_size, sender, &settings.identity, &finished_tx, &abandon);
        drop(finished_tx);
        let limits = Limits {
            memory_bytes_max: settings.memory_bytes_max,
            in_flight_max: settings.in_flight_max.max(1),
            timers_max: TIMERS_MAX,
            lines_max: LINES_MAX,
            periods: settings.periods,
        };
        let wiring = Wiring { feed: fed, finished, confirmed, loaded, crew, records, loads, stop };

        let (told_tx, told) = mpsc::unbounded_channel();
        let desk = Desk {
            sender: Arc::clone(sender),
            identity: Arc::clone(&settings.identity),
            database: settings.database.clone(),
            schema,
        };
        let verifies = tokio::spawn(verification::run(desk, told));
        let backfills = tokio::spawn(backfill::run(settings.database.clone()));
        let retires =
            tokio::spawn(maintenance::run(settings.database.clone(), settings.retire_interval, schema));
        let mut lanes = tokio::spawn(dispatch::run(wiring, limits, Arc::clone(&budget)));
        let writes = tokio::spawn(ledger.run(records_rx, confirmed_tx, watch.ended.clone(), give_up.clone()));
        let mut recalls = tokio::spawn(queue::run(queue, Arc::clone(&budget), loads_rx, loaded_tx));
        let mut reads = tokio::spawn(reader::run(reader::Start {
            client: reader,
            gate,
            control_pid,
            checkpoint: takeover.checkpoint,
            saved_at_us: takeover.saved_at_us,
            safety_poll: settings.safety_poll,
            durable_reads: settings.durable_reads,
            pulse,
            budget,
            secrets: Arc::clone(&settings.secrets),
            feed,
            verification: told_tx,
            stop: stop_reading.clone(),
        }));

        let mut lost = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = &mut reads => Some(ended.map_or_else(panicked, |read| read.err().map_or(Error::ConnectionLost, Error::from))),
            ended = &mut recalls => Some(ended.map_or_else(panicked, |read| read.err().map_or(Error::ConnectionLost, Error::of_statement))),
            () = watch.ended.cancelled() => Some(Error::ConnectionLost),
            () = updated(&control, schema) => Some(Error::Updated),
        };
        stop_reading.cancel();
        verifies.abort();
        backfills.abort();
        retires.abort();
        let spills = lost.is_none();
        let drain_timeout = if spills { settings.drain_timeout } else { LOST_DRAIN_TIMEOUT };
        // The lanes cannot have ended: they wait for this.
        let _ = drain.send(Stop { drain_timeout, spills });
        if timeout(drain_timeout + LAST_WRITES_TIMEOUT, &mut lanes).await.is_err() {
            give_up.cancel();
            lanes.await.unwrap_or_else(panicked);
        }
        abandon.cancel();
        let ledger::Ended { unwritten, error } = writes.await.unwrap_or_else(panicked);
        if let Some(error) = error {
            lost = Some(error.into());
        } else if lost.is_none() && !unwritten.is_empty() {
            lost = Some(Error::Unwritten(LAST_WRITES_TIMEOUT));
        }
        *carried = Carried { records: unwritten, from: Some(origin) };
        recalls.abort();
        reads.abort();
        heartbeat.abort();
        // Closing the session would do it too, but a successor need not wait for that.
        let _ = timeout(Duration::from_secs(1), control.execute(UNLOCK, &[])).await;
        lost.map_or(Ok(()), Err)
    }
}

/// Waits until a schema that is to be updated has been.
async fn updated(control: &Client, schema: Schema) {
    while schema.is_outdated() {
        sleep(UPDATED_INTERVAL).await;
        let version = control.query_opt(VERSION, &[]).await.ok().flatten();
        let now = version.and_then(|row| Schema::of(row.try_get(0).ok()?));
        if now.is_some_and(|now| now != schema) {
            return;
        }
    }
    std::future::pending().await
}

/// What came with becoming the active daemon.
#[derive(Debug)]
struct Takeover {
    epoch: i64,
    checkpoint: Snapshot,
    saved_at_us: Option<i64>,
}

impl Takeover {
    fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let (text, saved_at): (&str, Micros) = (row.try_get(1)?, row.try_get(2)?);
        let checkpoint = text.parse().unwrap_or_else(|error| {
            // Reading too much costs time; reading too little would lose events.
            error!(%error, "checkpoint.unreadable; starting from the oldest event");
            Snapshot::beginning()
        });
        let saved_at_us = (checkpoint != Snapshot::beginning()).then_some(saved_at.0);
        Ok(Self { epoch: row.try_get(0)?, checkpoint, saved_at_us })
    }
}

impl Carried {
    /// Writes down what an earlier session could not, as far as it is still true.
    async fn settle(&mut self, ledger: &mut Ledger, now: &Origin) -> Result<(), Error> {
        let Some(from) = self.from.take() else { return Ok(()) };
        let mut records = std::mem::take(&mut self.records);
        if records.is_empty() {
            return Ok(());
        }
        if from.identity != now.identity || from.timeline != now.timeline {
            // Another history: the same numbers may mean other events.
            warn!(results = records.len(), "session.results_dropped; the server has failed over");
            return Ok(());
        }
        if from.epoch + 1 != now.epoch {
            // Another daemon has been active since: the queue is as it left it, the attempts were made nevertheless.
            records.retain_mut(Record::keep_queue);
        }
        info!(results = records.len(), "session.results_carried");
        if let Err(error) = ledger.write_again(&records).await {
            *self = Self { records, from: Some(from) };
            return Err(error.into());
        }
        Ok(())
    }
}

impl From<outbox::Error> for Error {
    fn from(error: outbox::Error) -> Self {
        match error {
            outbox::Error::Database(error) => Self::of_statement(error),
            outbox::Error::Snapshot(error) => Self::Snapshot(error),
            outbox::Error::LockLost => Self::LockLost,
        }
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::Database(error) => Self::of_statement(error),
            ledger::Error::Superseded => Self::Superseded,
        }
    }
}

/// A task's panic is ours: the process ends, and the next one starts from the checkpoint.
fn panicked<T>(error: tokio::task::JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}
