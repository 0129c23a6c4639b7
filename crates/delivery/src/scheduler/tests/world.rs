//! A simulated world: tables that change when the ledger commits, late answers, receivers that
//! fail, subscriptions that pause, daemons that crash. At each step it checks what must hold.

mod alter;
mod end;
mod ledger;
mod locks;
mod owners;
mod plan;
mod queue;
use crate::{event::Place, queue_rows::Load, scheduler::tests::*, subscription::Update};
use std::collections::VecDeque;

pub use plan::{Options, PLAIN, Plan};

pub type Pair = (i64, i64);

/// The place of every event, as in [`Event::sample`].
const PLACE: Place = Place { slot: 0, xid: 1000 };

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub state: State,
    pub attempts: i16,
    pub retry_from: i16,
    pub order_key: Option<i64>,
}

pub struct World {
    pub scheduler: Scheduler,
    pub budget: Arc<Budget>,
    pub plan: Plan,
    pub subscriptions: Subscriptions,
    /// Those that the scheduler knows of.
    fed: Subscriptions,
    /// The rows of `webhook.queue`.
    pub queue: BTreeMap<Pair, Row>,
    /// The rows of `webhook.attempt`: the class of each attempt, by delivery.
    pub attempts: BTreeMap<Pair, Vec<Class>>,
    /// The rows of `webhook.receiver`.
    pub health: BTreeMap<i64, ReceiverHealth>,
    /// The deliveries of each window of this scheduler.
    pub routed: Vec<Vec<Pair>>,
    /// The deliveries that checkpoints of earlier schedulers have passed.
    pub passed: Vec<Pair>,
    /// Number of windows of this scheduler that its last checkpoint has passed.
    checkpoint: usize,
    /// Recovered deliveries that must still be routed.
    recovering: VecDeque<Pair>,
    pub under_way: Vec<(usize, Vec<Pair>)>,
    /// Deliveries that are delivered or exhausted, as far as the tables or the present scheduler
    /// know.
    pub last_word: HashSet<Pair>,
    pub records: VecDeque<Record>,
    pub confirmations: VecDeque<Confirmed>,
    pub loads: VecDeque<Load>,
    pub answers: VecDeque<Loaded>,
    pub next_event: i64,
    pub now_us: i64,
    epoch_us: i64,
    rng: fastrand::Rng,
    /// Number of requested redeliveries, by delivery.
    pub asked_again: BTreeMap<Pair, usize>,
    /// Start times of requests of this scheduler, by subscription.
    pub started_at: BTreeMap<i64, Vec<i64>>,
    /// `false` once the order of a subscription has changed. The order does not hold for earlier
    /// events then.
    pub checks_order: bool,
    /// Deliveries whose rows were deleted.
    pub called_off: HashSet<Pair>,
    /// Deliveries that their subscriptions, at a time, could not get because of their owners.
    pub withheld: HashSet<Pair>,
    internal: Arc<InternalTypes>,
    /// Exhausted deliveries that were reported, and other reports.
    pub told: Vec<Pair>,
    pub event: Vec<ReceiverEvent>,
    /// Subscriptions that users have locked, and the records that wait for that.
    pub locks: HashSet<i64>,
    aside: BTreeMap<i64, VecDeque<Record>>,
}

/// Rows of backlogs per second while other subscriptions have new events.
pub const BACKLOG_RATE: f64 = 100.0;

pub const WALL_US: i64 = 1_700_000_000_000_000;

pub fn end(window: u64) -> Snapshot {
    format!("{0}:{0}:", 100 + window).parse().unwrap()
}

fn limits(plan: &Plan) -> Limits {
    Limits {
        memory_bytes_max: plan.memory_bytes_max,
        max_in_flight: plan.max_in_flight,
        max_in_flight_per_host: plan.max_in_flight_per_host,
        timers_max: plan.timers_max,
        order_groups_max: plan.order_groups_max,
        backlog_rate: BACKLOG_RATE,
        periods: Periods {
            probe_interval: Duration::from_secs(3),
            failing_after: Duration::from_secs(20),
            disable_after: Duration::from_secs(60),
        },
    }
}

pub fn subscription(id: i64, options: Options, enabled: bool) -> Arc<Subscription> {
    let Options { ordering, batch_size, batch_window_ms, compact, rate_limit, max_in_flight, owner, scope } =
        options;
    Arc::new(Subscription {
        enabled,
        owner: owner.into(),
        scope,
        retry: [1, 2, 5].map(Duration::from_secs).into(),
        max_in_flight,
        ordering,
        batch_size,
        batch_window: Duration::from_millis(batch_window_ms),
        compact,
        rate_limit,
        ..Subscription::sample(id)
    })
}

pub fn outcome(class: Class) -> Outcome {
    Outcome {
        class,
        status: (class == Class::Succeeded).then_some(200),
        started_at_us: WALL_US,
        duration: Duration::from_millis(1),
        phases: Default::default(),
        batch_id: None,
        error: None,
        response: None,
        retry_after: None,
        is_shortage: false,
    }
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let budget = Arc::new(Budget::default());
        let ids = (1..).zip(&plan.subscriptions);
        let mut world = Self {
            scheduler: Scheduler::new(limits(&plan), Arc::clone(&budget)),
            budget,
            subscriptions: ids.map(|(id, options)| (id, subscription(id, *options, true))).collect(),
            fed: Subscriptions::new(),
            queue: BTreeMap::new(),
            attempts: BTreeMap::new(),
            health: BTreeMap::new(),
            routed: Vec::new(),
            passed: Vec::new(),
            checkpoint: 0,
            recovering: VecDeque::new(),
            under_way: Vec::new(),
            last_word: HashSet::new(),
            records: VecDeque::new(),
            confirmations: VecDeque::new(),
            loads: VecDeque::new(),
            answers: VecDeque::new(),
            next_event: 1,
            now_us: 0,
            epoch_us: 0,
            rng: fastrand::Rng::with_seed(plan.seed),
            asked_again: BTreeMap::new(),
            started_at: BTreeMap::new(),
            checks_order: true,
            called_off: HashSet::new(),
            withheld: HashSet::new(),
            internal: Arc::default(),
            told: Vec::new(),
            event: Vec::new(),
            locks: HashSet::new(),
            aside: BTreeMap::new(),
            plan,
        };
        world.fed = world.subscriptions.clone();
        world.feed(Feed::Subscriptions(Update::All(Arc::new(world.subscriptions.clone()))));
        world.feed(Feed::Recovered);
        // An empty database answers at once.
        while !world.loads.is_empty() {
            world.read();
            world.answer();
        }
        world
    }

    pub fn now(&self) -> Now {
        let at = Duration::from_micros((self.now_us - self.epoch_us).unsigned_abs());
        Now { at, wall_us: WALL_US + self.now_us }
    }

    pub fn feed(&mut self, feed: Feed) {
        let now = self.now();
        self.scheduler.feed(feed, now);
        self.advance();
    }

    /// The key follows from the event's number.
    pub fn message(&self, id: i64) -> Arc<Message> {
        let key = (id.unsigned_abs() * 7 + id.unsigned_abs() / 5) % self.plan.keys;
        let event = Event { key: Some(key.to_string().into()), ..owners::event(id) };
        Arc::new(Message::new(event, &self.budget))
    }

    fn key(&self, (subscription_id, event_id): Pair) -> Option<i64> {
        order_key(&self.subscriptions[&subscription_id], &self.message(event_id))
    }

    fn everything(&self) -> impl Iterator<Item = &Pair> {
        self.passed.iter().chain(self.routed.iter().flatten())
    }

    /// Advances the scheduler, and takes its effects.
    pub fn advance(&mut self) {
        let now = self.now();
        self.scheduler.advance(now);
        let out = std::mem::take(self.scheduler.out());
        for entry in out.records.iter().filter_map(Record::entry) {
            if entry.attempt.is_some() && matches!(entry.queue, QueueChange::Keep | QueueChange::Delete) {
                self.last_word.insert((entry.subscription_id, entry.event_id));
            }
        }
        self.records.extend(out.records);
        self.loads.extend(out.loads);
        for start in out.starts {
            self.begin(&start);
        }
    }

    fn begin(&mut self, start: &Start) {
        let id = start.subscription.id;
        let flight = &self.scheduler.flights[start.key];
        let deliveries = std::iter::once(&flight.first).chain(&flight.more);
        let pairs: Vec<Pair> = deliveries.map(|delivery| (id, delivery.message.event().id)).collect();
        let changes: usize = match &start.content {
            RequestContent::One(message) => message.changes() as usize,
            RequestContent::Batch(messages) => {
                assert!(messages.len() <= start.subscription.batch_size);
                assert!(messages.is_sorted_by_key(|message| message.event().id));
                messages.iter().map(|message| message.changes() as usize).sum()
            }
        };
        assert_eq!(changes, pairs.len(), "every delivery is in the body, once");
        for pair in &pairs {
            let all = || self.under_way.iter().flat_map(|(_, pairs)| pairs);
            assert!(all().all(|other| other != pair), "{pair:?} is under way already");
            assert!(self.subscriptions[&id].enabled || start.subscription.enabled, "{pair:?} is paused");
            assert!(self.is_covered(*pair), "{pair:?} is of another owner");
            if self.checks_order && !self.asked_again.contains_key(pair) {
                self.check_order(*pair, &pairs);
            }
        }
        let starts = self.started_at.entry(id).or_default();
        starts.push(self.now_us);
        if let Some(limit) = start.subscription.rate_limit {
            let recent = starts.iter().filter(|at| **at > self.now_us - 1_000_000).count();
            assert!(recent as f64 <= limit, "{recent} requests in a second");
        }
        self.under_way.push((start.key, pairs));
    }

    /// Checks that every earlier event of the group is final or in the same request.
    fn check_order(&self, pair: Pair, together: &[Pair]) {
        let Some(key) = self.key(pair) else { return };
        for earlier in self.everything().filter(|other| other.0 == pair.0 && other.1 < pair.1) {
            assert!(
                self.key(*earlier) != Some(key)
                    || self.last_word.contains(earlier)
                    || self.called_off.contains(earlier)
                    || self.withheld.contains(earlier)
                    || together.contains(earlier)
                    || self.asked_again.contains_key(earlier),
                "{pair:?} ({:?}) is started before {earlier:?} ({:?}) is final: {:?} {:?}",
                self.queue.get(&pair),
                self.queue.get(earlier),
                self.plan.subscriptions[pair.0 as usize - 1],
                self.scheduler.send_queues[&pair.0],
            );
        }
    }

    pub fn new_batch(&mut self) {
        if !self.scheduler.is_hungry() {
            return;
        }
        if !self.recovering.is_empty() {
            return self.recover_some();
        }
        let events = self.rng.usize(0..8);
        let mut targets = Vec::new();
        for _ in 0..events {
            let ids = (1..=self.plan.subscriptions.len() as i64).filter(|_| self.rng.bool()).collect();
            targets.push((self.next_event, ids));
            self.next_event += 1;
        }
        self.hand_on(targets);
    }

    /// Feeds a window with these events.
    pub fn hand_on(&mut self, events: Vec<(i64, Vec<i64>)>) {
        let window = self.routed.len() as u64;
        let mut batch = Batch { window, end: Some(end(window)), ..Batch::default() };
        let mut pairs = Vec::new();
        for (id, targets) in events {
            self.next_event = self.next_event.max(id + 1);
            pairs.extend(targets.iter().map(|subscription| (*subscription, id)));
            batch.targets.extend(targets);
            batch.events.push((self.message(id), batch.targets.len()));
        }
        self.routed.push(pairs);
        self.note_withheld();
        self.feed(Feed::Batch(batch));
    }

    pub fn finish(&mut self, success_percent: u8) {
        if self.under_way.is_empty() {
            return;
        }
        let (key, pairs) = self.under_way.swap_remove(self.rng.usize(0..self.under_way.len()));
        let is_rejected = |(_, event): &Pair| self.plan.rejects.is_some_and(|multiple| event % multiple == 0);
        let ended = if self.rng.u8(0..100) < success_percent {
            if pairs.iter().any(is_rejected) {
                Outcome { status: Some(422), ..outcome(Class::HttpError) }
            } else {
                outcome(Class::Succeeded)
            }
        } else if self.rng.u8(0..100) < self.plan.gone_percent {
            Outcome { status: Some(410), ..outcome(Class::HttpError) }
        } else if self.rng.u8(0..100) < self.plan.quiet_percent {
            let retry_after = Some(Duration::from_millis(self.rng.u64(0..4000)));
            Outcome { status: Some(429), retry_after, ..outcome(Class::HttpError) }
        } else {
            outcome(Class::Timeout)
        };
        self.end(key, ended);
    }

    pub fn end(&mut self, key: usize, outcome: Outcome) {
        self.under_way.retain(|(other, _)| *other != key);
        let (now, unit) = (self.now(), self.rng.f64());
        self.scheduler.finished(key, outcome, now, unit);
        self.advance();
    }

    pub fn confirm(&mut self) {
        if let Some(confirmed) = self.confirmations.pop_front() {
            self.scheduler.confirmed(&confirmed);
            self.advance();
            if confirmed.disabled.is_some() {
                // The change comes back as an event.
                self.reload();
            }
        }
    }

    fn reload(&mut self) {
        if self.scheduler.is_hungry() {
            let all = Update::All(Arc::new(self.subscriptions.clone()));
            let update = match self.rng.bool() {
                true => all,
                false => Update::Only(all.differences(&self.fed).into()),
            };
            self.fed = self.subscriptions.clone();
            self.note_withheld();
            self.feed(Feed::Subscriptions(update));
        }
    }

    pub fn answer(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.scheduler.loaded(answer);
            self.advance();
        }
    }

    /// Crashes the daemon, which loses its uncommitted work. Another one starts from the tables.
    pub fn crash(&mut self) {
        let unresolved: Vec<Pair> = self.routed.split_off(self.checkpoint).into_iter().flatten().collect();
        self.passed.extend(std::mem::take(&mut self.routed).into_iter().flatten());
        self.checkpoint = 0;
        self.scheduler = Scheduler::new(limits(&self.plan), Arc::clone(&self.budget));
        self.under_way.clear();
        self.records.clear();
        self.aside.clear();
        self.confirmations.clear();
        self.loads.clear();
        self.answers.clear();
        self.started_at.clear();
        self.epoch_us = self.now_us;
        let (queue, attempts) = (&self.queue, &self.attempts);
        self.last_word.retain(|pair| attempts.contains_key(pair) && !queue.contains_key(pair));
        self.fed = self.subscriptions.clone();
        self.feed(Feed::InternalTypes(Arc::clone(&self.internal)));
        self.feed(Feed::Subscriptions(Update::All(Arc::new(self.subscriptions.clone()))));
        let is_open = |pair: &Pair| !attempts_or_row(&self.attempts, &self.queue, pair);
        self.passed.extend(unresolved.iter().filter(|pair| !is_open(pair)));
        let mut open: Vec<Pair> = unresolved.into_iter().filter(is_open).collect();
        // The former daemon has left no trace of this delivery, so it is read as new.
        for pair in &open {
            self.called_off.remove(pair);
        }
        open.sort_unstable_by_key(|(subscription_id, event_id)| (*event_id, *subscription_id));
        self.recovering = open.into();
        self.routed.push(self.recovering.iter().copied().collect());
        self.note_withheld();
        if self.recovering.is_empty() {
            self.feed(Feed::Batch(Batch { end: Some(end(0)), is_recovered: true, ..Batch::default() }));
        }
    }

    /// Feeds the next page of deliveries that may have been in flight before the start.
    fn recover_some(&mut self) {
        let mut batch = Batch { is_recovered: true, ..Batch::default() };
        for _ in 0..self.rng.usize(1..6) {
            let Some((subscription_id, event_id)) = self.recovering.pop_front() else { break };
            batch.targets.push(subscription_id);
            batch.events.push((self.message(event_id), batch.targets.len()));
        }
        batch.end = self.recovering.is_empty().then(|| end(0));
        self.feed(Feed::Batch(batch));
    }

    pub fn step(&mut self) {
        match self.rng.u8(0..24) {
            0..3 => self.new_batch(),
            3..9 => self.finish(self.plan.success_percent),
            9..13 => self.commit(),
            13..17 => self.confirm(),
            17..19 => self.read(),
            19..21 => self.answer(),
            21..23 => {
                self.now_us += self.rng.i64(0..1_500_000);
                self.advance();
            }
            _ if self.rng.u8(0..4) == 0 => self.pause_or_resume(),
            _ if self.rng.u8(0..4) == 0 => self.try_one_now(),
            _ => {}
        }
    }

    /// Runs without new events, with healthy receivers and enabled subscriptions, until all work is
    /// done.
    pub fn settle(&mut self) {
        self.plan.rejects = None;
        self.unlock_all();
        for round in 0..6000 {
            if self.scheduler.is_hungry() && !self.recovering.is_empty() {
                self.recover_some();
            }
            if self.scheduler.is_hungry() && self.subscriptions.values().any(|s| !s.enabled) && round > 50 {
                for id in self.subscriptions.keys().copied().collect::<Vec<_>>() {
                    self.replace(id, true);
                }
                self.reload();
            }
            self.finish(100);
            self.commit();
            self.confirm();
            self.read();
            self.answer();
            self.now_us += if round % 10 == 0 { 500_000 } else { 1000 };
            self.advance();
        }
    }

    /// Lets the ledger and the queue do all their work.
    pub fn catch_up(&mut self) {
        while !(self.records.is_empty() && self.confirmations.is_empty() && self.loads.is_empty()) {
            self.commit();
            self.confirm();
            self.read();
            self.answer();
        }
    }

    /// Lets time pass in steps. Everything but the attempts keeps up.
    pub fn pass(&mut self, duration: Duration, step: Duration) {
        let until = self.now_us + duration.as_micros() as i64;
        while self.now_us < until {
            self.now_us = (self.now_us + step.as_micros() as i64).min(until);
            self.advance();
            self.catch_up();
        }
    }
}

fn attempts_or_row(attempts: &BTreeMap<Pair, Vec<Class>>, queue: &BTreeMap<Pair, Row>, pair: &Pair) -> bool {
    attempts.contains_key(pair) || queue.contains_key(pair)
}
