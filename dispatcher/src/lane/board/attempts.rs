//! Attempts: which are started, and what follows from how they end.

use super::{Board, Content, Flight, Start};
use crate::{
    delivery::{
        outcome::{Class, Outcome, Verdict},
        retry_policy,
    },
    lane::{
        Now,
        lane::{Fresh, Lane, Queued},
        timers::{Key, Retry},
    },
    ledger::entry::{Attempt, Entry, QueueChange, State},
};
use std::{sync::Arc, time::Duration};
use tracing::{debug, info, warn};

/// Attempts that a lane starts in its turn.
const TURN: usize = 32;

/// What one lane may have under way when half of all sockets are in use: slow receivers then share the rest.
const CROWDED_MAX: usize = 4;

/// One lane's share of the memory for what is under way.
const LANE_SHARE: usize = 8;

impl Board {
    /// Starts as much as the lanes and the sum of them allow, in turn.
    pub(super) fn start(&mut self, now: Now) {
        if self.unconfirmed() >= super::UNCONFIRMED_MAX {
            return;
        }
        let mut turns = self.ready.len();
        while turns > 0 && self.flights.len() < self.limits.in_flight_max {
            let Some(id) = self.ready.pop_front() else { break };
            turns -= 1;
            let crowded = self.flights.len() >= self.limits.in_flight_max / 2;
            let free = self.limits.in_flight_max - self.flights.len();
            let bytes_max = self.limits.memory_bytes_max / LANE_SHARE;
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.is_listed = false;
            let mut turn = lane.allowance(bytes_max).min(TURN).min(free);
            if crowded {
                turn = turn.min(CROWDED_MAX.saturating_sub(lane.in_flight));
            }
            let mut started = 0;
            while started < turn && lane.allowance(bytes_max) > 0 {
                let Some((flight, start)) = begin(lane, now) else { break };
                self.started += 1;
                self.fresh -= usize::from(!flight.is_queued);
                let key = self.flights.insert(flight);
                self.out.starts.push(Start { key, ..start });
                started += 1;
            }
            if started == TURN && lane.has_work() {
                lane.is_listed = true;
                self.ready.push_back(id);
                turns += 1;
            }
        }
    }

    /// An attempt has ended. `unit` is evenly spread over 0..1.
    pub fn finished(&mut self, key: usize, outcome: Outcome, now: Now, unit: f64) {
        let Some(flight) = self.flights.try_remove(key) else { return };
        let event = flight.message.event();
        let (id, event_id, event_slot) = (flight.subscription_id, event.id, event.slot);
        let attempts = flight.attempts.saturating_add(1);
        let verdict = outcome.verdict();
        let next_at_us = match self.lanes.get_mut(&id) {
            Some(lane) => {
                pace(lane, &flight, &outcome, verdict, now.at);
                let failures =
                    usize::try_from(attempts.saturating_sub(flight.retry_from)).unwrap_or_default();
                let wait = match verdict {
                    Verdict::Succeeded => None,
                    Verdict::Retry | Verdict::Ours => {
                        retry_policy::wait(&lane.subscription.retry, failures, outcome.retry_after, unit)
                    }
                };
                wait.map(|wait| {
                    now.wall_us.saturating_add(i64::try_from(wait.as_micros()).unwrap_or(i64::MAX))
                })
            }
            None => None,
        };
        let (due_us, retry_from) =
            if flight.again { (Some(now.wall_us), attempts) } else { (next_at_us, flight.retry_from) };
        if verdict != Verdict::Succeeded {
            debug!(
                subscription_id = id,
                sequence = event_id,
                attempt = attempts,
                class = outcome.class.as_str(),
                "attempt.failed"
            );
            if due_us.is_none() {
                info!(subscription_id = id, sequence = event_id, attempts, "delivery.exhausted");
            }
        }
        let queue = match due_us {
            Some(next_at_us) if self.lanes.contains_key(&id) => {
                QueueChange::Put { state: State::Waiting { next_at_us }, attempts, retry_from }
            }
            _ if flight.is_queued => QueueChange::Delete,
            _ => QueueChange::Keep,
        };
        // The hold on the row ends when the entry is confirmed; a delivery without a row is held from here on.
        if queue != QueueChange::Keep
            && !flight.is_queued
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.hold(event_id);
        }
        let attempt = Some(Attempt { number: attempts, outcome, next_at_us });
        self.entry(Entry {
            subscription_id: id,
            event_id,
            event_slot,
            window: flight.window,
            attempt,
            queue,
        });
        if let QueueChange::Put { state: State::Waiting { next_at_us }, .. } = queue {
            let retry = Retry { event_slot, attempts, retry_from, after_entry: self.entries_out };
            self.timers.insert(Key { next_at_us, subscription_id: id, event_id }, retry);
        }
        self.list(id);
        self.ask(id);
    }
}

/// Takes the lane's next delivery; what has waited in the queue goes first.
fn begin(lane: &mut Lane, now: Now) -> Option<(Flight, Start)> {
    let url = lane.subscription.url.clone()?;
    let (message, window, attempts, retry_from) = match lane.queued.pop_front() {
        Some(Queued { message, attempts, retry_from }) => (message, None, attempts, retry_from),
        None => lane.fresh.pop_front().map(|Fresh { message, window, .. }| (message, Some(window), 0, 0))?,
    };
    let bytes = message.bytes();
    let start = Start {
        key: 0,
        url,
        content: Content::One(Arc::clone(&message)),
        subscription: Arc::clone(&lane.subscription),
        signers: lane.subscription.signers(now.wall_us),
    };
    let flight = Flight {
        subscription_id: lane.subscription.id,
        message,
        bytes,
        number: lane.begin(bytes),
        since: now.at,
        attempts,
        retry_from,
        window,
        is_queued: window.is_none(),
        again: false,
    };
    Some((flight, start))
}

/// What the outcome says about how much the receiver can take.
fn pace(lane: &mut Lane, flight: &Flight, outcome: &Outcome, verdict: Verdict, now: Duration) {
    let is_full = lane.end(flight.bytes);
    let is_failing = verdict != Verdict::Succeeded;
    if is_failing != lane.is_failing {
        lane.is_failing = is_failing;
        let (subscription_id, class) = (lane.subscription.id, outcome.class.as_str());
        if is_failing {
            warn!(subscription_id, class, status = outcome.status, error = outcome.error, "receiver.fails");
        } else {
            info!(subscription_id, "receiver.recovers");
        }
    }
    let overwhelmed =
        matches!(outcome.class, Class::Timeout | Class::Connect | Class::Dns | Class::Tls | Class::Protocol)
            || matches!(outcome.status, Some(429 | 502 | 503 | 504));
    match verdict {
        Verdict::Ours => {}
        Verdict::Succeeded | Verdict::Retry if !overwhelmed => {
            lane.pacing.answered(now, outcome.duration, is_full, lane.subscription.in_flight_max);
        }
        Verdict::Succeeded | Verdict::Retry => lane.pacing.pushed_back(flight.number),
    }
}
