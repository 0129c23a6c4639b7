//! All lanes: who gets what next, what has to be written down, and what has to be read back. Pure.
//!
//! The shell calls one method per thing that happened, then [`Board::advance`], and carries out what it finds in
//! [`Board::out`]. Time and randomness are arguments.

mod attempts;
mod lines;
mod recall;
mod route;
mod standing;
#[cfg(test)]
mod tests;

use super::{
    Now,
    breaker::Periods,
    lane::{Item, Lane},
    progress::Progress,
    timers::{Key, Retry, Timers},
};
use crate::{
    ledger::entry::{Confirmed, Entry, Record},
    message::{Budget, Message},
    queue::Load,
    subscription::{Ordering, Subscription, Subscriptions},
};
use slab::Slab;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Results that may wait for the ledger; beyond that nothing is started or spilled until Postgres has caught up.
const UNCONFIRMED_MAX: u64 = 20_000;

/// What is not recorded this long after it was read is put into the queue, so that the checkpoint can move on.
const UNRESOLVED_MAX: Duration = Duration::from_secs(5);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Between two checkpoints.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Most deliveries that wait in all lanes together without a row: a second's work or a few, so that they are not put into
/// the queue for having waited too long.
const FRESH_SUM_MAX: usize = 20_000;

/// How often a busy board looks at the clock by itself.
const TICK: Duration = Duration::from_millis(50);

/// How much may be held and under way.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub memory_bytes_max: usize,
    pub in_flight_max: usize,
    /// Retries in memory; more stay in the table until it is nearly their time.
    pub timers_max: usize,
    /// Lines in memory, of one lane with an order.
    pub lines_max: usize,
    pub periods: Periods,
}

/// What one request carries.
#[derive(Debug)]
pub enum Content {
    One(Arc<Message>),
    /// For a subscription with a batch size above 1: an array, even of one. In order of events.
    Batch(Box<[Arc<Message>]>),
}

/// An attempt to make.
#[derive(Debug)]
pub struct Start {
    /// Comes back with the outcome.
    pub key: usize,
    pub url: Arc<url::Url>,
    pub content: Content,
    pub subscription: Arc<Subscription>,
    pub signers: Arc<[signature::Signer]>,
    /// 1 for the first attempt of the first event.
    pub number: i16,
}

/// What the shell is to do, in order.
#[derive(Debug, Default)]
pub struct Out {
    pub starts: Vec<Start>,
    pub records: Vec<Record>,
    pub loads: Vec<Load>,
}

/// An attempt under way.
#[derive(Debug)]
struct Flight {
    subscription_id: i64,
    bytes: usize,
    /// Its number with the lane's pacing.
    number: u64,
    /// It is to show whether the circuit can be closed.
    is_probe: bool,
    since: Duration,
    first: Delivery,
    /// The others in the same request.
    more: Vec<Delivery>,
}

/// One event's part in an attempt.
#[derive(Debug)]
struct Delivery {
    message: Arc<Message>,
    attempts: i16,
    retry_from: i16,
    /// `Some`: no row tells of it yet.
    window: Option<u64>,
    /// There is a row in the queue.
    is_queued: bool,
    /// What becomes of it makes its row; see [`RowState::is_missing`](super::lane::RowState::is_missing).
    makes_row: bool,
    /// Redelivery was asked for meanwhile: once more, whatever comes of this one.
    again: bool,
    /// The line it is the head of, or near it.
    order_key: Option<i64>,
}

impl Flight {
    fn deliveries_mut(&mut self) -> impl Iterator<Item = &mut Delivery> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }

    fn has_window(&self) -> bool {
        self.first.window.is_some() || self.more.iter().any(|delivery| delivery.window.is_some())
    }
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    limits: Limits,
    budget: Arc<Budget>,
    subscriptions: Arc<Subscriptions>,
    lanes: HashMap<i64, Lane>,
    flights: Slab<Flight>,
    /// Lanes with something to start, in turn.
    ready: VecDeque<i64>,
    /// Lanes that may want a page of their backlog.
    asking: Vec<i64>,
    /// Lanes with retries to be read.
    due: VecDeque<i64>,
    /// Lanes that will be able to go on at some moment.
    wakes: BTreeSet<(Duration, i64)>,
    timers: Timers,
    progress: Progress,
    /// The batch that is being handed out, and how far that has come.
    pending: Option<route::Pending>,
    /// Deliveries that wait in all lanes without a row.
    fresh: usize,
    /// Attempts started, ever.
    started: u64,
    /// When memory was first over its bound, and how many attempts had been started then.
    over_since: Option<(Duration, u64)>,
    entries_out: u64,
    entries_confirmed: u64,
    loads_out: u64,
    loads_in: u64,
    /// Retries that are being read: subscription and event.
    due_asked: HashSet<(i64, i64)>,
    /// Holds to be let go when the load with that number is in: its answer may be older than the confirmation.
    leaving: VecDeque<(u64, i64, i64)>,
    swept_at: Duration,
    checkpoint_at: Option<Duration>,
    /// The subscriptions are known; before that, nobody's queue rows can be judged.
    is_open: bool,
    /// What was left of an earlier run is known: lanes with an order may begin.
    is_known: bool,
    is_recovered: bool,
    is_closing: bool,
    /// The clock as it was last told, and the wall's.
    at: Duration,
    wall_us: i64,
    /// Retries of subscriptions that were not in the table when they fell due: newer than it, or gone.
    strays: Vec<(Key, Retry)>,
    pub out: Out,
}

impl Board {
    /// A board without lanes. The first thing it is fed must be the subscriptions.
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Self {
        Self {
            limits,
            budget,
            subscriptions: Arc::default(),
            lanes: HashMap::new(),
            flights: Slab::new(),
            ready: VecDeque::new(),
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

    /// Everything that follows from what has happened and from the time.
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

    /// When [`advance`](Self::advance) has something to do without anything happening; `None`: never.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        if self.pending.is_some()
            || !self.flights.is_empty()
            || self.unconfirmed() > 0
            || self.progress.has_moved()
        {
            let wake = self.wakes.first().map_or(Duration::MAX, |(at, _)| *at);
            return Some((now.at + TICK).min(wake));
        }
        if self.is_closing {
            return None;
        }
        let wait = |us: i64| Duration::from_micros(us.saturating_sub(now.wall_us).max(1000).unsigned_abs());
        let retry = self.timers.first_us().map(|us| now.at + wait(us));
        let wake = self.wakes.first().map(|(at, _)| *at);
        // What waits for its receiver is put into the queue, where it is seen and outlives us.
        let sweep = self
            .progress
            .oldest_since()
            .map(|since| (since + UNRESOLVED_MAX).max(self.swept_at + SWEEP_INTERVAL));
        retry.into_iter().chain(wake).chain(sweep).min()
    }

    /// Looks at a lane again at a moment, unless it will be looked at before.
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

    /// Whether another batch can be taken.
    pub fn is_hungry(&self) -> bool {
        self.pending.is_none() && !self.is_closing
    }

    /// Attempts under way.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// Entries given to the ledger and not yet committed.
    pub fn unconfirmed(&self) -> u64 {
        self.entries_out - self.entries_confirmed
    }

    /// Starts nothing any more.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.pending = None;
    }

    /// What waits without a row goes into the queue.
    pub fn spill(&mut self) {
        let ids: Vec<i64> = self.lanes.keys().copied().collect();
        for id in ids {
            self.spill_fresh(id);
        }
    }

    /// Attempts still under way go into the queue too; their outcomes will not be known.
    pub fn spill_flights(&mut self) {
        for key in self.flights.iter().map(|(key, _)| key).collect::<Vec<_>>() {
            self.spill_flight(key);
        }
    }

    /// The ledger has committed.
    pub fn confirmed(&mut self, confirmed: &Confirmed) {
        self.entries_confirmed += confirmed.entries;
        for (window, deliveries) in &confirmed.windows {
            self.progress.resolve(*window, *deliveries);
        }
        for (subscription_id, rows) in &confirmed.spilled {
            if let Some(lane) = self.lanes.get_mut(subscription_id) {
                lane.drain.confirmed(*rows);
            }
            self.ask(*subscription_id);
        }
        if let Some(id) = confirmed.disabled {
            self.disabled_for_sure(id);
        }
        if let Some(id) = confirmed.unblocked {
            self.restart_drain(id);
        }
        for (subscription_id, event_id) in &confirmed.settled {
            if self.loads_in == self.loads_out {
                self.release(*subscription_id, *event_id);
            } else {
                self.leaving.push_back((self.loads_out, *subscription_id, *event_id));
            }
        }
    }

    /// The checkpoint moves at most once a second, at once when closing, and only if something was resolved.
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

    /// Gives the ledger an entry; returns its number.
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

    /// The lane of a subscription, made when first needed; `None`: there is no such subscription.
    fn lane(&mut self, subscription_id: i64) -> Option<&mut Lane> {
        let subscription = self.subscriptions.get(&subscription_id)?;
        let (lines_max, at) = (self.limits.lines_max, self.at);
        let new = || Lane::new(Arc::clone(subscription), lines_max, at);
        Some(self.lanes.entry(subscription_id).or_insert_with(new))
    }

    /// Puts a lane on the list of those that may want a page of their backlog.
    fn ask(&mut self, subscription_id: i64) {
        if let Some(lane) = self.lanes.get_mut(&subscription_id)
            && !lane.is_asking
            && (lane.drain.is_active() || lane.lines.as_ref().is_some_and(|lines| lines.is_wanting()))
        {
            lane.is_asking = true;
            self.asking.push(subscription_id);
        }
    }

    /// Puts a lane on the list of those with something to start.
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

/// The line that a delivery belongs to; `None`: the subscription has no order.
fn order_key(subscription: &Subscription, message: &Message) -> Option<i64> {
    match subscription.ordering {
        Ordering::Strict => Some(0),
        Ordering::Key => Some(message.order_key()),
        Ordering::None => subscription.compact.then(|| message.order_key()),
    }
}
