//! One subscription's way out: what waits in memory, what is under way, and whether new events may join. Pure.

use super::{
    drain::{Drain, PAGE_ROWS},
    pacing::Pacing,
    timers::Retry,
};
use crate::{message::Message, subscription::Subscription};
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

/// Most events that wait in one lane.
pub const FRESH_MAX: usize = 1000;

/// A full lane is waited for as long as it makes room for a tenth of itself in this time. One that does takes 1000 a
/// second; one that does not would hold up the others.
pub const STALL: Duration = Duration::from_millis(100);
pub const STALL_ROOM: u64 = FRESH_MAX as u64 / 10;

/// A delivery that has no row anywhere yet: its window is open until it has one.
#[derive(Debug)]
pub struct Fresh {
    pub message: Arc<Message>,
    pub window: u64,
    /// When it came.
    pub since: Duration,
}

/// A delivery with a row in the queue.
#[derive(Debug)]
pub struct Queued {
    pub message: Arc<Message>,
    pub attempts: i16,
    pub retry_from: i16,
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
    pub fresh: VecDeque<Fresh>,
    pub queued: VecDeque<Queued>,
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
    pub fn new(subscription: Arc<Subscription>) -> Self {
        Self {
            subscription,
            fresh: VecDeque::new(),
            queued: VecDeque::new(),
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

    /// Whether an event may join now.
    pub fn room(&mut self, now: Duration) -> Room {
        if self.is_spilling || !self.subscription.is_open() {
            return Room::No;
        }
        if self.fresh.len() < FRESH_MAX {
            if self.fresh.len() < FRESH_MAX / 2 {
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
        if !self.subscription.is_open() || (self.in_flight > 0 && self.in_flight_bytes >= bytes_max) {
            return 0;
        }
        self.pacing.limit().min(self.subscription.in_flight_max).saturating_sub(self.in_flight)
    }

    /// Whether it could take a page of its backlog. While it spills, what waits in memory is older and goes first.
    pub fn wants_page(&self) -> bool {
        let is_first = !self.is_spilling || self.fresh.is_empty();
        is_first && self.drain.is_active() && self.subscription.is_open() && self.queued.len() < PAGE_ROWS / 2
    }

    /// Whether there is something to start.
    pub fn has_work(&self) -> bool {
        !self.queued.is_empty() || !self.fresh.is_empty()
    }

    /// Counts an attempt in; its number goes back to the pacing.
    pub fn begin(&mut self, bytes: usize) -> u64 {
        self.in_flight += 1;
        self.in_flight_bytes += bytes;
        self.started += 1;
        self.pacing.begin()
    }

    /// Counts an attempt out; tells whether the lane could have used more than its limit.
    pub fn end(&mut self, bytes: usize) -> bool {
        let is_full = self.in_flight >= self.pacing.limit();
        self.in_flight = self.in_flight.saturating_sub(1);
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        is_full && self.has_work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::Event, message::Budget};

    fn full_lane() -> Lane {
        let mut lane = Lane::new(Arc::new(Subscription::sample(1)));
        let budget = Arc::new(Budget::default());
        for id in 0..FRESH_MAX as i64 {
            let message = Arc::new(Message::new(Event::sample(id), &budget));
            lane.fresh.push_back(Fresh { message, window: 0, since: Duration::ZERO });
        }
        lane
    }

    #[test]
    fn a_full_lane_that_moves_is_waited_for_and_one_that_does_not_spills() {
        let mut lane = full_lane();
        let at = Duration::from_millis;
        assert_eq!(lane.room(at(0)), Room::Soon);
        for _ in 0..STALL_ROOM {
            lane.begin(1);
        }
        assert_eq!(lane.room(at(100)), Room::Soon);
        // Slow: there is room now and then, but not for a tenth of the lane in 100 ms.
        for _ in 0..10 {
            lane.begin(1);
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
        lane.begin(1000);
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
