//! Attempts: which are started, and the effects of their outcomes.
//!
//! [`Scheduler::start`] takes deliveries from the send queues in turn, and makes requests of them (one
//! event, a batch, or a compacted event). [`Scheduler::finished`] turns an outcome into ledger entries:
//! the attempt, the change of the queue row, and the next retry.
//!
//! An attempt must not start if the send queue, the receiver, or the sum of all send queues is at a
//! limit.

use crate::{
    Now, compact,
    lane::Lane,
    message::Budget,
    outcome::{Outcome, Verdict},
    queue_rows::{Item, Retry, RetryKey, RowState},
    record::{Attempt, Entry, Exhausted, QueueChange, State},
    retry_policy,
    scheduler::{
        Delivery, InFlight, Message, RequestContent, Scheduler, Start, Subscription, order_groups::Moved,
    },
};
use event_type::is_reserved;
use std::{sync::Arc, time::Duration};
use tracing::{debug, info};

/// Maximum number of requests that a send queue starts in its turn.
const TURN: usize = 32;

/// Maximum number of requests in flight per send queue while at least half of all permitted
/// requests are in flight. Slow receivers then share the rest.
const CROWDED_MAX: usize = 4;

/// The requests in flight of one send queue may use the memory limit divided by this.
const LANE_SHARE: usize = 8;

/// A request of this size takes no further events.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Maximum number of changes of a key that become one event.
const CHANGES_MAX: usize = 1000;

impl Scheduler {
    /// Starts as many attempts as the send queues and the total limits allow, in turn.
    pub(super) fn start(&mut self, now: Now) {
        self.held_until = None;
        if self.unconfirmed() >= super::UNCONFIRMED_MAX {
            return;
        }
        let mut turns = self.ready.len();
        while turns > 0 && self.flights.len() < self.limits.max_in_flight {
            let Some(id) = self.ready.pop_front() else { break };
            turns -= 1;
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.is_listed = false;
            }
            self.admit(id);
            let started = self.take_turn(id, now);
            // A send queue that cannot start more is listed again later, by its wake-up time or by
            // an outcome.
            if started > 0
                && let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.has_work() && !lane.is_listed)
            {
                lane.is_listed = true;
                self.ready.push_back(id);
                turns += 1;
            }
        }
        // They come first when the rate allows more, in the same order. So none waits forever.
        for id in std::mem::take(&mut self.held).into_iter().rev() {
            if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_listed) {
                lane.is_listed = true;
                self.ready.push_front(id);
            }
        }
    }

    /// Starts the attempts that one send queue may start. Returns the number of requests.
    fn take_turn(&mut self, id: i64, now: Now) -> usize {
        let crowded = self.flights.len() >= self.limits.max_in_flight / 2;
        let free = self.limits.max_in_flight - self.flights.len();
        let bytes_max = self.limits.memory_bytes_max / LANE_SHARE;
        let Some(lane) = self.lanes.get_mut(&id) else { return 0 };
        if lane.groups.is_some() && !(self.is_known && self.is_recovered) {
            return 0;
        }
        let mut turn = lane.allowance(bytes_max).min(TURN).min(free);
        if crowded {
            turn = turn.min(CROWDED_MAX.saturating_sub(lane.in_flight));
        }
        if turn == 0 || !lane.has_work() {
            return 0;
        }
        match lane.pace(now.at) {
            Ok(allowed) => turn = turn.min(allowed),
            Err(until) => {
                if let Some(at) = until {
                    self.wake_at(id, at);
                }
                return 0;
            }
        }
        let has_backlog = lane.has_backlog();
        if has_backlog {
            match self.backlog_rate.allowance(now.at) {
                Ok(allowed) => turn = turn.min(allowed),
                Err(at) => {
                    self.held.push(id);
                    self.held_until = Some(at);
                    return 0;
                }
            }
        }
        let mut started = 0;
        while started < turn && lane.allowance(bytes_max) > 0 {
            match begin(lane, now, &self.budget) {
                Ok(Some((flight, start))) => {
                    let fresh = |delivery: &Delivery| usize::from(!delivery.is_queued);
                    self.started += 1 + flight.more.len() as u64;
                    self.fresh -= fresh(&flight.first) + flight.more.iter().map(fresh).sum::<usize>();
                    let rows = flight.deliveries().filter(|delivery| delivery.is_queued).count();
                    match has_backlog {
                        true => self.backlog_rate.started(rows, now.at),
                        false => self.backlog_rate.other_started(now.at),
                    }
                    let key = self.flights.insert(flight);
                    self.out.starts.push(Start { key, ..start });
                    started += 1;
                }
                Ok(None) => break,
                Err(at) => {
                    self.wake_at(id, at);
                    break;
                }
            }
        }
        started
    }

    /// Applies the outcome of an attempt. `unit` is evenly distributed over 0..1.
    pub fn finished(&mut self, key: usize, outcome: Outcome, now: Now, unit: f64) {
        let Some(flight) = self.flights.try_remove(key) else { return };
        let id = flight.subscription_id;
        let judged = self.judge(&flight, &outcome, now);
        let InFlight { first, more, .. } = flight;
        if more.is_empty() {
            let moved = self.conclude(id, first, outcome, now, unit);
            moved.into_iter().for_each(|moved| self.move_group(id, moved));
        } else {
            // The entries are in order of events, because the ledger writes in order. All of them
            // come before the entries of deliveries that go back behind them. The one response is
            // stored with the first event.
            let rest = Outcome { response: None, ..outcome.clone() };
            let mut moved = Vec::from_iter(self.conclude(id, first, outcome, now, unit));
            for delivery in more {
                moved.extend(self.conclude(id, delivery, rest.clone(), now, unit));
            }
            moved.into_iter().for_each(|moved| self.move_group(id, moved));
        }
        if let Some(judgement) = judged {
            self.follow(id, judgement);
        }
        self.list(id);
        self.ask(id);
    }

    /// Applies the outcome to one event of the request. Returns the effect on its order group.
    fn conclude(
        &mut self,
        id: i64,
        delivery: Delivery,
        outcome: Outcome,
        now: Now,
        unit: f64,
    ) -> Option<Moved> {
        let event = delivery.message.event();
        let (event_id, place) = (event.id, event.place());
        let attempts = delivery.attempts.saturating_add(1);
        let verdict = outcome.verdict();
        let lane = self.lanes.get_mut(&id);
        let next_at_us = lane.as_ref().and_then(|lane| {
            let failures = usize::try_from(attempts.saturating_sub(delivery.retry_from)).unwrap_or_default();
            let wait = match verdict {
                Verdict::Succeeded | Verdict::Gone => None,
                Verdict::Retry | Verdict::Ours => {
                    retry_policy::wait(&lane.subscription.retry, failures, outcome.retry_after, unit)
                }
            };
            wait.map(|wait| now.wall_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
        });
        let is_parked = verdict == Verdict::Gone && lane.is_some() && !delivery.again;
        let (due_us, retry_from) =
            if delivery.again { (Some(now.wall_us), attempts) } else { (next_at_us, delivery.retry_from) };
        let is_exhausted = verdict != Verdict::Succeeded && due_us.is_none() && !is_parked;
        tell(id, event_id, attempts, &outcome, is_exhausted);
        // A delivery that was requested by hand obeys no order.
        let order_key = delivery.order_key.filter(|key| {
            !delivery.again
                && lane
                    .as_ref()
                    .and_then(|lane| lane.groups.as_ref())
                    .is_some_and(|l| l.contains(*key, event_id))
        });
        let is_new = delivery.makes_row;
        let put = |state| QueueChange::Put { state, attempts, retry_from, order_key, is_new };
        let queue = match due_us {
            Some(next_at_us) if lane.is_some() => put(State::Waiting { next_at_us }),
            _ if is_parked => put(State::Backlog),
            _ if delivery.is_queued => QueueChange::Delete,
            _ => QueueChange::Keep,
        };
        // The claim on the row ends when the entry is confirmed. A delivery without a row is
        // claimed from here on.
        if let Some(lane) = lane {
            if queue != QueueChange::Keep && !delivery.is_queued {
                lane.claim(event_id);
            }
            if is_parked {
                lane.backlog.spilled(event_id);
            }
        }
        let exhausted = (is_exhausted && !is_reserved(&event.event_type)).then(|| {
            Box::new(Exhausted { event_id: delivery.message.id(), event_type: event.event_type.clone() })
        });
        let attempt = Some(Attempt { number: attempts, outcome, next_at_us });
        let window = delivery.window;
        let entry =
            self.entry(Entry { subscription_id: id, event_id, place, window, attempt, queue, exhausted });
        if let QueueChange::Put { state: State::Waiting { next_at_us }, .. } = queue {
            let retry = Retry { place, attempts, retry_from, after_entry: entry, order_key };
            self.timers.insert(RetryKey { next_at_us, subscription_id: id, event_id }, retry);
        }
        let stays = order_key.is_some();
        delivery.order_key.map(|order_key| Moved { order_key, event_id, queue, stays, entry })
    }
}

fn tell(subscription_id: i64, sequence: i64, attempt: i16, outcome: &Outcome, is_exhausted: bool) {
    if outcome.verdict() != Verdict::Succeeded {
        debug!(subscription_id, sequence, attempt, class = outcome.class.as_str(), "attempt.failed");
    }
    if is_exhausted {
        info!(subscription_id, sequence, attempts = attempt, "delivery.exhausted");
    }
}

/// Takes the next request of a send queue.
///
/// # Errors
/// The time until which other events may join the request.
fn begin(lane: &mut Lane, now: Now, budget: &Arc<Budget>) -> Result<Option<(InFlight, Start)>, Duration> {
    let Some(url) = lane.subscription.url.clone() else { return Ok(None) };
    let (content, first, more) = if lane.groups.is_none() && lane.subscription.batch_size <= 1 {
        let Some(item) = next_of_both(lane) else { return Ok(None) };
        (RequestContent::One(Arc::clone(&item.message)), delivery(item, None), Vec::new())
    } else {
        if let Some(at) = fills_until(lane).filter(|at| *at > now.at) {
            return Err(at);
        }
        let Some(gathered) = gather(lane, budget) else { return Ok(None) };
        gathered
    };
    let bytes = first.message.bytes() + more.iter().map(|delivery| delivery.message.bytes()).sum::<usize>();
    let (number, is_probe) = lane.begin(bytes, 1 + more.len() as u64, now.at);
    let subscription = Arc::clone(&lane.subscription);
    let signers = subscription.signers(now.wall_us);
    let subscription_id = subscription.id;
    let number_of_event = first.attempts.saturating_add(1);
    let start = Start { key: 0, url, content, subscription, signers, number: number_of_event };
    Ok(Some((InFlight { subscription_id, bytes, number, is_probe, since: now.at, first, more }, start)))
}

/// Returns the next delivery. Rows of the queue and new events take turns.
fn next_of_both(lane: &mut Lane) -> Option<Item> {
    let from_fresh = lane.queued.is_empty() || (lane.is_turn_of_fresh && !lane.fresh.is_empty());
    lane.is_turn_of_fresh = !from_fresh;
    if from_fresh { lane.fresh.pop_front() } else { lane.queued.pop_front() }
}

/// Returns the time until which the next request waits for more events. `None` if it need not wait.
fn fills_until(lane: &Lane) -> Option<Duration> {
    let Subscription { batch_size, batch_window, compact, .. } = &*lane.subscription;
    let here = lane.fresh_len() + lane.queued_len();
    if batch_window.is_zero() || lane.queued_len() > 0 || (!compact && here >= *batch_size) {
        return None;
    }
    let first = match &lane.groups {
        Some(groups) => groups.front(),
        None => lane.fresh.front(),
    };
    match first?.row {
        RowState::None { since, .. } => Some(since + *batch_window),
        RowState::Asked | RowState::Waiting | RowState::Backlog | RowState::Blocked => None,
    }
}

/// One element of a request: a delivery, or several changes merged into one event.
type Element = (Arc<Message>, Vec<Delivery>);

/// Fills a request with one element, or with up to a batch of them.
fn gather(lane: &mut Lane, budget: &Arc<Budget>) -> Option<(RequestContent, Delivery, Vec<Delivery>)> {
    let Subscription { batch_size, compact, .. } = *lane.subscription;
    let (mut elements, mut bytes) = (Vec::<Element>::new(), 0);
    while elements.len() < batch_size && bytes < REQUEST_BYTES_MAX {
        let left = batch_size - elements.len();
        let Some((order_key, items)) = next_items(lane, left, compact, &mut bytes) else { break };
        if compact && items.len() > 1 {
            let changes: Vec<_> = items.iter().map(|item| item.message.event()).collect();
            let count = u32::try_from(changes.len()).unwrap_or(u32::MAX);
            let merged = Arc::new(Message::compacted(compact::merge(&changes)?, count, budget));
            elements.push((merged, items.into_iter().map(|item| delivery(item, order_key)).collect()));
        } else {
            let alone = |item: Item| (Arc::clone(&item.message), vec![delivery(item, order_key)]);
            elements.extend(items.into_iter().map(alone));
        }
    }
    elements.sort_unstable_by_key(|(message, _)| message.event().id);
    let (messages, deliveries): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
    let mut deliveries = deliveries.into_iter().flatten();
    let first = deliveries.next()?;
    let content = match batch_size {
        1 => RequestContent::One(messages.into_iter().next()?),
        _ => RequestContent::Batch(messages.into()),
    };
    Some((content, first, deliveries.collect()))
}

/// Returns the next deliveries that may start: the head of an order group with those that may go
/// with it, or one delivery that obeys no order.
fn next_items(
    lane: &mut Lane,
    max: usize,
    is_compact: bool,
    bytes: &mut usize,
) -> Option<(Option<i64>, Vec<Item>)> {
    let alone = match &lane.groups {
        Some(_) => lane.queued.pop_front(),
        None => Some(next_of_both(lane)?),
    };
    if let Some(item) = alone {
        *bytes += item.message.bytes();
        return Some((None, vec![item]));
    }
    let max = if is_compact { CHANGES_MAX } else { max };
    let goes_too = |last: &Item, next: &Item| {
        let (last, next_event) = (last.message.event(), next.message.event());
        *bytes += next.message.bytes();
        *bytes < REQUEST_BYTES_MAX && (!is_compact || compact::is_same_thing(last, next_event))
    };
    let (key, items) = lane.groups.as_mut()?.take(max, goes_too)?;
    Some((Some(key), items))
}

fn delivery(item: Item, order_key: Option<i64>) -> Delivery {
    let Item { message, attempts, retry_from, row } = item;
    let window = row.window();
    Delivery {
        message,
        attempts,
        retry_from,
        window,
        is_queued: window.is_none(),
        makes_row: row.is_missing(),
        again: false,
        order_key,
    }
}
