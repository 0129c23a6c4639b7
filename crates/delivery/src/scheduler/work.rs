//! The steps on one send queue: which deliveries leave memory for the queue table, and which
//! return. Pure.
//!
//! With an order, no delivery may go past older deliveries of its send queue. So each step that
//! writes a row into the backlog also notes it in the order group, and no page of the backlog is
//! read before that row is committed.

use crate::{
    event::Place,
    feed::Request,
    message::Message,
    queue_rows::{Due, Item, Load, Retry, RowState},
    record::{Entry, QueueChange, State},
    scheduler::{Shared, order_key},
    send_queue::SendQueue,
};
use tracing::{debug, info};

/// One send queue, with the parts of the scheduler that a step may change.
pub(super) struct Work<'a> {
    pub id: i64,
    pub queue: &'a mut SendQueue,
    pub shared: &'a mut Shared,
}

impl Work<'_> {
    /// Lists the send queue if it has deliveries to start. Reports whether it was added.
    pub fn list(&mut self) -> bool {
        self.shared.agenda.add_ready(self.queue)
    }

    /// Lists the send queue if it may want rows.
    pub fn ask(&mut self) {
        self.shared.agenda.add_asking(self.queue);
    }

    /// Writes a row in the backlog for a delivery without a row. Returns the number of the entry.
    pub fn spill_one(&mut self, message: &Message, window: u64, state: State) -> u64 {
        let event = message.event();
        self.queue.backlog.spilled(event.id);
        // A backlog that does not drain needs no rate.
        if self.queue.is_open() && !self.queue.breaker.is_open() {
            self.shared.backlog_rate.added(self.shared.now.at);
        }
        let order_key = order_key(&self.queue.subscription, message);
        self.ask();
        let entry = self.shared.effects.entry(Entry {
            subscription_id: self.id,
            event_id: event.id,
            place: event.place(),
            window: Some(window),
            attempt: None,
            queue: QueueChange::Put { state, attempts: 0, retry_from: 0, order_key, is_new: true },
            exhausted: None,
        });
        // Before the recovery is complete, the table may get a later row of the group before this
        // one.
        if !self.shared.is_recovered {
            self.queue.page_after = entry;
        }
        entry
    }

    /// Moves a delivery without a row from memory to the backlog. It keeps its place in its group.
    pub fn spill_item(&mut self, item: &Item) {
        let RowState::None { window, .. } = item.row else { return };
        let entry = self.spill_one(&item.message, window, State::Backlog);
        let key = order_key(&self.queue.subscription, &item.message);
        if let (Some(groups), Some(key)) = (&mut self.queue.groups, key) {
            groups.restore_aside(key, item.message.event().id, entry);
            self.queue.page_after = entry;
        }
    }

    /// Moves all deliveries without a row to the backlog. The send queue takes them back from
    /// there.
    pub fn spill_fresh(&mut self) {
        if self.queue.fresh_len() == 0 {
            return;
        }
        self.queue.spill();
        let mut fresh = self.queue.groups.as_mut().map(|groups| groups.take_fresh()).unwrap_or_default();
        fresh.extend(std::mem::take(&mut self.queue.fresh));
        self.shared.owners.remove_fresh(self.queue.shares.owner, fresh.len());
        debug!(subscription_id = self.id, events = fresh.len(), "send_queue.spills");
        for item in &fresh {
            self.spill_item(item);
        }
    }

    /// Moves all waiting deliveries from memory to the table. New events go there too until the
    /// rows have been taken back.
    pub fn spill_all(&mut self) {
        self.spill_fresh();
        self.queue.spill();
        let (queued, due) = (std::mem::take(&mut self.queue.queued), std::mem::take(&mut self.queue.due));
        let in_groups = self.queue.groups.as_mut().map(|groups| groups.take_queued()).unwrap_or_default();
        for item in queued {
            self.lay_back(&item, None);
        }
        for item in in_groups {
            let key = order_key(&self.queue.subscription, &item.message);
            self.lay_back(&item, key);
        }
        for due in due {
            self.put_due_aside(due);
        }
        self.ask();
    }

    /// Gives a row back to the table. The row there is usually up to date.
    fn lay_back(&mut self, item: &Item, order_key: Option<i64>) {
        let event_id = item.message.event().id;
        match (item.row, order_key, &mut self.queue.groups) {
            (RowState::Backlog, _, _) => {
                self.queue.backlog.again(event_id);
                self.queue.release(event_id);
            }
            (RowState::Blocked, Some(key), Some(groups)) => {
                groups.blocked(key, 0);
                groups.finish(key, event_id, 0);
                groups.forget_asides_behind(key, event_id);
                self.queue.release(event_id);
            }
            _ => self.put_aside(item, order_key),
        }
    }

    /// Makes a claimed row backlog.
    pub fn put_aside(&mut self, item: &Item, order_key: Option<i64>) {
        let event = item.message.event();
        let (attempts, retry_from) = (item.attempts, item.retry_from);
        let is_new = item.row.is_missing();
        let queue = QueueChange::Put { state: State::Backlog, attempts, retry_from, order_key, is_new };
        self.put_row_aside(event.id, event.place(), queue, order_key);
    }

    /// Makes a retry backlog that has not been read.
    pub fn put_due_aside(&mut self, due: Due) {
        let Retry { place, attempts, retry_from, order_key, .. } = due.retry;
        let queue =
            QueueChange::Put { state: State::Backlog, attempts, retry_from, order_key, is_new: false };
        self.put_row_aside(due.event_id, place, queue, order_key);
    }

    fn put_row_aside(&mut self, event_id: i64, place: Place, queue: QueueChange, order_key: Option<i64>) {
        let (subscription_id, window, attempt, exhausted) = (self.id, None, None, None);
        let entry = Entry { subscription_id, event_id, place, window, attempt, queue, exhausted };
        let entry = self.shared.effects.entry(entry);
        self.queue.release(event_id);
        self.queue.backlog.spilled(event_id);
        self.queue.page_after = entry;
        if let (Some(groups), Some(key)) = (&mut self.queue.groups, order_key) {
            groups.put_aside(key, event_id, entry);
        }
        self.ask();
    }

    /// Reads the backlog from its beginning.
    pub fn restart_backlog(&mut self) {
        if !self.queue.is_spilling() && self.queue.groups.is_some() {
            // New deliveries in memory are younger than the backlog.
            self.spill_fresh();
        }
        self.queue.spill();
        self.queue.backlog.restart();
        self.ask();
    }

    /// Closes the send queue. Its waiting deliveries go to the queue table.
    pub fn close(&mut self) {
        info!(subscription_id = self.id, "send_queue.closed");
        self.spill_all();
    }

    /// Reopens the send queue. It takes back its rows from the queue table.
    pub fn reopen(&mut self) {
        info!(subscription_id = self.id, "send_queue.reopened");
        self.restart_backlog();
        self.list();
    }

    /// Closes a send queue whose filter the queue reader found too slow. It stays closed until the
    /// subscription changes; then the table decides.
    pub fn hold_slow_filter(&mut self) {
        let was_open = self.queue.is_open();
        self.queue.has_slow_filter = true;
        if was_open {
            self.close();
        }
    }

    /// Closes a send queue whose entries wait for the lock of another session. While it is closed,
    /// it makes no attempt whose result would wait too, and reads no row that such an entry
    /// changes.
    pub fn hold_locked(&mut self) {
        let was_open = self.queue.is_open();
        self.queue.is_locked = true;
        if was_open {
            self.close();
        }
    }

    /// Reopens the send queue after its entries were committed.
    pub fn release_locked(&mut self) {
        self.queue.is_locked = false;
        for event_id in std::mem::take(&mut self.queue.asked_while_locked) {
            let request = Request { subscription_id: self.id, event_id };
            self.shared.effects.load(Load::Request { request, even_without_row: true });
        }
        let wanted = self.queue.tried_while_locked.take();
        if self.queue.is_open() {
            self.reopen();
            if let Some(wanted) = wanted {
                self.try_now(wanted.ignore_retry_after, self.shared.now);
            }
        }
    }
}
