//! Routes events from the reader into the send queues, or past them into the queue table.
//!
//! An event waits in the reader while a send queue is full but moves. If a send queue does not
//! move, its deliveries spill: they become rows of the backlog. The same happens to deliveries that
//! stay unresolved for long, so that the checkpoint can move.
//!
//! The module also applies changes of subscriptions: it closes, reopens, reorders, and removes send
//! queues. With an order, no event may go past older deliveries of its send queue.

use crate::{
    Now,
    event::Place,
    feed::{Batch, Feed},
    lane::{Capacity, STALL, STALL_CAPACITY, breaker::Breaker, groups},
    queue_rows::{Due, Retry, RowState},
    record::{Entry, QueueChange, ReceiverHealth, Record, State},
    scheduler::{
        FRESH_SUM_MAX, Item, Lane, Load, Message, SWEEP_INTERVAL, Scheduler, UNRESOLVED_MAX, order_key,
    },
    subscription::{Ordering, Subscription, Update, has_order},
};
use std::{sync::Arc, time::Duration};
use tracing::{debug, info};

/// A batch, and the position up to which it has been routed.
#[derive(Debug)]
pub struct Pending {
    batch: Batch,
    event: usize,
    target: usize,
}

impl Scheduler {
    /// Takes the next feed of the reader. Call this only if [`is_hungry`](Self::is_hungry).
    pub fn feed(&mut self, feed: Feed, now: Now) {
        match feed {
            Feed::Subscriptions(update) => self.update_subscriptions(&update, now),
            Feed::Recovered => self.recovered(),
            Feed::Batch(batch) => {
                self.progress.open(batch.window, now.at);
                if !batch.is_recovered && !self.is_recovered {
                    self.recovered();
                }
                for request in &batch.requests {
                    let even_without_row = !batch.is_recovered;
                    self.load(Load::Request { request: *request, even_without_row });
                }
                for id in &batch.backlogs {
                    self.restart_backlog(*id);
                }
                self.pending = Some(Pending { batch, event: 0, target: 0 });
            }
        }
    }

    /// Routes the pending batch as far as there is capacity.
    pub(super) fn route(&mut self, now: Now) {
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
            self.progress.close(pending.batch.window, end);
            if pending.batch.is_recovered {
                self.recovered();
            }
        }
    }

    /// Gives one delivery to its send queue, or to the queue in this state. An undecided delivery
    /// always goes to the queue. Returns `false` if it must wait.
    fn hand_out(
        &mut self,
        subscription_id: i64,
        message: &Arc<Message>,
        (window, state): (u64, State),
        now: Now,
    ) -> bool {
        if self.entries_out - self.entries_confirmed >= super::UNCONFIRMED_MAX {
            return false;
        }
        let is_over = self.is_over(now);
        let is_undecided = state == State::Undecided;
        let is_known = self.is_known;
        // The subscription was removed after the event was routed. There is nothing to deliver or
        // to record.
        let Some(lane) = self.lane(subscription_id) else { return true };
        if lane.groups.is_some() && !is_known {
            return false;
        }
        let was_spilling = lane.is_spilling;
        let capacity = lane.capacity(now.at);
        if lane.is_spilling && !was_spilling && lane.groups.is_some() && lane.backlog.is_active() {
            // The deliveries in memory are younger than some of the backlog, and older than the
            // rows that are added to it from now on.
            self.spill_fresh(subscription_id);
        }
        let Some(lane) = self.lanes.get_mut(&subscription_id) else { return true };
        match capacity {
            Capacity::Yes if is_over == Over::No && !is_undecided => {
                let row = RowState::None { window, since: now.at };
                lane.fresh.push_back(Item { message: Arc::clone(message), attempts: 0, retry_from: 0, row });
                self.fresh += 1;
                self.progress.add(window, 1);
                self.list(subscription_id);
                true
            }
            Capacity::No => {
                self.progress.add(window, 1);
                self.spill_one(subscription_id, message, window, state);
                true
            }
            Capacity::Yes | Capacity::Soon
                if is_undecided || (capacity == Capacity::Yes && is_over == Over::Long) =>
            {
                self.spill_fresh(subscription_id);
                if let Some(lane) = self.lanes.get_mut(&subscription_id) {
                    lane.is_spilling = true;
                }
                self.progress.add(window, 1);
                self.spill_one(subscription_id, message, window, state);
                true
            }
            Capacity::Yes | Capacity::Soon => false,
        }
    }

    /// Returns whether there is too much in memory. While the send queues together make progress,
    /// the reader waits for them. If not, the fullest send queue spills. If none has a new
    /// delivery, new events are not kept in memory either.
    fn is_over(&mut self, now: Now) -> Over {
        if self.budget.bytes_held() <= self.limits.memory_bytes_max && self.fresh < FRESH_SUM_MAX {
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
        let fullest = self.lanes.values().max_by_key(|lane| lane.fresh_len());
        match fullest.filter(|lane| lane.fresh_len() > 0).map(|lane| lane.subscription.id) {
            Some(id) => {
                self.spill_fresh(id);
                Over::Briefly
            }
            None => Over::Long,
        }
    }

    /// Writes a row in the backlog for a delivery without a row.
    fn spill_one(&mut self, subscription_id: i64, message: &Message, window: u64, state: State) {
        let event = message.event();
        let (backlog_rate, at) = (&mut self.backlog_rate, self.at);
        let order_key = self.lanes.get_mut(&subscription_id).and_then(|lane| {
            lane.backlog.spilled(event.id);
            // A backlog that does not drain needs no rate.
            if lane.is_open() && !lane.breaker.is_open() {
                backlog_rate.added(at);
            }
            order_key(&lane.subscription, message)
        });
        self.ask(subscription_id);
        let entry = self.entry(Entry {
            subscription_id,
            event_id: event.id,
            place: event.place(),
            window: Some(window),
            attempt: None,
            queue: QueueChange::Put { state, attempts: 0, retry_from: 0, order_key, is_new: true },
            exhausted: None,
        });
        // Before the recovery is complete, the table may get a later row of the group before this
        // one.
        if !self.is_recovered
            && let Some(lane) = self.lanes.get_mut(&subscription_id)
        {
            lane.page_after = entry;
        }
    }

    /// Moves a delivery without a row from memory to the backlog. It keeps its place in its group.
    pub(super) fn spill_item(&mut self, id: i64, item: Item) {
        let RowState::None { window, .. } = item.row else { return };
        self.spill_one(id, &item.message, window, State::Backlog);
        let entry = self.entries_out;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let key = order_key(&lane.subscription, &item.message);
        if let (Some(groups), Some(key)) = (&mut lane.groups, key) {
            groups.restore_aside(key, item.message.event().id, entry);
            lane.page_after = entry;
        }
    }

    /// Moves all deliveries without a row to the backlog. The send queue takes them back from
    /// there.
    pub(super) fn spill_fresh(&mut self, subscription_id: i64) {
        let Some(lane) = self.lanes.get_mut(&subscription_id) else { return };
        if lane.fresh_len() == 0 {
            return;
        }
        lane.is_spilling = true;
        let mut fresh = lane.groups.as_mut().map(|groups| groups.take_fresh()).unwrap_or_default();
        fresh.extend(std::mem::take(&mut lane.fresh));
        self.fresh -= fresh.len();
        debug!(subscription_id, events = fresh.len(), "lane.spills");
        for item in fresh {
            self.spill_item(subscription_id, item);
        }
    }

    /// Writes rows for the deliveries of a request in flight, so that their windows do not wait for
    /// it.
    pub(super) fn spill_flight(&mut self, key: usize) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let id = flight.subscription_id;
        let mut spilled = Vec::new();
        for delivery in flight.deliveries_mut() {
            if let Some(window) = delivery.window.take() {
                (delivery.is_queued, delivery.makes_row) = (true, false);
                spilled.push((window, Arc::clone(&delivery.message)));
            }
        }
        for (window, message) in spilled {
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.claim(message.event().id);
                self.spill_one(id, &message, window, State::Backlog);
            } else {
                self.progress.resolve(window, 1);
            }
        }
    }

    /// Puts deliveries that have been unresolved for long into the queue.
    pub(super) fn sweep(&mut self, now: Now) {
        let is_old = |since: Duration| now.at.saturating_sub(since) >= UNRESOLVED_MAX;
        if now.at.saturating_sub(self.swept_at) < SWEEP_INTERVAL
            || !self.progress.oldest_since().is_some_and(is_old)
        {
            return;
        }
        self.swept_at = now.at;
        let is_old_item = |item: &Item| matches!(item.row, RowState::None { since, .. } if is_old(since));
        let has_old = |lane: &&Lane| {
            lane.fresh.front().is_some_and(is_old_item)
                || lane
                    .groups
                    .as_ref()
                    .is_some_and(|groups| groups.fresh() > 0 && groups.any_here(is_old_item))
        };
        let lanes: Vec<i64> = self.lanes.values().filter(has_old).map(|lane| lane.subscription.id).collect();
        for id in lanes {
            self.spill_fresh(id);
        }
        let old = self.flights.iter().filter(|(_, flight)| is_old(flight.since) && flight.has_window());
        for key in old.map(|(key, _)| key).collect::<Vec<_>>() {
            self.spill_flight(key);
        }
    }

    /// Applies a new version of the subscription table: closes, reopens, and removes send queues.
    fn update_subscriptions(&mut self, update: &Update, now: Now) {
        let changed = update.differences(&self.subscriptions);
        let former: Vec<Option<Arc<Subscription>>> = changed
            .iter()
            .map(|(id, subscription)| match subscription {
                Some(subscription) => self.subscriptions.insert(*id, Arc::clone(subscription)),
                None => self.subscriptions.remove(id),
            })
            .collect();
        if !self.is_open {
            self.is_open = true;
            self.load(Load::ReceiverHealth);
            self.load(Load::Backlogged);
            self.load(Load::Ordered);
        }
        // This table is newer than the one without them. A subscription that is still missing is
        // gone, and so are its rows.
        for (key, retry) in std::mem::take(&mut self.strays) {
            if self.subscriptions.contains_key(&key.subscription_id) {
                self.timers.insert(key, retry);
            }
        }
        for ((id, subscription), before) in changed.iter().zip(&former) {
            let before = before.as_ref();
            let Some(subscription) = subscription else {
                self.drop_lane(*id);
                continue;
            };
            match self.lanes.get_mut(id) {
                Some(lane) => {
                    let was_open = lane.is_open();
                    let was_enabled =
                        std::mem::replace(&mut lane.subscription, Arc::clone(subscription)).enabled;
                    lane.has_overdue_filter = false;
                    lane.bucket.limit(subscription.rate_limit, now.at);
                    lane.is_altered = true;
                    if !subscription.enabled || lane.is_disabled_for_sure {
                        (lane.is_disabled, lane.is_disabled_for_sure) = (false, false);
                    }
                    let is_open = lane.is_open();
                    if before.is_some_and(|before| has_other_order(before, subscription)) {
                        self.reorder(*id);
                    }
                    let is_elsewhere = before.is_some_and(|before| before.url != subscription.url);
                    if is_elsewhere && let Some(lane) = self.lanes.get_mut(id) {
                        lane.bucket.forget_refusals();
                        lane.pacing.restart();
                    }
                    if is_elsewhere || (subscription.enabled && !was_enabled) {
                        self.forgive(*id);
                    }
                    match (was_open, is_open) {
                        (true, false) => self.close_lane(*id),
                        (false, true) => self.reopen_lane(*id),
                        _ => self.list(*id),
                    }
                }
                None if before.is_some_and(|before| !before.is_open()) && subscription.is_open() => {
                    self.reopen_lane(*id);
                }
                None => {}
            }
        }
    }

    /// Closes a send queue. Its waiting deliveries go to the queue.
    pub(super) fn close_lane(&mut self, id: i64) {
        info!(subscription_id = id, "lane.closed");
        self.spill_all(id);
    }

    /// Reopens a send queue. It takes back its rows from the queue.
    fn reopen_lane(&mut self, id: i64) {
        info!(subscription_id = id, "lane.reopened");
        self.restart_backlog(id);
        self.list(id);
    }

    /// Reads the backlog from its beginning.
    pub(super) fn restart_backlog(&mut self, id: i64) {
        if self.lane(id).is_some_and(|lane| !lane.is_spilling && lane.groups.is_some()) {
            // New deliveries in memory are younger than the backlog.
            self.spill_fresh(id);
        }
        if let Some(lane) = self.lane(id) {
            lane.is_spilling = true;
            lane.backlog.restart();
        }
        self.ask(id);
    }

    /// Applies a new order to a send queue. All waiting deliveries are read again under the new
    /// order.
    fn reorder(&mut self, id: i64) {
        self.spill_all(id);
        let order_groups_max = self.limits.order_groups_max;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.groups = groups(&lane.subscription, order_groups_max);
        }
        self.restart_backlog(id);
        self.out.records.push(Record::Unblock { subscription_id: id });
    }

    /// Resets the failures, because the subscription has been enabled again or has another
    /// receiver.
    fn forgive(&mut self, id: i64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.paused_until = Duration::ZERO;
        if *lane.breaker.health() != ReceiverHealth::default() {
            lane.breaker = Breaker::default();
            lane.pacing.restart();
            let (health, event) = (ReceiverHealth::default(), None);
            self.out.records.push(Record::ReceiverHealth { subscription_id: id, health, event });
        }
    }

    /// Makes a claimed row backlog.
    pub(super) fn put_aside(&mut self, id: i64, item: &Item, order_key: Option<i64>) {
        let event = item.message.event();
        let (attempts, retry_from) = (item.attempts, item.retry_from);
        let is_new = item.row.is_missing();
        let queue = QueueChange::Put { state: State::Backlog, attempts, retry_from, order_key, is_new };
        self.put_row_aside(id, (event.id, event.place()), queue, order_key);
    }

    /// Makes a retry backlog that has not been read.
    pub(super) fn put_due_aside(&mut self, id: i64, due: Due) {
        let Retry { place, attempts, retry_from, order_key, .. } = due.retry;
        let queue =
            QueueChange::Put { state: State::Backlog, attempts, retry_from, order_key, is_new: false };
        self.put_row_aside(id, (due.event_id, place), queue, order_key);
    }

    fn put_row_aside(
        &mut self,
        subscription_id: i64,
        (event_id, place): (i64, Place),
        queue: QueueChange,
        order_key: Option<i64>,
    ) {
        let (window, attempt, exhausted) = (None, None, None);
        let entry = self.entry(Entry { subscription_id, event_id, place, window, attempt, queue, exhausted });
        if let Some(lane) = self.lanes.get_mut(&subscription_id) {
            lane.release(event_id);
            lane.backlog.spilled(event_id);
            lane.page_after = entry;
            if let (Some(groups), Some(key)) = (&mut lane.groups, order_key) {
                groups.put_aside(key, event_id, entry);
            }
        }
        self.ask(subscription_id);
    }

    fn drop_lane(&mut self, id: i64) {
        self.timers.forget(id);
        if let Some(lane) = self.lanes.remove(&id) {
            self.fresh -= lane.fresh_len();
            let in_groups = lane.groups.map(|mut groups| groups.take_fresh()).unwrap_or_default();
            for item in lane.fresh.into_iter().chain(in_groups) {
                if let RowState::None { window, .. } = item.row {
                    self.progress.resolve(window, 1);
                }
            }
            if let Some(at) = lane.wake_at {
                self.wakes.remove(&(at, id));
            }
        }
        info!(subscription_id = id, "lane.removed");
        self.out.records.push(Record::Forget { subscription_id: id });
    }
}

/// Reports whether order groups must be built again. With order groups, this includes a switch of
/// batches or compaction, which changes the deliveries that go together.
fn has_other_order(before: &Subscription, after: &Subscription) -> bool {
    let order =
        |s: &Subscription| (has_order(s), s.ordering == Ordering::Strict, s.batch_size > 1 || s.compact);
    has_order(before) != has_order(after) || (has_order(after) && order(before) != order(after))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    Briefly,
    Long,
}
