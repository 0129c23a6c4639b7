//! Send queues with an order: which delivery enters its order group, which becomes a row behind the
//! group, and which comes back from there.
//!
//! The places of a group are in [`OrderGroups`](crate::lane::order::OrderGroups). This module connects them to
//! the rest: it writes ledger entries for deliveries that leave memory, and it takes the rows that
//! are read back. A delivery must never overtake an earlier one of its group, in memory or in the
//! table.

use crate::{
    lane::order::Entrance,
    queue_rows::{Filtered, Ordered, OrderedPlace, QueuedRow, RowState},
    record::{Entry, QueueChange, State},
    scheduler::{Item, Load, Scheduler, order_key},
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

impl Scheduler {
    /// Restores the order groups of an earlier run: deliveries that others wait for, and groups
    /// that continue in the table.
    pub(super) fn restore_groups(&mut self, rows: Vec<Ordered>) {
        for Ordered { subscription_id, order_key, place } in rows {
            let Some(groups) = self.lane(subscription_id).and_then(|lane| lane.groups.as_mut()) else {
                continue;
            };
            match place {
                OrderedPlace::Timed(event_id) => groups.restore_timed(order_key, event_id),
                OrderedPlace::Backlog(event_id) => groups.restore_backlog(order_key, event_id),
                OrderedPlace::Blocked => groups.restore_rows(order_key),
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
        let with_groups = self.lanes.values().filter(|lane| lane.groups.is_some());
        for id in with_groups.map(|lane| lane.subscription.id).collect::<Vec<_>>() {
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
            && (lane.is_spilling || !lane.backlog.is_active())
            && let Some(groups) = &mut lane.groups
            && let Some(item) = lane.fresh.front()
        {
            let key = order_key(&lane.subscription, &item.message).unwrap_or_default();
            let entrance = groups.entrance(key);
            if entrance == Entrance::Shut {
                return;
            }
            let Some(item) = lane.fresh.pop_front() else { return };
            if entrance == Entrance::Open {
                groups.insert(key, item);
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
        if let Some(groups) = self.lanes.get_mut(&id).and_then(|lane| lane.groups.as_mut()) {
            groups.blocked(key, entry);
        }
    }

    /// Continues a group, or makes it wait, after an attempt.
    pub(super) fn move_group(&mut self, id: i64, moved: Moved) {
        let Moved { order_key: key, event_id, queue, stays, entry } = moved;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(groups) = &mut lane.groups else { return };
        match queue {
            QueueChange::Put { state: State::Waiting { .. }, .. } if stays => {
                let is_strict = groups.is_strict;
                for item in groups.fail(key, event_id) {
                    self.stand_back(id, key, item);
                }
                if is_strict {
                    // New events wait behind those.
                    self.spill_fresh(id);
                }
            }
            QueueChange::Put { state: State::Backlog, .. } if stays => {
                lane.page_after = entry;
                groups.put_aside(key, event_id, entry);
            }
            _ => groups.finish(key, event_id, entry),
        }
    }

    /// Gives a delivery back to the table, because one before it in its group has failed.
    fn stand_back(&mut self, id: i64, key: i64, item: Item) {
        let event_id = item.message.event().id;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let Some(groups) = &mut lane.groups else { return };
        let is_strict = groups.is_strict;
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
                groups.restore_aside(key, event_id, 0);
                lane.backlog.again(event_id);
                lane.release(event_id);
                self.ask(id);
            }
            RowState::Asked | RowState::Waiting | RowState::Blocked if is_strict => {
                groups.restore_aside(key, event_id, 0);
                self.put_aside(id, &item, Some(key));
            }
            // The claim ends when the entry is committed.
            RowState::Asked | RowState::Waiting | RowState::Backlog => self.block(id, key, &item),
            RowState::Blocked => {
                groups.blocked(key, 0);
                lane.release(event_id);
            }
        }
    }

    /// Lets a row of the backlog enter its group. Returns `false` if this row and those after it
    /// must wait.
    pub(super) fn enter_group(&mut self, id: i64, row: QueuedRow) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let (Some(groups), Some(message)) = (&mut lane.groups, &row.message) else { return true };
        let event_id = row.event_id;
        let key = order_key(&lane.subscription, message).unwrap_or_default();
        let entrance = groups.entrance_again(key, event_id);
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
                lane.claim(event_id);
                if let Some(groups) = &mut lane.groups {
                    groups.insert(key, item);
                }
                self.list(id);
            }
            Entrance::Blocked => {
                lane.claim(event_id);
                self.block(id, key, &item);
            }
        }
        true
    }

    /// Requests the next rows of order groups of a send queue.
    pub(super) fn ask_groups(&mut self, id: i64, max: usize, limit: usize) {
        let confirmed = self.entries_confirmed;
        let Some(groups) = self.lanes.get_mut(&id).and_then(|lane| lane.groups.as_mut()) else { return };
        let order_keys = groups.next_load(confirmed, max);
        if !order_keys.is_empty() {
            self.load(Load::OrderGroups {
                subscription_id: id,
                order_keys,
                limit,
                entries_confirmed: confirmed,
            });
        }
    }

    pub(super) fn groups_loaded(
        &mut self,
        id: i64,
        loaded: Vec<(i64, Vec<QueuedRow>, Option<bool>)>,
        confirmed: u64,
    ) {
        let groups = self.lanes.get_mut(&id).and_then(|lane| lane.groups.as_mut());
        if !groups.is_some_and(|groups| groups.take_answer(loaded.iter().map(|(key, ..)| *key))) {
            return;
        }
        for (key, rows, is_end) in loaded {
            // A row that is claimed elsewhere may be on its way behind the group. No other row may
            // overtake it.
            let mut rows = rows.into_iter();
            let is_taken = rows.all(|row| self.enter_from_group(id, key, row));
            let Some(groups) = self.lanes.get_mut(&id).and_then(|lane| lane.groups.as_mut()) else { return };
            match is_end {
                Some(is_end) if is_taken => groups.loaded(key, is_end, confirmed),
                _ => groups.not_loaded(key),
            }
        }
        self.list(id);
        self.ask(id);
    }

    /// Puts a row from behind a group into its place. Returns `false` if it cannot enter; then the
    /// rows after it must not enter either.
    fn enter_from_group(&mut self, id: i64, key: i64, row: QueuedRow) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        let Some(groups) = lane.groups.as_ref().filter(|_| lane.is_open()) else { return false };
        if lane.is_claimed(row.event_id) || self.timers.contains(id, row.event_id) {
            return groups.contains(key, row.event_id);
        }
        lane.claim(row.event_id);
        let Some(message) = row.message else {
            if row.filtered != Filtered::FilteredOut {
                warn!(subscription_id = id, sequence = row.event_id, "delivery.event_is_gone");
            }
            self.delete(id, row.event_id, row.retry.place);
            return true;
        };
        if let Some(groups) = &mut lane.groups {
            let (attempts, retry_from) = (row.retry.attempts, row.retry.retry_from);
            groups.insert(key, Item { message, attempts, retry_from, row: row.row });
        }
        true
    }
}
