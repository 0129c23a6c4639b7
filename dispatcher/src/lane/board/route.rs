//! From the feed into the lanes, or past them into the queue.

use super::{Board, FRESH_SUM_MAX, Lane, Load, Message, SWEEP_INTERVAL, UNRESOLVED_MAX, backlog};
use crate::{
    lane::{
        Now,
        lane::{Fresh, Room, STALL, STALL_ROOM},
    },
    ledger::entry::{Entry, Record},
    outbox::{Batch, Feed},
    subscription::Subscriptions,
};
use std::{sync::Arc, time::Duration};
use tracing::{debug, info};

/// A batch and how far it has been handed out.
#[derive(Debug)]
pub struct Pending {
    batch: Batch,
    event: usize,
    target: usize,
}

impl Board {
    /// Takes what the reader hands on; only when [`is_hungry`](Self::is_hungry).
    pub fn feed(&mut self, feed: Feed, now: Now) {
        match feed {
            Feed::Subscriptions(subscriptions) => self.replace_subscriptions(subscriptions),
            Feed::Batch(batch) => {
                self.progress.open(batch.window, now.at);
                for request in &batch.requests {
                    let even_without_row = !batch.is_recovered;
                    self.load(Load::Request { request: *request, even_without_row });
                }
                self.pending = Some(Pending { batch, event: 0, target: 0 });
            }
        }
    }

    /// Hands out the pending batch as far as there is room.
    pub(super) fn route(&mut self, now: Now) {
        let Some(mut pending) = self.pending.take() else { return };
        while let Some((message, end)) = pending.batch.events.get(pending.event) {
            while pending.target < *end {
                if !self.hand_out(pending.batch.targets[pending.target], message, pending.batch.window, now) {
                    self.pending = Some(pending);
                    return;
                }
                pending.target += 1;
            }
            pending.event += 1;
        }
        if let Some(end) = pending.batch.end {
            self.progress.close(pending.batch.window, end);
        }
    }

    /// Gives one delivery to its lane or to the queue; `false`: not now.
    fn hand_out(&mut self, subscription_id: i64, message: &Arc<Message>, window: u64, now: Now) -> bool {
        if self.entries_out - self.entries_confirmed >= super::UNCONFIRMED_MAX {
            return false;
        }
        let is_over = self.is_over(now);
        // Gone since the event was routed: nothing to deliver, nothing to record.
        let Some(lane) = self.lane(subscription_id) else { return true };
        match lane.room(now.at) {
            Room::Yes if is_over == Over::No => {
                lane.fresh.push_back(Fresh { message: Arc::clone(message), window, since: now.at });
                self.fresh += 1;
                self.progress.add(window, 1);
                self.list(subscription_id);
                true
            }
            Room::No => {
                self.progress.add(window, 1);
                self.spill_one(subscription_id, message, window);
                true
            }
            Room::Yes if is_over == Over::Long => {
                lane.is_spilling = true;
                self.progress.add(window, 1);
                self.spill_one(subscription_id, message, window);
                true
            }
            Room::Yes | Room::Soon => false,
        }
    }

    /// Whether there is too much in memory. As long as the lanes together make room, they are waited for; if not, the
    /// one in which most waits gives that up, and only if there is none, new events are not held either.
    fn is_over(&mut self, now: Now) -> Over {
        if self.budget.bytes_held() <= self.limits.memory_bytes_max && self.fresh < FRESH_SUM_MAX {
            self.over_since = None;
            return Over::No;
        }
        let (since, started) = *self.over_since.get_or_insert((now.at, self.started));
        if now.at.saturating_sub(since) < STALL {
            return Over::Briefly;
        }
        if self.started - started >= STALL_ROOM {
            self.over_since = Some((now.at, self.started));
            return Over::Briefly;
        }
        let fullest = self.lanes.values().max_by_key(|lane| lane.fresh.len());
        match fullest.filter(|lane| !lane.fresh.is_empty()).map(|lane| lane.subscription.id) {
            Some(id) => {
                self.spill_fresh(id);
                Over::Briefly
            }
            None => Over::Long,
        }
    }

    fn spill_one(&mut self, subscription_id: i64, message: &Message, window: u64) {
        let event = message.event();
        if let Some(lane) = self.lanes.get_mut(&subscription_id) {
            lane.drain.spilled(event.id);
        }
        self.ask(subscription_id);
        self.entry(Entry {
            subscription_id,
            event_id: event.id,
            event_slot: event.slot,
            window: Some(window),
            attempt: None,
            queue: backlog(0, 0),
        });
    }

    /// Everything that waits in a lane without a row goes into the queue, and the lane takes it back from there.
    pub(super) fn spill_fresh(&mut self, subscription_id: i64) {
        let Some(lane) = self.lanes.get_mut(&subscription_id) else { return };
        if lane.fresh.is_empty() {
            return;
        }
        lane.is_spilling = true;
        let fresh = std::mem::take(&mut lane.fresh);
        self.fresh -= fresh.len();
        debug!(subscription_id, events = fresh.len(), "lane.spills");
        for Fresh { message, window, .. } in fresh {
            self.spill_one(subscription_id, &message, window);
        }
    }

    /// An attempt under way gets a row, so that its window does not wait for it.
    pub(super) fn spill_flight(&mut self, key: usize) {
        let Some(flight) = self.flights.get_mut(key) else { return };
        let Some(window) = flight.window.take() else { return };
        flight.is_queued = true;
        let (subscription_id, message) = (flight.subscription_id, Arc::clone(&flight.message));
        if let Some(lane) = self.lanes.get_mut(&subscription_id) {
            lane.hold(message.event().id);
            self.spill_one(subscription_id, &message, window);
        } else {
            self.progress.resolve(window, 1);
        }
    }

    /// Puts what has been unresolved for long into the queue.
    pub(super) fn sweep(&mut self, now: Now) {
        let is_old = |since: Duration| now.at.saturating_sub(since) >= UNRESOLVED_MAX;
        if now.at.saturating_sub(self.swept_at) < SWEEP_INTERVAL
            || !self.progress.oldest_since().is_some_and(is_old)
        {
            return;
        }
        self.swept_at = now.at;
        let has_old = |lane: &&Lane| lane.fresh.front().is_some_and(|fresh| is_old(fresh.since));
        let lanes: Vec<i64> = self.lanes.values().filter(has_old).map(|lane| lane.subscription.id).collect();
        for id in lanes {
            self.spill_fresh(id);
        }
        let old = self.flights.iter().filter(|(_, flight)| flight.window.is_some() && is_old(flight.since));
        for key in old.map(|(key, _)| key).collect::<Vec<_>>() {
            self.spill_flight(key);
        }
    }

    /// The table as it is from here on: lanes close, open again, or go.
    fn replace_subscriptions(&mut self, new: Arc<Subscriptions>) {
        let old = std::mem::replace(&mut self.subscriptions, Arc::clone(&new));
        if !self.is_open {
            self.is_open = true;
            self.load(Load::Backlogged);
        }
        // This table is newer than the one they were not in: who is still not there is gone, and so are the rows.
        for (key, retry) in std::mem::take(&mut self.strays) {
            if new.contains_key(&key.subscription_id) {
                self.timers.insert(key, retry);
            }
        }
        for id in old.keys().filter(|id| !new.contains_key(id)) {
            self.drop_lane(*id);
        }
        for (id, subscription) in new.iter() {
            let before = old.get(id);
            if before.is_some_and(|before| Arc::ptr_eq(before, subscription)) {
                continue;
            }
            let was_open = before.is_none_or(|before| before.is_open());
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.subscription = Arc::clone(subscription);
            }
            match (was_open, subscription.is_open()) {
                (true, false) => self.close_lane(*id),
                (false, true) => self.reopen_lane(*id),
                _ => self.list(*id),
            }
        }
    }

    /// Paused: what waits here waits in the queue instead.
    fn close_lane(&mut self, id: i64) {
        self.spill_fresh(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.is_spilling = true;
        let (queued, due) = (std::mem::take(&mut lane.queued), std::mem::take(&mut lane.due));
        info!(subscription_id = id, "lane.closed");
        for item in queued {
            let event = item.message.event();
            self.put_aside(id, event.id, event.slot, item.attempts, item.retry_from);
        }
        for item in due {
            self.put_aside(
                id,
                item.event_id,
                item.retry.event_slot,
                item.retry.attempts,
                item.retry.retry_from,
            );
        }
    }

    /// Resumed: what waits in the queue comes first.
    fn reopen_lane(&mut self, id: i64) {
        if let Some(lane) = self.lane(id) {
            lane.is_spilling = true;
            lane.drain.restart();
            info!(subscription_id = id, "lane.reopened");
        }
        self.ask(id);
    }

    /// A row that was in our hands becomes backlog.
    pub(super) fn put_aside(
        &mut self,
        subscription_id: i64,
        event_id: i64,
        event_slot: i16,
        attempts: i16,
        retry_from: i16,
    ) {
        if let Some(lane) = self.lanes.get_mut(&subscription_id) {
            lane.release(event_id);
            lane.drain.spilled(event_id);
        }
        self.ask(subscription_id);
        let queue = backlog(attempts, retry_from);
        self.entry(Entry { subscription_id, event_id, event_slot, window: None, attempt: None, queue });
    }

    fn drop_lane(&mut self, id: i64) {
        if let Some(lane) = self.lanes.remove(&id) {
            self.fresh -= lane.fresh.len();
            for fresh in lane.fresh {
                self.progress.resolve(fresh.window, 1);
            }
        }
        info!(subscription_id = id, "lane.removed");
        self.out.records.push(Record::Forget { subscription_id: id });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    Briefly,
    Long,
}
