//! Attempts: which are started.
//!
//! [`Scheduler::start`] takes deliveries from the send queues in turn, and makes requests of them
//! (one event, a batch, or a compacted event).
//!
//! An attempt must not start if the send queue, the receiver, or the sum of all send queues is at a
//! limit.

use crate::{
    Now, compact,
    message::{Budget, Message},
    queue_rows::{Item, RowState},
    scheduler::{Delivery, InFlight, RequestContent, Scheduler, Shared, Start, UNCONFIRMED_MAX, work::Work},
    send_queue::{SendQueue, Shares},
    subscription::Subscription,
};
use std::{sync::Arc, time::Duration};

/// Maximum number of requests that a send queue starts in its turn.
const TURN: usize = 32;

/// Maximum number of requests in flight per send queue while at least half of all permitted
/// requests are in flight. Slow receivers then share the rest.
const CROWDED_MAX: usize = 4;

/// The requests in flight of one send queue may use the memory limit divided by this.
const SEND_QUEUE_SHARE: usize = 8;

/// Number of new deliveries in memory above which an owner's rate is limited while others have new
/// events.
const CROWD_MIN: usize = 256;

/// Maximum number of changes of a key that become one event.
const CHANGES_MAX: usize = 1000;

impl Scheduler {
    /// Starts as many attempts as the send queues and the total limits allow, in turn.
    pub(super) fn start(&mut self, now: Now) {
        self.shared.agenda.waiting_until = None;
        if self.unconfirmed() >= UNCONFIRMED_MAX {
            return;
        }
        let max_in_flight = self.shared.limits.max_in_flight;
        let mut turns = self.shared.agenda.ready.len();
        while turns > 0 && self.flights.len() < max_in_flight {
            let Shared { agenda, owners, .. } = &mut self.shared;
            let Some((owner, id)) = agenda.ready.pop() else { break };
            turns -= 1;
            if owners.allowance(owner, self.flights.len(), max_in_flight) == 0 || self.is_slowed(owner, now) {
                self.shared.agenda.ready.hold(owner, id);
                continue;
            }
            // A send queue that cannot start more is listed again later, by its wake-up time or by
            // an outcome.
            if self.take_turn(id, now) > 0 && self.work(id).is_some_and(|mut work| work.list()) {
                turns += 1;
            }
            turns += usize::from(self.pass_host_on(id));
        }
        self.shared.agenda.ready.release();
        // They come first when the rate allows more, in the same order. So none waits forever.
        for id in std::mem::take(&mut self.shared.agenda.waiting).into_iter().rev() {
            if let Some(work) = self.work(id) {
                work.shared.agenda.add_ready_first(work.queue);
            }
        }
    }

    /// Starts the attempts that one send queue may start. Returns the number of requests.
    fn take_turn(&mut self, id: i64, now: Now) -> usize {
        let owner = self.send_queues.get(&id).map(|queue| queue.shares.owner);
        let is_crowd = owner.is_some_and(|owner| self.is_crowd(owner));
        let Self { flights, send_queues, shared, budget, .. } = self;
        let Some(queue) = send_queues.get_mut(&id) else { return 0 };
        let mut work = Work { id, queue, shared };
        work.queue.listed.ready = false;
        work.admit();
        let has_backlog = work.queue.has_backlog();
        let mut turn = work.turn(flights.len(), has_backlog, now);
        if is_crowd {
            turn = turn.min(work.shared.crowd_rate.allowance(now.at).unwrap_or(1));
        }
        let bytes_max = work.bytes_max();
        let mut started = 0;
        while started < turn && work.queue.allowance(bytes_max) > 0 {
            match begin(work.queue, now, budget) {
                Ok(Some((flight, start))) => {
                    self.started += 1 + flight.more.len() as u64;
                    let rows = flight.deliveries().filter(|delivery| delivery.is_queued).count();
                    work.shared.owners.remove_fresh(work.queue.shares.owner, 1 + flight.more.len() - rows);
                    work.shared.owners.begin(flight.shares.owner);
                    work.shared.destinations.begin(flight.shares.destination);
                    match has_backlog {
                        true => work.shared.backlog_rate.started(rows, now.at),
                        false => work.shared.backlog_rate.other_started(now.at),
                    }
                    match is_crowd {
                        true => work.shared.crowd_rate.started(1 + flight.more.len() - rows, now.at),
                        false => work.shared.crowd_rate.other_started(now.at),
                    }
                    let key = flights.insert(flight);
                    work.shared.effects.out.starts.push(Start { key, ..start });
                    started += 1;
                }
                Ok(None) => break,
                Err(at) => {
                    work.shared.agenda.wake_at(work.queue, at);
                    break;
                }
            }
        }
        started
    }

    /// Reports whether an owner has many more new deliveries than others usually have.
    pub(super) fn is_crowd(&self, owner: usize) -> bool {
        let owners = &self.shared.owners;
        owners.are_several() && owners.fresh_of(owner) + self.overflow.len(owner) > CROWD_MIN
    }

    /// Reports whether an owner with many new deliveries must wait for their rate.
    fn is_slowed(&mut self, owner: usize, now: Now) -> bool {
        if !self.is_crowd(owner) {
            return false;
        }
        let Shared { agenda, crowd_rate, .. } = &mut self.shared;
        crowd_rate.allowance(now.at).inspect_err(|at| agenda.wait_until(*at)).is_err()
    }

    /// Lists the next send queue that waits for the host of this one, if a request to it may start.
    /// Reports whether it did.
    fn pass_host_on(&mut self, id: i64) -> bool {
        let Self { send_queues, shared, .. } = self;
        let Some(shares) = send_queues.get(&id).map(|queue| queue.shares) else { return false };
        let max = shared.limits.max_in_flight_per_host;
        !shares.waits_for_host
            && shared.destinations.allowance(shares.destination, max) > 0
            && self.list_for_host(shares.destination)
    }

    /// Lists the next send queue that waits for a host. Reports whether there was one.
    pub(super) fn list_for_host(&mut self, destination: usize) -> bool {
        while let Some(id) = self.shared.destinations.next(destination) {
            let Some(work) = self.work(id) else { continue };
            let shares = &mut work.queue.shares;
            // It may lead elsewhere by now.
            if shares.waits_for_host && shares.destination == destination {
                shares.waits_for_host = false;
                work.queue.listed.ready = false;
                if work.shared.agenda.add_ready(work.queue) {
                    return true;
                }
            }
        }
        false
    }
}

impl Work<'_> {
    /// Returns how many bytes the requests in flight of one send queue may have.
    fn bytes_max(&self) -> usize {
        self.shared.limits.memory_bytes_max / SEND_QUEUE_SHARE
    }

    /// Returns how many requests to the host of this send queue may start. If none, the send queue
    /// waits until one ends.
    fn at_host(&mut self) -> usize {
        let Shares { destination, .. } = self.queue.shares;
        let max = self.shared.limits.max_in_flight_per_host;
        let destinations = &mut self.shared.destinations;
        let allowed = destinations.allowance(destination, max);
        if allowed == 0 {
            self.queue.shares.waits_for_host = true;
            self.queue.listed.ready = true;
            destinations.wait(destination, self.id);
        }
        // One slow path of a host must not use up the places of the others.
        match destinations.is_crowded(destination, max) {
            true => allowed.min(CROWDED_MAX.saturating_sub(self.queue.in_flight)),
            false => allowed,
        }
    }

    /// Returns how many requests the send queue may start in its turn, beside those in flight.
    fn turn(&mut self, in_flight: usize, has_backlog: bool, now: Now) -> usize {
        if self.queue.groups.is_some() && !(self.shared.is_known && self.shared.is_recovered) {
            return 0;
        }
        let max_in_flight = self.shared.limits.max_in_flight;
        let free = max_in_flight - in_flight;
        let of_owner = self.shared.owners.allowance(self.queue.shares.owner, in_flight, max_in_flight);
        let mut turn = self.queue.allowance(self.bytes_max()).min(TURN).min(free).min(of_owner);
        if in_flight >= max_in_flight / 2 {
            turn = turn.min(CROWDED_MAX.saturating_sub(self.queue.in_flight));
        }
        if turn == 0 || !self.queue.has_work() {
            return 0;
        }
        let at_host = self.at_host();
        if at_host == 0 {
            return 0;
        }
        turn = turn.min(at_host);
        match self.queue.pace(now.at) {
            Ok(allowed) => turn = turn.min(allowed),
            Err(until) => {
                if let Some(at) = until {
                    self.shared.agenda.wake_at(self.queue, at);
                }
                return 0;
            }
        }
        if !has_backlog {
            return turn;
        }
        match self.shared.backlog_rate.allowance(now.at) {
            Ok(allowed) => turn.min(allowed),
            Err(at) => {
                self.shared.agenda.waiting.push(self.id);
                self.shared.agenda.wait_until(at);
                0
            }
        }
    }
}

/// Takes the next request of a send queue.
///
/// # Errors
/// The time until which other events may join the request.
fn begin(
    send_queue: &mut SendQueue,
    now: Now,
    budget: &Arc<Budget>,
) -> Result<Option<(InFlight, Start)>, Duration> {
    let Some(url) = send_queue.subscription.url.clone() else { return Ok(None) };
    let (content, first, more) = if send_queue.groups.is_none() && send_queue.subscription.batch_size <= 1 {
        let Some(item) = send_queue.pop_front() else { return Ok(None) };
        (RequestContent::One(Arc::clone(&item.message)), delivery(item, None), Vec::new())
    } else {
        if let Some(at) = fills_until(send_queue).filter(|at| *at > now.at) {
            return Err(at);
        }
        let Some(gathered) = gather(send_queue, budget) else { return Ok(None) };
        gathered
    };
    let bytes = first.message.bytes() + more.iter().map(|delivery| delivery.message.bytes()).sum::<usize>();
    let (number, is_probe) = send_queue.begin(bytes, 1 + more.len() as u64, now.at);
    let subscription = Arc::clone(&send_queue.subscription);
    let signers = subscription.signers(now.wall_us);
    let subscription_id = subscription.id;
    let number_of_event = first.attempts.saturating_add(1);
    let events = match &content {
        RequestContent::One(_) => 1,
        RequestContent::Batch(messages) => messages.len(),
    };
    let start = Start { key: 0, url, content, subscription, signers, number: number_of_event };
    Ok(Some((
        InFlight {
            subscription_id,
            shares: send_queue.shares,
            bytes,
            number,
            is_probe,
            since: now.at,
            events,
            first,
            more,
        },
        start,
    )))
}

/// Returns the time until which the next request waits for more events. `None` if it need not wait.
fn fills_until(send_queue: &SendQueue) -> Option<Duration> {
    let Subscription { batch_size, batch_window, compact, .. } = &*send_queue.subscription;
    let here = send_queue.fresh_len() + send_queue.queued_len();
    if batch_window.is_zero() || send_queue.queued_len() > 0 || (!compact && here >= *batch_size) {
        return None;
    }
    let first = match &send_queue.groups {
        Some(groups) => groups.front(),
        None => send_queue.fresh.front(),
    };
    match first?.row {
        RowState::None { since, .. } => Some(since + *batch_window),
        RowState::Asked | RowState::Waiting | RowState::Backlog | RowState::Blocked => None,
    }
}

/// One element of a request: a delivery, or several changes merged into one event.
type Element = (Arc<Message>, Vec<Delivery>);

/// Fills a request with one element, or with up to a batch of them.
fn gather(
    send_queue: &mut SendQueue,
    budget: &Arc<Budget>,
) -> Option<(RequestContent, Delivery, Vec<Delivery>)> {
    let Subscription { batch_size, compact, .. } = *send_queue.subscription;
    let (mut elements, mut bytes, mut room) = (Vec::<Element>::new(), 0, batch_size);
    while bytes < send_queue.batches.bytes_max()
        && let Some(next) = send_queue.front()
    {
        room = room.min(send_queue.batches.events_max(next.message.event().id));
        if elements.len() >= room {
            break;
        }
        let Some((order_key, items)) = next_items(send_queue, elements.len(), &mut room, compact, &mut bytes)
        else {
            break;
        };
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
    send_queue: &mut SendQueue,
    events: usize,
    room: &mut usize,
    is_compact: bool,
    bytes: &mut usize,
) -> Option<(Option<i64>, Vec<Item>)> {
    let alone = match &send_queue.groups {
        Some(_) => send_queue.queued.pop_front(),
        None => Some(send_queue.pop_front()?),
    };
    if let Some(item) = alone {
        *bytes += item.message.bytes();
        return Some((None, vec![item]));
    }
    let bytes_max = send_queue.batches.bytes_max();
    let mut sum = *bytes;
    let goes_too = |last: &Item, next: &Item| {
        let (last, next_event) = (last.message.event(), next.message.event());
        sum += next.message.bytes();
        sum < bytes_max && (!is_compact || compact::is_same_thing(last, next_event))
    };
    // Several changes become one event, and count as one.
    let (key, items) = match is_compact {
        true => send_queue.groups.as_mut()?.take(CHANGES_MAX, goes_too)?,
        false => send_queue.take_group(events, room, goes_too)?,
    };
    *bytes += items.iter().map(|item| item.message.bytes()).sum::<usize>();
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
