//! Send queues with an order: which delivery enters its order group, which becomes a row behind the
//! group, and which comes back from there.
//!
//! The places of a group are in [`OrderGroups`](crate::send_queue::order::OrderGroups). This module
//! connects them to the rest: it writes ledger entries for deliveries that leave memory, and it
//! takes the rows that are read back. A delivery must never overtake an earlier one of its group,
//! in memory or in the table.

use crate::{
    queue_rows::{Filtered, Item, Load, Ordered, OrderedPlace, QueuedRow, Retry, RowState},
    record::{Entry, QueueChange, State},
    scheduler::{Scheduler, order_key, work::Work},
    send_queue::order::Entrance,
};
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
            let Some(work) = self.work_or_new(subscription_id) else { continue };
            let Some(groups) = &mut work.queue.groups else { continue };
            match place {
                OrderedPlace::Timed(event_id) => groups.restore_timed(order_key, event_id),
                OrderedPlace::Backlog(event_id) => groups.restore_backlog(order_key, event_id),
                OrderedPlace::Blocked => groups.restore_rows(order_key),
            }
        }
        self.shared.is_known = true;
        self.list_ordered();
    }

    /// Records that all events that may have been in flight before the start have been routed.
    pub(super) fn recovered(&mut self) {
        self.shared.is_recovered = true;
        self.list_ordered();
    }

    fn list_ordered(&mut self) {
        let Self { send_queues, shared, .. } = self;
        for (id, queue) in send_queues.iter_mut().filter(|(_, queue)| queue.groups.is_some()) {
            let mut work = Work { id: *id, queue, shared };
            work.list();
            work.ask();
        }
    }
}

impl Work<'_> {
    /// Lets new events enter their groups, in order of arrival.
    pub fn admit(&mut self) {
        if !(self.shared.is_known && self.shared.is_recovered) {
            return;
        }
        while self.queue.is_open()
            // During a spill, new deliveries in memory are older than the backlog. Otherwise they
            // are newer.
            && (self.queue.is_spilling() || !self.queue.backlog.is_active())
            && let Some(groups) = &mut self.queue.groups
            && let Some(item) = self.queue.fresh.front()
        {
            let key = order_key(&self.queue.subscription, &item.message).unwrap_or_default();
            let entrance = groups.entrance(key);
            if entrance == Entrance::Shut {
                return;
            }
            let Some(item) = self.queue.fresh.pop_front() else { return };
            if entrance == Entrance::Open {
                groups.insert(key, item);
            } else {
                self.shared.owners.remove_fresh(self.queue.shares.owner, 1);
                self.block(key, &item);
            }
        }
    }

    /// Makes a delivery a row behind its group.
    fn block(&mut self, key: i64, item: &Item) {
        let event = item.message.event();
        let queue = QueueChange::Put {
            state: State::Blocked,
            attempts: item.attempts,
            retry_from: item.retry_from,
            order_key: Some(key),
            is_new: item.row.is_missing(),
        };
        let window = item.row.window();
        let entry = self.shared.effects.entry(Entry {
            subscription_id: self.id,
            event_id: event.id,
            place: event.place(),
            window,
            attempt: None,
            queue,
            exhausted: None,
        });
        if let Some(groups) = &mut self.queue.groups {
            groups.blocked(key, entry);
        }
    }

    /// Continues a group, or makes it wait, after an attempt.
    pub fn move_group(&mut self, moved: Moved) {
        let Moved { order_key: key, event_id, queue, stays, entry } = moved;
        let Some(groups) = &mut self.queue.groups else { return };
        match queue {
            QueueChange::Put { state: State::Waiting { .. }, .. } if stays => {
                let is_strict = groups.is_strict;
                for item in groups.fail(key, event_id) {
                    self.stand_back(key, &item);
                }
                if is_strict {
                    // New events wait behind those.
                    self.spill_fresh();
                }
            }
            QueueChange::Put { state: State::Backlog, .. } if stays => {
                self.queue.page_after = entry;
                groups.put_aside(key, event_id, entry);
            }
            _ => groups.finish(key, event_id, entry),
        }
    }

    /// Gives a delivery back to the table, because one before it in its group has failed.
    fn stand_back(&mut self, key: i64, item: &Item) {
        let event_id = item.message.event().id;
        let Some(groups) = &mut self.queue.groups else { return };
        let is_strict = groups.is_strict;
        match item.row {
            RowState::None { .. } if is_strict => {
                self.shared.owners.remove_fresh(self.queue.shares.owner, 1);
                self.spill_item(item);
            }
            RowState::None { .. } => {
                self.shared.owners.remove_fresh(self.queue.shares.owner, 1);
                self.block(key, item);
            }
            RowState::Backlog if is_strict => {
                groups.restore_aside(key, event_id, 0);
                self.queue.backlog.again(event_id);
                self.queue.release(event_id);
                self.ask();
            }
            RowState::Asked | RowState::Waiting | RowState::Blocked if is_strict => {
                groups.restore_aside(key, event_id, 0);
                self.put_aside(item, Some(key));
            }
            // The claim ends when the entry is committed.
            RowState::Asked | RowState::Waiting | RowState::Backlog => self.block(key, item),
            RowState::Blocked => {
                groups.blocked(key, 0);
                self.queue.release(event_id);
            }
        }
    }

    /// Lets a row of the backlog enter its group. Returns `false` if this row and those after it
    /// must wait.
    pub fn enter_group(&mut self, row: QueuedRow) -> bool {
        let (Some(groups), Some(message)) = (&mut self.queue.groups, row.message) else { return true };
        let event_id = row.event_id;
        let key = order_key(&self.queue.subscription, &message).unwrap_or_default();
        let entrance = groups.entrance_again(key, event_id);
        if entrance == Entrance::Shut {
            return false;
        }
        let Retry { attempts, retry_from, order_key, .. } = row.retry;
        // A row with another order key, or with none, must be written again before it is given
        // back.
        let row = if order_key == Some(key) { row.row } else { RowState::Waiting };
        let item = Item { message, attempts, retry_from, row };
        self.queue.claim(event_id);
        if entrance == Entrance::Open {
            if let Some(groups) = &mut self.queue.groups {
                groups.insert(key, item);
            }
            self.list();
        } else {
            self.block(key, &item);
        }
        true
    }

    /// Requests the next rows of order groups.
    pub fn ask_groups(&mut self, max: usize, limit: usize) {
        let entries_confirmed = self.shared.effects.confirmed();
        let Some(groups) = &mut self.queue.groups else { return };
        let order_keys = groups.next_load(entries_confirmed, max);
        if !order_keys.is_empty() {
            let subscription_id = self.id;
            let load = Load::OrderGroups { subscription_id, order_keys, limit, entries_confirmed };
            self.shared.effects.load(load);
        }
    }

    pub fn groups_loaded(&mut self, loaded: Vec<(i64, Vec<QueuedRow>, Option<bool>)>, confirmed: u64) {
        let groups = self.queue.groups.as_mut();
        if !groups.is_some_and(|groups| groups.take_answer(loaded.iter().map(|(key, ..)| *key))) {
            return;
        }
        for (key, rows, is_end) in loaded {
            // A row that is claimed elsewhere may be on its way behind the group. No other row may
            // overtake it.
            let upto = rows.last().map(|row| row.event_id);
            let is_taken = rows.into_iter().all(|row| self.enter_from_group(key, row));
            let Some(groups) = &mut self.queue.groups else { return };
            match is_end {
                Some(is_end) if is_taken => groups.loaded(key, upto, is_end, confirmed),
                _ => groups.not_loaded(key),
            }
        }
        self.list();
        self.ask();
    }

    /// Puts a row from behind a group into its place. Returns `false` if it cannot enter; then the
    /// rows after it must not enter either.
    fn enter_from_group(&mut self, key: i64, row: QueuedRow) -> bool {
        let event_id = row.event_id;
        let is_open = self.queue.is_open();
        let Some(groups) = self.queue.groups.as_ref().filter(|_| is_open) else { return false };
        if self.queue.is_claimed(event_id) || self.shared.timers.contains(self.id, event_id) {
            return groups.contains(key, event_id);
        }
        self.queue.claim(event_id);
        let Some(message) = row.message else {
            if row.filtered != Filtered::FilteredOut {
                warn!(subscription_id = self.id, sequence = event_id, "delivery.event_is_gone");
            }
            self.shared.effects.delete(self.id, event_id, row.retry.place);
            return true;
        };
        if let Some(groups) = &mut self.queue.groups {
            let (attempts, retry_from) = (row.retry.attempts, row.retry.retry_from);
            groups.insert(key, Item { message, attempts, retry_from, row: row.row });
        }
        true
    }
}
