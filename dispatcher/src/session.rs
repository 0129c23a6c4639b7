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

pub use carried::Carried;
use carried::Origin;
pub use history::History;
use history::{check_timeline, former, left_behind};

use crate::{
    active,
    app::{Error, Phase, Settings},
    backfill,
    lane::{
        backlog_rate::ROWS_PER_PROCESSOR,
        board::Limits,
        crew::Crew,
        dispatch::{self, Stop, Wiring},
        order::LINES_MAX,
        timers::TIMERS_MAX,
    },
    ledger::{self, Ledger},
    maintenance,
    message::Budget,
    outbox::{
        self,
        gate::Gate,
        reader,
        ring::{Present, Ring},
        snapshot::Snapshot,
    },
    overdue::Overdue,
    postgres::{
        Client, Purpose, Seen, Target, Watch, chain, connect,
        instance::Instance,
        is_former,
        preflight::{Identity, Report, check_instance, preflight, refuse_transaction_pooler},
        schema::Schema,
        survey,
    },
    queue,
    sender::Sender,
    verification::{self, Desk},
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
    time::{Instant, sleep, timeout},
};
use tokio_postgres::error::SqlState;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, error, info, warn};

/// Numbers the sessions of this process.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// Time limit for the connections to a server and the first statements.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two attempts to become the leader.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// How long attempts in flight may take to finish after a lost connection. The others are repeated.
const LOST_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last writes may take at shutdown.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two checks whether an outdated schema has been updated.
const UPDATED_INTERVAL: Duration = Duration::from_secs(1);
const VERSION: &str = "select extversion from pg_extension where extname = 'pg_webhook'";

const TRY_LOCK: &str = "select pg_try_advisory_lock(1885820776, 1)";
const UNLOCK: &str = "select pg_advisory_unlock(1885820776, 1)";

/// Held by the ledger's connection, from the takeover until that connection is gone.
const TRY_WRITE_LOCK: &str = "select pg_try_advisory_lock(1885820776, 3)";
const WRITE_LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How long a former leader may take for its last writes ([`LOST_DRAIN_TIMEOUT`] and
/// [`LAST_WRITES_TIMEOUT`]). One that takes longer does not know that it has lost the lock.
const FORMER_WRITER_TIMEOUT: Duration = Duration::from_secs(8);
const END_WRITER: &str = "
    select pg_terminate_backend(l.pid, 2000) from pg_locks l
    where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid()
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.classid = 1885820776 and l.objid = 3 and l.objsubid = 2";

/// The first daemon of a database creates the cursor. Each takeover raises the epoch.
const ADOPT: &str = "
    insert into webhook.cursor (snapshot, system_identifier, database_oid) values ($1::text::pg_snapshot, $2, $3)
    on conflict (singleton) do nothing";
const ARMED: &str = "
    select instance from webhook.cursor where system_identifier = $1 and database_oid = $2 and restored_at is null";
const TAKE_OVER: &str = "
    update webhook.cursor set epoch = epoch + 1, instance = coalesce(instance, $4), refused_instance = null
    where system_identifier = $1 and database_oid = $2 and restored_at is null and instance is not distinct from $3
    returning epoch, snapshot::text";
const TAKE_OVER_0_1: &str = "
    update webhook.cursor set epoch = epoch + 1 where system_identifier = $1 and database_oid = $2
    returning epoch, snapshot::text";

/// For `webhook.health`. If another daemon delivers, nothing is wrong with the database.
const REFUSED: &str = "
    update webhook.cursor set refused_instance = $1
    where instance is not null and refused_instance is distinct from $1
      and not exists (select from pg_locks l where l.locktype = 'advisory' and l.granted and l.pid <> pg_backend_pid()
                      and l.database = (select d.oid from pg_database d where d.datname = current_database())
                      and l.classid = 1885820776 and l.objid = 1 and l.objsubid = 2)";

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

    /// Acquires the leader's lock, and then the cursor. Waits while another daemon has the lock.
    async fn become_active(&self, settings: &Settings) -> Result<Takeover, Error> {
        let (mut is_told, mut is_first) = (false, true);
        while !self
            .control
            .query_one(TRY_LOCK, &[])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(Error::of_statement)?
        {
            // If the link is dead, the server does not notice that we have closed a session.
            if std::mem::take(&mut is_first) && active::end_former_lives(&self.control).await? {
                continue;
            }
            if !is_told {
                info!("daemon.stands_by; another one is active");
                settings.phase.send_replace(Phase::StandsBy);
                active::warn_if_hidden(&self.control).await?;
                is_told = true;
            }
            active::end_frozen(&self.control).await?;
            sleep(STANDBY_INTERVAL).await;
        }
        self.become_writer().await?;
        let Identity { system_identifier, database_oid } = self.history.identity;
        let beginning = Snapshot::beginning().to_string();
        self.ledger
            .execute(ADOPT, &[&beginning, &system_identifier, &database_oid])
            .await
            .map_err(Error::of_statement)?;
        let row = match self.schema {
            Schema::V0_1 => {
                let row = self.ledger.query_opt(TAKE_OVER_0_1, &[&system_identifier, &database_oid]).await;
                row.map_err(Error::of_statement)?.ok_or(Error::OtherCluster)?
            }
            Schema::V0_2 => match self.take_over(&self.server.instance).await {
                Err(error @ Error::OtherInstance { .. }) => return Err(refused(&self.control, error).await),
                row => row?,
            },
        };
        let takeover = Takeover::read(&row).map_err(Error::of_statement)?;
        settings.phase.send_replace(Phase::Active { epoch: takeover.epoch });
        let instance = &self.server.instance;
        info!(epoch = takeover.epoch, checkpoint = %takeover.checkpoint, %instance, "daemon.active");
        Ok(takeover)
    }

    /// Acquires the cursor, and adopts a database that is not armed for an instance yet. Another
    /// daemon may have adopted it since the preflight, and `webhook_arm()` may be called at any
    /// moment. So the update repeats the condition that was checked.
    async fn take_over(&self, instance: &Instance) -> Result<tokio_postgres::Row, Error> {
        let Identity { system_identifier, database_oid } = self.history.identity;
        loop {
            let row = self.ledger.query_opt(ARMED, &[&system_identifier, &database_oid]).await;
            let row = row.map_err(Error::of_statement)?.ok_or(Error::OtherCluster)?;
            let armed: Option<&str> = row.try_get(0).map_err(Error::of_statement)?;
            check_instance(instance, armed)?;
            let ours = instance.as_str();
            let taken =
                self.ledger.query_opt(TAKE_OVER, &[&system_identifier, &database_oid, &armed, &ours]).await;
            let Some(taken) = taken.map_err(Error::of_statement)? else { continue };
            if armed.is_none() {
                info!(%instance, "database.adopted");
                if instance.rests_on_host_name() {
                    warn!(%instance, "instance.rests_on_host_name; name it with --instance if that name may change");
                }
            }
            return Ok(taken);
        }
    }

    /// Waits until the ledger of the former leader can no longer write.
    async fn become_writer(&self) -> Result<(), Error> {
        let mut since = Instant::now();
        let is_granted = |row: tokio_postgres::Row| row.try_get::<_, bool>(0);
        while !self
            .ledger
            .query_one(TRY_WRITE_LOCK, &[])
            .await
            .and_then(is_granted)
            .map_err(Error::of_statement)?
        {
            if since.elapsed() > FORMER_WRITER_TIMEOUT {
                warn!("daemon.ends_former_writer; it is no longer the leader, and keeps its session");
                match self.control.query(END_WRITER, &[]).await {
                    Ok(_) => {}
                    Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                        warn!(error = chain(&error), "daemon.cannot_end_another; let both run as one role");
                    }
                    Err(error) => return Err(Error::of_statement(error)),
                }
                since = Instant::now();
            }
            sleep(WRITE_LOCK_INTERVAL).await;
        }
        Ok(())
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
        let pulse = Arc::new(active::Pulse::default());
        carried.take_over(&origin);
        // Ends with this function in every case. Otherwise the task would keep the control
        // connection open, and its lock.
        let heartbeat =
            AbortOnDropHandle::new(tokio::spawn(active::beat(Arc::clone(&control), Arc::clone(&pulse))));
        let overdue = Arc::new(Overdue::new(Arc::clone(&watch.rung)));
        let gate = Gate::open(Arc::clone(&control), &watch).await.map_err(Error::of_statement)?;
        let present = present_slot(&control, schema).await.map_err(Error::of_statement)?;
        if schema >= Schema::V0_2 {
            settings.highest.compare(&control, history.identity).await.map_err(Error::of_statement)?;
        }
        let ledger = Ledger::open(ledger, schema, takeover.epoch, Arc::clone(&present))
            .await
            .map_err(Error::of_statement)?;
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
            schema,
        };
        let verifies = tokio::spawn(verification::run(desk, told));
        let backfills = tokio::spawn(backfill::run(server.clone()));
        let retires = tokio::spawn(maintenance::run(server, settings.retire_interval, schema));
        let mut lanes = tokio::spawn(dispatch::run(wiring, limits, Arc::clone(&budget)));
        let writes = tokio::spawn(ledger.run(records_rx, confirmed_tx, watch.ended.clone(), give_up.clone()));
        let mut recalls =
            tokio::spawn(queue::run(queue, Arc::clone(&budget), Arc::clone(&overdue), loads_rx, loaded_tx));
        let mut reads = tokio::spawn(reader::run(reader::Start {
            client: reader,
            gate,
            control_pid,
            checkpoint: takeover.checkpoint,
            schema,
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

/// Stores our instance as the refused one, and returns the error. It returns the same error if the
/// statement fails.
async fn refused(control: &Client, error: Error) -> Error {
    if let Error::OtherInstance { ours, .. } = &error
        && let Err(error) = control.execute(REFUSED, &[ours]).await
    {
        debug!(error = chain(&error), "session.refusal_unwritten");
    }
    error
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
async fn present_slot(control: &Client, schema: Schema) -> Result<Arc<Present>, tokio_postgres::Error> {
    let row = control.query_one(&format!("select {}", Ring::column(schema)), &[]).await?;
    let present = Present::default();
    present.set(&Ring::of(row.try_get(0)?));
    Ok(Arc::new(present))
}

/// The values that a new leader gets.
#[derive(Debug)]
struct Takeover {
    epoch: i64,
    checkpoint: Snapshot,
}

impl Takeover {
    fn read(row: &tokio_postgres::Row) -> Result<Self, tokio_postgres::Error> {
        let text: &str = row.try_get(1)?;
        let checkpoint = text.parse().unwrap_or_else(|error| {
            // Events that are read again cost time. Events that are not read would be lost.
            error!(%error, "checkpoint.unreadable; starting from the oldest event");
            Snapshot::beginning()
        });
        Ok(Self { epoch: row.try_get(0)?, checkpoint })
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

/// Continues a task's panic. The process ends, and the next one starts from the checkpoint.
fn panicked<T>(error: tokio::task::JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}
