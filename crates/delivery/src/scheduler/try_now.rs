//! Attempts that a user requests: `webhook_try_now()`, and pings and redeliveries behind an open
//! circuit. Pure.
//!
//! Such an attempt starts before its time. It must not start if the subscription is paused, and it
//! must not pass earlier deliveries of its order group.

use crate::{
    Now,
    feed::TryNow,
    message::Message,
    queue_rows::{Due, Item, RowState},
    scheduler::{Scheduler, work::Work},
    send_queue::NextSource,
};
use std::{sync::Arc, time::Duration};
use tracing::info;

impl Scheduler {
    /// Makes the waiting deliveries of a subscription due now.
    ///
    /// Retries beyond the horizon of the timers keep their time. They are the latest of more than
    /// [`TIMERS_MAX`](super::timers::TIMERS_MAX).
    pub(super) fn try_now(&mut self, wanted: TryNow, now: Now) {
        let Some(mut work) = self.work_or_new(wanted.subscription_id) else { return };
        if work.queue.is_locked {
            work.try_when_unlocked(wanted);
        } else if work.queue.is_open() {
            work.try_now(wanted.ignore_retry_after, now);
        }
    }
}

impl Work<'_> {
    /// Keeps the request until the lock is gone. The caller's transaction may have held the lock.
    fn try_when_unlocked(&mut self, wanted: TryNow) {
        let ignored = self.queue.tried_while_locked.is_some_and(|before| before.ignore_retry_after);
        let ignore_retry_after = ignored || wanted.ignore_retry_after;
        self.queue.tried_while_locked = Some(TryNow { ignore_retry_after, ..wanted });
    }

    pub fn try_now(&mut self, ignore_retry_after: bool, now: Now) {
        info!(subscription_id = self.id, "send_queue.tries_now");
        if ignore_retry_after {
            self.queue.paused_until = Duration::ZERO;
        }
        self.probe_now(now);
        // The ledger writes in order, so these entries follow those that are not committed yet.
        for (key, retry) in self.shared.timers.take(self.id) {
            self.queue.claim(key.event_id);
            self.put_due_aside(Due { event_id: key.event_id, retry });
        }
        self.list();
        self.ask();
    }

    /// Makes a probe of an open circuit due now.
    pub fn probe_now(&mut self, now: Now) {
        if self.queue.breaker.is_open() {
            self.queue.breaker.probe_now(now.at);
            self.list();
            self.ask();
        }
    }

    /// Takes a ping into memory as the next probe of an open circuit. Returns `false` if the ping
    /// must take the way of all events.
    pub fn takes_ping(&mut self, message: &Arc<Message>, window: u64, now: Now) -> bool {
        if !message.event().is_ping() || !self.queue.breaker.is_open() {
            return false;
        }
        if self.queue.is_locked {
            self.try_when_unlocked(TryNow { subscription_id: self.id, ignore_retry_after: false });
        }
        if !self.queue.is_open() {
            return false;
        }
        self.probe_now(now);
        if self.queue.groups.is_some() || !self.queue.fresh.is_empty() {
            return false;
        }
        let row = RowState::None { window, since: now.at };
        self.queue.fresh.push_back(Item { message: Arc::clone(message), attempts: 0, retry_from: 0, row });
        self.queue.next = NextSource::New;
        self.shared.owners.add_fresh(self.queue.shares.owner, 1);
        self.list();
        true
    }

    /// Makes a requested redelivery the next probe of an open circuit.
    pub fn probes_first(&mut self, event_id: i64, now: Now) {
        if !self.queue.breaker.is_open() {
            return;
        }
        let is_it = |item: &Item| item.message.event().id == event_id;
        if let Some(at) = self.queue.queued.iter().position(is_it)
            && let Some(item) = self.queue.queued.remove(at)
        {
            self.queue.queued.push_front(item);
            self.queue.next = NextSource::Queued;
        }
        self.probe_now(now);
    }
}
