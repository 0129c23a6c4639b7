//! Back from the queue: due retries, backlog, and what is asked for again.

use super::{Board, Load};
use crate::{
    lane::{
        Now,
        drain::PAGE_ROWS,
        lane::{Due, FRESH_MAX, Queued},
        timers::{Key, Retry},
    },
    ledger::entry::{Entry, QueueChange, Record},
    outbox::Request,
    queue::{Loaded, QueuedRow},
};
use tracing::warn;

/// Retries read at once.
const DUE_ROWS_MAX: usize = 500;

/// A page for a lane with nothing in memory, when memory is over its bound.
const SMALL_PAGE_ROWS: usize = 10;

impl Board {
    /// Moves retries that are due to their lanes. A lane that is closed or has enough of them takes the rest in order of
    /// events, later: one dead receiver must not fill the timers of all.
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
        let Due { event_id, retry } = due;
        let Some(lane) = self.lane(id) else { return };
        lane.hold(event_id);
        if !lane.subscription.is_open() || lane.due.len() + lane.queued.len() >= FRESH_MAX {
            self.put_aside(id, event_id, retry.event_slot, retry.attempts, retry.retry_from);
            return;
        }
        if lane.due.is_empty() {
            self.due.push_back(id);
        }
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.due.push_back(due);
        }
    }

    /// Asks the queue for what lanes have room for.
    pub(super) fn recall(&mut self) {
        if let Some((from, limit)) = self.timers.next_load(self.entries_confirmed) {
            self.load(Load::Timers { from, limit });
        }
        self.ask_due();
        let is_over = self.budget.bytes_held() > self.limits.memory_bytes_max;
        for id in std::mem::take(&mut self.asking) {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let is_empty = lane.queued.is_empty() && lane.in_flight == 0;
            if is_over && !is_empty {
                self.asking.push(id);
                continue;
            }
            lane.is_asking = false;
            if !lane.wants_page() {
                continue;
            }
            if let Some(after) = lane.drain.next_page() {
                let limit = if is_over { SMALL_PAGE_ROWS } else { PAGE_ROWS };
                self.load(Load::Backlog { subscription_id: id, after, limit });
            }
        }
    }

    /// One page of due retries at a time, from the lanes in turn.
    fn ask_due(&mut self) {
        if self.is_due_loading || self.due.is_empty() {
            return;
        }
        let mut asked = Vec::new();
        for _ in 0..self.due.len() {
            let Some(id) = self.due.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let room = PAGE_ROWS.saturating_sub(lane.queued.len()).min(DUE_ROWS_MAX - asked.len());
            let share = room.min(lane.due.len());
            asked.extend(lane.due.drain(..share).map(|due| (id, due)));
            if !lane.due.is_empty() {
                self.due.push_back(id);
            }
        }
        if !asked.is_empty() {
            self.is_due_loading = true;
            self.load(Load::Due(asked));
        }
    }

    /// The queue has answered.
    pub fn loaded(&mut self, loaded: Loaded) {
        match loaded {
            Loaded::Backlogged(ids) => {
                for id in ids {
                    if let Some(lane) = self.lane(id) {
                        lane.is_spilling = true;
                        lane.drain.restart();
                    }
                    self.ask(id);
                }
            }
            Loaded::Timers { rows, asked } => {
                let lanes = &self.lanes;
                let is_held =
                    |key: &Key| lanes.get(&key.subscription_id).is_some_and(|lane| lane.holds(key.event_id));
                self.timers.loaded(rows, asked, is_held);
            }
            Loaded::Due { rows, missing, rest } => {
                self.is_due_loading = false;
                rows.into_iter().for_each(|row| self.enqueue(row));
                for (id, due) in missing {
                    // Somebody deleted the row; that is how a delivery is called off.
                    self.release(id, due.event_id);
                }
                for (id, due) in rest {
                    self.release(id, due.event_id);
                    self.fall_due(id, due);
                }
            }
            Loaded::Backlog { subscription_id, rows, is_end } => {
                self.backlog_page(subscription_id, rows, is_end)
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

    /// Hands a row that we hold to its lane.
    fn enqueue(&mut self, row: QueuedRow) {
        let QueuedRow { subscription_id: id, event_id, retry, message } = row;
        let Some(message) = message else {
            warn!(subscription_id = id, sequence = event_id, "delivery.event_is_gone");
            self.delete(id, event_id, retry.event_slot);
            return;
        };
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.subscription.is_open() {
            lane.queued.push_back(Queued { message, attempts: retry.attempts, retry_from: retry.retry_from });
            self.list(id);
        } else {
            self.put_aside(id, event_id, retry.event_slot, retry.attempts, retry.retry_from);
        }
    }

    fn backlog_page(&mut self, id: i64, rows: Vec<QueuedRow>, is_end: bool) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let last = rows.last().map(|row| row.event_id);
        if !lane.subscription.is_open() {
            // Paused since: the rows stay where they are until it resumes and starts over.
            lane.drain.page(last, is_end);
            return;
        }
        for row in rows {
            let Some(lane) = self.lanes.get_mut(&id) else { return };
            if !lane.holds(row.event_id) && !self.timers.contains(id, row.event_id) {
                lane.hold(row.event_id);
                self.enqueue(row);
            }
        }
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.drain.page(last, is_end);
        if is_end {
            // What is left is little and no longer grows: new events wait behind it in memory.
            lane.is_spilling = false;
        }
        self.ask(id);
    }

    /// A redelivery was asked for. The row in the table is from the request itself, or from a failure since.
    fn requested(&mut self, request: Request, row: Option<QueuedRow>) {
        let Request { subscription_id: id, event_id } = request;
        let Some(row) = row else { return };
        let flight = self.flights.iter_mut().map(|(_, flight)| flight);
        let same = |flight: &&mut super::Flight| {
            flight.subscription_id == id && flight.message.event().id == event_id
        };
        if let Some(flight) = flight.into_iter().find(same) {
            flight.again = true;
            return;
        }
        let timed = self.timers.remove(id, event_id);
        let Some(lane) = self.lane(id) else { return };
        if let Some(queued) = lane.queued.iter_mut().find(|queued| queued.message.event().id == event_id) {
            queued.retry_from = queued.attempts;
            return;
        }
        if let Some(due) = lane.due.iter_mut().find(|due| due.event_id == event_id) {
            due.retry.retry_from = due.retry.attempts;
            return;
        }
        let attempts = row.retry.attempts.max(timed.map_or(0, |retry| retry.attempts));
        lane.hold(event_id);
        self.enqueue(QueuedRow { retry: Retry { attempts, retry_from: attempts, ..row.retry }, ..row });
    }

    fn delete(&mut self, subscription_id: i64, event_id: i64, event_slot: i16) {
        let queue = QueueChange::Delete;
        self.entry(Entry { subscription_id, event_id, event_slot, window: None, attempt: None, queue });
    }
}
