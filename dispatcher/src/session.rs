//! One session of the daemon with Postgres: opens four connections, becomes the leader, runs the
//! tasks, and ends them in order.
//!
//! A session is never repaired. If one of its connections breaks, the whole session ends. Attempts
//! in flight get a moment to finish. The next session writes the results that this one could not
//! write, and starts from the checkpoint.
//!
//! Two advisory locks make a leader. The lock of the control connection says which daemon delivers,
//! and the lock of the ledger's connection says which one writes. A new leader waits for both. So
//! two daemons never write at the same time: a connection that could still write would hold its
//! lock.

mod carried;
mod history;
mod takeover;

pub use carried::Carried;
use carried::Origin;
pub use history::History;
use history::{check_timeline, former, left_behind};
use takeover::{Takeover, refused};

use crate::{
    backfill,
    dispatch::{self, Stop, Wiring},
    leadership,
    ledger::{self, Ledger},
    local_senders::Crew,
    maintenance,
    settings::Settings,
    verification::{self, Desk},
};
use database::{
    Client, Error, Purpose, Seen, Target, Watch, connect, is_former,
    preflight::{Report, preflight, refuse_transaction_pooler},
    schema::Schema,
    survey,
};
use delivery::{
    lane::order::LINES_MAX,
    message::Budget,
    scheduler::{Limits, backlog_rate::ROWS_PER_PROCESSOR, timers::TIMERS_MAX},
};
use sender::Sender;
use source::{
    liveness::Pulse,
    outbox::{
        gate::Gate,
        reader,
        ring::{Present, Ring},
    },
    overdue::Overdue,
    queue,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;

/// Numbers the sessions of this process.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// Time limit for the connections to a server and the first statements.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long attempts in flight may take to finish after a lost connection. The others are repeated.
const LOST_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last writes may take at shutdown.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two checks whether an outdated schema has been updated.
const UPDATED_INTERVAL: Duration = Duration::from_secs(1);
const VERSION: &str = "select extversion from pg_extension where extname = 'pg_webhook'";

const UNLOCK: &str = "select pg_advisory_unlock(1885820776, 1)";

/// How a session ended.
#[derive(Debug)]
pub enum Ended {
    /// A requested shutdown. Everything is written.
    Shutdown,
    Lost {
        error: Error,
        was_active: bool,
    },
}

/// The connections, after all checks. Not the leader yet.
pub struct Session {
    control: Client,
    reader: Client,
    ledger: Client,
    queue: Client,
    watch: Watch,
    history: History,
    schema: Schema,
    /// The server of all connections.
    server: Target,
}

impl Session {
    /// Connects, and checks all requirements. Of several servers, it chooses the first that accepts
    /// writes and is on the highest timeline of its cluster.
    ///
    /// # Errors
    /// The first requirement that is not met. With several servers, the error of the last one.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        let database = &settings.database;
        let open_at = async |server| {
            let opened = timeout(OPEN_TIMEOUT, Self::open_at(server)).await;
            opened.unwrap_or(Err(Error::ConnectionLost))
        };
        if database.servers().len() < 2 {
            return open_at(database.clone()).await;
        }
        let mut last = Error::ConnectionLost;
        for Seen { server, answer } in survey(database).await {
            last = match answer {
                Err(error) => Error::Connect(error),
                Ok(state) if state.is_standby => Error::ReadOnly,
                Ok(state) if is_former(database, &state) => former(database, &state),
                Ok(_) => match open_at(server).await {
                    Err(error @ (Error::Connect(_) | Error::ConnectionLost | Error::ReadOnly)) => error,
                    opened => return opened,
                },
            };
        }
        Err(last)
    }

    /// Opens all connections to one server.
    async fn open_at(server: Target) -> Result<Self, Error> {
        let server = server.for_life(LIVES.fetch_add(1, Ordering::Relaxed));
        let watch = Watch::default();
        let open = |purpose| connect(&server, purpose, watch.clone());
        let control = open(Purpose::Control).await.map_err(Error::Connect)?;
        let checked = preflight(&control, &server.instance).await;
        let Report { identity, timeline, schema, extension_version, .. } = match checked {
            Err(error @ Error::OtherInstance { .. }) => return Err(refused(&control, error).await),
            checked => checked?,
        };
        let history = History { identity, timeline };
        check_timeline(&server, &history)?;
        let (reader, ledger, queue) =
            futures_util::try_join!(open(Purpose::Reader), open(Purpose::Ledger), open(Purpose::Queue))
                .map_err(Error::Connect)?;
        refuse_transaction_pooler(&control, &reader).await?;
        if schema.is_outdated() {
            warn!(installed = extension_version, "extension.outdated; alter extension pg_webhook update");
        }
        Ok(Self { control, reader, ledger, queue, watch, history, schema, server })
    }

    /// Waits until this daemon is the leader, then delivers until `shutdown` or a lost connection.
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

    async fn deliver(
        self,
        takeover: Takeover,
        settings: &Settings,
        sender: &Arc<impl Sender>,
        shutdown: &CancellationToken,
        carried: &mut Carried,
    ) -> Result<(), Error> {
        let Self { control, reader, ledger, queue, watch, history, schema, server } = self;
        let control_pid = control.backend_pid();
        let control = Arc::new(control);
        let origin = Origin { history: history.clone(), epoch: takeover.epoch };
        let pulse = Arc::new(Pulse::default());
        carried.take_over(&origin);
        // Ends with this function in every case. Otherwise the task would keep the control
        // connection open, and its lock.
        let heartbeat =
            AbortOnDropHandle::new(tokio::spawn(leadership::beat(Arc::clone(&control), Arc::clone(&pulse))));
        let overdue = Arc::new(Overdue::new(Arc::clone(&watch.rung)));
        let gate = Gate::open(Arc::clone(&control), &watch).await.map_err(Error::of_statement)?;
        let present = present_slot(&control).await.map_err(Error::of_statement)?;
        settings.highest.compare(&control, history.identity).await.map_err(Error::of_statement)?;
        let ledger =
            Ledger::open(ledger, takeover.epoch, Arc::clone(&present)).await.map_err(Error::of_statement)?;
        let mut ledger = ledger.observed_by(settings.observer.clone());
        carried.settle(&mut ledger).await?;

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
        let crew = Crew::start(
            crew_size,
            sender,
            &settings.identity,
            settings.traces.as_ref(),
            &finished_tx,
            &abandon,
        );
        drop(finished_tx);
        let limits = Limits {
            memory_bytes_max: settings.memory_bytes_max,
            in_flight_max: settings.in_flight_max.max(1),
            timers_max: TIMERS_MAX,
            lines_max: LINES_MAX,
            backlog_rate: ROWS_PER_PROCESSOR * crew_size as f64,
            periods: settings.periods,
        };
        let wiring = Wiring { feed: fed, finished, confirmed, loaded, crew, records, loads, stop };

        let (told_tx, told) = mpsc::unbounded_channel();
        let desk = Desk {
            sender: Arc::clone(sender),
            identity: Arc::clone(&settings.identity),
            database: server.clone(),
        };
        let verifies = tokio::spawn(verification::run(desk, told));
        let backfills = tokio::spawn(backfill::run(server.clone()));
        let retires = tokio::spawn(maintenance::run(server, settings.retire_interval));
        let mut lanes = tokio::spawn(dispatch::run(wiring, limits, Arc::clone(&budget)));
        let writes = tokio::spawn(ledger.run(records_rx, confirmed_tx, watch.ended.clone(), give_up.clone()));
        let mut recalls =
            tokio::spawn(queue::run(queue, Arc::clone(&budget), Arc::clone(&overdue), loads_rx, loaded_tx));
        let mut reads = tokio::spawn(reader::run(reader::Start {
            client: reader,
            gate,
            control_pid,
            checkpoint: takeover.checkpoint,
            present,
            safety_poll: settings.safety_poll,
            durable_reads: settings.durable_reads,
            highest: Arc::clone(&settings.highest),
            pulse,
            budget,
            secrets: Arc::clone(&settings.secrets),
            overdue,
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
            error = left_behind(&settings.database, &history) => Some(error),
        };
        stop_reading.cancel();
        verifies.abort();
        backfills.abort();
        retires.abort();
        let spills = lost.is_none();
        let drain_timeout = if spills { settings.drain_timeout } else { LOST_DRAIN_TIMEOUT };
        // The scheduler cannot have ended, because it waits for this message.
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
        *carried = Carried::new(unwritten, origin);
        recalls.abort();
        reads.abort();
        heartbeat.abort();
        // The end of the connection releases the lock too, but the next leader need not wait for
        // it.
        let _ = timeout(Duration::from_secs(1), control.execute(UNLOCK, &[])).await;
        lost.map_or(Ok(()), Err)
    }
}

/// Waits until an outdated schema has been updated. Waits forever for a current one.
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

/// Returns the slot to which attempts are written until the reader has read the ring.
async fn present_slot(control: &Client) -> Result<Arc<Present>, tokio_postgres::Error> {
    let row = control.query_one(&format!("select {}", Ring::COLUMN), &[]).await?;
    let present = Present::default();
    present.set(&Ring::of(row.try_get(0)?));
    Ok(Arc::new(present))
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::Database(error) => Self::of_statement(error),
            ledger::Error::Superseded => Self::Superseded,
        }
    }
}

/// Continues a task's panic. The process ends, and the next one starts from the checkpoint.
fn panicked<T>(error: tokio::task::JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}
