//! The read loop: polls, reads windows, routes them, sends them to the scheduler, and sleeps when
//! there is nothing new.
//!
//! It owns the routing table, because it routes a window by the subscriptions in the snapshot that
//! ends the window. The bounded channel to the scheduler is the backpressure: while it is full, the
//! loop reads nothing.

mod routing;
mod windows;

use crate::{
    liveness::Liveness,
    outbox::{
        Error, durable,
        filter::Filter,
        filter_queue::{self, FilterQueue},
        gate::Gate,
        highest::HighestNumber,
        poll::{Cursor, Poll},
        ring::{Present, Ring},
    },
    router::{Revisions, Router},
    secret_store::SecretStore,
    slow_filters::SlowFilters,
};
use database::{Client, Target, Watch, schema::Schema};
use delivery::{
    event::Event,
    feed::{Feed, VerificationInput},
    message::Budget,
    snapshot::Snapshot,
    subscription::Update,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use windows::{Large, recover};

/// Time between two polls while the daemon is awake.
const POLL_INTERVAL: Duration = Duration::from_micros(500);

/// How long the reader stays awake after the last event. At 200 events/s, the gap between two
/// events is longer than this once in 50 times. So commits wake the daemon 4 times a second and not
/// 200 times. A lone event costs 20 polls.
const LINGER: Duration = Duration::from_millis(20);

/// Without a gate, nothing wakes the daemon, and without the safety poll it would find no event.
const SAFETY_POLL_DEFAULT: Duration = Duration::from_secs(1);

/// Time between two checks that our control connection still holds the leader's lock.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of large windows that are read in turn.
const LARGE_MAX: usize = 4;

/// Events that the daemon itself obeys.
const SUBSCRIPTION_CHANGED: &str = "webhook.subscription.";
const EVENT_TYPE_CHANGED: &str = "webhook.event_type.updated";
const DELIVERY_REQUESTED: &str = "webhook.delivery.requested";

/// The arguments of the reader.
pub struct Start {
    pub client: Client,
    pub schema: Schema,
    pub gate: Gate,
    /// Backend of the control connection, which holds the leader's lock.
    pub control_pid: i32,
    pub checkpoint: Snapshot,
    /// Receives the slot that is written to.
    pub present: Arc<Present>,
    pub safety_poll: Option<Duration>,
    pub durable_reads: bool,
    /// Receives the number of each event.
    pub highest: Arc<HighestNumber>,
    /// Receives a signal for each poll.
    pub liveness: Arc<Liveness>,
    pub budget: Arc<Budget>,
    pub secrets: Arc<SecretStore>,
    pub slow_filters: Arc<SlowFilters>,
    /// Where filters are evaluated, and the bytes that may wait for this.
    pub server: (Target, Watch),
    pub undecided_bytes_max: usize,
    pub feed: mpsc::Sender<Feed>,
    /// The task that asks receivers for confirmation.
    pub verification: mpsc::UnboundedSender<VerificationInput>,
    /// Ends the loop between two steps.
    pub stop: CancellationToken,
}

struct Reader {
    client: Client,
    schema: Schema,
    gate: Arc<Gate>,
    control_pid: i32,
    present: Arc<Present>,
    safety_poll: Option<Duration>,
    durable_reads: bool,
    highest: Arc<HighestNumber>,
    liveness: Arc<Liveness>,
    budget: Arc<Budget>,
    secrets: Arc<SecretStore>,
    /// Notices that secrets outside the database may have changed.
    reloads: watch::Receiver<u64>,
    feed: mpsc::Sender<Feed>,
    verification: mpsc::UnboundedSender<VerificationInput>,
    stop: CancellationToken,
    poll: Poll,
    filter: Filter,
    filter_queue: FilterQueue,
    /// The subscriptions of one event, while it is routed.
    targets: Vec<i64>,
    cursor: Cursor,
    router: Arc<Router>,
    next_window: u64,
    /// Windows that are being read in pages, in turn. Only the last of them can contain more than
    /// bulk loads.
    large: VecDeque<Large>,
    /// There are more large windows than are read in turn. The loop does not poll until one is
    /// finished.
    is_held: bool,
    last_event: Instant,
    last_lock_check: Instant,
}

/// Reads until `stop` or an error. Begins with everything since the checkpoint.
///
/// # Errors
/// The errors of the connections, and the loss of the leader's lock.
pub async fn run(start: Start) -> Result<(), Error> {
    let (slow_filters, feed) = (Arc::clone(&start.slow_filters), start.feed.clone());
    let server = start.server.clone();
    let (filter_queue, worker) = filter_queue::open(start.undecided_bytes_max, server, slow_filters, feed);
    tokio::select! {
        ended = read(start, filter_queue) => ended,
        Err(error) = worker.run() => Err(error),
    }
}

async fn read(start: Start, filter_queue: FilterQueue) -> Result<(), Error> {
    let Start {
        mut client,
        schema,
        gate,
        control_pid,
        checkpoint,
        present,
        safety_poll,
        durable_reads,
        highest,
        liveness,
        budget,
        secrets,
        slow_filters,
        feed,
        verification,
        stop,
        ..
    } = start;
    let reloads = secrets.reloads();
    let (cursor, router, large) = recover(&mut client, schema, &secrets, checkpoint).await?;
    present.set(cursor.ring());
    let update = Update::All(Arc::new(router.subscriptions().clone()));
    let internal = Arc::clone(router.internal());
    let now = Instant::now();
    let mut reader = Reader {
        client,
        schema,
        gate: Arc::new(gate),
        control_pid,
        safety_poll,
        durable_reads,
        highest,
        liveness,
        budget,
        secrets,
        reloads,
        feed,
        verification,
        stop,
        poll: Poll::new(schema),
        present,
        filter: Filter::new(slow_filters),
        filter_queue,
        targets: Vec::new(),
        cursor,
        router,
        next_window: u64::from(large.is_some()),
        is_held: false,
        large: large.into_iter().collect(),
        last_event: now,
        last_lock_check: now,
    };
    if !reader.is_on_disk().await? {
        return Ok(());
    }
    reader.hand_on(Feed::InternalTypes(internal)).await;
    reader.hand_on_subscriptions(update).await;
    if reader.large.is_empty() {
        reader.hand_on(Feed::Recovered).await;
    }
    while !reader.stop.is_cancelled() {
        reader.step().await?;
    }
    Ok(())
}

/// Reports whether an event changes who gets events.
fn changes_routing(event: &Event) -> bool {
    event.event_type.starts_with(SUBSCRIPTION_CHANGED) || &*event.event_type == EVENT_TYPE_CHANGED
}

/// Waits for the interval, or for ever.
async fn after(interval: Option<Duration>) {
    match interval {
        Some(interval) => sleep(interval).await,
        None => std::future::pending().await,
    }
}

/// Waits until secrets must be resolved again.
async fn reloaded(mut reloads: watch::Receiver<u64>) {
    if reloads.changed().await.is_err() {
        std::future::pending().await
    }
}

impl Reader {
    async fn step(&mut self) -> Result<(), Error> {
        if self.filter.slow_filters.has_changes() {
            self.hold_overdue().await;
        }
        let is_first = |large: &Large| !large.pages.is_bulk();
        let next = self.large.iter().position(is_first).unwrap_or(0);
        if let Some(large) = self.large.remove(next) {
            match self.read_page(large).await? {
                Some(large) => self.large.push_back(large),
                None => self.is_held = false,
            }
            self.last_event = Instant::now();
            if self.is_held || self.large.iter().any(is_first) {
                return Ok(());
            }
        }
        if self.poll_once().await? {
            self.last_event = Instant::now();
        }
        if !self.large.is_empty() {
            return Ok(());
        }
        if self.last_event.elapsed() < LINGER {
            sleep(POLL_INTERVAL).await;
        } else if self.gate.is_available() {
            self.sleep_in_server().await?;
        } else {
            self.sleep_without_gate().await;
        }
        Ok(())
    }

    /// Sleeps in the server until a commit or another cause wakes the daemon. Meanwhile, the safety
    /// poll goes on.
    async fn sleep_in_server(&mut self) -> Result<(), Error> {
        self.gate.forget_signals();
        let mut asleep = Arc::clone(&self.gate).sleep(self.safety_poll);
        tokio::select! {
            biased;
            () = self.gate.shut() => {}
            ended = &mut asleep => {
                // A commit in progress holds the gate open. Poll meanwhile.
                ended?;
                sleep(POLL_INTERVAL).await;
                return Ok(());
            }
        }
        while !self.filter.slow_filters.has_changes() && !self.poll_once().await? {
            let _sleeping = self.liveness.sleeps();
            tokio::select! {
                ended = &mut asleep => {
                    ended?;
                    // The polls of the next LINGER find the commits that find the gate open from
                    // here on.
                    self.last_event = Instant::now();
                    return Ok(());
                }
                () = after(self.safety_poll) => {}
                () = reloaded(self.reloads.clone()) => {}
                () = self.gate.shut() => {}
                () = self.gate.notified() => break,
                () = self.stop.cancelled() => break,
            }
        }
        let (woken, ended) = futures_util::join!(self.gate.wake(), asleep);
        woken?;
        ended?;
        self.last_event = Instant::now();
        Ok(())
    }

    /// Sleeps until the next poll, where no commit wakes the daemon.
    async fn sleep_without_gate(&self) {
        tokio::select! {
            () = sleep(self.safety_poll.unwrap_or(SAFETY_POLL_DEFAULT)) => {}
            () = reloaded(self.reloads.clone()) => {}
            () = self.gate.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Polls once, and sends the new events on. Reports whether there were any.
    async fn poll_once(&mut self) -> Result<bool, Error> {
        if self.obey_reload().await? {
            return Ok(true);
        }
        let check_lock = self.last_lock_check.elapsed() >= LOCK_CHECK_INTERVAL;
        let result = self.poll.run(&self.client, &self.cursor, check_lock).await?;
        self.liveness.polled();
        if check_lock {
            if result.lock_holder != Some(self.control_pid) {
                return Err(Error::LockLost);
            }
            self.last_lock_check = Instant::now();
        }
        // Events that committed after a reload must not be signed with the former secrets.
        if self.obey_reload().await? {
            return Ok(true);
        }
        let Some(snapshot) = result.snapshot else { return Ok(false) };
        if result.too_many || result.events.iter().any(changes_routing) {
            self.open_or_wait(false).await?;
            return Ok(true);
        }
        self.advance(snapshot.clone(), result.ring);
        if result.events.is_empty() {
            return Ok(false);
        }
        if !self.is_on_disk().await? {
            return Ok(false);
        }
        let window = self.next_window;
        self.next_window += 1;
        let router = Arc::clone(&self.router);
        self.hand_on_events(window, result.events, (&router, &Revisions::default()), None, Some(snapshot))
            .await?;
        Ok(true)
    }

    fn advance(&mut self, snapshot: Snapshot, ring: Ring) {
        if ring != *self.cursor.ring() {
            // This comes before the events are sent on, because their attempts go into this slot or
            // a later one (webhook.attempt_slots).
            self.present.set(&ring);
        }
        self.cursor.advance(snapshot, ring);
    }

    /// Reports whether secrets must be resolved again.
    fn has_reload(&self) -> bool {
        self.reloads.has_changed().unwrap_or_default()
    }

    /// Resolves secrets again if they may have changed. Reports whether they may.
    async fn obey_reload(&mut self) -> Result<bool, Error> {
        let is_due = self.has_reload();
        if is_due {
            self.open_or_wait(true).await?;
        }
        Ok(is_due)
    }

    /// Opens a large window, or lets the loop wait until one of those that are read is finished.
    async fn open_or_wait(&mut self, reloads: bool) -> Result<(), Error> {
        self.is_held = self.large.len() >= LARGE_MAX;
        if self.is_held {
            return Ok(());
        }
        if reloads {
            self.reloads.mark_unchanged();
        }
        self.open_large(reloads).await
    }

    /// Waits until everything that was seen is on the server's disk. It may have been committed
    /// asynchronously, and a crash of the server would undo what receivers already know. Returns
    /// `false` if the session ends before that; the caller must then send nothing on.
    async fn is_on_disk(&mut self) -> Result<bool, Error> {
        if !self.durable_reads {
            return Ok(true);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(false),
            flushed = durable::flush(&self.client) => Ok(flushed.map(|()| true)?),
        }
    }
}
