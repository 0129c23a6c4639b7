//! Reads back from the queue table: due retries, backlog, and requested redeliveries.
//!
//! It asks for rows when a send queue has capacity, and claims each row that it takes. A row that
//! is claimed or a retry in memory is skipped, so that no delivery is sent twice. It must not read
//! past an uncommitted row; the timers, the backlog reader, and the order groups check this.

use crate::{
    Now,
    event::Place,
    feed::Request,
    lane::{FRESH_MAX, GROUP_ROWS, backlog_reader::PAGE_ROWS, order::OrderGroups},
    queue_rows::{Due, Filtered, Loaded, QueuedRow, Retry, RetryKey, RowState},
    record::{Entry, QueueChange, Record},
    scheduler::{Delivery, InFlight, Item, Load, Scheduler, order_key},
};
use std::collections::HashSet;
use tracing::warn;

/// Maximum number of due retries per read.
const DUE_ROWS_MAX: usize = 500;

/// Rows per page for a send queue with nothing in memory, if memory is over its limit.
const SMALL_PAGE_ROWS: usize = 10;

impl Scheduler {
    /// Moves due retries to their send queues. If a send queue is closed or full, its retries
    /// become backlog and come later, in order of events. So a dead receiver does not fill the
    /// timers of all.
    pub(super) fn take_due(&mut self, now: Now) {
        while let Some((key, retry)) = self.timers.pop_due(now.wall_us, self.entries_confirmed) {
            if self.subscriptions.contains_key(&key.subscription_id) {
                self.fall_due(key.subscription_id, Due { event_id: key.event_id, retry });
            } else {
                self.out.records.push(Record::Forget { subscription_id: key.subscription_id });
                self.strays.push((key, retry));
            }
        }
    }

    fn fall_due(&mut self, id: i64, due: Due) {
        let event_id = due.event_id;
        let Some(lane) = self.lane(id) else { return };
        lane.claim(event_id);
        if !lane.is_open() || lane.breaker.is_open() || lane.due.len() + lane.queued_len() >= FRESH_MAX {
            self.put_due_aside(id, due);
            return;
        }
        if lane.due.is_empty() {
            self.due.push_back(id);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.due.push_back(due);
        }
    }

    /// Requests rows for send queues that have capacity.
    pub(super) fn recall(&mut self, now: Now) {
        if let Some((from, limit)) = self.timers.next_load(self.entries_confirmed) {
            self.load(Load::Timers { from, limit });
        }
        self.ask_due();
        let is_over = self.budget.bytes_held() > self.limits.memory_bytes_max;
        for id in std::mem::take(&mut self.asking) {
            let is_settled = self.is_known && self.is_recovered;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let is_empty = !lane.has_ready() && lane.in_flight == 0;
            if is_over && !is_empty {
                self.asking.push(id);
                continue;
            }
            lane.is_asking = false;
            if lane.groups.is_some() && !is_settled {
                continue;
            }
            if let Some(limit) = lane.wants_page(now.at, self.entries_confirmed)
                && let Some(after) = lane.backlog.next_page()
            {
                let limit = if is_over { limit.min(SMALL_PAGE_ROWS) } else { limit };
                lane.page_confirmed = self.entries_confirmed;
                self.load(Load::Backlog { subscription_id: id, after, limit });
            }
            let Some(lane) = self.lanes.get(&id) else { continue };
            let (groups, resumes_at) = (lane.wants_groups(now.at), lane.resumes_at(now.at));
            if let Some(max) = groups {
                self.ask_groups(id, max, if is_over { SMALL_PAGE_ROWS } else { GROUP_ROWS });
            }
            if let Some(at) = resumes_at {
                self.wake_at(id, at);
            }
            // Some groups still wait for the ledger.
            if let Some(lane) = self.lanes.get_mut(&id)
                && lane.wants_groups(now.at).is_some()
            {
                lane.is_asking = true;
                self.asking.push(id);
            }
        }
    }

    /// Requests one page of due retries at a time, from the send queues in turn.
    fn ask_due(&mut self) {
        if !self.due_asked.is_empty() || self.due.is_empty() {
            return;
        }
        let mut asked = Vec::new();
        for _ in 0..self.due.len() {
            let Some(id) = self.due.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let capacity = PAGE_ROWS.saturating_sub(lane.queued_len()).min(DUE_ROWS_MAX - asked.len());
            let share = capacity.min(lane.due.len());
            asked.extend(lane.due.drain(..share).map(|due| (id, due)));
            if !lane.due.is_empty() {
                self.due.push_back(id);
            }
        }
        if !asked.is_empty() {
            self.due_asked.extend(asked.iter().map(|(id, due)| (*id, due.event_id)));
            self.load(Load::Due(asked));
        }
    }

    /// Applies an answer of the queue reader.
    pub fn loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::ReceiverHealth(health) => self.restore_health(health),
            Loaded::Ordered(rows) => self.restore_groups(rows),
            Loaded::OrderGroups { subscription_id, groups, entries_confirmed, has_overdue_filter } => {
                if has_overdue_filter {
                    self.hold_overdue(subscription_id);
                }
                self.groups_loaded(subscription_id, groups, entries_confirmed);
            }
            Loaded::Backlogged(ids) => {
                for id in ids {
                    if let Some(lane) = self.lane(id) {
                        lane.is_spilling = true;
                        lane.backlog.restart();
                    }
                    self.ask(id);
                }
            }
            Loaded::Timers { rows, asked } => {
                let lanes = &self.lanes;
                let is_held = |key: &RetryKey| {
                    lanes.get(&key.subscription_id).is_some_and(|lane| lane.is_claimed(key.event_id))
                };
                self.timers.loaded(rows, asked, is_held);
            }
            Loaded::Due { rows, missing, rest } => {
                self.due_asked.clear();
                rows.into_iter().for_each(|row| self.enqueue_due(row));
                for (id, due) in missing {
                    // The row was deleted. This is how a delivery is called off.
                    self.release(id, due.event_id);
                    self.leave_line(id, due.retry.order_key, due.event_id);
                }
                for (id, due) in rest {
                    self.release(id, due.event_id);
                    self.fall_due(id, due);
                }
            }
            Loaded::Backlog { subscription_id, rows, is_end, has_overdue_filter } => {
                if has_overdue_filter {
                    self.hold_overdue(subscription_id);
                }
                self.backlog_page(subscription_id, rows, is_end);
            }
            Loaded::Request { request, row } => self.requested(request, row),
        }
        self.loads_in += 1;
        while let Some((load, id, event_id)) = self.leaving.front().copied()
            && load <= self.loads_in
        {
            self.leaving.pop_front();
            self.release(id, event_id);
        }
    }

    /// Closes a send queue whose filter the queue reader found too slow. It stays closed until the
    /// subscription changes; then the table decides.
    fn hold_overdue(&mut self, id: i64) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let was_open = lane.is_open();
        lane.has_overdue_filter = true;
        if was_open {
            self.close_lane(id);
        }
    }

    /// Passes a claimed row to its send queue.
    fn enqueue(&mut self, row: QueuedRow) {
        let QueuedRow { subscription_id: id, event_id, retry, row, message, filtered, next_at_us: _ } = row;
        let Retry { attempts, retry_from, order_key, .. } = retry;
        let Some(message) = message else {
            if filtered != Filtered::FilteredOut {
                warn!(subscription_id = id, sequence = event_id, "delivery.event_is_gone");
            }
            self.delete(id, event_id, retry.place);
            self.leave_line(id, order_key, event_id);
            return;
        };
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let item = Item { message, attempts, retry_from, row };
        let line = order_key.filter(|key| lane.groups.as_ref().is_some_and(|l| l.contains(*key, event_id)));
        if !lane.is_open() {
            self.put_aside(id, &item, line);
            return;
        }
        match (&mut lane.groups, line) {
            (Some(groups), Some(key)) => groups.insert(key, item),
            _ => lane.queued.push_back(item),
        }
        self.list(id);
        self.ask(id);
    }

    /// Handles a retry that was read because it is due, unless its row has changed.
    fn enqueue_due(&mut self, row: QueuedRow) {
        let (id, event_id) = (row.subscription_id, row.event_id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some(next_at_us) = row.next_at_us.filter(|at| *at > self.wall_us) {
            // The retry was postponed in the table.
            lane.release(event_id);
            self.timers.insert(RetryKey { next_at_us, subscription_id: id, event_id }, row.retry);
            return;
        }
        let key = row.retry.order_key;
        let is_in_line = |groups: &OrderGroups| key.is_some_and(|key| groups.contains(key, event_id));
        if lane.breaker.is_open() && row.row == RowState::Waiting && row.message.is_some() {
            return self.put_due_aside(id, Due { event_id, retry: row.retry });
        }
        if row.row == RowState::Waiting || lane.groups.as_ref().is_none_or(|groups| is_in_line(groups)) {
            return self.enqueue(row);
        }
        lane.release(event_id);
        match (row.row, key, &mut lane.groups) {
            (RowState::Blocked, Some(key), Some(groups)) => groups.blocked(key, 0),
            _ => lane.backlog.again(event_id),
        }
        self.ask(id);
    }

    /// Removes a delivery from its order group, because its row is gone. Others in the group may
    /// wait for it.
    fn leave_line(&mut self, id: i64, order_key: Option<i64>, event_id: i64) {
        let entry = self.entries_out;
        if let Some(groups) = self.lanes.get_mut(&id).and_then(|lane| lane.groups.as_mut())
            && let Some(key) = order_key
        {
            groups.finish(key, event_id, entry);
        }
        self.list(id);
        self.ask(id);
    }

    fn backlog_page(&mut self, id: i64, rows: Vec<QueuedRow>, is_end: bool) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let (behind, last) = (lane.backlog.position(), rows.last().map(|row| row.event_id));
        lane.backlog.page(last, is_end);
        if !lane.is_open() {
            // The subscription was paused after the request. The rows stay in the table until it
            // resumes, and it then starts from the beginning.
            return;
        }
        let has_order = lane.groups.is_some();
        let found: HashSet<i64> = rows.iter().filter(|_| has_order).map(|row| row.event_id).collect();
        for row in rows {
            let Some(lane) = self.lanes.get_mut(&id) else { return };
            let event_id = row.event_id;
            if lane.is_claimed(event_id) || self.timers.contains(id, event_id) {
                continue;
            }
            if has_order && row.message.is_some() {
                if !self.enter_group(id, row) {
                    if let Some(lane) = self.lanes.get_mut(&id) {
                        lane.backlog.again(event_id);
                    }
                    break;
                }
            } else {
                lane.claim(event_id);
                self.enqueue(row);
            }
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if let Some(groups) = &mut lane.groups {
            let upto = if is_end { i64::MAX } else { last.unwrap_or(behind) };
            groups.forget_missing((behind, upto), &found, lane.page_confirmed);
        }
        if is_end && !lane.backlog.goes_back() {
            // Few rows are left, and none is added. New events wait behind them in memory.
            lane.is_spilling = false;
        }
        if !lane.backlog.is_active()
            && let Some(groups) = &mut lane.groups
        {
            groups.forget_asides();
        }
        self.list(id);
        self.ask(id);
    }

    /// Handles a requested redelivery. The row in the table comes from the request or from a later
    /// failure.
    fn requested(&mut self, request: Request, row: Option<QueuedRow>) {
        let Request { subscription_id: id, event_id } = request;
        let Some(row) = row else { return };
        let of_lane = |flight: &&mut InFlight| flight.subscription_id == id;
        let is_same = |delivery: &&mut Delivery| delivery.message.event().id == event_id;
        for flight in self.flights.iter_mut().map(|(_, flight)| flight).filter(of_lane) {
            if let Some(delivery) = flight.deliveries_mut().find(is_same) {
                delivery.again = true;
                return;
            }
        }
        if self.due_asked.contains(&(id, event_id)) {
            // The retry is being read, and is sent after that.
            return;
        }
        let timed = self.timers.remove(id, event_id);
        let Some(lane) = self.lane(id) else { return };
        if let Some(item) = lane.queued.iter_mut().find(|item| item.message.event().id == event_id) {
            item.retry_from = item.attempts;
            if item.row != RowState::Asked {
                item.row = RowState::Waiting;
            }
            return;
        }
        if let Some(due) = lane.due.iter_mut().find(|due| due.event_id == event_id) {
            due.retry.retry_from = due.retry.attempts;
            return;
        }
        let order_key = row.message.as_ref().and_then(|message| order_key(&lane.subscription, message));
        if let (Some(groups), Some(key)) = (&mut lane.groups, order_key)
            && groups.begin_anew(key, event_id)
        {
            return;
        }
        let attempts = row.retry.attempts.max(timed.map_or(0, |retry| retry.attempts));
        // If the row is still claimed, an entry is on its way that may delete the row after this
        // read.
        let is_there = row.row != RowState::Asked && !lane.is_claimed(event_id);
        let state = if is_there { RowState::Waiting } else { RowState::Asked };
        lane.claim(event_id);
        let retry = Retry { attempts, retry_from: attempts, order_key, ..row.retry };
        self.enqueue(QueuedRow { retry, row: state, ..row });
    }

    pub(super) fn delete(&mut self, subscription_id: i64, event_id: i64, place: Place) {
        let queue = QueueChange::Delete;
        self.entry(Entry {
            subscription_id,
            event_id,
            place,
            window: None,
            attempt: None,
            queue,
            exhausted: None,
        });
    }
}
