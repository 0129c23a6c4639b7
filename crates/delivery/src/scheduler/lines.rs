//! Send queues with an order: which delivery enters its order group, which becomes a row behind the
//! group, and which comes back from there.
//!
//! The places of a group are in [`Lines`](crate::lane::order::Lines). This module connects them to
//! the rest: it writes ledger entries for deliveries that leave memory, and it takes the rows that
//! are read back. A delivery must never overtake an earlier one of its group, in memory or in the
//! table.

use crate::{
    lane::order::Entrance,
    queue_rows::{Filtered, Ordered, OrderedPlace, QueuedRow, RowState},
    record::{Entry, QueueChange, State},
    scheduler::{Board, Item, Load, order_key},
};
use std::sync::Arc;
use tracing::warn;

/// The effect of an ended attempt on its order group.
#[derive(Debug)]
pub(super) struct Moved {
    pub order_key: i64,
    pub event_id: i64,
    pub queue: QueueChange,
    /// The delivery still belongs to the group.
    pub stays: bool,
    /// The ledger entry that records it.
    pub entry: u64,
}

impl Board {
    /// Restores the order groups of an earlier run: deliveries that others wait for, and groups
    /// that continue in the table.
    pub(super) fn restore_lines(&mut self, rows: Vec<Ordered>) {
        for Ordered { subscription_id, order_key, place } in rows {
            let Some(lines) = self.lane(subscription_id).and_then(|lane| lane.lines.as_mut()) else {
                continue;
            };
            match place {
                OrderedPlace::Timed(event_id) => lines.restore_timed(order_key, event_id),
                OrderedPlace::Backlog(event_id) => lines.restore_backlog(order_key, event_id),
                OrderedPlace::Blocked => lines.restore_rows(order_key),
            }
        }
        self.is_known = true;
        self.list_ordered();
    }

    /// Records that all events that may have been in flight before the start have been routed.
    pub(super) fn recovered(&mut self) {
        self.is_recovered = true;
        self.list_ordered();
    }

    fn list_ordered(&mut self) {
        let with_lines = self.lanes.values().filter(|lane| lane.lines.is_some());
        for id in with_lines.map(|lane| lane.subscription.id).collect::<Vec<_>>() {
            self.list(id);
            self.ask(id);
        }
    }

    /// Lets new events enter their groups, in order of arrival.
    pub(super) fn admit(&mut self, id: i64) {
        if !(self.is_known && self.is_recovered) {
            return;
        }
        while let Some(lane) = self.lanes.get_mut(&id)
            && lane.is_open()
            // During a spill, new deliveries in memory are older than the backlog. Otherwise they
            // are newer.
            && (lane.is_spilling || !lane.drain.is_active())
            && let Some(lines) = &mut lane.lines
            && let Some(item) = lane.fresh.front()
        {
            let key = order_key(&lane.subscription, &item.message).unwrap_or_default();
            let entrance = lines.entrance(key);
            if entrance == Entrance::Shut {
                return;
            }
            let Some(item) = lane.fresh.pop_front() else { return };
            if entrance == Entrance::Open {
                lines.insert(key, item);
            } else {
                self.fresh -= 1;
                self.block(id, key, &item);
            }
        }
    }

    /// Makes a delivery a row behind its group.
    fn block(&mut self, id: i64, key: i64, item: &Item) {
        let event = item.message.event();
        let queue = QueueChange::Put {
            state: State::Blocked,
            attempts: item.attempts,
            retry_from: item.retry_from,
            order_key: Some(key),
            is_new: item.row.is_missing(),
        };
        let window = item.row.window();
        let entry = self.entry(Entry {
            subscription_id: id,
            event_id: event.id,
            place: event.place(),
            window,
            attempt: None,
            queue,
            exhausted: None,
        });
        if let Some(lines) = self.lanes.get_mut(&id).and_then(|lane| lane.lines.as_mut()) {
            lines.blocked(key, entry);
        }
    }

    /// Continues a group, or makes it wait, after an attempt.
    pub(super) fn move_line(&mut self, id: i64, moved: Moved) {
        let Moved { order_key: key, event_id, queue, stays, entry } = moved;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(lines) = &mut lane.lines else { return };
        match queue {
            QueueChange::Put { state: State::Waiting { .. }, .. } if stays => {
                let is_strict = lines.is_strict;
                for item in lines.fail(key, event_id) {
                    self.stand_back(id, key, item);
                }
                if is_strict {
                    // New events wait behind those.
                    self.spill_fresh(id);
                }
            }
            QueueChange::Put { state: State::Backlog, .. } if stays => {
                lane.page_after = entry;
                lines.put_aside(key, event_id, entry);
            }
            _ => lines.finish(key, event_id, entry),
        }
    }

    /// Gives a delivery back to the table, because one before it in its group has failed.
    fn stand_back(&mut self, id: i64, key: i64, item: Item) {
        let event_id = item.message.event().id;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(lines) = &mut lane.lines else { return };
        let is_strict = lines.is_strict;
        match item.row {
            RowState::None { .. } if is_strict => {
                self.fresh -= 1;
                self.spill_item(id, item);
            }
            RowState::None { .. } => {
                self.fresh -= 1;
                self.block(id, key, &item);
            }
            RowState::Backlog if is_strict => {
                lines.restore_aside(key, event_id, 0);
                lane.drain.again(event_id);
                lane.release(event_id);
                self.ask(id);
            }
            RowState::Asked | RowState::Waiting | RowState::Blocked if is_strict => {
                lines.restore_aside(key, event_id, 0);
                self.put_aside(id, &item, Some(key));
            }
            // The claim ends when the entry is committed.
            RowState::Asked | RowState::Waiting | RowState::Backlog => self.block(id, key, &item),
            RowState::Blocked => {
                lines.blocked(key, 0);
                lane.release(event_id);
            }
        }
    }

    /// Lets a row of the backlog enter its group. Returns `false` if this row and those after it
    /// must wait.
    pub(super) fn enter_line(&mut self, id: i64, row: QueuedRow) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let (Some(lines), Some(message)) = (&mut lane.lines, &row.message) else { return true };
        let event_id = row.event_id;
        let key = order_key(&lane.subscription, message).unwrap_or_default();
        let entrance = lines.entrance_again(key, event_id);
        let item = Item {
            message: Arc::clone(message),
            attempts: row.retry.attempts,
            retry_from: row.retry.retry_from,
            // A row with another order key, or with none, must be written again before it is given
            // back.
            row: if row.retry.order_key == Some(key) { row.row } else { RowState::Waiting },
        };
        match entrance {
            Entrance::Shut => return false,
            Entrance::Open => {
                lane.hold(event_id);
                if let Some(lines) = &mut lane.lines {
                    lines.insert(key, item);
                }
                self.list(id);
            }
            Entrance::Blocked => {
                lane.hold(event_id);
                self.block(id, key, &item);
            }
        }
        true
    }

    /// Requests the next rows of order groups of a send queue.
    pub(super) fn ask_lines(&mut self, id: i64, max: usize, limit: usize) {
        let confirmed = self.entries_confirmed;
        let Some(lines) = self.lanes.get_mut(&id).and_then(|lane| lane.lines.as_mut()) else { return };
        let order_keys = lines.next_load(confirmed, max);
        if !order_keys.is_empty() {
            self.load(Load::Lines { subscription_id: id, order_keys, limit, entries_confirmed: confirmed });
        }
    }

    pub(super) fn lines_loaded(
        &mut self,
        id: i64,
        loaded: Vec<(i64, Vec<QueuedRow>, Option<bool>)>,
        confirmed: u64,
    ) {
        let lines = self.lanes.get_mut(&id).and_then(|lane| lane.lines.as_mut());
        if !lines.is_some_and(|lines| lines.take_answer(loaded.iter().map(|(key, ..)| *key))) {
            return;
        }
        for (key, rows, is_end) in loaded {
            // A row that is claimed elsewhere may be on its way behind the group. No other row may
            // overtake it.
            let mut rows = rows.into_iter();
            let is_taken = rows.all(|row| self.enter_from_line(id, key, row));
            let Some(lines) = self.lanes.get_mut(&id).and_then(|lane| lane.lines.as_mut()) else { return };
            match is_end {
                Some(is_end) if is_taken => lines.loaded(key, is_end, confirmed),
                _ => lines.not_loaded(key),
            }
        }
        self.list(id);
        self.ask(id);
    }

    /// Puts a row from behind a group into its place. Returns `false` if it cannot enter; then the
    /// rows after it must not enter either.
    fn enter_from_line(&mut self, id: i64, key: i64, row: QueuedRow) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let Some(lines) = lane.lines.as_ref().filter(|_| lane.is_open()) else { return false };
        if lane.holds(row.event_id) || self.timers.contains(id, row.event_id) {
            return lines.contains(key, row.event_id);
        }
        lane.hold(row.event_id);
        let Some(message) = row.message else {
            if row.filtered != Filtered::Struck {
                warn!(subscription_id = id, sequence = row.event_id, "delivery.event_is_gone");
            }
            self.delete(id, row.event_id, row.retry.place);
            return true;
        };
        if let Some(lines) = &mut lane.lines {
            let (attempts, retry_from) = (row.retry.attempts, row.retry.retry_from);
            lines.insert(key, Item { message, attempts, retry_from, row: row.row });
        }
        true
    }
}
