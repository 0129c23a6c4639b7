//! One subscription's way out: what waits in memory, what is under way, and whether new events may join. Pure.

use super::{
    breaker::Breaker,
    bucket::Bucket,
    drain::{Drain, PAGE_ROWS},
    order::Lines,
    pacing::Pacing,
    timers::Retry,
};
use crate::{
    message::Message,
    subscription::{Ordering, Subscription},
};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

/// Most events that wait in one lane.
pub const FRESH_MAX: usize = 1000;

/// Of them, most that are taken while there is a backlog: they go out beside it.
const FRESH_SHARE: usize = FRESH_MAX / 5;

/// Rows of backlog that are read to find a probe.
const PROBE_ROWS: usize = 8;

/// Lines that are refilled from the table at once, and rows of each.
const LINES_AT_ONCE: usize = 20;
pub const LINE_ROWS: usize = 100;

/// A full lane is waited for as long as it makes room for a tenth of itself in this time. One that does takes 1000 a
/// second; one that does not would hold up the others.
pub const STALL: Duration = Duration::from_millis(100);
pub const STALL_ROOM: u64 = FRESH_MAX as u64 / 10;

/// A delivery that waits in memory.
#[derive(Debug)]
pub struct Item {
    pub message: Arc<Message>,
    pub attempts: i16,
    pub retry_from: i16,
    pub row: RowState,
}

/// What the queue knows of a delivery in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowState {
    /// Nothing; its window is open until it does.
    None {
        window: u64,
        /// When it came.
        since: Duration,
    },
    /// No row any more, and no window: somebody has asked for the delivery by hand. If it fails, it gets a row again.
    Asked,
    Waiting,
    Backlog,
    Blocked,
}

impl RowState {
    /// The window that is open until there is a row.
    pub fn window(self) -> Option<u64> {
        match self {
            Self::None { window, .. } => Some(window),
            Self::Asked | Self::Waiting | Self::Backlog | Self::Blocked => None,
        }
    }

    /// Whether an entry about it makes the row.
    pub fn is_missing(self) -> bool {
        match self {
            Self::None { .. } | Self::Asked => true,
            Self::Waiting | Self::Backlog | Self::Blocked => false,
        }
    }
}

/// A retry that is due and not yet read from the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    pub event_id: i64,
    pub retry: Retry,
}

/// Whether a new event may join.
#[derive(Debug, PartialEq, Eq)]
pub enum Room {
    Yes,
    /// Soon: it is full, and moving.
    Soon,
    /// It goes into the queue.
    No,
}

/// See the module.
#[derive(Debug)]
pub struct Lane {
    pub subscription: Arc<Subscription>,
    /// What has no row yet. With an order, those that have not entered their lines.
    pub fresh: VecDeque<Item>,
    /// What has one; with an order, what does not obey it.
    pub queued: VecDeque<Item>,
    /// `None`: nothing waits for anything.
    pub lines: Option<Box<Lines>>,
    pub breaker: Breaker,
    pub bucket: Bucket,
    /// The receiver said "not before".
    pub paused_until: Duration,
    /// The receiver said that it is gone, or has failed for too long: closed, until the table says the same.
    pub is_disabled: bool,
    /// That is written.
    pub is_disabled_for_sure: bool,
    /// So found the queue, which the table does not say yet.
    pub has_overdue_filter: bool,
    /// The table has changed since it was disabled.
    pub is_altered: bool,
    /// When the board is to look at it again.
    pub wake_at: Option<Duration>,
    /// Backlog is not read before this entry of the ledger is committed: an older row is on its way.
    pub page_after: u64,
    /// Entries that were committed when the present page was asked for.
    pub page_confirmed: u64,
    /// The next one is taken from what is new.
    pub is_turn_of_fresh: bool,
    pub due: VecDeque<Due>,
    /// Events whose queue row is in our hands (due, being read, queued, under way, or changed by an entry that is not
    /// confirmed), and how often. A page of the queue passes over them.
    held: HashMap<i64, u32>,
    pub in_flight: usize,
    pub in_flight_bytes: usize,
    pub pacing: Pacing,
    pub drain: Drain,
    /// New events go into the queue until what is there has been taken back.
    pub is_spilling: bool,
    /// It is on the board's list of lanes with something to start.
    pub is_listed: bool,
    /// It is on the board's list of lanes that may want a page of their backlog.
    pub is_asking: bool,
    /// Its last attempt failed; told once.
    pub is_failing: bool,
    started: u64,
    /// When it was first full, and how many attempts had been started then.
    full_since: Option<(Duration, u64)>,
}

impl Lane {
    pub fn new(subscription: Arc<Subscription>, lines_max: usize, now: Duration) -> Self {
        let mut bucket = Bucket::default();
        bucket.limit(subscription.rate_limit, now);
        Self {
            lines: lines(&subscription, lines_max),
            subscription,
            fresh: VecDeque::new(),
            queued: VecDeque::new(),
            breaker: Breaker::default(),
            bucket,
            paused_until: Duration::ZERO,
            is_disabled: false,
            is_disabled_for_sure: false,
            has_overdue_filter: false,
            is_altered: false,
            wake_at: None,
            page_after: 0,
            page_confirmed: 0,
            is_turn_of_fresh: false,
            due: VecDeque::new(),
            held: HashMap::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            pacing: Pacing::default(),
            drain: Drain::default(),
            is_spilling: false,
            is_listed: false,
            is_asking: false,
            is_failing: false,
            started: 0,
            full_since: None,
        }
    }

    /// Whether attempts may be made at all.
    pub fn is_open(&self) -> bool {
        self.subscription.is_open() && !self.is_disabled && !self.has_overdue_filter
    }

    /// Deliveries without a row.
    pub fn fresh_len(&self) -> usize {
        self.fresh.len() + self.lines.as_ref().map_or(0, |lines| lines.fresh())
    }

    /// Deliveries with a row.
    pub fn queued_len(&self) -> usize {
        self.queued.len() + self.lines.as_ref().map_or(0, |lines| lines.queued())
    }

    /// Whether an event may join now.
    pub fn room(&mut self, now: Duration) -> Room {
        if !self.is_open() || self.breaker.is_open() {
            return Room::No;
        }
        let fresh = self.fresh_len();
        if self.is_spilling {
            // Without an order the new need not wait for the old: a share of them goes out beside the backlog.
            let is_beside = self.lines.is_none() && fresh < FRESH_SHARE && self.drain.is_active();
            return if is_beside { Room::Yes } else { Room::No };
        }
        if fresh < FRESH_MAX {
            if fresh < FRESH_MAX / 2 {
                self.full_since = None;
            }
            return Room::Yes;
        }
        match self.full_since {
            Some((since, started)) if now.saturating_sub(since) >= STALL => {
                if self.started - started < STALL_ROOM {
                    self.is_spilling = true;
                    return Room::No;
                }
                self.full_since = Some((now, self.started));
            }
            Some(_) => {}
            None => self.full_since = Some((now, self.started)),
        }
        Room::Soon
    }

    /// Takes an event's queue row into our hands, once more.
    pub fn hold(&mut self, event_id: i64) {
        *self.held.entry(event_id).or_default() += 1;
    }

    /// Lets go of it, once.
    pub fn release(&mut self, event_id: i64) {
        if let Entry::Occupied(mut held) = self.held.entry(event_id) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    pub fn holds(&self, event_id: i64) -> bool {
        self.held.contains_key(&event_id)
    }

    #[cfg(test)]
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// How many more attempts its own limits allow.
    pub fn allowance(&self, bytes_max: usize) -> usize {
        if !self.is_open() || (self.in_flight > 0 && self.in_flight_bytes >= bytes_max) {
            return 0;
        }
        self.pacing.limit().min(self.subscription.in_flight_max).saturating_sub(self.in_flight)
    }

    /// How many requests may start now for all that the receiver has asked for, or when that is to be looked at again
    /// (`None`: when an attempt has ended).
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

    /// When a lane that waits for its receiver goes on by itself.
    pub fn resumes_at(&self, now: Duration) -> Option<Duration> {
        let probe_at = if self.breaker.is_open() { self.breaker.next_at() } else { None };
        Some(self.paused_until).into_iter().chain(probe_at).filter(|at| *at > now).max()
    }

    /// Whether it could take a page of its backlog, and of how many rows. With an order, what waits in memory while it
    /// spills is older and goes first.
    pub fn wants_page(&self, now: Duration, entries_confirmed: u64) -> Option<usize> {
        if !self.drain.is_active() || !self.is_open() || self.paused_until > now {
            return None;
        }
        if let Some(lines) = &self.lines {
            let is_first = !self.is_spilling || self.fresh.is_empty();
            if !is_first || !lines.takes_pages() || self.page_after > entries_confirmed {
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

    /// Whether lines may be refilled from the table, and how many.
    pub fn wants_lines(&self, now: Duration) -> Option<usize> {
        let lines = self.lines.as_ref().filter(|lines| lines.is_wanting())?;
        if !self.is_open() || self.paused_until > now || (lines.queued() >= PAGE_ROWS && lines.has_ready()) {
            return None;
        }
        if self.breaker.is_open() {
            let is_due = self.breaker.next_at().is_some_and(|at| at <= now);
            return (is_due && !self.has_ready()).then_some(1);
        }
        Some(LINES_AT_ONCE)
    }

    /// Whether there may be something to start.
    pub fn has_work(&self) -> bool {
        !self.fresh.is_empty() || self.has_ready()
    }

    /// Whether there is something to start that has a row, or stands at the head of a line.
    pub fn has_ready(&self) -> bool {
        !self.queued.is_empty() || self.lines.as_ref().is_some_and(|lines| lines.has_ready())
    }

    /// Counts a request in; its number goes back to the pacing. Tells whether it is a probe, too.
    pub fn begin(&mut self, bytes: usize, deliveries: u64, now: Duration) -> (u64, bool) {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.started += deliveries;
        self.bucket.start(now);
        (self.pacing.begin(), self.breaker.begin())
    }

    /// Counts an attempt out; tells whether the lane could have used more than its limit.
    pub fn end(&mut self, bytes: usize) -> bool {
        let is_full = self.in_flight >= self.pacing.limit();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        is_full && self.has_work()
    }
}

/// The lines that a subscription's order asks for. Compaction keeps the changes of a key together in one.
pub fn lines(subscription: &Subscription, max: usize) -> Option<Box<Lines>> {
    let is_strict = subscription.ordering == Ordering::Strict;
    let gathers = subscription.batch_size > 1 || subscription.compact;
    has_lines(subscription).then(|| Box::new(Lines::new(is_strict, gathers, max)))
}

/// Whether anything waits for anything.
pub fn has_lines(subscription: &Subscription) -> bool {
    subscription.ordering != Ordering::None || subscription.compact
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Event, message::Budget};

    fn full_lane() -> Lane {
        let mut lane = Lane::new(Arc::new(Subscription::sample(1)), 10, Duration::ZERO);
        let budget = Arc::new(Budget::default());
        for id in 0..FRESH_MAX as i64 {
            let message = Arc::new(Message::new(Event::sample(id), &budget));
            let row = RowState::None { window: 0, since: Duration::ZERO };
            lane.fresh.push_back(Item { message, attempts: 0, retry_from: 0, row });
        }
        lane
    }

    #[test]
    fn a_full_lane_that_moves_is_waited_for_and_one_that_does_not_spills() {
        let mut lane = full_lane();
        let at = Duration::from_millis;
        assert_eq!(lane.room(at(0)), Room::Soon);
        for _ in 0..STALL_ROOM {
            lane.begin(1, 1, Duration::ZERO);
        }
        assert_eq!(lane.room(at(100)), Room::Soon);
        // Slow: there is room now and then, but not for a tenth of the lane in 100 ms.
        for _ in 0..10 {
            lane.begin(1, 1, Duration::ZERO);
        }
        let one = lane.fresh.pop_front();
        assert_eq!(lane.room(at(150)), Room::Yes);
        lane.fresh.extend(one);
        assert_eq!(lane.room(at(200)), Room::No);
        lane.fresh.clear();
        assert_eq!(lane.room(at(300)), Room::No, "it spills until what it spilled has been taken back");
    }

    #[test]
    fn large_messages_count_against_what_is_under_way() {
        let mut lane = full_lane();
        assert_eq!(lane.allowance(100), 32);
        lane.begin(1000, 1, Duration::ZERO);
        assert_eq!(lane.allowance(100), 0);
        assert!(!lane.end(1000));
        assert_eq!(lane.allowance(100), 32);
    }

    #[test]
    fn a_paused_lane_takes_and_starts_nothing() {
        let mut lane = full_lane();
        lane.fresh.clear();
        lane.subscription = Arc::new(Subscription { enabled: false, ..Subscription::sample(1) });
        assert_eq!(lane.room(Duration::ZERO), Room::No);
        assert_eq!(lane.allowance(100), 0);
    }
}
