//! A world that is made up: tables that change when the ledger commits, answers that are late, receivers that fail,
//! subscriptions that pause, daemons that crash. It checks what must hold at every step.

use super::*;
use crate::event::Place;

pub type Pair = (i64, i64);

/// Where every event is found, by [`Event::sample`].
const PLACE: Place = Place { slot: 0, xid: 1000 };

#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub state: State,
    pub attempts: i16,
    pub retry_from: i16,
    pub order_key: Option<i64>,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub memory_bytes_max: usize,
    pub in_flight_max: usize,
    pub timers_max: usize,
    pub lines_max: usize,
    pub keys: u64,
    /// By subscription, from 1.
    pub subscriptions: Vec<Options>,
    /// Of a hundred attempts, so many succeed.
    pub success_percent: u8,
    /// Of the others, so many in a hundred are answered 410, and so many with Retry-After.
    pub gone_percent: u8,
    pub quiet_percent: u8,
}

/// What a subscription asks for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub ordering: Ordering,
    pub batch_size: usize,
    pub batch_window_ms: u64,
    pub compact: bool,
    pub rate_limit: Option<f64>,
    pub in_flight_max: usize,
}

pub const PLAIN: Options = Options {
    ordering: Ordering::None,
    batch_size: 1,
    batch_window_ms: 0,
    compact: false,
    rate_limit: None,
    in_flight_max: 3,
};

impl Plan {
    /// Three subscriptions that ask for nothing.
    pub fn plain(seed: u64) -> Self {
        Self {
            seed,
            memory_bytes_max: 1 << 20,
            in_flight_max: 6,
            timers_max: 1000,
            lines_max: 1000,
            keys: 3,
            subscriptions: vec![PLAIN; 3],
            success_percent: 50,
            gone_percent: 0,
            quiet_percent: 0,
        }
    }
}

pub struct World {
    pub board: Board,
    pub budget: Arc<Budget>,
    pub plan: Plan,
    pub subscriptions: Subscriptions,
    /// `webhook.queue`.
    pub queue: BTreeMap<Pair, Row>,
    /// `webhook.attempt`: class by number, per delivery.
    pub attempts: BTreeMap<Pair, Vec<Class>>,
    /// `webhook.receiver`.
    pub standings: BTreeMap<i64, Standing>,
    /// By window of this board, the deliveries that were routed in it.
    pub routed: Vec<Vec<Pair>>,
    /// What earlier boards' checkpoints have passed.
    pub passed: Vec<Pair>,
    /// Windows of this board that its last checkpoint has passed.
    checkpoint: usize,
    /// Recovered deliveries that are still to be handed on.
    recovering: VecDeque<Pair>,
    pub under_way: Vec<(usize, Vec<Pair>)>,
    /// Delivered or exhausted, as far as the tables or the present board know.
    pub last_word: HashSet<Pair>,
    pub records: VecDeque<Record>,
    pub confirmations: VecDeque<Confirmed>,
    pub loads: VecDeque<Load>,
    pub answers: VecDeque<Loaded>,
    pub next_event: i64,
    pub now_us: i64,
    epoch_us: i64,
    rng: fastrand::Rng,
    /// Redeliveries asked for, by delivery.
    pub asked_again: BTreeMap<Pair, usize>,
    /// When requests were started, by subscription, by this board.
    pub started_at: BTreeMap<i64, Vec<i64>>,
    /// `false`: the order of a subscription was changed, and holds no more for what came before.
    pub checks_order: bool,
    /// Exhausted deliveries that were told, and other news.
    pub told: Vec<Pair>,
    pub news: Vec<News>,
}

pub const WALL_US: i64 = 1_700_000_000_000_000;

pub fn end(window: u64) -> Snapshot {
    format!("{0}:{0}:", 100 + window).parse().unwrap()
}

fn limits(plan: &Plan) -> Limits {
    Limits {
        memory_bytes_max: plan.memory_bytes_max,
        in_flight_max: plan.in_flight_max,
        timers_max: plan.timers_max,
        lines_max: plan.lines_max,
        periods: Periods {
            probe_interval: Duration::from_secs(3),
            failing_after: Duration::from_secs(20),
            disable_after: Duration::from_secs(60),
        },
    }
}

pub fn subscription(id: i64, options: Options, enabled: bool) -> Arc<Subscription> {
    let Options { ordering, batch_size, batch_window_ms, compact, rate_limit, in_flight_max } = options;
    Arc::new(Subscription {
        enabled,
        retry: [1, 2, 5].map(Duration::from_secs).into(),
        in_flight_max,
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
    }
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let budget = Arc::new(Budget::default());
        let ids = (1..).zip(&plan.subscriptions);
        let mut world = Self {
            board: Board::new(limits(&plan), Arc::clone(&budget)),
            budget,
            subscriptions: ids.map(|(id, options)| (id, subscription(id, *options, true))).collect(),
            queue: BTreeMap::new(),
            attempts: BTreeMap::new(),
            standings: BTreeMap::new(),
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
            told: Vec::new(),
            news: Vec::new(),
            plan,
        };
        world.feed(Feed::Subscriptions(Arc::new(world.subscriptions.clone())));
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
        self.board.feed(feed, now);
        self.advance();
    }

    /// Its key is a matter of its number.
    pub fn message(&self, id: i64) -> Arc<Message> {
        let key = (id.unsigned_abs() * 7 + id.unsigned_abs() / 5) % self.plan.keys;
        Arc::new(Message::new(Event { key: Some(key.to_string().into()), ..Event::sample(id) }, &self.budget))
    }

    fn key(&self, (subscription_id, event_id): Pair) -> Option<i64> {
        order_key(&self.subscriptions[&subscription_id], &self.message(event_id))
    }

    fn everything(&self) -> impl Iterator<Item = &Pair> {
        self.passed.iter().chain(self.routed.iter().flatten())
    }

    /// Lets the board conclude, and takes what it gives.
    pub fn advance(&mut self) {
        let now = self.now();
        self.board.advance(now);
        let out = std::mem::take(&mut self.board.out);
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
        let flight = &self.board.flights[start.key];
        let deliveries = std::iter::once(&flight.first).chain(&flight.more);
        let pairs: Vec<Pair> = deliveries.map(|delivery| (id, delivery.message.event().id)).collect();
        let changes: usize = match &start.content {
            Content::One(message) => message.changes() as usize,
            Content::Batch(messages) => {
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

    /// Everything before it in its line is final, or goes with it.
    fn check_order(&self, pair: Pair, together: &[Pair]) {
        let Some(key) = self.key(pair) else { return };
        for earlier in self.everything().filter(|other| other.0 == pair.0 && other.1 < pair.1) {
            assert!(
                self.key(*earlier) != Some(key)
                    || self.last_word.contains(earlier)
                    || together.contains(earlier)
                    || self.asked_again.contains_key(earlier),
                "{pair:?} ({:?}) is started before {earlier:?} ({:?}) is final: {:?} {:?}",
                self.queue.get(&pair),
                self.queue.get(earlier),
                self.plan.subscriptions[pair.0 as usize - 1],
                self.board.lanes[&pair.0],
            );
        }
    }

    pub fn new_batch(&mut self) {
        if !self.board.is_hungry() {
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

    /// A window with these events.
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
        self.feed(Feed::Batch(batch));
    }

    pub fn finish(&mut self, success_percent: u8) {
        if self.under_way.is_empty() {
            return;
        }
        let (key, _) = self.under_way.swap_remove(self.rng.usize(0..self.under_way.len()));
        let ended = if self.rng.u8(0..100) < success_percent {
            outcome(Class::Succeeded)
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
        self.board.finished(key, outcome, now, unit);
        self.advance();
    }

    /// The ledger commits some of what it was given; the confirmation is on its way.
    pub fn commit(&mut self) {
        let mut entries = Vec::new();
        for _ in 0..self.rng.usize(1..10) {
            let Some(record) = self.records.pop_front() else { break };
            if let Record::Entry(entry) = record {
                self.apply(&entry);
                entries.push(entry);
                continue;
            }
            // In order: what comes after is confirmed after.
            self.confirm_entries(&mut entries);
            let confirmed = self.apply_alone(record);
            self.confirmations.push_back(confirmed);
        }
        self.confirm_entries(&mut entries);
    }

    fn confirm_entries(&mut self, entries: &mut Vec<Entry>) {
        if !entries.is_empty() {
            self.confirmations.push_back(batch::summary(&entries.iter().collect::<Vec<_>>()));
            entries.clear();
        }
    }

    fn apply_alone(&mut self, record: Record) -> Confirmed {
        let mut confirmed = Confirmed::default();
        match record {
            Record::Entry(_) => {}
            Record::Checkpoint(snapshot) => self.check_checkpoint(&snapshot),
            Record::Forget { subscription_id } => {
                assert!(self.subscriptions.contains_key(&subscription_id), "none is ever removed");
            }
            Record::Standing { subscription_id, standing, news } => {
                self.standings.insert(subscription_id, standing);
                self.news.extend(news);
            }
            Record::Disable { subscription_id, .. } => {
                confirmed.disabled = Some(subscription_id);
                self.replace(subscription_id, false);
                for row in self.rows_of(subscription_id) {
                    if let State::Waiting { .. } = row.state {
                        row.state = State::Backlog;
                    }
                }
            }
            Record::Unblock { subscription_id } => {
                confirmed.unblocked = Some(subscription_id);
                for row in self.rows_of(subscription_id) {
                    if row.state == State::Blocked {
                        row.state = State::Backlog;
                    }
                }
            }
        }
        confirmed
    }

    fn rows_of(&mut self, id: i64) -> impl Iterator<Item = &mut Row> {
        self.queue.range_mut((id, i64::MIN)..=(id, i64::MAX)).map(|(_, row)| row)
    }

    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.place, PLACE, "a row that cannot be found again");
        let pair = (entry.subscription_id, entry.event_id);
        if let Some(Attempt { number, outcome, .. }) = &entry.attempt {
            let made = self.attempts.entry(pair).or_default();
            made.push(outcome.class);
            assert_eq!(made.len(), *number as usize, "attempts of {pair:?} are numbered without gaps");
        }
        if entry.exhausted.is_some() {
            self.told.push(pair);
        }
        match entry.queue {
            QueueChange::Keep => {}
            QueueChange::Delete => drop(self.queue.remove(&pair)),
            QueueChange::Put { state, attempts, retry_from, order_key } => {
                self.queue.insert(pair, Row { state, attempts, retry_from, order_key });
            }
        }
    }

    /// Everything up to the checkpoint has a row, in the tables as they are committed now.
    fn check_checkpoint(&mut self, snapshot: &Snapshot) {
        let windows = (0..self.routed.len()).find(|window| *snapshot == end(*window as u64)).unwrap() + 1;
        for pair in self.routed[..windows].iter().flatten() {
            assert!(
                self.attempts.contains_key(pair) || self.queue.contains_key(pair),
                "the checkpoint passes {pair:?}, which has no row"
            );
        }
        self.checkpoint = windows;
    }

    pub fn confirm(&mut self) {
        if let Some(confirmed) = self.confirmations.pop_front() {
            self.board.confirmed(&confirmed);
            self.advance();
            if confirmed.disabled.is_some() {
                // The change comes back as an event.
                self.reload();
            }
        }
    }

    fn reload(&mut self) {
        if self.board.is_hungry() {
            self.feed(Feed::Subscriptions(Arc::new(self.subscriptions.clone())));
        }
    }

    /// The queue is read now; the answer arrives later.
    pub fn read(&mut self) {
        let Some(load) = self.loads.pop_front() else { return };
        let answer = match load {
            Load::Standings => {
                Loaded::Standings(self.standings.iter().map(|(id, standing)| (*id, *standing)).collect())
            }
            Load::Ordered => Loaded::Ordered(self.ordered()),
            Load::Lines { subscription_id, order_keys, limit, entries_confirmed } => {
                let line = |key: i64| {
                    let limit = limit.min(3);
                    let is_next = |pair: &Pair, row: &Row| {
                        pair.0 == subscription_id
                            && row.order_key == Some(key)
                            && !matches!(row.state, State::Waiting { .. })
                    };
                    let rows: Vec<_> = self.rows(is_next).take(limit).map(|pair| self.queued(pair)).collect();
                    let is_end = Some(rows.len() < limit);
                    (key, rows, is_end)
                };
                let lines = order_keys.into_iter().map(line).collect();
                Loaded::Lines { subscription_id, lines, entries_confirmed }
            }
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
                        State::Backlog | State::Blocked => None,
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
                let limit = limit.min(7);
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
                    let retry = Retry {
                        place: PLACE,
                        attempts,
                        retry_from: attempts,
                        after_entry: 0,
                        order_key: None,
                    };
                    let (message, row) = (Some(self.message(pair.1)), RowState::Waiting);
                    QueuedRow { subscription_id: pair.0, event_id: pair.1, retry, row, message }
                };
                Loaded::Request { request, row: Some(row) }
            }
        };
        self.answers.push_back(answer);
    }

    fn ordered(&self) -> Vec<Ordered> {
        let mut ordered = Vec::new();
        for ((subscription_id, event_id), row) in &self.queue {
            let Some(order_key) = row.order_key else { continue };
            let is_before = |(pair, other): (&Pair, &Row)| {
                pair.0 == *subscription_id
                    && pair.1 > *event_id
                    && other.order_key == row.order_key
                    && matches!(other.state, State::Waiting { .. })
            };
            let place = match row.state {
                State::Waiting { .. } => OrderedPlace::Timed(*event_id),
                State::Blocked => OrderedPlace::Blocked,
                State::Backlog if self.queue.iter().any(is_before) => OrderedPlace::Backlog(*event_id),
                State::Backlog => continue,
            };
            ordered.push(Ordered { subscription_id: *subscription_id, order_key, place });
        }
        ordered
    }

    fn rows(&self, which: impl Fn(&Pair, &Row) -> bool) -> impl Iterator<Item = Pair> {
        self.queue.iter().filter(move |(pair, row)| which(pair, row)).map(|(pair, _)| *pair)
    }

    fn queued(&self, pair: Pair) -> QueuedRow {
        let message = Some(self.message(pair.1));
        let row = match self.queue[&pair].state {
            State::Waiting { .. } => RowState::Waiting,
            State::Backlog => RowState::Backlog,
            State::Blocked => RowState::Blocked,
        };
        QueuedRow {
            subscription_id: pair.0,
            event_id: pair.1,
            retry: retry(&self.queue[&pair]),
            row,
            message,
        }
    }

    pub fn answer(&mut self) {
        if let Some(answer) = self.answers.pop_front() {
            self.board.loaded(answer);
            self.advance();
        }
    }

    fn pause_or_resume(&mut self) {
        if self.board.is_hungry() {
            let id = self.rng.i64(1..=self.plan.subscriptions.len() as i64);
            let enabled = !self.subscriptions[&id].enabled;
            self.replace(id, enabled);
            self.reload();
        }
    }

    /// Another order, or another batch size, for one of them.
    pub fn alter(&mut self) {
        if self.board.is_hungry() {
            let at = self.rng.usize(0..self.plan.subscriptions.len());
            self.checks_order = false;
            let options = &mut self.plan.subscriptions[at];
            options.ordering = Ordering::ALL[self.rng.usize(0..3)];
            options.batch_size = self.rng.usize(1..4);
            options.compact = self.rng.bool() && options.ordering != Ordering::Strict;
            let id = at as i64 + 1;
            self.replace(id, self.subscriptions[&id].enabled);
            self.reload();
        }
    }

    fn replace(&mut self, id: i64, enabled: bool) {
        let options = self.plan.subscriptions[id as usize - 1];
        self.subscriptions.insert(id, subscription(id, options, enabled));
    }

    /// The daemon is gone, and what it had not committed; another one starts from the tables.
    pub fn crash(&mut self) {
        let unresolved: Vec<Pair> = self.routed.split_off(self.checkpoint).into_iter().flatten().collect();
        self.passed.extend(std::mem::take(&mut self.routed).into_iter().flatten());
        self.checkpoint = 0;
        self.board = Board::new(limits(&self.plan), Arc::clone(&self.budget));
        self.under_way.clear();
        self.records.clear();
        self.confirmations.clear();
        self.loads.clear();
        self.answers.clear();
        self.started_at.clear();
        self.epoch_us = self.now_us;
        let (queue, attempts) = (&self.queue, &self.attempts);
        self.last_word.retain(|pair| attempts.contains_key(pair) && !queue.contains_key(pair));
        self.feed(Feed::Subscriptions(Arc::new(self.subscriptions.clone())));
        let is_open = |pair: &Pair| !attempts_or_row(&self.attempts, &self.queue, pair);
        self.passed.extend(unresolved.iter().filter(|pair| !is_open(pair)));
        let mut open: Vec<Pair> = unresolved.into_iter().filter(is_open).collect();
        open.sort_unstable_by_key(|(subscription_id, event_id)| (*event_id, *subscription_id));
        self.recovering = open.into();
        self.routed.push(self.recovering.iter().copied().collect());
        if self.recovering.is_empty() {
            self.feed(Feed::Batch(Batch { end: Some(end(0)), is_recovered: true, ..Batch::default() }));
        }
    }

    /// The next page of what may have been under way before the start.
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
            _ => {}
        }
    }

    /// Nothing new, all receivers well, all subscriptions open: until nothing moves any more.
    pub fn settle(&mut self) {
        for round in 0..6000 {
            if self.board.is_hungry() && !self.recovering.is_empty() {
                self.recover_some();
            }
            if self.board.is_hungry() && self.subscriptions.values().any(|s| !s.enabled) && round > 50 {
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

    /// The ledger and the queue do all that they were given.
    pub fn catch_up(&mut self) {
        while !(self.records.is_empty() && self.confirmations.is_empty() && self.loads.is_empty()) {
            self.commit();
            self.confirm();
            self.read();
            self.answer();
        }
    }

    /// Time passes in steps, and everything but the attempts keeps up.
    pub fn pass(&mut self, duration: Duration, step: Duration) {
        let until = self.now_us + duration.as_micros() as i64;
        while self.now_us < until {
            self.now_us = (self.now_us + step.as_micros() as i64).min(until);
            self.advance();
            self.catch_up();
        }
    }

    /// The first of what is left, and its lane.
    fn left(&self) -> String {
        let Some((pair, row)) = self.queue.first_key_value() else { return String::new() };
        let Some(lane) = self.board.lanes.get(&pair.0) else { return format!("{pair:?} {row:?}, no lane") };
        let options = self.plan.subscriptions[pair.0 as usize - 1];
        format!(
            "{} of them, {pair:?} {row:?}; {options:?}; {:?}; {:?}; {:?}; fresh {} queued {} spilling {} asking {} held {} \
             page_after {} of {} wake {:?} now {:?} paused until {:?} disabled {} {}",
            self.queue.len(),
            lane.lines,
            lane.drain,
            lane.breaker,
            lane.fresh.len(),
            lane.queued.len(),
            lane.is_spilling,
            lane.is_asking,
            lane.holds(pair.1),
            lane.page_after,
            self.board.entries_confirmed,
            lane.wake_at,
            self.now(),
            lane.paused_until,
            lane.is_disabled,
            lane.is_disabled_for_sure,
        )
    }

    pub fn check_end(&self) {
        let board = &self.board;
        assert!(self.queue.is_empty(), "rows are left: {}", self.left());
        assert_eq!((board.in_flight(), board.unconfirmed(), board.fresh), (0, 0, 0));
        assert_eq!(board.progress.oldest_since(), None, "all windows are resolved");
        for pair in self.everything() {
            let made = self.attempts.get(pair).map_or(&[][..], Vec::as_slice);
            let successes = made.iter().filter(|class| **class == Class::Succeeded).count();
            let again = self.asked_again.get(pair).copied().unwrap_or(0);
            let is_exhausted = made.len() >= 4 && successes == 0;
            assert_eq!(
                self.told.iter().filter(|told| *told == pair).count(),
                usize::from(is_exhausted),
                "{pair:?}"
            );
            if again == 0 {
                assert!(
                    is_exhausted || (successes == 1 && made.last() == Some(&Class::Succeeded)),
                    "{pair:?}: {made:?}"
                );
            }
        }
        for lane in board.lanes.values() {
            assert!(lane.holds_nothing(), "rows are still held: {lane:?}");
            assert!(
                lane.lines.as_ref().is_none_or(|lines| lines.is_empty()),
                "lines are left: {:?}",
                lane.lines
            );
        }
        assert_eq!(self.budget.bytes_held(), 0, "messages are still held");
    }
}

fn attempts_or_row(attempts: &BTreeMap<Pair, Vec<Class>>, queue: &BTreeMap<Pair, Row>, pair: &Pair) -> bool {
    attempts.contains_key(pair) || queue.contains_key(pair)
}

fn retry(row: &Row) -> Retry {
    let Row { attempts, retry_from, order_key, .. } = *row;
    Retry { place: PLACE, attempts, retry_from, after_entry: 0, order_key }
}
