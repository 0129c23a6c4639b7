//! The daemon: connects, becomes the leader, and runs sessions until shutdown. It reconnects after
//! a lost session.
//!
//! The command line uses [`Settings`], [`run`], [`check`] and [`Error`], whose messages are one
//! line each.

use crate::{
    delivery::{body::Source, identity::Identity},
    lane::breaker::Periods,
    ledger::Observer,
    maintenance,
    outbox::{highest::HighestNumber, snapshot},
    postgres::{self, Target, Watch, preflight, schema::Schema},
    secret_store::SecretStore,
    sender::Sender,
    session::{Carried, Ended, Session},
    trace::Traces,
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// The settings of the daemon. [`Settings::new`] returns the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database with the outbox. All connections must lead to the same server, without a
    /// transaction pooler in between.
    pub database: Target,
    /// Time between two polls while no commit wakes the daemon. `None`: it does not poll then, and
    /// prepared transactions and rows inserted by hand wait for the next commit.
    pub safety_poll: Option<Duration>,
    /// Deliver only events whose commits are on the server's disk.
    pub durable_reads: bool,
    /// How long attempts in flight may take to finish at shutdown. The others go into the queue.
    pub drain_timeout: Duration,
    /// Maximum size of the events in memory, in bytes, for all subscriptions together.
    pub memory_bytes_max: usize,
    /// Maximum number of requests at once, for all subscriptions together. Each needs a socket.
    pub in_flight_max: usize,
    /// The source of signing secrets.
    pub secrets: Arc<SecretStore>,
    /// How the daemon identifies itself to receivers.
    pub identity: Arc<Identity>,
    /// When the daemon probes failing receivers, reports them, and disables their subscriptions.
    pub periods: Periods,
    /// Time between two searches for expired slots of the ring.
    pub retire_interval: Duration,
    /// The highest event number that has been read.
    pub highest: Arc<HighestNumber>,
    /// Receives the present phase.
    pub phase: watch::Sender<Phase>,
    /// Is called for each batch that was written.
    pub observer: Option<Arc<dyn Observer>>,
    /// Makes spans of attempts. `None` if spans are not collected.
    pub traces: Option<Arc<Traces>>,
}

/// What the daemon does at present.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has no session with Postgres.
    #[default]
    Connecting,
    /// Another daemon is the leader.
    StandsBy,
    /// It is the leader. The epoch is the number of its takeover.
    Active { epoch: i64 },
}

impl Phase {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::StandsBy => "standby",
            Self::Active { .. } => "active",
        }
    }
}

impl Settings {
    pub fn new(database: Target) -> Self {
        // Without a database name, Postgres uses the name of the user.
        let name = database.config.get_dbname().or(database.config.get_user()).unwrap_or_default();
        let identity =
            Identity { source: Source::of_database(name), origin: Identity::origin_of_this_machine() };
        Self {
            identity: Arc::new(identity),
            secrets: Arc::default(),
            database,
            safety_poll: Some(Duration::from_secs(1)),
            durable_reads: false,
            drain_timeout: Duration::from_secs(10),
            memory_bytes_max: 32 << 20,
            in_flight_max: 2048,
            periods: Periods::default(),
            retire_interval: maintenance::RETIRE_INTERVAL,
            highest: Arc::default(),
            phase: watch::Sender::default(),
            observer: None,
            traces: None,
        }
    }
}

/// Why the daemon does not run. Each message says what to do. The source is the cause, if any.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot connect to Postgres; check --database-url and that the server is up")]
    Connect(#[source] tokio_postgres::Error),
    #[error("the extension is not in this database; run: create extension pg_webhook")]
    ExtensionMissing,
    #[error(
        "the database has pg_webhook {installed}, and webhookd {} delivers from {} and {}; \
         run: alter extension pg_webhook update, or install the webhookd that fits",
        env!("CARGO_PKG_VERSION"), Schema::ACCEPTED[0].1, Schema::ACCEPTED[1].1
    )]
    OtherVersion { installed: String },
    #[error("the database has pg_webhook {installed} still; this needs {}: alter extension pg_webhook update", Schema::ACCEPTED[1].1)]
    Outdated { installed: String },
    #[error("this Postgres is a standby and takes no writes; connect to the primary")]
    ReadOnly,
    #[error(
        "this server is on timeline {timeline}, and its cluster has come to {newest}: a former primary has come back; \
         shut it down, or make it a standby"
    )]
    FormerPrimary { timeline: String, newest: String },
    #[error(
        "there is a transaction pooler in between; connect to Postgres directly or through a session pool"
    )]
    TransactionPooler,
    #[error("role {role} lacks {missing}; run as the owner: select webhook_grant('{role}', 'dispatcher')")]
    Privileges { role: String, missing: String },
    #[error(
        "this database is a copy of another cluster's and stays silent; to deliver from here: select webhook_arm()"
    )]
    OtherCluster,
    #[error(
        "this database is armed for instance {armed}, and this daemon is instance {ours}; if it is a copy that is to deliver, \
         run: select webhook_arm(); if it is the same database under another name, start webhookd with --instance '{armed}'"
    )]
    OtherInstance { armed: String, ours: String },
    #[error("Postgres refused a statement of the daemon")]
    Database(#[source] tokio_postgres::Error),
    #[error("the server's snapshot could not be read")]
    Snapshot(#[source] snapshot::Invalid),
    #[error("the extension has been updated; starting a new session")]
    Updated,
    #[error("a connection to Postgres was lost")]
    ConnectionLost,
    #[error("the lock of the active daemon was lost")]
    LockLost,
    #[error("another daemon has taken over")]
    Superseded,
    #[error("the last results could not be written within {} s; those deliveries will be made again", .0.as_secs())]
    Unwritten(Duration),
}

impl Error {
    /// Returns the error for a failed statement. The cause may be its connection.
    pub fn of_statement(error: tokio_postgres::Error) -> Self {
        if error.is_closed() { Self::ConnectionLost } else { Self::Database(error) }
    }
}

/// Shortest and longest wait before the next attempt to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A leader's session that ends sooner has not delivered. For example, the disk has no space for
/// the results of the session before.
const LASTING: Duration = Duration::from_millis(500);

/// If Postgres rejects a statement, the extension may have changed, and the next session will work.
/// After this many short sessions in a row, the cause is another.
const REFUSED_MAX: u32 = 3;
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// Delivers until `shutdown`. If another daemon is the leader, waits as a standby, and takes over
/// when the leader ends.
///
/// Shutdown takes at most `drain_timeout`, and 5 s for the last writes.
///
/// # Errors
/// At the start, the first problem. After a session has run, the function waits for a server that
/// is away or has become a standby.
pub async fn run(settings: Settings, sender: impl Sender, shutdown: CancellationToken) -> Result<(), Error> {
    let sender = Arc::new(sender);
    let mut carried = Carried::default();
    let mut patience = Patience::default();
    loop {
        let opened = tokio::select! {
            opened = Session::open(&settings) => opened,
            () = shutdown.cancelled() => return Ok(()),
        };
        let error = match opened {
            Ok(session) => {
                // All requirements are met. What ends the session from here on may be temporary.
                patience.has_run = true;
                let began = Instant::now();
                match session.run(&settings, &sender, &shutdown, &mut carried).await {
                    Ended::Shutdown => return Ok(()),
                    Ended::Lost { error, was_active } => {
                        if was_active {
                            patience.renew(&error, began.elapsed());
                        }
                        error
                    }
                }
            }
            Err(error) => error,
        };
        settings.phase.send_replace(Phase::Connecting);
        if shutdown.is_cancelled() {
            return Err(error);
        }
        let wait = patience.wait_after(error, fastrand::f64())?;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

/// Decides about the next attempt to connect, and the time before it.
#[derive(Debug)]
struct Patience {
    /// A session has been opened, and all requirements were met.
    has_run: bool,
    is_told: bool,
    backoff: Duration,
    refused: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { has_run: false, is_told: false, backoff: BACKOFF_MIN, refused: 0 }
    }
}

impl Patience {
    /// Records that a leader's session has ended after this time.
    fn renew(&mut self, error: &Error, lasted: Duration) {
        let is_refused = !passes(error) && lasted < REFUSED_WITHIN;
        self.refused = if is_refused { self.refused + 1 } else { 0 };
        self.has_run = true;
        if lasted >= LASTING {
            self.is_told = false;
            self.backoff = BACKOFF_MIN;
        }
    }

    /// Returns the time before the next attempt. `unit` is evenly distributed over 0..1.
    ///
    /// # Errors
    /// The same error, if another attempt does not help.
    fn wait_after(&mut self, error: Error, unit: f64) -> Result<Duration, Error> {
        let may_pass = passes(&error) || (matches!(error, Error::Database(_)) && self.refused < REFUSED_MAX);
        if !self.has_run || !may_pass {
            return Err(error);
        }
        let cause = postgres::chain(&error);
        if self.is_told {
            debug!(error = cause, "session.still_lost");
        } else {
            warn!(error = cause, "session.lost");
            self.is_told = true;
        }
        let wait = self.backoff.mul_f64(0.8 + 0.4 * unit);
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Ok(wait)
    }
}

/// Reports whether waiting may help: the server is away, starting or full, or a standby that may be
/// promoted.
fn passes(error: &Error) -> bool {
    match error {
        Error::ReadOnly
        | Error::FormerPrimary { .. }
        | Error::ConnectionLost
        | Error::LockLost
        | Error::Superseded
        | Error::Updated => true,
        Error::Connect(cause) | Error::Database(cause) => postgres::passes(cause),
        Error::ExtensionMissing
        | Error::OtherVersion { .. }
        | Error::Outdated { .. }
        | Error::TransactionPooler
        | Error::Privileges { .. }
        | Error::OtherCluster
        | Error::OtherInstance { .. }
        | Error::Snapshot(_)
        | Error::Unwritten(_) => false,
    }
}

/// Checks everything that [`run`] requires, and reads the checkpoint. It changes nothing.
///
/// # Errors
/// The first requirement that is not met.
pub async fn check(database: &Target) -> Result<preflight::Report, Error> {
    let client = postgres::connect(database, postgres::Purpose::Command, Watch::default())
        .await
        .map_err(Error::Connect)?;
    let other = postgres::connect(database, postgres::Purpose::Command, Watch::default())
        .await
        .map_err(Error::Connect)?;
    let report = preflight::preflight(&client, &database.instance).await?;
    preflight::refuse_transaction_pooler(&client, &other).await?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_fails_at_once_and_later_ones_wait_longer() {
        let mut patience = Patience::default();
        assert!(patience.wait_after(Error::ConnectionLost, 0.5).is_err());
        patience.renew(&Error::ConnectionLost, Duration::from_secs(1));
        let waits: Vec<u128> = (0..8)
            .map(|_| patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        patience.renew(&Error::ConnectionLost, Duration::from_millis(50));
        assert_eq!(
            patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis(),
            5000,
            "a short session does not reset the wait"
        );
        patience.renew(&Error::ConnectionLost, Duration::from_secs(1));
        assert_eq!(patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis(), 100);
        assert!(patience.wait_after(Error::ExtensionMissing, 0.5).is_err(), "waiting does not help");
    }
}
