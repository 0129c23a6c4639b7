//! Changes of subscriptions: closes, reopens, reorders, and removes send queues. Pure.

use crate::{
    Now,
    queue_rows::{Load, RowState},
    record::{ReceiverHealth, Record},
    scheduler::{Scheduler, work::Work},
    scope::Scope,
    send_queue::{batches::Batches, breaker::Breaker, groups},
    subscription::{Ordering, Subscription, Update, has_order},
};
use std::{sync::Arc, time::Duration};
use tracing::info;

impl Scheduler {
    /// Applies a new version of the subscription table.
    pub(super) fn update_subscriptions(&mut self, update: &Update, now: Now) {
        let changed = update.differences(&self.subscriptions);
        // An owner has a share as soon as it has a subscription.
        for subscription in changed.iter().filter_map(|(_, subscription)| subscription.as_ref()) {
            self.shared.owners.number(&subscription.owner);
        }
        let former: Vec<Option<Arc<Subscription>>> = changed
            .iter()
            .map(|(id, subscription)| match subscription {
                Some(subscription) => self.subscriptions.insert(*id, Arc::clone(subscription)),
                None => self.subscriptions.remove(id),
            })
            .collect();
        if !self.is_open {
            self.is_open = true;
            self.shared.effects.load(Load::ReceiverHealth);
            self.shared.effects.load(Load::Backlogged);
            self.shared.effects.load(Load::Ordered);
        }
        // This table is newer than the one without them. A subscription that is still missing is
        // gone, and so are its rows.
        for (key, retry) in std::mem::take(&mut self.strays) {
            if self.subscriptions.contains_key(&key.subscription_id) {
                self.shared.timers.insert(key, retry);
            }
        }
        let mut removed = Vec::new();
        for ((id, subscription), before) in changed.iter().zip(&former) {
            let before = before.as_ref();
            let Some(subscription) = subscription else {
                self.drop_send_queue(*id);
                removed.push(*id);
                continue;
            };
            if let Some(mut work) = self.work(*id) {
                work.alter(subscription, before, now);
            } else if before.is_some_and(|before| !before.is_open())
                && subscription.is_open()
                && let Some(mut work) = self.work_or_new(*id)
            {
                work.reopen();
            }
        }
        log_removed(&removed);
    }

    fn drop_send_queue(&mut self, id: i64) {
        self.shared.timers.forget(id);
        if let Some(mut queue) = self.send_queues.remove(&id) {
            self.shared.owners.remove_fresh(queue.shares.owner, queue.fresh_len());
            self.shared.destinations.leave(queue.shares.destination);
            self.shared.agenda.forget(&queue);
            let in_groups = queue.groups.as_mut().map(|groups| groups.take_fresh()).unwrap_or_default();
            for item in queue.fresh.into_iter().chain(in_groups) {
                if let RowState::None { window, .. } = item.row {
                    self.shared.progress.resolve(window, 1);
                }
            }
        }
        self.shared.effects.record(Record::Forget { subscription_id: id });
    }
}

impl Work<'_> {
    /// Applies a changed subscription to its send queue.
    fn alter(&mut self, subscription: &Arc<Subscription>, before: Option<&Arc<Subscription>>, now: Now) {
        let was_open = self.queue.is_open();
        let was_enabled = std::mem::replace(&mut self.queue.subscription, Arc::clone(subscription)).enabled;
        self.take_shares();
        self.queue.has_slow_filter = false;
        self.queue.bucket.limit(subscription.rate_limit, now.at);
        self.queue.disabling.altered(subscription.enabled);
        let is_open = self.queue.is_open();
        if before.is_some_and(|before| has_other_order(before, subscription)) {
            self.reorder();
        }
        let is_elsewhere = before.is_some_and(|before| before.url != subscription.url);
        if is_elsewhere {
            self.queue.bucket.forget_refusals();
            self.queue.pacing.restart();
        }
        self.queue.batches = Batches::default();
        let is_reset =
            before.is_some_and(|before| before.failures_reset_us != subscription.failures_reset_us);
        let is_narrowed = before.is_some_and(|before| before.audience() != subscription.audience())
            && subscription.scope == Scope::Own;
        if is_elsewhere || is_reset || (subscription.enabled && !was_enabled) {
            self.forgive();
        }
        match (was_open, is_open) {
            (true, false) => self.close(),
            (false, true) => self.reopen(),
            // It was paused and resumed in one transaction, which may have discarded queued
            // deliveries. Or it has another owner or scope: what may still be delivered comes back
            // from the table.
            (true, true) if is_reset || is_narrowed => {
                self.close();
                self.reopen();
            }
            _ => {
                self.list();
            }
        }
    }

    /// Lets the send queue share the limits of its present owner and host.
    fn take_shares(&mut self) {
        let before = self.queue.shares;
        let mut shares = self.shared.shares(&self.queue.subscription);
        self.shared.destinations.leave(before.destination);
        if shares.owner != before.owner {
            let fresh = self.queue.fresh_len();
            self.shared.owners.remove_fresh(before.owner, fresh);
            self.shared.owners.add_fresh(shares.owner, fresh);
            // It is listed again, with the other send queues of its owner.
            self.queue.listed.ready = false;
        }
        if shares.destination == before.destination {
            shares.waits_for_host = before.waits_for_host;
        } else if before.waits_for_host {
            self.queue.listed.ready = false;
        }
        self.queue.shares = shares;
    }

    /// Applies a new order. All waiting deliveries are read again under the new order.
    fn reorder(&mut self) {
        self.spill_all();
        self.queue.groups = groups(&self.queue.subscription, self.shared.limits.order_groups_max);
        self.restart_backlog();
        self.shared.effects.record(Record::Unblock { subscription_id: self.id });
    }

    /// Resets the failures, because the subscription has been enabled again or has another
    /// receiver.
    fn forgive(&mut self) {
        self.queue.paused_until = Duration::ZERO;
        if *self.queue.breaker.health() != ReceiverHealth::default() {
            self.queue.breaker = Breaker::default();
            self.queue.pacing.restart();
            let (health, event) = (ReceiverHealth::default(), None);
            self.shared.effects.record(Record::ReceiverHealth { subscription_id: self.id, health, event });
        }
    }
}

/// Logs one line for all subscriptions that were deleted together.
fn log_removed(ids: &[i64]) {
    match ids {
        [] => {}
        [subscription_id] => info!(subscription_id, "send_queue.removed"),
        [first, .., last] => {
            info!(subscriptions = ids.len(), first_id = first, last_id = last, "send_queues.removed");
        }
    }
}

/// Reports whether order groups must be built again. With order groups, this includes a switch of
/// batches or compaction, which changes the deliveries that go together.
fn has_other_order(before: &Subscription, after: &Subscription) -> bool {
    let order =
        |s: &Subscription| (has_order(s), s.ordering == Ordering::Strict, s.batch_size > 1 || s.compact);
    has_order(before) != has_order(after) || (has_order(after) && order(before) != order(after))
}
