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

mod history;
mod pipeline;
mod takeover;
mod unwritten;

pub use history::History;
use history::{check_timeline, former, left_behind};
use pipeline::{LAST_WRITES_TIMEOUT, Parts, Pipeline};
use takeover::{Takeover, refused};
use unwritten::Origin;
pub use unwritten::UnwrittenResults;

use crate::{
    leadership,
    ledger::{self, Ledger, LedgerEnd},
    settings::Settings,
};
use database::{
    Client, Error, Lock, Purpose, Seen, Target, Watch, connect, is_former,
    preflight::{Report, preflight, refuse_transaction_pooler},
    schema::Schema,
    survey,
};
use sender::Sender;
use source::{
    liveness::Liveness,
    outbox::{
        gate::Gate,
        ring::{Present, Ring},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::warn;

/// Numbers the sessions of this process.
static LIVES: AtomicU64 = AtomicU64::new(1);

/// Time limit for the connections to a server and the first statements.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long attempts in flight may take to finish after a lost connection. The others are repeated.
const LOST_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Time between two checks whether an outdated schema has been updated.
const UPDATED_INTERVAL: Duration = Duration::from_secs(1);
const VERSION: &str = "select extversion from pg_extension where extname = 'pg_webhook'";

/// How a session ended.
#[derive(Debug)]
pub enum SessionEnd {
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
                Err(error) => server.cannot_connect(error),
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
        let control = open(Purpose::Control).await.map_err(|cause| server.cannot_connect(cause))?;
        let checked = preflight(&control, &server.instance).await;
        let Report { identity, timeline, schema, extension_version, .. } = match checked {
            Err(error @ Error::OtherInstance { .. }) => return Err(refused(&control, error).await),
            checked => checked?,
        };
        let history = History { identity, timeline };
        check_timeline(&server, &history)?;
        let (reader, ledger, queue) =
            futures_util::try_join!(open(Purpose::Reader), open(Purpose::Ledger), open(Purpose::Queue))
                .map_err(|cause| server.cannot_connect(cause))?;
        refuse_transaction_pooler(&control, &reader).await?;
        if schema.is_outdated() {
            warn!(
                installed = extension_version,
                "extension.outdated; run: alter extension pg_webhook update"
            );
        }
        Ok(Self { control, reader, ledger, queue, watch, history, schema, server })
    }

    /// Waits until this daemon is the leader, then delivers until `shutdown` or a lost connection.
    pub async fn run(
        self,
        settings: &Settings,
        sender: &Arc<impl Sender>,
        shutdown: &CancellationToken,
        results: &mut UnwrittenResults,
    ) -> SessionEnd {
        let active = tokio::select! {
            active = self.become_active(settings) => active,
            () = self.watch.ended.cancelled() => Err(Error::ConnectionLost),
            () = shutdown.cancelled() => return SessionEnd::Shutdown,
        };
        match active {
            Ok(takeover) => match self.deliver(takeover, settings, sender, shutdown, results).await {
                Ok(()) => SessionEnd::Shutdown,
                Err(error) => SessionEnd::Lost { error, was_active: true },
            },
            Err(error) => SessionEnd::Lost { error, was_active: false },
        }
    }

    async fn deliver(
        self,
        takeover: Takeover,
        settings: &Settings,
        sender: &Arc<impl Sender>,
        shutdown: &CancellationToken,
        results: &mut UnwrittenResults,
    ) -> Result<(), Error> {
        let Self { control, reader, ledger, queue, watch, history, schema, server } = self;
        let control_pid = control.backend_pid();
        let control = Arc::new(control);
        let origin = Origin { history: history.clone(), epoch: takeover.epoch };
        results.take_over(&origin);
        let liveness = Arc::new(Liveness::default());
        // Ends with this function in every case. Otherwise the task would keep the control
        // connection open, and its lock.
        let heartbeat = AbortOnDropHandle::new(tokio::spawn(leadership::beat(
            Arc::clone(&control),
            Arc::clone(&liveness),
        )));
        let gate = Gate::open(Arc::clone(&control), &watch).await.map_err(Error::of_statement)?;
        let present = present_slot(&control).await.map_err(Error::of_statement)?;
        settings.highest.compare(&control, history.identity).await.map_err(Error::of_statement)?;
        let ledger = Ledger::open(ledger, takeover.epoch, Arc::clone(&present), schema)
            .await
            .map_err(Error::of_statement)?;
        let mut ledger = ledger.observed_by(settings.observer.clone());
        results.settle(&mut ledger).await?;

        let link_ended = watch.ended.clone();
        let checkpoint = takeover.checkpoint;
        let parts = Parts {
            schema,
            reader,
            queue,
            ledger,
            gate,
            liveness,
            present,
            checkpoint,
            control_pid,
            watch,
            server,
        };
        let mut pipeline = Pipeline::start(parts, settings, sender);
        let lost = tokio::select! {
            () = shutdown.cancelled() => None,
            error = pipeline.reader_ended() => Some(error),
            () = link_ended.cancelled() => Some(Error::ConnectionLost),
            () = updated(&control, schema) => Some(Error::Updated),
            error = left_behind(&settings.database, &history) => Some(error),
        };
        // An update renames the leader's lock and replaces functions. Any task may notice first.
        let lost = match lost {
            Some(_) if is_updated(&control, schema).await => Some(Error::Updated),
            lost => lost,
        };
        let drain_timeout = if lost.is_none() { settings.drain_timeout } else { LOST_DRAIN_TIMEOUT };
        let LedgerEnd { mut unwritten, locked, error } = pipeline.end(drain_timeout, lost.is_none()).await;
        let lost = match error {
            Some(error) => Some(error.into()),
            None if lost.is_none() && !unwritten.is_empty() => Some(Error::Unwritten(LAST_WRITES_TIMEOUT)),
            None => lost,
        };
        if !locked.is_empty() {
            warn!(
                results = locked.len(),
                "session.results_locked; other sessions have locked the subscriptions"
            );
        }
        unwritten.extend(locked);
        *results = UnwrittenResults::new(unwritten, origin);
        heartbeat.abort();
        // The end of the connection releases the lock too, but the next leader need not wait for
        // it.
        let _ = timeout(Duration::from_secs(1), control.execute(Lock::Leader.release_statement(schema), &[]))
            .await;
        lost.map_or(Ok(()), Err)
    }
}

/// Waits until an outdated schema has been updated. Waits forever for a current one.
async fn updated(control: &Client, schema: Schema) {
    while schema.is_outdated() {
        sleep(UPDATED_INTERVAL).await;
        if is_updated(control, schema).await {
            return;
        }
    }
    std::future::pending().await
}

/// Reports whether an outdated schema has been updated. A silent server has said nothing.
async fn is_updated(control: &Client, schema: Schema) -> bool {
    if !schema.is_outdated() {
        return false;
    }
    let version = timeout(Duration::from_secs(1), control.query_opt(VERSION, &[])).await;
    let row = version.ok().and_then(Result::ok).flatten();
    let now = row.and_then(|row| Schema::of(row.try_get(0).ok()?));
    now.is_some_and(|now| now != schema)
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
