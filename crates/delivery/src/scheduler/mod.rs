//! The scheduler: decides which delivery is sent, written, or read back next. Pure.
//!
//! The scheduler holds a [`Lane`] (a send queue) for each subscription, the retries that wait for
//! their time, and the windows that are not resolved yet. A delivery goes one of these ways:
//!
//! * `route` takes it from the reader into its send queue, or past it into the queue table.
//! * `attempts` starts it, and applies its outcome. `health` applies the outcome to the receiver.
//! * `order_groups` moves it through its order group, if the subscription has an order.
//! * `recall` reads it back from the queue table, as a due retry or as backlog.
//!
//! The caller calls one method for each thing that happened, and then [`Scheduler::advance`]. It then
//! carries out the contents of [`Scheduler::out`]. Time and random numbers are arguments. The module
//! must not do I/O, and it must not read a clock.

mod attempts;
pub mod backlog_rate;
mod health;
mod order_groups;
mod progress;
mod recall;
mod route;
#[cfg(test)]
mod tests;
pub mod timers;

use crate::{
    Now,
    lane::{Lane, breaker::Periods},
    message::{Budget, Message},
    queue_rows::{Item, Load, Retry, RetryKey},
    record::{Confirmed, Entry, Record},
    scheduler::{backlog_rate::BacklogRate, progress::Progress, timers::Timers},
    subscription::{Ordering, Subscription, Subscriptions},
};
use slab::Slab;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Maximum number of entries that wait for the ledger. Beyond it, the scheduler starts and spills
/// nothing until Postgres has caught up.
const UNCONFIRMED_MAX: u64 = 20_000;

/// A delivery that waits this long without a row, or is in flight this long, gets a queue row. So
/// the checkpoint can move.
const UNRESOLVED_MAX: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of new deliveries in memory, over all send queues. This is work for a few seconds
/// at most, so deliveries do not go into the queue only because of their age.
const FRESH_SUM_MAX: usize = 20_000;

/// Interval of `advance` while work is open and nothing happens.
const TICK: Duration = Duration::from_millis(50);

/// Limits of memory and of attempts in flight.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes_max: usize,
    pub max_in_flight: usize,
    /// Maximum number of retries in memory. Later ones stay in the table until shortly before they
    /// are due.
    pub timers_max: usize,
    /// Maximum number of order groups in memory, per send queue.
    pub order_groups_max: usize,
    /// Rows of backlogs per second while other subscriptions have new events, over all send queues.
    pub backlog_rate: f64,
    pub periods: Periods,
}

/// The content of one request.
#[derive(Debug)]
pub enum RequestContent {
    One(Arc<Message>),
    /// An array, even of one event, in order of event ids. Used if the batch size is above 1.
    Batch(Box<[Arc<Message>]>),
}

/// An attempt to make.
#[derive(Debug)]
pub struct Start {
    /// The worker returns it with the outcome.
    pub key: usize,
    pub url: Arc<url::Url>,
    pub content: RequestContent,
    pub subscription: Arc<Subscription>,
    pub signers: Arc<[signature::Signer]>,
    /// Number of the attempt for the first event; 1 is the first attempt.
    pub number: i16,
}

/// The effects for the caller to carry out. Each list is in order.
#[derive(Debug, Default)]
pub struct Out {
    pub starts: Vec<Start>,
    pub records: Vec<Record>,
    pub loads: Vec<Load>,
}

/// A request that has been started and has no outcome yet.
#[derive(Debug)]
struct InFlight {
    subscription_id: i64,
    bytes: usize,
    /// Number of the request in the pacing of its send queue.
    number: u64,
    /// The request shows whether the circuit can close.
    is_probe: bool,
    since: Duration,
    first: Delivery,
    /// The other deliveries in the same request.
    more: Vec<Delivery>,
}

/// One event's part in a request.
#[derive(Debug)]
struct Delivery {
    message: Arc<Message>,
    attempts: i16,
    retry_from: i16,
    /// The window that the next entry for this delivery resolves. `None` if no window waits for it.
    window: Option<u64>,
    /// The delivery has a queue row, a row is on its way, or it was requested by hand and its row
    /// may be gone ([`RowState::Asked`](super::lane::RowState::Asked)).
    is_queued: bool,
    /// The next entry creates the row; see
    /// [`RowState::is_missing`](super::lane::RowState::is_missing).
    makes_row: bool,
    /// A redelivery was requested during the attempt. Another attempt follows, whether or not this
    /// one succeeds.
    again: bool,
    /// The order group that it was taken from, as the head or directly behind the head.
    order_key: Option<i64>,
}

impl InFlight {
    fn deliveries_mut(&mut self) -> impl Iterator<Item = &mut Delivery> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }

    fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn has_window(&self) -> bool {
        self.deliveries().any(|delivery| delivery.window.is_some())
    }
}

/// The scheduler. See the module.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    budget: Arc<Budget>,
    subscriptions: Subscriptions,
    lanes: HashMap<i64, Lane>,
    flights: Slab<InFlight>,
    /// Send queues with deliveries to start, in round-robin order.
    ready: VecDeque<i64>,
    backlog_rate: BacklogRate,
    /// Send queues that wait for `backlog_rate`, and when it allows the next start.
    held: Vec<i64>,
    held_until: Option<Duration>,
    /// Send queues that may want rows: a page of their backlog, or rows of order groups.
    asking: Vec<i64>,
    /// Send queues with due retries to read.
    due: VecDeque<i64>,
    /// Send queues that can continue at a known time.
    wakes: BTreeSet<(Duration, i64)>,
    timers: Timers,
    progress: Progress,
    /// The batch that is being routed, and the position in it.
    pending: Option<route::Pending>,
    /// Deliveries in memory that have no row, over all send queues.
    fresh: usize,
    /// Deliveries started since this scheduler was created.
    started: u64,
    /// Set while memory is over its limit: the start of the current check, and `started` at that
    /// time.
    over_since: Option<(Duration, u64)>,
    entries_out: u64,
    entries_confirmed: u64,
    loads_out: u64,
    loads_in: u64,
    /// Retries that are being read, as subscription and event.
    due_asked: HashSet<(i64, i64)>,
    /// Claims to release when the load with that number has been answered (load, subscription,
    /// event). Its answer may be older than the confirmation.
    leaving: VecDeque<(u64, i64, i64)>,
    swept_at: Duration,
    checkpoint_at: Option<Duration>,
    /// Set once the subscriptions are known. Before that, the scheduler cannot judge any queue row.
    is_open: bool,
    /// Set once the order groups that an earlier run left are known. Send queues with an order wait
    /// for this.
    is_known: bool,
    is_recovered: bool,
    is_closing: bool,
    /// The time of the last `advance`, monotonic and wall clock.
    at: Duration,
    wall_us: i64,
    /// Due retries of subscriptions that are not in `subscriptions`. Each of these subscriptions is
    /// newer than that table, or gone.
    strays: Vec<(RetryKey, Retry)>,
    pub out: Out,
}

impl Scheduler {
    /// Creates a scheduler without send queues. The first feed must be the subscriptions.
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Self {
        Self {
            limits,
            budget,
            subscriptions: Subscriptions::new(),
            lanes: HashMap::new(),
            flights: Slab::new(),
            ready: VecDeque::new(),
            backlog_rate: BacklogRate::new(limits.backlog_rate),
            held: Vec::new(),
            held_until: None,
            asking: Vec::new(),
            due: VecDeque::new(),
            wakes: BTreeSet::new(),
            timers: Timers::new(limits.timers_max),
            progress: Progress::default(),
            pending: None,
            fresh: 0,
            started: 0,
            over_since: None,
            entries_out: 0,
            entries_confirmed: 0,
            loads_out: 0,
            loads_in: 0,
            due_asked: HashSet::new(),
            leaving: VecDeque::new(),
            swept_at: Duration::ZERO,
            checkpoint_at: None,
            is_open: false,
            is_known: false,
            is_recovered: false,
            is_closing: false,
            at: Duration::ZERO,
            wall_us: 0,
            strays: Vec::new(),
            out: Out::default(),
        }
    }

    /// Applies the consequences of everything that has happened, and of the time.
    pub fn advance(&mut self, now: Now) {
        (self.at, self.wall_us) = (now.at, now.wall_us);
        if self.is_open && !self.is_closing {
            self.wake(now);
            self.take_due(now);
            self.route(now);
            self.sweep(now);
            self.recall(now);
            self.start(now);
        }
        self.checkpoint(now);
    }

    /// Returns when [`advance`](Self::advance) has work even if nothing happens, or `None` for
    /// never.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        if self.pending.is_some()
            || !self.flights.is_empty()
            || self.unconfirmed() > 0
            || self.progress.has_moved()
        {
            let wake = self.wakes.first().map(|(at, _)| *at).into_iter().chain(self.held_until).min();
            return Some((now.at + TICK).min(wake.unwrap_or(Duration::MAX)));
        }
        if self.is_closing {
            return None;
        }
        let wait = |us: i64| Duration::from_micros(us.saturating_sub(now.wall_us).max(1000).unsigned_abs());
        let retry = self.timers.first_us().map(|us| now.at + wait(us));
        let wake = self.wakes.first().map(|(at, _)| *at);
        // Deliveries that wait for their receiver go into the queue, where users see them and where
        // they survive a restart.
        let sweep = self
            .progress
            .oldest_since()
            .map(|since| (since + UNRESOLVED_MAX).max(self.swept_at + SWEEP_INTERVAL));
        retry.into_iter().chain(wake).chain(sweep).chain(self.held_until).min()
    }

    /// Schedules a check of a send queue at this time, unless an earlier check is scheduled.
    fn wake_at(&mut self, id: i64, at: Duration) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.wake_at.is_none_or(|before| at < before)
            && let Some(before) = lane.wake_at.replace(at)
        {
            self.wakes.remove(&(before, id));
        }
        if lane.wake_at == Some(at) {
            self.wakes.insert((at, id));
        }
    }

    fn wake(&mut self, now: Now) {
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now.at) {
            self.wakes.remove(&(at, id));
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.wake_at = None;
            }
            self.list(id);
            self.ask(id);
        }
    }

    /// Reports whether the scheduler can take another batch.
    pub fn is_hungry(&self) -> bool {
        self.pending.is_none() && !self.is_closing
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Returns the number of entries that were given to the ledger and are not committed yet.
    pub fn unconfirmed(&self) -> u64 {
        self.entries_out - self.entries_confirmed
    }

    /// Stops starting attempts and taking batches.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.pending = None;
    }

    /// Puts all deliveries that wait without a row into the queue.
    pub fn spill(&mut self) {
        let ids: Vec<i64> = self.lanes.keys().copied().collect();
        for id in ids {
            self.spill_fresh(id);
        }
    }

    /// Puts the requests in flight into the queue too, because their outcomes will not be known.
    pub fn spill_flights(&mut self) {
        for key in self.flights.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.spill_flight(key);
        }
    }

    /// Applies a commit of the ledger.
    pub fn confirmed(&mut self, confirmed: &Confirmed) {
        self.entries_confirmed += confirmed.entries;
        for (window, deliveries) in &confirmed.windows {
            self.progress.resolve(*window, *deliveries);
        }
        for (subscription_id, rows) in &confirmed.spilled {
            if let Some(lane) = self.lanes.get_mut(subscription_id) {
                lane.backlog.confirmed(*rows);
            }
            self.ask(*subscription_id);
        }
        if let Some(id) = confirmed.disabled {
            self.disabled_for_sure(id);
        }
        if let Some(id) = confirmed.unblocked {
            self.restart_backlog(id);
        }
        for (subscription_id, event_id) in &confirmed.settled {
            if self.loads_in == self.loads_out {
                self.release(*subscription_id, *event_id);
            } else {
                self.leaving.push_back((self.loads_out, *subscription_id, *event_id));
            }
        }
    }

    /// Moves the checkpoint if a window was resolved: at most once a second, or at once when
    /// closing.
    fn checkpoint(&mut self, now: Now) {
        let is_time = self.checkpoint_at.is_none_or(|at| now.at.saturating_sub(at) >= CHECKPOINT_INTERVAL);
        if (is_time || self.is_closing)
            && let Some(snapshot) = self.progress.take_resolved()
        {
            self.checkpoint_at = Some(now.at);
            self.out.records.push(Record::Checkpoint(snapshot));
        }
    }

    fn load(&mut self, load: Load) {
        self.loads_out += 1;
        self.out.loads.push(load);
    }

    /// Adds an entry for the ledger, and returns its number.
    fn entry(&mut self, entry: Entry) -> u64 {
        self.entries_out += 1;
        self.out.records.push(Record::Entry(entry));
        self.entries_out
    }

    fn release(&mut self, subscription_id: i64, event_id: i64) {
        if let Some(lane) = self.lanes.get_mut(&subscription_id) {
            lane.release(event_id);
        }
    }

    /// Returns the send queue of a subscription, and creates it at first use. Returns `None` if
    /// there is no such subscription.
    fn lane(&mut self, subscription_id: i64) -> Option<&mut Lane> {
        let subscription = self.subscriptions.get(&subscription_id)?;
        let (order_groups_max, at) = (self.limits.order_groups_max, self.at);
        let new = || Lane::new(Arc::clone(subscription), order_groups_max, at);
        Some(self.lanes.entry(subscription_id).or_insert_with(new))
    }

    /// Puts a send queue on the list of those that may want rows.
    fn ask(&mut self, subscription_id: i64) {
        if let Some(lane) = self.lanes.get_mut(&subscription_id)
            && !lane.is_asking
            && (lane.backlog.is_active() || lane.groups.as_ref().is_some_and(|groups| groups.is_wanting()))
        {
            lane.is_asking = true;
            self.asking.push(subscription_id);
        }
    }

    /// Puts a send queue on the list of those with deliveries to start.
    fn list(&mut self, subscription_id: i64) {
        if let Some(lane) = self.lanes.get_mut(&subscription_id)
            && !lane.is_listed
            && lane.has_work()
        {
            lane.is_listed = true;
            self.ready.push_back(subscription_id);
        }
    }
}

/// Returns the order group of a delivery, or `None` if the subscription has neither an order nor
/// compaction.
fn order_key(subscription: &Subscription, message: &Message) -> Option<i64> {
    match subscription.ordering {
        Ordering::Strict => Some(0),
        Ordering::Key => Some(message.order_key()),
        Ordering::None => subscription.compact.then(|| message.order_key()),
    }
}
