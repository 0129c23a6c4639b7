//! The daemon as a whole: connects, becomes the active one, runs sessions until told to stop, and reconnects in between.
//!
//! What the command line needs is here: [`Settings`], [`run`], [`check`] and an [`Error`] that is one line each.

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

/// What the daemon is told. [`Settings::new`] gives the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the outbox is. The same server for every connection of the daemon, and no transaction pooler.
    pub database: Target,
    /// While asleep, how often to look without having been rung for; `None`: never (prepared transactions and rows
    /// inserted by hand then wait for the next ring).
    pub safety_poll: Option<Duration>,
    /// Hand on only events whose commits are on the server's disk.
    pub durable_reads: bool,
    /// At shutdown, how long attempts under way may take to finish before they are put into the queue.
    pub drain_timeout: Duration,
    /// Events held in memory, in bytes, for all subscriptions together.
    pub memory_bytes_max: usize,
    /// Requests under way at once, for all subscriptions together; each is a socket.
    pub in_flight_max: usize,
    /// Where signing secrets come from.
    pub secrets: Arc<SecretStore>,
    /// How it names itself to receivers.
    pub identity: Arc<Identity>,
    /// When receivers that fail are probed, told and given up.
    pub periods: Periods,
    /// Between two looks for slots of the ring whose time is over.
    pub retire_interval: Duration,
    /// The highest event number that has been read.
    pub highest: Arc<HighestNumber>,
    /// Told what it is about.
    pub phase: watch::Sender<Phase>,
    /// Told what has been written.
    pub observer: Option<Arc<dyn Observer>>,
    /// Makes spans of attempts; `None`: nobody collects them.
    pub traces: Option<Arc<Traces>>,
}

/// What the daemon is about.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has no session with Postgres.
    #[default]
    Connecting,
    /// Another one is active.
    StandsBy,
    /// It delivers, as the takeover of this number.
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
        // Without a name Postgres takes the user's.
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

/// Why the daemon does not run. Each says what to do; the cause, if any, is the source.
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
    #[error("the extension has been updated; starting over with what it has now")]
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
    /// What a failed statement means: its connection may be what failed.
    pub fn of_statement(error: tokio_postgres::Error) -> Self {
        if error.is_closed() { Self::ConnectionLost } else { Self::Database(error) }
    }
}

/// Shortest and longest wait before another attempt to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// An active session that ends sooner has done nothing but find that it cannot: no room on the disk for what was carried, say.
const LASTING: Duration = Duration::from_millis(500);

/// A session that is refused a statement may have met a change of the extension; the next one finds out. So many in a row
/// that last less than this have not.
const REFUSED_MAX: u32 = 3;
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// Delivers until `shutdown`. Another active daemon: stands by and takes over when it ends.
///
/// Shutdown takes at most `drain_timeout` and 5 s for the last writes.
///
/// # Errors
/// At the start, whatever is wrong. Once a session has run, a server that is away or has become a standby is waited for.
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
                // It can be done: what ends it from here on, before it is active too, may pass.
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

/// How often, and how long, to try again.
#[derive(Debug)]
struct Patience {
    /// A session has been opened, and all demands were met.
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
    /// An active session has ended after so long.
    fn renew(&mut self, error: &Error, lasted: Duration) {
        let is_refused = !passes(error) && lasted < REFUSED_WITHIN;
        self.refused = if is_refused { self.refused + 1 } else { 0 };
        self.has_run = true;
        if lasted >= LASTING {
            self.is_told = false;
            self.backoff = BACKOFF_MIN;
        }
    }

    /// How long to wait before the next attempt; `unit` is evenly spread over 0..1.
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

/// Whether waiting may help: the server is away, starting, full, or a standby that may be promoted.
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

/// Everything [`run`] demands before it starts, and what the checkpoint says; changes nothing.
///
/// # Errors
/// The first demand that is not met.
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
    fn the_first_start_fails_at_once_and_later_ones_wait_longer_and_longer() {
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
            "no better"
        );
        patience.renew(&Error::ConnectionLost, Duration::from_secs(1));
        assert_eq!(patience.wait_after(Error::ReadOnly, 0.5).expect("it waits").as_millis(), 100);
        assert!(patience.wait_after(Error::ExtensionMissing, 0.5).is_err(), "waiting does not help");
    }
}
