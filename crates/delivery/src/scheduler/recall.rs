//! Reads back from the queue table: due retries, backlog, and requested redeliveries.
//!
//! It asks for rows when a send queue has capacity, and claims each row that it takes. A row that
//! is claimed or a retry in memory is skipped, so that no delivery is sent twice. It must not read
//! past an uncommitted row; the timers, the backlog reader, and the order groups check this.

use crate::{
    Now,
    feed::Request,
    queue_rows::{Due, Filtered, Item, Load, Loaded, QueuedRow, Retry, RetryKey, RowState},
    record::Record,
    scheduler::{Delivery, InFlight, Scheduler, order_key, work::Work},
    send_queue::{FRESH_MAX, GROUP_ROWS, backlog_reader::PAGE_ROWS, order::OrderGroups},
};
use std::collections::HashSet;
use tracing::warn;

/// Maximum number of due retries per read.
const DUE_ROWS_MAX: usize = 500;

/// Maximum number of due retries of one send queue per read. So several share each read.
const DUE_ROWS_OF_ONE: usize = 100;

/// Number of reads that the queue reader has to answer, from which on send queues wait for their
/// turn here. The reader answers in order, so a read waits for as many others.
const LOADS_MAX: u64 = 8;

/// Number of send queues that one step looks at if memory is over its limit.
const OVER_LOOKS_MAX: usize = 64;

/// Rows per page for a send queue with nothing in memory, if memory is over its limit.
const SMALL_PAGE_ROWS: usize = 10;

impl Scheduler {
    /// Moves due retries to their send queues. If a send queue is closed or full, its retries
    /// become backlog and come later, in order of events. So a dead receiver does not fill the
    /// timers of all.
    pub(super) fn take_due(&mut self, now: Now) {
        while let Some((key, retry)) =
            self.shared.timers.pop_due(now.wall_us, self.shared.effects.confirmed())
        {
            if let Some(mut work) = self.work_or_new(key.subscription_id) {
                work.fall_due(Due { event_id: key.event_id, retry });
            } else {
                let subscription_id = key.subscription_id;
                self.shared.effects.record(Record::Forget { subscription_id });
                self.strays.push((key, retry));
            }
        }
    }

    /// Requests rows for send queues that have capacity.
    pub(super) fn recall(&mut self, now: Now) {
        let confirmed = self.shared.effects.confirmed();
        if let Some((from, limit)) = self.shared.timers.next_load(confirmed) {
            self.shared.effects.load(Load::Timers { from, limit });
        }
        self.ask_due();
        let is_over = self.budget.bytes_held() > self.shared.limits.memory_bytes_max;
        // While memory is over its limit, most send queues must wait. One step looks at few.
        let looks = if is_over { OVER_LOOKS_MAX } else { usize::MAX };
        for _ in 0..self.shared.agenda.asking.len().min(looks) {
            if self.shared.effects.open_loads() >= LOADS_MAX {
                return;
            }
            let Some((_, id)) = self.shared.agenda.asking.pop() else { return };
            if let Some(mut work) = self.work(id) {
                work.recall(is_over, now);
            }
        }
    }

    /// Requests one page of due retries at a time, from the send queues in turn.
    fn ask_due(&mut self) {
        let Self { shared, send_queues, due_asked, .. } = self;
        if !due_asked.is_empty() || shared.agenda.due.len() == 0 {
            return;
        }
        let mut asked = Vec::new();
        for _ in 0..shared.agenda.due.len() {
            if asked.len() >= DUE_ROWS_MAX {
                break;
            }
            let Some((owner, id)) = shared.agenda.due.pop() else { break };
            let Some(queue) = send_queues.get_mut(&id) else { continue };
            let capacity = PAGE_ROWS
                .saturating_sub(queue.queued_len())
                .min(DUE_ROWS_OF_ONE)
                .min(DUE_ROWS_MAX - asked.len());
            let share = capacity.min(queue.due.len());
            asked.extend(queue.due.drain(..share).map(|due| (id, due)));
            if !queue.due.is_empty() {
                shared.agenda.due.push_back(owner, id);
            }
        }
        if !asked.is_empty() {
            due_asked.extend(asked.iter().map(|(id, due)| (*id, due.event_id)));
            shared.effects.load(Load::Due(asked));
        }
    }

    /// Applies an answer of the queue reader.
    pub fn loaded(&mut self, mut loaded: Loaded) {
        loaded.rows_mut().for_each(|row| self.withhold(row));
        match loaded {
            Loaded::ReceiverHealth(health) => self.restore_health(health),
            Loaded::Ordered(rows) => self.restore_groups(rows),
            Loaded::OrderGroups { subscription_id, groups, entries_confirmed, has_slow_filter } => {
                if let Some(mut work) = self.work(subscription_id) {
                    if has_slow_filter {
                        work.hold_slow_filter();
                    }
                    work.groups_loaded(groups, entries_confirmed);
                }
            }
            Loaded::Backlogged(ids) => {
                for id in ids {
                    let Some(mut work) = self.work_or_new(id) else { continue };
                    work.queue.spill();
                    work.queue.backlog.restart();
                    work.ask();
                }
            }
            Loaded::Timers { rows, asked } => {
                let queues = &self.send_queues;
                let queue = |key: &RetryKey| queues.get(&key.subscription_id);
                let is_claimed =
                    |key: &RetryKey| queue(key).is_some_and(|queue| queue.is_claimed(key.event_id));
                self.shared.timers.loaded(rows, asked, is_claimed);
            }
            Loaded::Due { rows, missing, rest } => self.due_loaded(rows, missing, rest),
            Loaded::Backlog { subscription_id, rows, is_end, has_slow_filter } => {
                if let Some(mut work) = self.work(subscription_id) {
                    if has_slow_filter {
                        work.hold_slow_filter();
                    }
                    work.backlog_page(rows, is_end);
                }
            }
            Loaded::Request { request, row } => self.requested(request, row),
        }
        self.shared.effects.answer();
        while let Some(claim) = self.shared.effects.next_claim() {
            self.release(claim.subscription_id, claim.event_id);
        }
    }

    fn due_loaded(&mut self, rows: Vec<QueuedRow>, missing: Vec<(i64, Due)>, rest: Vec<(i64, Due)>) {
        self.due_asked.clear();
        for row in rows {
            if let Some(mut work) = self.work(row.subscription_id) {
                work.enqueue_due(row);
            }
        }
        for (id, due) in missing {
            // The row was deleted. This is how a delivery is called off.
            if let Some(mut work) = self.work(id) {
                work.queue.release(due.event_id);
                work.leave_group(due.retry.order_key, due.event_id);
            }
        }
        for (id, due) in rest {
            self.release(id, due.event_id);
            if let Some(mut work) = self.work_or_new(id) {
                work.fall_due(due);
            }
        }
    }

    /// Handles a requested redelivery. The row in the table comes from the request or from a later
    /// failure.
    fn requested(&mut self, request: Request, row: Option<QueuedRow>) {
        let Request { subscription_id: id, event_id } = request;
        let Some(row) = row else { return };
        let of_send_queue = |flight: &&mut InFlight| flight.subscription_id == id;
        let is_same = |delivery: &&mut Delivery| delivery.message.event().id == event_id;
        for flight in self.flights.iter_mut().map(|(_, flight)| flight).filter(of_send_queue) {
            if let Some(delivery) = flight.deliveries_mut().find(is_same) {
                delivery.again = true;
                return;
            }
        }
        if self.due_asked.contains(&(id, event_id)) {
            // The retry is being read, and is sent after that.
            return;
        }
        if let Some(queue) = self.send_queues.get_mut(&id).filter(|queue| queue.is_locked) {
            // The result of an earlier attempt may be waiting, and changes the row.
            queue.asked_while_locked.insert(event_id);
            return;
        }
        let timed = self.shared.timers.remove(id, event_id);
        let now = self.shared.now;
        if let Some(mut work) = self.work_or_new(id) {
            work.requested(row, timed);
            work.probes_first(event_id, now);
        }
    }
}

impl Work<'_> {
    fn fall_due(&mut self, due: Due) {
        self.queue.claim(due.event_id);
        let is_full = self.queue.due.len() + self.queue.queued_len() >= FRESH_MAX;
        if !self.queue.is_open() || self.queue.breaker.is_open() || is_full {
            self.put_due_aside(due);
            return;
        }
        if self.queue.due.is_empty() {
            self.shared.agenda.due.push_back(self.queue.shares.owner, self.id);
        }
        self.queue.due.push_back(due);
    }

    /// Requests the rows that the send queue has capacity for.
    fn recall(&mut self, is_over: bool, now: Now) {
        let is_empty = !self.queue.has_ready() && self.queue.in_flight == 0;
        if is_over && !is_empty {
            self.shared.agenda.asking.push_back(self.queue.shares.owner, self.id);
            return;
        }
        self.queue.listed.asking = false;
        if self.queue.groups.is_some() && !(self.shared.is_known && self.shared.is_recovered) {
            return;
        }
        let confirmed = self.shared.effects.confirmed();
        if let Some(limit) = self.queue.wants_page(now.at, confirmed)
            && let Some(after) = self.queue.backlog.next_page()
        {
            let limit = if is_over { limit.min(SMALL_PAGE_ROWS) } else { limit };
            self.queue.page_confirmed = confirmed;
            self.shared.effects.load(Load::Backlog { subscription_id: self.id, after, limit });
        }
        let resumes_at = self.queue.resumes_at(now.at);
        if let Some(max) = self.queue.wants_groups(now.at) {
            self.ask_groups(max, if is_over { SMALL_PAGE_ROWS } else { GROUP_ROWS });
        }
        if let Some(at) = resumes_at {
            self.shared.agenda.wake_at(self.queue, at);
        }
        // Some groups still wait for the ledger.
        if self.queue.wants_groups(now.at).is_some() {
            self.queue.listed.asking = true;
            self.shared.agenda.asking.push_back(self.queue.shares.owner, self.id);
        }
    }

    /// Passes a claimed row to the send queue.
    fn enqueue(&mut self, row: QueuedRow) {
        let QueuedRow { event_id, retry, row, message, filtered, .. } = row;
        let Retry { attempts, retry_from, order_key, .. } = retry;
        let Some(message) = message else {
            if filtered != Filtered::FilteredOut {
                warn!(subscription_id = self.id, sequence = event_id, "delivery.event_is_gone");
            }
            self.shared.effects.delete(self.id, event_id, retry.place);
            self.leave_group(order_key, event_id);
            return;
        };
        let item = Item { message, attempts, retry_from, row };
        let groups = self.queue.groups.as_ref();
        let key = order_key.filter(|key| groups.is_some_and(|groups| groups.contains(*key, event_id)));
        if !self.queue.is_open() {
            self.put_aside(&item, key);
            return;
        }
        match (&mut self.queue.groups, key) {
            (Some(groups), Some(key)) => groups.insert(key, item),
            _ => self.queue.queued.push_back(item),
        }
        self.list();
        self.ask();
    }

    /// Handles a retry that was read because it is due, unless its row has changed.
    fn enqueue_due(&mut self, row: QueuedRow) {
        let (subscription_id, event_id) = (self.id, row.event_id);
        if let Some(next_at_us) = row.next_at_us.filter(|at| *at > self.shared.now.wall_us) {
            // The retry was postponed in the table.
            self.queue.release(event_id);
            self.shared.timers.insert(RetryKey { next_at_us, subscription_id, event_id }, row.retry);
            return;
        }
        let key = row.retry.order_key;
        let is_in_group = |groups: &OrderGroups| key.is_some_and(|key| groups.contains(key, event_id));
        if self.queue.breaker.is_open() && row.row == RowState::Waiting && row.message.is_some() {
            return self.put_due_aside(Due { event_id, retry: row.retry });
        }
        if row.row == RowState::Waiting || self.queue.groups.as_ref().is_none_or(|groups| is_in_group(groups))
        {
            return self.enqueue(row);
        }
        self.queue.release(event_id);
        match (row.row, key, &mut self.queue.groups) {
            (RowState::Blocked, Some(key), Some(groups)) => groups.blocked(key, 0),
            _ => self.queue.backlog.again(event_id),
        }
        self.ask();
    }

    /// Removes a delivery from its order group, because its row is gone. Others in the group may
    /// wait for it.
    fn leave_group(&mut self, order_key: Option<i64>, event_id: i64) {
        let entry = self.shared.effects.last_entry();
        if let (Some(groups), Some(key)) = (&mut self.queue.groups, order_key) {
            groups.finish(key, event_id, entry);
        }
        self.list();
        self.ask();
    }

    /// Takes a page of the backlog.
    fn backlog_page(&mut self, rows: Vec<QueuedRow>, is_end: bool) {
        let (behind, last) = (self.queue.backlog.position(), rows.last().map(|row| row.event_id));
        self.queue.backlog.page(last, is_end);
        if !self.queue.is_open() {
            // The subscription was paused after the request. The rows stay in the table until it
            // resumes, and it then starts from the beginning.
            return;
        }
        let has_order = self.queue.groups.is_some();
        let found: HashSet<i64> = rows.iter().filter(|_| has_order).map(|row| row.event_id).collect();
        for row in rows {
            let event_id = row.event_id;
            if self.queue.is_claimed(event_id) || self.shared.timers.contains(self.id, event_id) {
                continue;
            }
            if has_order && row.message.is_some() {
                if !self.enter_group(row) {
                    self.queue.backlog.again(event_id);
                    break;
                }
            } else {
                self.queue.claim(event_id);
                self.enqueue(row);
            }
        }
        if let Some(groups) = &mut self.queue.groups {
            let upto = if is_end { i64::MAX } else { last.unwrap_or(behind) };
            groups.forget_missing((behind, upto), &found, self.queue.page_confirmed);
        }
        if is_end && !self.queue.backlog.goes_back() {
            // Few rows are left, and none is added. New events wait behind them in memory.
            self.queue.end_spill();
        }
        if !self.queue.backlog.is_active()
            && let Some(groups) = &mut self.queue.groups
        {
            groups.forget_asides();
        }
        self.list();
        self.ask();
    }

    /// Handles a requested redelivery that is not in flight. `timed` is its retry in memory.
    fn requested(&mut self, row: QueuedRow, timed: Option<Retry>) {
        let event_id = row.event_id;
        if let Some(item) = self.queue.queued.iter_mut().find(|item| item.message.event().id == event_id) {
            item.retry_from = item.attempts;
            if item.row != RowState::Asked {
                item.row = RowState::Waiting;
            }
            return;
        }
        if let Some(due) = self.queue.due.iter_mut().find(|due| due.event_id == event_id) {
            due.retry.retry_from = due.retry.attempts;
            return;
        }
        let order_key = row.message.as_ref().and_then(|message| order_key(&self.queue.subscription, message));
        if let (Some(groups), Some(key)) = (&mut self.queue.groups, order_key)
            && groups.begin_anew(key, event_id)
        {
            return;
        }
        let attempts = row.retry.attempts.max(timed.map_or(0, |retry| retry.attempts));
        // If the row is still claimed, an entry is on its way that may delete the row after this
        // read.
        let is_there = row.row != RowState::Asked && !self.queue.is_claimed(event_id);
        let state = if is_there { RowState::Waiting } else { RowState::Asked };
        self.queue.claim(event_id);
        let retry = Retry { attempts, retry_from: attempts, order_key, ..row.retry };
        self.enqueue(QueuedRow { retry, row: state, ..row });
    }
}
