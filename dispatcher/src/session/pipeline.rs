//! The tasks of a leader's session, from the outbox to the ledger.
//!
//! `start` connects them with channels, and `end` ends them in the order of the data: the readers
//! first, then the scheduler with the attempts in flight, then the ledger. So no result is lost
//! that could still be written.

use crate::{
    backfill,
    dispatch::{self, Stop, Wiring},
    ledger::{Ledger, LedgerEnd},
    local_senders::LocalSenders,
    maintenance,
    settings::Settings,
    verification::{self, VerificationContext},
};
use database::{Client, Error, Target, Watch, schema::Schema};
use delivery::{
    message::Budget,
    scheduler::{Limits, backlog_rate::ROWS_PER_PROCESSOR, timers::TIMERS_MAX},
    send_queue::order::ORDER_GROUPS_MAX,
    snapshot::Snapshot,
};
use sender::Sender;
use source::{
    liveness::Liveness,
    outbox::{self, gate::Gate, reader, ring::Present},
    queue,
    slow_filters::SlowFilters,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// How long the last writes may take at the end.
pub const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of the memory for events that may wait for filters.
const UNDECIDED_SHARE: usize = 4;

/// What the tasks need of the session.
pub struct Parts {
    pub schema: Schema,
    pub reader: Client,
    pub queue: Client,
    pub ledger: Ledger,
    pub gate: Gate,
    pub liveness: Arc<Liveness>,
    pub present: Arc<Present>,
    pub checkpoint: Snapshot,
    /// Backend of the control connection.
    pub control_pid: i32,
    pub watch: Watch,
    pub server: Target,
}

/// The running tasks.
pub struct Pipeline {
    reads: AbortOnDropHandle<Result<(), outbox::Error>>,
    recalls: AbortOnDropHandle<Result<(), tokio_postgres::Error>>,
    /// Verification, backfills and maintenance. No delivery depends on them.
    helpers: Vec<AbortOnDropHandle<()>>,
    scheduler: JoinHandle<()>,
    ledger: JoinHandle<LedgerEnd>,
    stop_reading: CancellationToken,
    stop_scheduler: oneshot::Sender<Stop>,
    /// Ends attempts in flight.
    abandon: CancellationToken,
    /// Ends the writing of results.
    give_up: CancellationToken,
}

impl Pipeline {
    /// Starts all tasks.
    pub fn start<S: Sender>(parts: Parts, settings: &Settings, sender: &Arc<S>) -> Self {
        let Parts { schema, reader, queue, ledger, gate, liveness, present, .. } = parts;
        let Parts { checkpoint, control_pid, watch, server, .. } = parts;
        let budget = Arc::new(Budget::default());
        let slow_filters = Arc::new(SlowFilters::new(Arc::clone(&watch.notified)));
        let (stop_reading, give_up, abandon) =
            <(CancellationToken, CancellationToken, CancellationToken)>::default();
        let (feed, fed) = mpsc::channel(1);
        let (finished_tx, finished) = mpsc::unbounded_channel();
        let (confirmed_tx, confirmed) = mpsc::unbounded_channel();
        let (loaded_tx, loaded) = mpsc::unbounded_channel();
        let (records, records_rx) = mpsc::unbounded_channel();
        let (loads, loads_rx) = mpsc::unbounded_channel();
        let (verification, verification_rx) = mpsc::unbounded_channel();
        let (stop_scheduler, stop) = oneshot::channel();

        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (identity, traces) = (&settings.identity, settings.traces.as_ref());
        let local_senders = LocalSenders::start(workers, sender, identity, traces, &finished_tx, &abandon);
        let limits = Limits {
            memory_bytes_max: settings.memory_bytes_max,
            max_in_flight: settings.max_in_flight.max(1),
            max_in_flight_per_host: settings.max_in_flight_per_host.max(1),
            timers_max: TIMERS_MAX,
            order_groups_max: ORDER_GROUPS_MAX,
            backlog_rate: ROWS_PER_PROCESSOR * workers as f64,
            periods: settings.periods,
        };
        let wiring = Wiring { feed: fed, finished, confirmed, loaded, local_senders, records, loads, stop };
        let context = VerificationContext {
            sender: Arc::clone(sender),
            identity: Arc::clone(identity),
            database: server.clone(),
        };
        let reads = reader::run(reader::Start {
            client: reader,
            schema,
            gate,
            control_pid,
            checkpoint,
            present,
            safety_poll: settings.safety_poll,
            durable_reads: settings.durable_reads,
            highest: Arc::clone(&settings.highest),
            liveness,
            budget: Arc::clone(&budget),
            secrets: Arc::clone(&settings.secrets),
            slow_filters: Arc::clone(&slow_filters),
            server: (server.clone(), watch.clone()),
            undecided_bytes_max: settings.memory_bytes_max / UNDECIDED_SHARE,
            feed,
            verification,
            stop: stop_reading.clone(),
        });
        Self {
            reads: spawn(reads),
            recalls: spawn(queue::run(queue, schema, Arc::clone(&budget), slow_filters, loads_rx, loaded_tx)),
            helpers: vec![
                spawn(verification::run(context, verification_rx)),
                spawn(backfill::run(server.clone())),
                spawn(maintenance::run(server, settings.retire_interval)),
            ],
            scheduler: tokio::spawn(dispatch::run(wiring, limits, budget)),
            ledger: tokio::spawn(ledger.run(records_rx, confirmed_tx, watch.ended, give_up.clone())),
            stop_reading,
            stop_scheduler,
            abandon,
            give_up,
        }
    }

    /// Waits until one of the readers ends, and returns why.
    pub async fn reader_ended(&mut self) -> Error {
        tokio::select! {
            ended = &mut self.reads => match ended.unwrap_or_else(panicked) {
                Ok(()) => Error::ConnectionLost,
                Err(error) => error.into(),
            },
            ended = &mut self.recalls => match ended.unwrap_or_else(panicked) {
                Ok(()) => Error::ConnectionLost,
                Err(error) => Error::of_statement(error),
            },
        }
    }

    /// Ends all tasks. Attempts in flight get this time to finish, and their results are written.
    /// `spills` puts the remaining deliveries into the queue. Returns what could not be written.
    pub async fn end(mut self, drain_timeout: Duration, spills: bool) -> LedgerEnd {
        self.stop_reading.cancel();
        self.helpers.clear();
        // The scheduler cannot have ended, because it waits for this message.
        let _ = self.stop_scheduler.send(Stop { drain_timeout, spills });
        if timeout(drain_timeout + LAST_WRITES_TIMEOUT, &mut self.scheduler).await.is_err() {
            self.give_up.cancel();
            self.scheduler.await.unwrap_or_else(panicked);
        }
        self.abandon.cancel();
        self.ledger.await.unwrap_or_else(panicked)
    }
}

fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Continues a task's panic. The process ends, and the next one starts from the checkpoint.
fn panicked<T>(error: JoinError) -> T {
    std::panic::resume_unwind(error.into_panic())
}
