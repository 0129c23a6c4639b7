//! The queue reader of the simulated world.

use crate::{
    queue_rows::{Filtered, Load},
    scheduler::tests::world::*,
};

impl World {
    /// Reads the queue now. The answer arrives later.
    pub fn read(&mut self) {
        let Some(load) = self.loads.pop_front() else { return };
        let answer = match load {
            Load::ReceiverHealth => {
                Loaded::ReceiverHealth(self.health.iter().map(|(id, health)| (*id, *health)).collect())
            }
            Load::Ordered => Loaded::Ordered(self.ordered()),
            Load::OrderGroups { subscription_id, order_keys, limit, entries_confirmed } => {
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
                let groups = order_keys.into_iter().map(line).collect();
                Loaded::OrderGroups { subscription_id, groups, entries_confirmed, has_slow_filter: false }
            }
            Load::Backlogged => {
                let ids: HashSet<i64> =
                    self.rows(|_, row| row.state == State::Backlog).map(|(id, _)| id).collect();
                Loaded::Backlogged(ids.into_iter().collect())
            }
            Load::Timers { from, limit } => {
                let mut rows: Vec<(RetryKey, Retry)> = self
                    .queue
                    .iter()
                    .filter_map(|(pair, row)| match row.state {
                        State::Waiting { next_at_us } => {
                            let key = RetryKey { next_at_us, subscription_id: pair.0, event_id: pair.1 };
                            (key >= from).then(|| (key, retry(row)))
                        }
                        State::Backlog | State::Undecided | State::Blocked => None,
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
                    has_slow_filter: false,
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
                    let (message, row) = (Some(self.message(pair.1)), RowState::Asked);
                    QueuedRow {
                        subscription_id: pair.0,
                        event_id: pair.1,
                        retry,
                        row,
                        message,
                        filtered: Filtered::Passed,
                        next_at_us: None,
                    }
                };
                Loaded::Request { request, row: Some(row) }
            }
        };
        self.answers.push_back(answer);
    }

    /// Restarts the daemon, which finds these events in the backlogs of these subscriptions.
    pub fn find_backlogs(&mut self, ids: &[i64], events: std::ops::Range<i64>) {
        let row = Row { state: State::Backlog, attempts: 0, retry_from: 0, order_key: None };
        for id in ids {
            self.queue.extend(events.clone().map(|event| ((*id, event), row)));
        }
        self.crash();
        self.catch_up();
    }

    /// Deletes rows of the queue: all of them, or some.
    pub fn call_off(&mut self) {
        let is_all = self.rng.u8(0..4) == 0;
        let pairs: Vec<Pair> =
            self.queue.keys().copied().filter(|_| is_all || self.rng.u8(0..3) == 0).collect();
        for pair in pairs {
            self.queue.remove(&pair);
            self.called_off.insert(pair);
        }
    }

    pub(super) fn ordered(&self) -> Vec<Ordered> {
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
                State::Backlog | State::Undecided => continue,
            };
            ordered.push(Ordered { subscription_id: *subscription_id, order_key, place });
        }
        ordered
    }

    pub(super) fn rows(&self, which: impl Fn(&Pair, &Row) -> bool) -> impl Iterator<Item = Pair> {
        self.queue.iter().filter(move |(pair, row)| which(pair, row)).map(|(pair, _)| *pair)
    }

    pub(super) fn queued(&self, pair: Pair) -> QueuedRow {
        let message = Some(self.message(pair.1));
        let state = self.queue[&pair].state;
        let row = match state {
            State::Waiting { .. } => RowState::Waiting,
            State::Backlog | State::Undecided => RowState::Backlog,
            State::Blocked => RowState::Blocked,
        };
        QueuedRow {
            subscription_id: pair.0,
            event_id: pair.1,
            retry: retry(&self.queue[&pair]),
            row,
            message,
            filtered: Filtered::Passed,
            next_at_us: match state {
                State::Waiting { next_at_us } => Some(next_at_us),
                State::Backlog | State::Undecided | State::Blocked => None,
            },
        }
    }
}

fn retry(row: &Row) -> Retry {
    let Row { attempts, retry_from, order_key, .. } = *row;
    Retry { place: PLACE, attempts, retry_from, after_entry: 0, order_key }
}
