//! A send queue: the deliveries of one subscription in memory, and the state of its receiver. Pure.
//!
//! A send queue decides two things. [`SendQueue::capacity`] decides whether a new event may join,
//! must wait, or goes into the queue. The other methods decide how many requests may start and how
//! many rows may be read back, under all limits: the subscription, the rate limit, the circuit,
//! pauses, and concurrency.
//!
//! A send queue also claims the queue rows that it works on ([`SendQueue::claim`]), so that no row
//! is taken twice. It must not write or read anything; the scheduler (`scheduler`) does this for
//! it.

pub mod backlog_reader;
pub mod batches;
pub mod breaker;
pub mod bucket;
pub mod order;
pub mod pacing;
use crate::{
    feed::TryNow,
    queue_rows::{Due, Item},
    send_queue::{
        backlog_reader::{BacklogReader, PAGE_ROWS},
        batches::Batches,
        breaker::Breaker,
        bucket::Bucket,
        order::OrderGroups,
        pacing::Pacing,
    },
    subscription::{Ordering, Subscription, has_order},
};

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

/// Maximum number of new deliveries in one send queue.
pub const FRESH_MAX: usize = 1000;

/// Maximum number of them while there is a backlog. They take turns with the backlog.
const FRESH_SHARE: usize = FRESH_MAX / 5;

/// Rows of backlog per read that searches for a probe.
const PROBE_ROWS: usize = 8;

/// Order groups per read that refills groups from the table. [`GROUP_ROWS`] is the number of rows
/// of each.
const GROUPS_AT_ONCE: usize = 20;
pub const GROUP_ROWS: usize = 100;

/// The reader waits for a full send queue that frees a tenth of its capacity in this time. Such a
/// send queue takes at least 1000 deliveries a second. A slower one spills, because it would delay
/// the others. A send queue is measured from half full on, so that most slow ones are known as such
/// before they are full, and the reader waits for them at no time.
pub const STALL: Duration = Duration::from_millis(100);
pub const STALL_CAPACITY: u64 = FRESH_MAX as u64 / 10;

/// Whether a send queue takes one more delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Capacity {
    Yes,
    /// The send queue is full, but it moves. The caller waits.
    Soon,
    /// The delivery goes into the queue.
    No,
}

/// Whether the daemon has disabled the subscription: the receiver answered that it is gone, or it
/// has failed for too long. The send queue is closed until the table agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disabling {
    No,
    /// The ledger has not committed it yet.
    Pending,
    /// The same, and the subscription has changed since. It may have changed before our update.
    /// Then our update follows, and the receiver gets requests in between.
    PendingAltered,
    /// The ledger has committed it, and the table that the scheduler has does not say so yet.
    Committed,
}

impl Disabling {
    /// Disables the subscription. Reports whether it was not disabled before.
    pub fn begin(&mut self) -> bool {
        let is_first = *self == Self::No;
        if is_first {
            *self = Self::Pending;
        }
        is_first
    }

    /// Records that the subscription has changed.
    pub fn altered(&mut self, is_enabled: bool) {
        *self = match self {
            Self::Pending | Self::PendingAltered if is_enabled => Self::PendingAltered,
            _ => Self::No,
        };
    }

    /// Records that the ledger has committed it.
    pub fn committed(&mut self) {
        *self = match self {
            Self::Pending => Self::Committed,
            _ => Self::No,
        };
    }
}

/// Where new events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    Memory,
    Queue,
}

/// The two kinds of deliveries that take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextSource {
    New,
    Queued,
}

/// The result of the last attempt. A change is logged once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastOutcome {
    Succeeded,
    Failed,
}

/// The lists of the scheduler that a send queue is on.
#[derive(Debug, Default, Clone, Copy)]
pub struct Listed {
    pub ready: bool,
    pub asking: bool,
}

/// Whose limits a send queue shares.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    /// Number of its owner.
    pub owner: usize,
    /// Number of the host that its owner's requests go to.
    pub destination: usize,
    /// The send queue waits until a request to that host ends. Meanwhile it counts as listed.
    pub waits_for_host: bool,
}

/// A send queue. See the module.
#[derive(Debug)]
pub struct SendQueue {
    pub subscription: Arc<Subscription>,
    /// Deliveries without a row. With an order, only those that have not entered their order
    /// groups.
    pub fresh: VecDeque<Item>,
    /// Deliveries with a row. With an order, only those that do not obey it.
    pub queued: VecDeque<Item>,
    /// Order groups. `None` if no delivery waits for another.
    pub groups: Option<Box<OrderGroups>>,
    pub breaker: Breaker,
    pub bucket: Bucket,
    /// The receiver asked for a pause until then (`Retry-After`).
    pub paused_until: Duration,
    pub disabling: Disabling,
    /// The queue reader found the filter too slow, and the table does not say so yet.
    pub has_slow_filter: bool,
    /// Another session has locked the subscription, and entries of this send queue wait for that.
    pub is_locked: bool,
    /// Events whose redelivery was requested while the subscription was locked.
    pub asked_while_locked: BTreeSet<i64>,
    /// An attempt was requested meanwhile.
    pub tried_while_locked: Option<TryNow>,
    /// When the scheduler checks this send queue again.
    pub wake_at: Option<Duration>,
    /// The backlog is not read before this ledger entry is committed, because an older row is on
    /// its way.
    pub page_after: u64,
    /// Number of committed entries when the present page was requested.
    pub page_confirmed: u64,
    /// Where the next delivery comes from, if there are both kinds.
    pub next: NextSource,
    pub due: VecDeque<Due>,
    /// Events whose queue row is claimed, and how often. A claimed row is due, being read, queued,
    /// in flight, or changed by an unconfirmed entry. A page of the queue skips it.
    claims: HashMap<i64, u32>,
    pub in_flight: usize,
    pub in_flight_bytes: usize,
    pub pacing: Pacing,
    pub backlog: BacklogReader,
    pub batches: Batches,
    intake: Intake,
    pub listed: Listed,
    pub shares: Shares,
    pub last_outcome: LastOutcome,
    started: u64,
    /// `None` if the send queue is less than half full.
    half_full: Option<Pace>,
}

/// How fast a send queue starts its deliveries.
#[derive(Debug)]
struct Pace {
    /// Start of the present measurement, and [`SendQueue::started`] at that time.
    since: Duration,
    started: u64,
    /// Result of the last measurement: fewer starts than [`STALL_CAPACITY`] in [`STALL`].
    is_slow: bool,
}

impl SendQueue {
    pub fn new(
        subscription: Arc<Subscription>,
        shares: Shares,
        order_groups_max: usize,
        now: Duration,
    ) -> Self {
        let mut bucket = Bucket::default();
        bucket.limit(subscription.rate_limit, now);
        Self {
            groups: groups(&subscription, order_groups_max),
            subscription,
            fresh: VecDeque::new(),
            queued: VecDeque::new(),
            breaker: Breaker::default(),
            bucket,
            paused_until: Duration::ZERO,
            disabling: Disabling::No,
            has_slow_filter: false,
            is_locked: false,
            asked_while_locked: BTreeSet::new(),
            tried_while_locked: None,
            next: NextSource::Queued,
            intake: Intake::Memory,
            listed: Listed::default(),
            shares,
            last_outcome: LastOutcome::Succeeded,
            wake_at: None,
            page_after: 0,
            page_confirmed: 0,
            due: VecDeque::new(),
            claims: HashMap::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            pacing: Pacing::default(),
            backlog: BacklogReader::default(),
            batches: Batches::default(),
            started: 0,
            half_full: None,
        }
    }

    /// Reports whether new events go into the queue.
    pub fn is_spilling(&self) -> bool {
        self.intake == Intake::Queue
    }

    /// Lets new events go into the queue, until the rows there have been taken back.
    pub fn spill(&mut self) {
        self.intake = Intake::Queue;
    }

    /// Lets new events wait in memory again.
    pub fn end_spill(&mut self) {
        self.intake = Intake::Memory;
    }

    /// Reports whether attempts may be made.
    pub fn is_open(&self) -> bool {
        let is_held = self.has_slow_filter || self.is_locked;
        self.subscription.is_open() && self.disabling == Disabling::No && !is_held
    }

    /// Returns the number of deliveries without a row.
    pub fn fresh_len(&self) -> usize {
        self.fresh.len() + self.groups.as_ref().map_or(0, |groups| groups.fresh())
    }

    /// Returns the number of deliveries with a row.
    pub fn queued_len(&self) -> usize {
        self.queued.len() + self.groups.as_ref().map_or(0, |groups| groups.queued())
    }

    /// Returns whether an event may join now.
    pub fn capacity(&mut self, now: Duration) -> Capacity {
        if !self.is_open() || self.breaker.is_open() {
            return Capacity::No;
        }
        let fresh = self.fresh_len();
        if self.is_spilling() {
            // Without an order, new events need not wait for the backlog. Some of them are sent
            // along with it.
            let is_beside = self.groups.is_none() && fresh < FRESH_SHARE && self.backlog.is_active();
            return if is_beside { Capacity::Yes } else { Capacity::No };
        }
        if fresh < FRESH_MAX / 2 {
            self.half_full = None;
            return Capacity::Yes;
        }
        let pace = self.half_full.get_or_insert(Pace { since: now, started: self.started, is_slow: false });
        let elapsed = now.saturating_sub(pace.since);
        if elapsed >= STALL {
            let wanted = STALL_CAPACITY as f64 * elapsed.div_duration_f64(STALL);
            let is_slow = ((self.started - pace.started) as f64) < wanted;
            *pace = Pace { since: now, started: self.started, is_slow };
        }
        if fresh < FRESH_MAX {
            return Capacity::Yes;
        }
        if pace.is_slow {
            self.spill();
            return Capacity::No;
        }
        Capacity::Soon
    }

    /// Claims an event's queue row. A row can be claimed more than once.
    pub fn claim(&mut self, event_id: i64) {
        *self.claims.entry(event_id).or_default() += 1;
    }

    /// Releases one claim.
    pub fn release(&mut self, event_id: i64) {
        if let Entry::Occupied(mut claims) = self.claims.entry(event_id) {
            *claims.get_mut() -= 1;
            if *claims.get() == 0 {
                claims.remove();
            }
        }
    }

    pub fn is_claimed(&self, event_id: i64) -> bool {
        self.claims.contains_key(&event_id)
    }

    #[cfg(test)]
    pub fn claims_nothing(&self) -> bool {
        self.claims.is_empty()
    }

    /// Returns how many more requests the limits of this send queue allow.
    pub fn allowance(&self, bytes_max: usize) -> usize {
        if !self.is_open() || (self.in_flight > 0 && self.in_flight_bytes >= bytes_max) {
            return 0;
        }
        self.pacing.limit().min(self.subscription.max_in_flight).saturating_sub(self.in_flight)
    }

    /// Returns how many requests may start now under the receiver's pause, circuit, and rate limit.
    ///
    /// # Errors
    /// The time at which to check again, or `None` if the end of an attempt decides.
    pub fn pace(&mut self, now: Duration) -> Result<usize, Option<Duration>> {
        if self.paused_until > now {
            return Err(Some(self.paused_until));
        }
        if !self.breaker.is_open() {
            return if self.bucket.is_free() {
                Ok(usize::MAX)
            } else {
                self.bucket.allowance(now).map_err(Some)
            };
        }
        match self.breaker.next_at() {
            Some(at) if at <= now => self.bucket.allowance(now).map(|_| 1).map_err(Some),
            next_at => Err(next_at),
        }
    }

    /// Returns when a send queue that waits for its receiver continues without an event.
    pub fn resumes_at(&self, now: Duration) -> Option<Duration> {
        let probe_at = if self.breaker.is_open() { self.breaker.next_at() } else { None };
        Some(self.paused_until).into_iter().chain(probe_at).filter(|at| *at > now).max()
    }

    /// Returns the number of rows if the send queue can take a page of its backlog. With an order,
    /// deliveries that wait in memory during a spill are older and go first.
    pub fn wants_page(&self, now: Duration, entries_confirmed: u64) -> Option<usize> {
        if !self.backlog.is_active() || !self.is_open() || self.paused_until > now {
            return None;
        }
        if let Some(groups) = &self.groups {
            let is_first = !self.is_spilling() || self.fresh.is_empty();
            if !is_first || !groups.takes_pages() || self.page_after > entries_confirmed {
                return None;
            }
        }
        let queued = self.queued_len();
        if self.breaker.is_open() {
            let is_due = self.breaker.next_at().is_some_and(|at| at <= now);
            let is_searching = is_due && !self.has_ready() && queued < PAGE_ROWS / 2;
            return is_searching.then_some(PROBE_ROWS);
        }
        (queued < PAGE_ROWS / 2).then_some(PAGE_ROWS)
    }

    /// Returns how many order groups may be refilled from the table, or `None` for none.
    pub fn wants_groups(&self, now: Duration) -> Option<usize> {
        let groups = self.groups.as_ref().filter(|groups| groups.is_wanting())?;
        if !self.is_open() || self.paused_until > now || (groups.queued() >= PAGE_ROWS && groups.has_ready())
        {
            return None;
        }
        if self.breaker.is_open() {
            let is_due = self.breaker.next_at().is_some_and(|at| at <= now);
            return (is_due && !self.has_ready()).then_some(1);
        }
        Some(GROUPS_AT_ONCE)
    }

    /// Reports whether deliveries wait in the table for their turn.
    pub fn has_backlog(&self) -> bool {
        self.is_spilling() || self.backlog.is_active()
    }

    /// Reports whether there may be a delivery to start.
    pub fn has_work(&self) -> bool {
        !self.fresh.is_empty() || self.has_ready()
    }

    /// Reports whether there is a delivery to start that has a row or is the head of an order
    /// group.
    pub fn has_ready(&self) -> bool {
        !self.queued.is_empty() || self.groups.as_ref().is_some_and(|groups| groups.has_ready())
    }

    /// Counts a request in. Returns its number for the pacing, and whether it is a probe.
    pub fn begin(&mut self, bytes: usize, deliveries: u64, now: Duration) -> (u64, bool) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.started += deliveries;
        self.bucket.start(now);
        (self.pacing.begin(), self.breaker.begin())
    }

    /// Counts a request out. Returns whether the send queue could have used more than its limit.
    pub fn end(&mut self, bytes: usize) -> bool {
        let is_full = self.in_flight >= self.pacing.limit();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        is_full && self.has_work()
    }
}

/// Returns the order groups that a subscription needs. Compaction needs them too: a group keeps the
/// changes of one key together.
pub fn groups(subscription: &Subscription, max: usize) -> Option<Box<OrderGroups>> {
    let is_strict = subscription.ordering == Ordering::Strict;
    let gathers = subscription.batch_size > 1 || subscription.compact;
    has_order(subscription).then(|| Box::new(OrderGroups::new(is_strict, gathers, max)))
}

#[cfg(test)]
mod tests;
