//! The board against a world that is made up: tables that change when the ledger commits, answers that are late, receivers
//! that fail, subscriptions that pause. What must hold in every order of things is checked as it goes and at the end.

use super::*;
use crate::{
    delivery::outcome::{Class, Outcome},
    event::Event,
    ledger::{batch, entry::Attempt},
    outbox::{Batch, Feed, Request, snapshot::Snapshot},
    queue::{Loaded, QueuedRow},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};

type Pair = (i64, i64);

#[derive(Debug, Clone, Copy)]
struct Row {
    state: State,
    attempts: i16,
    retry_from: i16,
}

struct World {
    board: Board,
    budget: Arc<Budget>,
    subscriptions: Subscriptions,
    /// `webhook.queue`.
    queue: BTreeMap<Pair, Row>,
    /// `webhook.attempt`: class by number, per delivery.
    attempts: BTreeMap<Pair, Vec<Class>>,
    /// By window, the deliveries that were routed in it.
    routed: Vec<Vec<Pair>>,
    under_way: Vec<(usize, Pair)>,
    records: VecDeque<Record>,
    confirmations: VecDeque<Confirmed>,
    loads: VecDeque<Load>,
    answers: VecDeque<Loaded>,
    next_event: i64,
    now_us: i64,
    rng: fastrand::Rng,
    /// Redeliveries asked for, by delivery.
    asked_again: BTreeMap<Pair, usize>,
}

const SUBSCRIPTIONS: i64 = 3;
const WALL_US: i64 = 1_700_000_000_000_000;

fn end(window: u64) -> Snapshot {
    format!("{0}:{0}:", 100 + window).parse().unwrap()
}

fn subscription(id: i64, enabled: bool) -> Arc<Subscription> {
    let retry = [1, 2, 5].map(Duration::from_secs).into();
    Arc::new(Subscription { enabled, retry, in_flight_max: 3, ..Subscription::sample(id) })
}

fn outcome(class: Class) -> Outcome {
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
    }
}

impl World {
    fn new(seed: u64, memory_bytes_max: usize, timers_max: usize) -> Self {
        let budget = Arc::new(Budget::default());
        let limits = Limits { memory_bytes_max, in_flight_max: 6, timers_max };
        let mut world = Self {
            board: Board::new(limits, Arc::clone(&budget)),
            budget,
            subscriptions: (1..=SUBSCRIPTIONS).map(|id| (id, subscription(id, true))).collect(),
            queue: BTreeMap::new(),
            attempts: BTreeMap::new(),
            routed: Vec::new(),
            under_way: Vec::new(),
            records: VecDeque::new(),
            confirmations: VecDeque::new(),
            loads: VecDeque::new(),
            answers: VecDeque::new(),
            next_event: 1,
            now_us: 0,
            rng: fastrand::Rng::with_seed(seed),
            asked_again: BTreeMap::new(),
        };
        world.feed(Feed::Subscriptions(Arc::new(world.subscriptions.clone())));
        world
    }

    fn now(&self) -> Now {
        Now { at: Duration::from_micros(self.now_us.unsigned_abs()), wall_us: WALL_US + self.now_us }
    }

    fn feed(&mut self, feed: Feed) {
        let now = self.now();
        self.board.feed(feed, now);
        self.advance();
    }

    fn message(&self, id: i64) -> Arc<Message> {
        Arc::new(Message::new(Event::sample(id), &self.budget))
    }

    /// Lets the board conclude, and takes what it gives.
    fn advance(&mut self) {
        let now = self.now();
        self.board.advance(now);
        let out = std::mem::take(&mut self.board.out);
        for start in out.starts {
            let Content::One(message) = &start.content else { panic!("none of them batches") };
            let pair = (start.subscription.id, message.event().id);
            assert!(self.under_way.iter().all(|(_, other)| *other != pair), "{pair:?} is under way already");
            assert!(self.subscriptions[&pair.0].enabled || start.subscription.enabled, "{pair:?} is paused");
            self.under_way.push((start.key, pair));
        }
        self.records.extend(out.records);
        self.loads.extend(out.loads);
    }

    fn new_batch(&mut self) {
        if !self.board.is_hungry() {
            return;
        }
        let window = self.routed.len() as u64;
        let mut batch = Batch { window, end: Some(end(window)), ..Batch::default() };
        let mut pairs = Vec::new();
        for _ in 0..self.rng.usize(0..8) {
            let id = self.next_event;
            self.next_event += 1;
            let targets: Vec<i64> = (1..=SUBSCRIPTIONS).filter(|_| self.rng.bool()).collect();
            pairs.extend(targets.iter().map(|subscription| (*subscription, id)));
            batch.targets.extend(targets);
            batch.events.push((self.message(id), batch.targets.len()));
        }
        self.routed.push(pairs);
        self.feed(Feed::Batch(batch));
    }

    fn finish(&mut self, success_percent: u8) {
        if self.under_way.is_empty() {
            return;
        }
        let (key, _) = self.under_way.swap_remove(self.rng.usize(0..self.under_way.len()));
        let class = if self.rng.u8(0..100) < success_percent { Class::Succeeded } else { Class::Timeout };
        let (now, unit) = (self.now(), self.rng.f64());
        self.board.finished(key, outcome(class), now, unit);
        self.advance();
    }

    /// The ledger commits some of what it was given; the confirmation is on its way.
    fn commit(&mut self) {
        let mut entries = Vec::new();
        for _ in 0..self.rng.usize(1..10) {
            match self.records.pop_front() {
                Some(Record::Entry(entry)) => {
                    self.apply(&entry);
                    entries.push(entry);
                }
                Some(Record::Checkpoint(snapshot)) => self.check_checkpoint(&snapshot),
                Some(Record::Forget { subscription_id }) => {
                    assert!(self.subscriptions.contains_key(&subscription_id), "none is ever removed");
                }
                None => break,
            }
        }
        if !entries.is_empty() {
            self.confirmations.push_back(batch::summary(&entries.iter().collect::<Vec<_>>()));
        }
    }

    fn apply(&mut self, entry: &Entry) {
        let pair = (entry.subscription_id, entry.event_id);
        if let Some(Attempt { number, outcome, .. }) = &entry.attempt {
            let made = self.attempts.entry(pair).or_default();
            made.push(outcome.class);
            assert_eq!(made.len(), *number as usize, "attempts of {pair:?} are numbered without gaps");
        }
        match entry.queue {
            QueueChange::Keep => {}
            QueueChange::Delete => drop(self.queue.remove(&pair)),
            QueueChange::Put { state, attempts, retry_from } => {
                self.queue.insert(pair, Row { state, attempts, retry_from });
            }
        }
    }

    /// Everything up to the checkpoint has a row, in the tables as they are committed now.
    fn check_checkpoint(&self, snapshot: &Snapshot) {
        for pair in self
            .routed
            .iter()
            .zip(0..)
            .filter(|(_, window)| *snapshot == end(*window))
            .flat_map(|(_, window)| self.routed[..=window as usize].iter().flatten())
        {
            assert!(
                self.attempts.contains_key(pair) || self.queue.contains_key(pair),
                "the checkpoint passes {pair:?}, which has no row"
            );
        }
    }

    fn confirm(&mut self) {
        if let Some(confirmed) = self.confirmations.pop_front() {
            self.board.confirmed(&confirmed);
            self.advance();
        }
    }

    /// The queue is read now; the answer arrives later.
    fn read(&mut self) {
        let Some(load) = self.loads.pop_front() else { return };
        let answer = match load {
            Load::Backlogged => {
                let ids: HashSet<i64> =
                    self.rows(|_, row| row.state == State::Backlog).map(|(id, _)| id).collect();
                Loaded::Backlogged(ids.into_iter().collect())
            }
            Load::Timers { from, limit } => {
                let mut rows: Vec<(Key, Retry)> = self
                    .queue
                    .iter()
                    .filter_map(|(pair, row)| match row.state {
                        State::Waiting { next_at_us } => {
                            let key = Key { next_at_us, subscription_id: pair.0, event_id: pair.1 };
                            (key >= from).then(|| (key, retry(row)))
                        }
                        State::Backlog => None,
                    })
                    .collect();
                rows.sort_unstable_by_key(|(key, _)| *key);
                rows.truncate(limit);
                Loaded::Timers { rows, asked: limit }
            }
            Load::Due(asked) => {
                let (there, missing): (Vec<_>, Vec<_>) =
                    asked.into_iter().partition(|(id, due)| self.queue.contains_key(&(*id, due.event_id)));
                let rows = there.into_iter().map(|(id, due)| self.queued((id, due.event_id))).collect();
                Loaded::Due { rows, missing, rest: Vec::new() }
            }
            Load::Backlog { subscription_id, after, limit } => {
                let pairs: Vec<Pair> = self
                    .rows(|pair, row| {
                        pair.0 == subscription_id && pair.1 > after && row.state == State::Backlog
                    })
                    .take(limit)
                    .collect();
                let is_end = pairs.len() < limit;
                Loaded::Backlog {
                    subscription_id,
                    rows: pairs.into_iter().map(|pair| self.queued(pair)).collect(),
                    is_end,
                }
            }
            Load::Request { request, .. } => {
                let pair = (request.subscription_id, request.event_id);
                let row = if self.queue.contains_key(&pair) {
                    self.queued(pair)
                } else {
                    let attempts = self.attempts.get(&pair).map_or(0, |made| made.len() as i16);
                    let retry = Retry { event_slot: 0, attempts, retry_from: attempts, after_entry: 0 };
                    let message = Some(self.message(pair.1));
                    QueuedRow { subscription_id: pair.0, event_id: pair.1, retry, message }
                };
                Loaded::Request { request, row: Some(row) }
            }
        };
        self.answers.push_back(answer);
    }

    fn rows(&self, which: impl Fn(&Pair, &Row) -> bool) -> impl Iterator<Item = Pair> {
        self.queue.iter().filter(move |(pair, row)| which(pair, row)).map(|(pair, _)| *pair)
    }

    fn queued(&self, pair: Pair) -> QueuedRow {
        let message = Some(self.message(pair.1));
        QueuedRow { subscription_id: pair.0, event_id: pair.1, retry: retry(&self.queue[&pair]), message }
    }

    fn answer(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.board.loaded(answer);
            self.advance();
        }
    }

    fn pause_or_resume(&mut self) {
        if self.board.is_hungry() {
            let id = self.rng.i64(1..=SUBSCRIPTIONS);
            let enabled = !self.subscriptions[&id].enabled;
            self.set_enabled(id, enabled);
        }
    }

    fn set_enabled(&mut self, id: i64, enabled: bool) {
        self.subscriptions.insert(id, subscription(id, enabled));
        self.feed(Feed::Subscriptions(Arc::new(self.subscriptions.clone())));
    }

    fn step(&mut self, success_percent: u8) {
        match self.rng.u8(0..24) {
            0..3 => self.new_batch(),
            3..9 => self.finish(success_percent),
            9..13 => self.commit(),
            13..17 => self.confirm(),
            17..19 => self.read(),
            19..21 => self.answer(),
            21..23 => {
                self.now_us += self.rng.i64(0..1_500_000);
                self.advance();
            }
            _ if self.rng.u8(0..4) == 0 => self.pause_or_resume(),
            _ => {}
        }
    }

    /// Nothing new, all receivers well, all subscriptions open: until nothing moves any more.
    fn settle(&mut self) {
        for round in 0..4000 {
            if self.board.is_hungry() {
                let paused: Vec<i64> = self
                    .subscriptions
                    .values()
                    .filter(|s| !s.enabled)
                    .map(|subscription| subscription.id)
                    .collect();
                paused.into_iter().for_each(|id| self.set_enabled(id, true));
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

    fn check_end(&self) {
        assert_eq!(self.queue.len(), 0, "rows are left: {:?}", self.queue);
        assert_eq!((self.board.in_flight(), self.board.unconfirmed(), self.board.fresh), (0, 0, 0));
        assert_eq!(self.board.progress.oldest_since(), None, "all windows are resolved");
        for pair in self.routed.iter().flatten() {
            let made = self.attempts.get(pair).map_or(&[][..], Vec::as_slice);
            let successes = made.iter().filter(|class| **class == Class::Succeeded).count();
            let again = self.asked_again.get(pair).copied().unwrap_or(0);
            if again == 0 {
                let exhausted = made.len() == 4 && successes == 0;
                assert!(
                    exhausted || (successes == 1 && made.last() == Some(&Class::Succeeded)),
                    "{pair:?}: {made:?}"
                );
            }
        }
        let held: Vec<i64> = self
            .board
            .lanes
            .values()
            .filter(|lane| !lane.holds_nothing())
            .map(|l| l.subscription.id)
            .collect();
        assert_eq!(held, [] as [i64; 0], "rows are still held");
        assert_eq!(self.budget.bytes_held(), 0, "messages are still held");
    }
}

fn retry(row: &Row) -> Retry {
    Retry { event_slot: 0, attempts: row.attempts, retry_from: row.retry_from, after_entry: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Without a crash every delivery succeeds exactly once or is exhausted, no checkpoint passes one without a row, and in
    /// the end nothing is left behind: whatever fails, pauses, or comes late.
    #[test]
    fn every_delivery_ends_once(
        seed in any::<u64>(),
        success_percent in 0u8..=100,
        memory in prop_oneof![Just(1 << 20), Just(8_000usize)],
        timers_max in prop_oneof![Just(1000usize), 2usize..6],
    ) {
        let mut world = World::new(seed, memory, timers_max);
        for _ in 0..1500 {
            world.step(success_percent);
        }
        world.settle();
        world.check_end();
    }
}

/// A world with one delivery under way.
fn one_under_way() -> (World, Pair) {
    let mut world = World::new(1, 1 << 20, 1000);
    let mut batch = Batch { window: 0, targets: vec![1], end: Some(end(0)), ..Batch::default() };
    batch.events.push((world.message(1), 1));
    world.routed.push(vec![(1, 1)]);
    world.next_event = 2;
    world.feed(Feed::Batch(batch));
    assert_eq!(world.under_way.len(), 1);
    (world, (1, 1))
}

fn ask_again(world: &mut World, (subscription_id, event_id): Pair) {
    let window = world.routed.len() as u64;
    world.routed.push(Vec::new());
    *world.asked_again.entry((subscription_id, event_id)).or_default() += 1;
    let requests = vec![Request { subscription_id, event_id }];
    world.feed(Feed::Batch(Batch { window, requests, end: Some(end(window)), ..Batch::default() }));
}

#[test]
fn a_redelivery_asked_for_during_an_attempt_is_a_second_attempt() {
    let (mut world, pair) = one_under_way();
    // What webhook_redeliver() has written.
    world
        .queue
        .insert(pair, Row { state: State::Waiting { next_at_us: WALL_US }, attempts: 0, retry_from: 0 });
    ask_again(&mut world, pair);
    world.read();
    world.read();
    world.read();
    world.answer();
    world.answer();
    world.answer();
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded, Class::Succeeded]);
    world.check_end();
}

#[test]
fn a_redelivery_of_a_delivered_event_goes_out_though_its_row_is_gone() {
    let (mut world, pair) = one_under_way();
    world.settle();
    ask_again(&mut world, pair);
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded, Class::Succeeded]);
    world.check_end();
}

#[test]
fn what_is_under_way_for_long_gets_a_row_and_the_checkpoint_moves() {
    let (mut world, pair) = one_under_way();
    for _ in 0..12 {
        world.now_us += 500_000;
        world.advance();
        world.commit();
        world.confirm();
    }
    assert_eq!(world.queue[&pair].state, State::Backlog);
    assert_eq!(world.board.progress.oldest_since(), None);
    assert_eq!(world.under_way.len(), 1, "it is still under way, once");
    world.settle();
    assert_eq!(world.attempts[&pair], [Class::Succeeded]);
    world.check_end();
}

#[test]
fn closing_leaves_a_row_for_everything() {
    let mut world = World::new(7, 1 << 20, 1000);
    (0..20).for_each(|_| world.new_batch());
    assert!(!world.under_way.is_empty());
    world.board.close();
    world.board.spill();
    world.board.spill_flights();
    world.advance();
    while !world.records.is_empty() || !world.confirmations.is_empty() {
        world.commit();
        world.confirm();
    }
    assert_eq!(world.board.progress.oldest_since(), None);
    for pair in world.routed.iter().flatten() {
        assert!(world.queue.contains_key(pair), "{pair:?}");
    }
}
