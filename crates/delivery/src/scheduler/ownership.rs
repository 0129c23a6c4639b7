//! Deliveries stay with the owner of their event.
//!
//! The reader routes by the rule at the moment of the capture. A subscription can have another
//! owner or scope by the time of the delivery, and an event type can have become internal. Such a
//! delivery ends: it is not taken into memory, and its queue row is removed when it is read. A
//! change first moves the deliveries in memory to the queue. So each has a row until it ends, and
//! no checkpoint passes an open one.

use crate::{
    event::Event,
    queue_rows::{Filtered, QueuedRow},
    scheduler::{Scheduler, work::Work},
    scope::{InternalTypes, Scope},
    send_queue::SendQueue,
};
use std::sync::Arc;
use tracing::debug;

impl Scheduler {
    /// Takes the event out of a row that the subscription may no longer get. Such a row is removed.
    pub(super) fn withhold(&self, row: &mut QueuedRow) {
        let Some(subscription) = self.subscriptions.get(&row.subscription_id) else { return };
        let may_get = |event: &Event| subscription.may_get(event, &self.shared.internal);
        if row.message.as_ref().is_some_and(|message| !may_get(message.event())) {
            debug!(
                subscription_id = row.subscription_id,
                sequence = row.event_id,
                "delivery.is_of_another_owner"
            );
            (row.message, row.filtered) = (None, Filtered::FilteredOut);
        }
    }

    /// Applies a new list of internal types.
    pub(super) fn set_internal(&mut self, internal: Arc<InternalTypes>) {
        let before = std::mem::replace(&mut self.shared.internal, internal);
        if self.shared.internal.is_subset(&before) {
            return;
        }
        let Self { send_queues, shared, .. } = self;
        let is_affected = |queue: &SendQueue| queue.subscription.scope == Scope::Own && queue.is_open();
        for (id, queue) in send_queues.iter_mut().filter(|(_, queue)| is_affected(queue)) {
            Work { id: *id, queue, shared }.reread();
        }
    }
}

impl Work<'_> {
    /// Reports whether an event may be delivered to the subscription as it is now.
    pub fn may_get(&self, event: &Event) -> bool {
        self.queue.subscription.may_get(event, &self.shared.internal)
    }

    /// Moves all waiting deliveries to the queue, and reads them again from there.
    fn reread(&mut self) {
        if self.queue.fresh_len() + self.queue.queued_len() + self.queue.due.len() == 0 {
            return;
        }
        self.spill_all();
        self.restart_backlog();
        self.list();
    }
}
