//! Routes events from the reader into the send queues, or past them into the queue table.
//!
//! An event waits in the reader while a send queue is full but moves. If a send queue does not
//! move, its deliveries spill: they become rows of the backlog. The same happens to deliveries that
//! stay unresolved for long, so that the checkpoint can move.

use crate::{
    Now,
    feed::{Batch, Feed},
    message::Message,
    queue_rows::{Item, Load, RowState},
    record::State,
    scheduler::{
        FRESH_SUM_MAX, SWEEP_INTERVAL, Scheduler, UNCONFIRMED_MAX, UNRESOLVED_MAX, overflow::Overflowing,
        work::Work,
    },
    send_queue::{Capacity, STALL, STALL_CAPACITY, SendQueue},
    subscription::Subscription,
};
use std::{sync::Arc, time::Duration};

/// Number of deliveries that leave the overflow at once if it is full.
const OVERFLOW_SPILL: usize = 1000;

/// Number of owners whose deliveries cannot leave the overflow that one step looks at.
const BLOCKED_MAX: usize = 64;

/// Number of starts in [`STALL`] at which all new deliveries in memory are started in five seconds.
/// From there on, the reader waits for owners that have few deliveries each.
const MOVING_MIN: u64 = FRESH_SUM_MAX as u64 / 50;

/// How fast all send queues together start deliveries.
#[derive(Debug, Default)]
pub struct StartRate {
    /// Start of the present measurement, and the number of starts until then.
    since: Duration,
    started: u64,
    is_fast: bool,
}

/// A batch, and the position up to which it has been routed.
#[derive(Debug)]
pub struct Pending {
    batch: Batch,
    event: usize,
    target: usize,
}

/// Whether there is too much in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    Briefly,
    Long,
}

impl Scheduler {
    /// Takes the next feed of the reader. Call this only if [`is_hungry`](Self::is_hungry).
    pub fn feed(&mut self, feed: Feed, now: Now) {
        match feed {
            Feed::Subscriptions(update) => self.update_subscriptions(&update, now),
            Feed::InternalTypes(internal) => self.set_internal(internal),
            Feed::Recovered => self.recovered(),
            Feed::Batch(batch) => {
                self.shared.progress.open(batch.window, now.at);
                if !batch.is_recovered && !self.shared.is_recovered {
                    self.recovered();
                }
                for request in &batch.requests {
                    let even_without_row = !batch.is_recovered;
                    self.shared.effects.load(Load::Request { request: *request, even_without_row });
                }
                for id in &batch.backlogs {
                    if let Some(mut work) = self.work_or_new(*id) {
                        work.restart_backlog();
                    }
                }
                for wanted in &batch.tries {
                    self.try_now(*wanted, now);
                }
                self.pending = Some(Pending { batch, event: 0, target: 0 });
            }
        }
    }

    /// Routes the pending batch as far as there is capacity. Deliveries that wait for their owner's
    /// share go first.
    pub(super) fn route(&mut self, now: Now) {
        self.drain_overflow(now);
        let Some(mut pending) = self.pending.take() else { return };
        while let Some((message, end)) = pending.batch.events.get(pending.event) {
            while pending.target < *end {
                let id = pending.batch.targets[pending.target];
                let state = match pending.batch.undecided.contains(&(message.event().id, id)) {
                    true => State::Undecided,
                    false => State::Backlog,
                };
                if !self.hand_out(id, message, (pending.batch.window, state), now) {
                    self.pending = Some(pending);
                    return;
                }
                pending.target += 1;
            }
            pending.event += 1;
        }
        if let Some(end) = pending.batch.end {
            self.shared.progress.close(pending.batch.window, end);
            if pending.batch.is_recovered {
                self.recovered();
            }
        }
    }

    /// Takes deliveries out of the overflow whose owners may have more in memory. The owners take
    /// turns, and a step looks at few that may not.
    fn drain_overflow(&mut self, now: Now) {
        let mut blocked = 0;
        while blocked < BLOCKED_MAX.min(self.overflow.owners_len())
            && self.shared.owners.fresh() < FRESH_SUM_MAX
            && let Some(owner) = self.overflow.next_owner()
        {
            while !self.shared.owners.is_full(owner, FRESH_SUM_MAX) {
                let over = self.over(now);
                if !self.take_overflowing(owner, over, now) {
                    break;
                }
            }
            blocked += usize::from(self.overflow.holds(owner));
        }
    }

    /// Gives one delivery to its send queue, or to the queue in this state. An undecided delivery
    /// always goes to the queue. Returns `false` if it must wait in the reader.
    ///
    /// With several owners, a delivery that cannot be taken waits in the overflow instead, because
    /// events of others may be behind it.
    fn hand_out(&mut self, id: i64, message: &Arc<Message>, target: (u64, State), now: Now) -> bool {
        let is_behind = self.shared.effects.unconfirmed() >= UNCONFIRMED_MAX;
        let over = if is_behind { Over::Briefly } else { self.over(now) };
        // The subscription was removed after the event was routed. There is nothing to deliver or
        // to record.
        let Some(mut work) = self.work_or_new(id) else { return true };
        if !work.may_get(message.event()) {
            return true;
        }
        if work.queue.groups.is_some() && !work.shared.is_known {
            return false;
        }
        let is_in = match work.shared.owners.are_several() {
            false => !is_behind && work.take_in(message, target, over, now),
            true => {
                let owner = work.queue.shares.owner;
                self.hand_out_fairly((owner, id), message, target, over, now)
            }
        };
        if is_in {
            self.shared.progress.add(target.0, 1);
        }
        is_in
    }

    /// The same for one of several owners.
    fn hand_out_fairly(
        &mut self,
        (owner, id): (usize, i64),
        message: &Arc<Message>,
        target: (u64, State),
        over: Over,
        now: Now,
    ) -> bool {
        if self.is_crowd(owner) {
            self.shared.crowd_rate.added(now.at);
        }
        let is_behind = self.overflow.holds(owner);
        let must_wait = is_behind || self.shared.owners.is_full(owner, FRESH_SUM_MAX);
        // Memory is full of the deliveries of many owners, and none of them has many. They leave
        // it soon, and reading ahead would only take memory.
        if must_wait && !is_behind && !self.is_crowd(owner) && self.is_moving(now) {
            return false;
        }
        if !must_wait && self.take(id, message, target, over, now) {
            return true;
        }
        // The overflow keeps events in memory, too.
        let is_over_memory = over != Over::No && self.is_over_memory();
        if (self.overflow.is_full() && !self.spill_overflow(now)) || is_over_memory {
            return false;
        }
        let (message, (window, state)) = (Arc::clone(message), target);
        self.overflow.push(owner, Overflowing { id, message, window, state, since: now.at });
        true
    }

    /// Gives one delivery to its send queue, or to the queue. The caller counts it in its window.
    /// Returns `false` if it must wait.
    fn take(&mut self, id: i64, message: &Arc<Message>, target: (u64, State), over: Over, now: Now) -> bool {
        // These rows are not urgent. They leave half of the ledger to the results of attempts.
        let unconfirmed_max = if over == Over::Long { UNCONFIRMED_MAX / 2 } else { UNCONFIRMED_MAX };
        self.shared.effects.unconfirmed() < unconfirmed_max
            && self.work_or_new(id).is_none_or(|mut work| work.take_in(message, target, over, now))
    }

    /// Takes the oldest delivery of an owner out of the overflow. Reports whether there was one
    /// that need not wait.
    fn take_overflowing(&mut self, owner: usize, over: Over, now: Now) -> bool {
        let Some(delivery) = self.overflow.pop(owner) else { return false };
        let Overflowing { id, message, window, state, .. } = &delivery;
        let may_get =
            |subscription: &Arc<Subscription>| subscription.may_get(message.event(), &self.shared.internal);
        if !self.subscriptions.get(id).is_some_and(may_get) {
            self.shared.progress.resolve(*window, 1);
            return true;
        }
        let is_taken = self.take(*id, message, (*window, *state), over, now);
        if !is_taken {
            self.overflow.push_front(owner, delivery);
        }
        is_taken
    }

    /// Writes rows for the oldest deliveries of the owners with the most in the overflow. Reports
    /// whether there is capacity again.
    fn spill_overflow(&mut self, now: Now) -> bool {
        for _ in 0..OVERFLOW_SPILL {
            let Some(owner) = self.overflow.fullest() else { break };
            if !self.take_overflowing(owner, Over::Long, now) {
                break;
            }
        }
        !self.overflow.is_full()
    }

    /// Reports whether the send queues together start what is in memory within a few seconds.
    fn is_moving(&mut self, now: Now) -> bool {
        let elapsed = now.at.saturating_sub(self.pace.since);
        if elapsed >= STALL {
            // A measurement that began long ago says nothing about the present.
            let is_old = elapsed >= 10 * STALL;
            let wanted = MOVING_MIN as f64 * elapsed.div_duration_f64(STALL);
            let is_fast = is_old || (self.started - self.pace.started) as f64 >= wanted;
            self.pace = StartRate { since: now.at, started: self.started, is_fast };
        }
        self.pace.is_fast
    }

    fn is_over_memory(&self) -> bool {
        self.budget.bytes_held() > self.shared.limits.memory_bytes_max
    }

    /// Returns whether there is too much in memory. While the send queues together make progress,
    /// the reader waits for them. If not, the fullest send queue spills. If none has a new
    /// delivery, new events are not kept in memory either.
    fn over(&mut self, now: Now) -> Over {
        if !self.is_over_memory() && self.shared.owners.fresh() < FRESH_SUM_MAX {
            self.over_since = None;
            return Over::No;
        }
        let (since, started) = *self.over_since.get_or_insert((now.at, self.started));
        if now.at.saturating_sub(since) < STALL {
            return Over::Briefly;
        }
        if self.started - started >= STALL_CAPACITY {
            self.over_since = Some((now.at, self.started));
            return Over::Briefly;
        }
        if self.overflow.fullest().is_some() && self.spill_overflow(now) {
            return Over::Briefly;
        }
        let fullest = self.send_queues.values().max_by_key(|queue| queue.fresh_len());
        let fullest = fullest.filter(|queue| queue.fresh_len() > 0).map(|queue| queue.subscription.id);
        match fullest.and_then(|id| self.work(id)) {
            Some(mut work) => {
                work.spill_fresh();
                Over::Briefly
            }
            None => Over::Long,
        }
    }

    /// Writes rows for the deliveries of a request in flight, so that their windows do not wait for
    /// it.
    pub(super) fn spill_flight(&mut self, key: usize) {
        let Self { flights, send_queues, shared, .. } = self;
        let Some(flight) = flights.get_mut(key) else { return };
        let id = flight.subscription_id;
        let mut work = send_queues.get_mut(&id);
        for delivery in flight.deliveries_mut() {
            let Some(window) = delivery.window.take() else { continue };
            (delivery.is_queued, delivery.makes_row) = (true, false);
            if let Some(queue) = &mut work {
                queue.claim(delivery.message.event().id);
                Work { id, queue, shared }.spill_one(&delivery.message, window, State::Backlog);
            } else {
                shared.progress.resolve(window, 1);
            }
        }
    }

    /// Puts deliveries that have been unresolved for long into the queue.
    pub(super) fn sweep(&mut self, now: Now) {
        let is_old = |since: Duration| now.at.saturating_sub(since) >= UNRESOLVED_MAX;
        if now.at.saturating_sub(self.swept_at) < SWEEP_INTERVAL
            || !self.shared.progress.oldest_since().is_some_and(is_old)
        {
            return;
        }
        self.swept_at = now.at;
        for owner in self.overflow.owners() {
            while self.overflow.front(owner).is_some_and(|delivery| is_old(delivery.since))
                && self.take_overflowing(owner, Over::Long, now)
            {}
        }
        let is_old_item = |item: &Item| matches!(item.row, RowState::None { since, .. } if is_old(since));
        let has_old = |queue: &&SendQueue| {
            queue.fresh.front().is_some_and(is_old_item)
                || queue
                    .groups
                    .as_ref()
                    .is_some_and(|groups| groups.fresh() > 0 && groups.any_here(is_old_item))
        };
        let ids: Vec<i64> =
            self.send_queues.values().filter(has_old).map(|queue| queue.subscription.id).collect();
        for id in ids {
            if let Some(mut work) = self.work(id) {
                work.spill_fresh();
            }
        }
        let old = self.flights.iter().filter(|(_, flight)| is_old(flight.since) && flight.has_window());
        for key in old.map(|(key, _)| key).collect::<Vec<_>>() {
            self.spill_flight(key);
        }
    }
}

impl Work<'_> {
    /// Takes one new delivery into memory, or writes it into the queue. The caller counts it in its
    /// window. Returns `false` if it must wait.
    fn take_in(
        &mut self,
        message: &Arc<Message>,
        (window, state): (u64, State),
        over: Over,
        now: Now,
    ) -> bool {
        let is_undecided = state == State::Undecided;
        if over == Over::No && !is_undecided && self.takes_ping(message, window, now) {
            return true;
        }
        let was_spilling = self.queue.is_spilling();
        let capacity = self.queue.capacity(now.at);
        let begins_to_spill = self.queue.is_spilling() && !was_spilling;
        if begins_to_spill && self.queue.groups.is_some() && self.queue.backlog.is_active() {
            // The deliveries in memory are younger than some of the backlog, and older than the
            // rows that are added to it from now on.
            self.spill_fresh();
        }
        match capacity {
            Capacity::Yes if over == Over::No && !is_undecided => {
                let row = RowState::None { window, since: now.at };
                let message = Arc::clone(message);
                self.queue.fresh.push_back(Item { message, attempts: 0, retry_from: 0, row });
                self.shared.owners.add_fresh(self.queue.shares.owner, 1);
                self.list();
            }
            Capacity::No => drop(self.spill_one(message, window, state)),
            Capacity::Yes | Capacity::Soon
                if is_undecided || (capacity == Capacity::Yes && over == Over::Long) =>
            {
                self.spill_fresh();
                self.queue.spill();
                self.spill_one(message, window, state);
            }
            Capacity::Yes | Capacity::Soon => return false,
        }
        true
    }
}
