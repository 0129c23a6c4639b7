//! The effects of outcomes.
//!
//! [`Scheduler::finished`] turns an outcome into ledger entries: the attempt, the change of the
//! queue row, and the next retry.

use crate::{
    Now,
    outcome::{Outcome, TOO_LARGE, Verdict},
    queue_rows::{Retry, RetryKey},
    record::{Attempt, Entry, Exhausted, QueueChange, State},
    retry_policy,
    scheduler::{Delivery, InFlight, Scheduler, order_groups::Moved, work::Work},
};
use event_type::is_reserved;
use std::time::Duration;
use tracing::debug;

/// Wait after an attempt that this machine could not make.
pub const SHORTAGE_WAIT: Duration = Duration::from_secs(10);

impl Scheduler {
    /// Applies the outcome of an attempt. `unit` is evenly distributed over 0..1.
    pub fn finished(&mut self, key: usize, outcome: Outcome, now: Now, unit: f64) {
        let Some(flight) = self.flights.try_remove(key) else { return };
        let id = flight.subscription_id;
        self.shared.owners.end(flight.shares.owner);
        self.shared.destinations.end(flight.shares.destination);
        self.list_for_host(flight.shares.destination);
        let is_split = flight.events > 1 && outcome.verdict() == Verdict::Rejected;
        let judged = self.work(id).and_then(|mut work| {
            work.note_rejection(&flight, &outcome);
            work.judge(&flight, &outcome, now)
        });
        let InFlight { first, more, .. } = flight;
        // The entries are in order of events, because the ledger writes in order. All of them come
        // before the entries of deliveries that go back behind them. The one response is stored
        // with the first event.
        let rest = (!more.is_empty()).then(|| Outcome { response: None, ..outcome.clone() });
        let mut moved = Vec::from_iter(self.conclude(id, first, (outcome, is_split), now, unit));
        if let Some(rest) = rest {
            for delivery in more {
                moved.extend(self.conclude(id, delivery, (rest.clone(), is_split), now, unit));
            }
        }
        let Some(mut work) = self.work(id) else { return };
        moved.into_iter().for_each(|moved| work.move_group(moved));
        if let Some(judgement) = judged {
            work.follow(judgement);
        }
        work.list();
        work.ask();
    }

    /// Applies the outcome to one event of the request. Returns the effect on its order group.
    ///
    /// After a batch that is split, the delivery is attempted again at once, in a smaller one. This
    /// uses up nothing of its retry schedule. Neither does a shortage of this machine.
    fn conclude(
        &mut self,
        id: i64,
        delivery: Delivery,
        (outcome, is_split): (Outcome, bool),
        now: Now,
        unit: f64,
    ) -> Option<Moved> {
        let event = delivery.message.event();
        let (event_id, place) = (event.id, event.place());
        let attempts = delivery.attempts.saturating_add(1);
        let verdict = outcome.verdict();
        let send_queue = self.send_queues.get_mut(&id);
        let next_at_us = send_queue.as_ref().and_then(|send_queue| {
            let failures = usize::try_from(attempts.saturating_sub(delivery.retry_from)).unwrap_or_default();
            let wait = match verdict {
                Verdict::Succeeded | Verdict::Gone => None,
                Verdict::Retry | Verdict::Rejected | Verdict::Ours => {
                    retry_policy::wait(&send_queue.subscription.retry, failures, outcome.retry_after, unit)
                }
                Verdict::Shortage => retry_policy::wait(&[SHORTAGE_WAIT], 1, None, unit),
            };
            wait.map(|wait| now.wall_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)))
        });
        // The subscription may have another owner by now. Then nothing follows this attempt.
        let is_own = send_queue
            .as_ref()
            .is_none_or(|send_queue| send_queue.subscription.may_get(event, &self.shared.internal));
        let is_parked = verdict == Verdict::Gone && send_queue.is_some() && !delivery.again && is_own;
        let is_at_once = (delivery.again || is_split) && is_own;
        let next_at_us = if is_split { Some(now.wall_us) } else { next_at_us }.filter(|_| is_own);
        let (due_us, retry_from) = match verdict {
            _ if is_at_once => (Some(now.wall_us), attempts),
            Verdict::Shortage => (next_at_us, delivery.retry_from + (attempts - delivery.attempts)),
            _ => (next_at_us, delivery.retry_from),
        };
        let is_exhausted = verdict != Verdict::Succeeded && due_us.is_none() && !is_parked && is_own;
        if verdict != Verdict::Succeeded {
            let class = outcome.class.as_str();
            debug!(subscription_id = id, sequence = event_id, attempt = attempts, class, "attempt.failed");
        }
        if is_exhausted {
            let subscription = self.subscriptions.get(&id).map(|subscription| &**subscription);
            self.shared.given_up.note(id, subscription, (event_id, outcome.status), now.at);
        }
        // A delivery that was requested by hand obeys no order.
        let groups = send_queue.as_ref().and_then(|send_queue| send_queue.groups.as_ref());
        let order_key = delivery
            .order_key
            .filter(|key| !delivery.again && groups.is_some_and(|groups| groups.contains(*key, event_id)));
        let is_new = delivery.makes_row;
        let put = |state| QueueChange::Put { state, attempts, retry_from, order_key, is_new };
        let queue = match due_us {
            Some(next_at_us) if send_queue.is_some() => put(State::Waiting { next_at_us }),
            _ if is_parked => put(State::Backlog),
            _ if delivery.is_queued => QueueChange::Delete,
            _ => QueueChange::Keep,
        };
        // The claim on the row ends when the entry is confirmed. A delivery without a row is
        // claimed from here on.
        if let Some(send_queue) = send_queue {
            if matches!(queue, QueueChange::Keep | QueueChange::Delete) {
                send_queue.batches.forget(event_id);
            }
            if queue != QueueChange::Keep && !delivery.is_queued {
                send_queue.claim(event_id);
            }
            if is_parked {
                send_queue.backlog.spilled(event_id);
            }
        }
        let exhausted = (is_exhausted && !is_reserved(&event.event_type)).then(|| {
            Box::new(Exhausted { event_id: delivery.message.id(), event_type: event.event_type.clone() })
        });
        let attempt = Some(Attempt { number: attempts, outcome, next_at_us });
        let window = delivery.window;
        let entry = Entry { subscription_id: id, event_id, place, window, attempt, queue, exhausted };
        let entry = self.shared.effects.entry(entry);
        if let QueueChange::Put { state: State::Waiting { next_at_us }, .. } = queue {
            let retry = Retry { place, attempts, retry_from, after_entry: entry, order_key };
            self.shared.timers.insert(RetryKey { next_at_us, subscription_id: id, event_id }, retry);
        }
        let stays = order_key.is_some();
        delivery.order_key.map(|order_key| Moved { order_key, event_id, queue, stays, entry })
    }
}

impl Work<'_> {
    /// Limits the batches with these events, if the receiver rejected the request.
    fn note_rejection(&mut self, flight: &InFlight, outcome: &Outcome) {
        if outcome.verdict() != Verdict::Rejected || self.queue.subscription.batch_size <= 1 {
            return;
        }
        if outcome.status == Some(TOO_LARGE) && flight.events > 1 {
            self.queue.batches.too_large(flight.bytes);
        }
        for delivery in flight.deliveries() {
            self.queue.batches.reject(delivery.message.event().id, flight.events);
        }
    }
}
