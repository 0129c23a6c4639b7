//! The scheduler: decides which delivery is sent, written, or read back next. Pure.
//!
//! The scheduler holds a [`SendQueue`] for each subscription, the retries that wait for their time,
//! and the windows that are not resolved yet. A delivery goes one of these ways:
//!
//! * `route` takes it from the reader into its send queue, or past it into the queue table.
//! * `attempts` starts it, and applies its outcome. `health` applies the outcome to the receiver.
//! * `order_groups` moves it through its order group, if the subscription has an order.
//! * `recall` reads it back from the queue table, as a due retry or as backlog.
//! * `try_now` lets it start before its time, because a user asks for it.
//!
//! `owners`, `destinations`, `turns` and `overflow` share everything fairly between the owners of
//! subscriptions.
//!
//! `ownership` lets no delivery reach another owner than that of its event.
//!
//! A step works on one send queue (`work`) and one list of effects (`effects`). `agenda` knows
//! which send queues have something to do. `subscriptions` applies changes of subscriptions.
//!
//! The caller calls one method for each thing that happened, and then [`Scheduler::advance`]. It
//! then carries out what [`Scheduler::out`] returns. Time and random numbers are arguments. The
//! module must not do I/O, and it must not read a clock.

mod agenda;
mod attempts;
pub mod backlog_rate;
mod destinations;
mod effects;
mod given_up;
mod health;
mod order_groups;
mod outcomes;
mod overflow;
mod owners;
mod ownership;
mod progress;
mod recall;
mod route;
mod subscriptions;
#[cfg(test)]
mod tests;
pub mod timers;
mod try_now;
mod turns;
mod work;

pub use effects::Out;

use crate::{
    Now,
    message::{Budget, Message},
    queue_rows::{Retry, RetryKey},
    record::{Confirmed, Record},
    scope::InternalTypes,
    send_queue::{SendQueue, Shares, breaker::Periods},
    subscription::{Ordering, Subscription, Subscriptions},
};
use agenda::Agenda;
use backlog_rate::{BacklogRate, OF_BACKLOGS, OF_OWNERS};
use destinations::Destinations;
use effects::Effects;
use given_up::GivenUp;
use overflow::Overflow;
use owners::Owners;
use progress::Progress;
use slab::Slab;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use timers::Timers;
use work::Work;

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
    /// Maximum number of requests in flight to one host, for each owner of subscriptions.
    pub max_in_flight_per_host: usize,
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

/// A request that has been started and has no outcome yet.
#[derive(Debug)]
struct InFlight {
    subscription_id: i64,
    /// Where the request was counted in.
    shares: Shares,
    bytes: usize,
    /// Number of the request in the pacing of its send queue.
    number: u64,
    /// The request shows whether the circuit can close.
    is_probe: bool,
    since: Duration,
    /// Number of events in the request. Several compacted changes are one event.
    events: usize,
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
    /// may be gone ([`RowState::Asked`](super::send_queue::RowState::Asked)).
    is_queued: bool,
    /// The next entry creates the row; see
    /// [`RowState::is_missing`](super::send_queue::RowState::is_missing).
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

/// The state that all send queues share.
#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// The time of the last `advance`.
    now: Now,
    effects: Effects,
    agenda: Agenda,
    progress: Progress,
    timers: Timers,
    backlog_rate: BacklogRate,
    /// The rate of all owners that have many new deliveries, while others have few.
    crowd_rate: BacklogRate,
    given_up: GivenUp,
    /// Types of events that only subscriptions to the events of all owners get.
    internal: Arc<InternalTypes>,
    owners: Owners,
    destinations: Destinations,
    /// Set once the order groups that an earlier run left are known. Send queues with an order wait
    /// for this.
    is_known: bool,
    is_recovered: bool,
}

impl Shared {
    /// Returns whose limits a subscription shares. Its destination counts one more send queue.
    fn shares(&mut self, subscription: &Subscription) -> Shares {
        let owner = self.owners.number(&subscription.owner);
        let host = subscription.url.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
        Shares { owner, destination: self.destinations.join(owner, host), waits_for_host: false }
    }
}

/// The scheduler. See the module.
#[derive(Debug)]
pub struct Scheduler {
    budget: Arc<Budget>,
    subscriptions: Subscriptions,
    send_queues: HashMap<i64, SendQueue>,
    flights: Slab<InFlight>,
    shared: Shared,
    /// The batch that is being routed, and the position in it.
    pending: Option<route::Pending>,
    overflow: Overflow,
    /// Deliveries started since this scheduler was created.
    started: u64,
    pace: route::StartRate,
    /// Set while memory is over its limit: the start of the current check, and `started` at that
    /// time.
    over_since: Option<(Duration, u64)>,
    /// Retries that are being read, as subscription and event.
    due_asked: HashSet<(i64, i64)>,
    swept_at: Duration,
    checkpoint_at: Option<Duration>,
    /// Set once the subscriptions are known. Before that, the scheduler cannot judge any queue row.
    is_open: bool,
    is_closing: bool,
    /// Due retries of subscriptions that are not in `subscriptions`. Each of these subscriptions is
    /// newer than that table, or gone.
    strays: Vec<(RetryKey, Retry)>,
}

impl Scheduler {
    /// Creates a scheduler without send queues. The first feed must be the subscriptions.
    pub fn new(limits: Limits, budget: Arc<Budget>) -> Self {
        let shared = Shared {
            limits,
            now: Now { at: Duration::ZERO, wall_us: 0 },
            effects: Effects::default(),
            agenda: Agenda::default(),
            progress: Progress::default(),
            timers: Timers::new(limits.timers_max),
            backlog_rate: BacklogRate::new(limits.backlog_rate, OF_BACKLOGS),
            crowd_rate: BacklogRate::new(limits.backlog_rate, OF_OWNERS),
            given_up: GivenUp::default(),
            internal: Arc::default(),
            owners: Owners::default(),
            destinations: Destinations::default(),
            is_known: false,
            is_recovered: false,
        };
        Self {
            budget,
            subscriptions: Subscriptions::new(),
            send_queues: HashMap::new(),
            flights: Slab::new(),
            shared,
            pending: None,
            overflow: Overflow::default(),
            started: 0,
            pace: route::StartRate::default(),
            over_since: None,
            due_asked: HashSet::new(),
            swept_at: Duration::ZERO,
            checkpoint_at: None,
            is_open: false,
            is_closing: false,
            strays: Vec::new(),
        }
    }

    /// Returns the effects to carry out. The caller takes them out of the lists.
    pub fn out(&mut self) -> &mut Out {
        &mut self.shared.effects.out
    }

    /// Applies the consequences of everything that has happened, and of the time.
    pub fn advance(&mut self, now: Now) {
        self.shared.now = now;
        if self.is_open && !self.is_closing {
            self.wake(now);
            self.take_due(now);
            self.route(now);
            self.sweep(now);
            self.recall(now);
            self.start(now);
        }
        self.checkpoint(now);
        self.shared.given_up.report(if self.is_closing { Duration::MAX } else { now.at });
    }

    /// Returns when [`advance`](Self::advance) has work even if nothing happens, or `None` for
    /// never.
    pub fn deadline(&self, now: Now) -> Option<Duration> {
        let next_at = self.shared.agenda.next_at();
        if self.pending.is_some()
            || !self.flights.is_empty()
            || self.unconfirmed() > 0
            || self.shared.progress.has_moved()
        {
            return Some((now.at + TICK).min(next_at.unwrap_or(Duration::MAX)));
        }
        if self.is_closing {
            return None;
        }
        let wait = |us: i64| Duration::from_micros(us.saturating_sub(now.wall_us).max(1000).unsigned_abs());
        let retry = self.shared.timers.first_us().map(|us| now.at + wait(us));
        // Deliveries that wait for their receiver go into the queue, where users see them and where
        // they survive a restart.
        let oldest = self.shared.progress.oldest_since();
        let sweep = oldest.map(|since| (since + UNRESOLVED_MAX).max(self.swept_at + SWEEP_INTERVAL));
        retry.into_iter().chain(next_at).chain(sweep).chain(self.shared.given_up.report_at()).min()
    }

    fn wake(&mut self, now: Now) {
        while let Some(id) = self.shared.agenda.pop_wake(now.at) {
            let Some(mut work) = self.work(id) else { continue };
            work.queue.wake_at = None;
            work.list();
            work.ask();
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
        self.shared.effects.unconfirmed()
    }

    /// Stops starting attempts and taking batches.
    pub fn close(&mut self) {
        self.is_closing = true;
        self.pending = None;
    }

    /// Puts all deliveries that wait without a row into the queue.
    pub fn spill(&mut self) {
        let Self { send_queues, shared, .. } = self;
        for (id, queue) in send_queues {
            Work { id: *id, queue, shared }.spill_fresh();
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
        self.shared.effects.confirm(confirmed.entries);
        for (window, deliveries) in &confirmed.windows {
            self.shared.progress.resolve(*window, *deliveries);
        }
        for (id, rows) in &confirmed.spilled {
            if let Some(mut work) = self.work(*id) {
                work.queue.backlog.confirmed(*rows);
                work.ask();
            }
        }
        if let Some(mut work) = confirmed.disabled.and_then(|id| self.work_or_new(id)) {
            work.disabled_in_table();
        }
        if let Some(mut work) = confirmed.unblocked.and_then(|id| self.work_or_new(id)) {
            work.restart_backlog();
        }
        for (key, retry) in &confirmed.late_retries {
            self.shared.timers.insert(*key, *retry);
        }
        for id in &confirmed.locked {
            if let Some(mut work) = self.work_or_new(*id) {
                work.hold_locked();
            }
        }
        for id in &confirmed.unlocked {
            if let Some(mut work) = self.work(*id) {
                work.release_locked();
            }
        }
        for (subscription_id, event_id) in &confirmed.settled {
            if !self.shared.effects.keep_claim(*subscription_id, *event_id) {
                self.release(*subscription_id, *event_id);
            }
        }
    }

    /// Moves the checkpoint if a window was resolved: at most once a second, or at once when
    /// closing.
    fn checkpoint(&mut self, now: Now) {
        let is_time = self.checkpoint_at.is_none_or(|at| now.at.saturating_sub(at) >= CHECKPOINT_INTERVAL);
        if (is_time || self.is_closing)
            && let Some(snapshot) = self.shared.progress.take_resolved()
        {
            self.checkpoint_at = Some(now.at);
            self.shared.effects.record(Record::Checkpoint(snapshot));
        }
    }

    fn release(&mut self, subscription_id: i64, event_id: i64) {
        if let Some(queue) = self.send_queues.get_mut(&subscription_id) {
            queue.release(event_id);
        }
    }

    /// Returns the send queue of a subscription, if there is one.
    fn work(&mut self, id: i64) -> Option<Work<'_>> {
        let queue = self.send_queues.get_mut(&id)?;
        Some(Work { id, queue, shared: &mut self.shared })
    }

    /// Returns the send queue of a subscription, and creates it at first use. Returns `None` if
    /// there is no such subscription.
    fn work_or_new(&mut self, id: i64) -> Option<Work<'_>> {
        let Self { subscriptions, send_queues, shared, .. } = self;
        let subscription = subscriptions.get(&id)?;
        let queue = send_queues.entry(id).or_insert_with(|| {
            let shares = shared.shares(subscription);
            SendQueue::new(Arc::clone(subscription), shares, shared.limits.order_groups_max, shared.now.at)
        });
        Some(Work { id, queue, shared })
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
