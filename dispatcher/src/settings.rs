//! The settings of the daemon.

use crate::maintenance;
use database::{Phase, Target};
use delivery::{body::Source, identity::Identity, record::Observer, send_queue::breaker::Periods};
use source::{outbox::highest::HighestNumber, secret_store::SecretStore};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use traces::Traces;

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
    pub max_in_flight: usize,
    /// The same to one host, for all subscriptions of an owner together.
    pub max_in_flight_per_host: usize,
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
            max_in_flight: 2048,
            max_in_flight_per_host: 512,
            periods: Periods::default(),
            retire_interval: maintenance::RETIRE_INTERVAL,
            highest: Arc::default(),
            phase: watch::Sender::default(),
            observer: None,
            traces: None,
        }
    }
}
