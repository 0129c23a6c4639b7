//! Health of receivers: the effects of outcomes on the circuit, on pauses, and on subscriptions
//! that end.
//!
//! [`Work::judge`] applies an outcome to the pacing and the circuit of a send queue, before
//! the attempt is recorded. [`Work::follow`] carries out the result after it is recorded: it
//! writes the state of the receiver, gives deliveries back to the table, or disables the
//! subscription.
//!
//! Failures that are not the receiver's fault must not be charged to it: those of our own settings
//! ([`Verdict::Ours`]), shortages of this machine ([`Verdict::Shortage`]), and those of single
//! events ([`Verdict::Rejected`]). An event type that is always rejected must not stop the others.

use crate::{
    Now,
    outcome::{Class, Outcome, Verdict},
    record::{ReceiverEvent, ReceiverHealth, Record},
    scheduler::{InFlight, Scheduler, work::Work},
    send_queue::{LastOutcome, SendQueue, breaker::CircuitChange},
};
use std::time::Duration;
use tracing::{info, warn};

/// Longest pause of a whole send queue. The delivery that was answered with Retry-After waits for
/// the full time, but one answer must not stop a subscription for a day.
pub const PAUSE_MAX: Duration = Duration::from_secs(3600);

pub const GONE: &str = "the receiver answered 410 Gone";
pub const NEVER_WELL: &str = "the receiver failed for too long";

/// The effects of an attempt on its receiver.
#[derive(Debug)]
pub(super) struct Judgement {
    change: CircuitChange,
    health: ReceiverHealth,
    event: Option<ReceiverEvent>,
    is_gone: bool,
}

impl Scheduler {
    /// Restores the state of receivers from the table.
    pub(super) fn restore_health(&mut self, health: Vec<(i64, ReceiverHealth)>) {
        for (id, health) in health {
            let Some(mut work) = self.work_or_new(id) else { continue };
            // An outcome since the start takes precedence over an old row.
            if *work.queue.breaker.health() == ReceiverHealth::default() {
                work.queue.breaker.restore(health, &work.shared.limits.periods);
            }
            if work.queue.breaker.is_open() {
                work.spill_all();
            }
        }
    }
}

impl Work<'_> {
    /// Counts an attempt out. Returns its effects on the receiver, if there are any.
    pub fn judge(&mut self, flight: &InFlight, outcome: &Outcome, now: Now) -> Option<Judgement> {
        let periods = self.shared.limits.periods;
        let verdict = outcome.verdict();
        pace(self.queue, flight, outcome, verdict, now.at);
        let quiet = outcome.quiet().map(|wait| now.at + wait.min(PAUSE_MAX));
        if let Some(until) = quiet.filter(|until| *until > self.queue.paused_until) {
            self.queue.paused_until = until;
            info!(
                subscription_id = self.id,
                pause_ms = (until - now.at).as_millis() as u64,
                "send_queue.pauses"
            );
        }
        let change = match verdict {
            // The receiver has answered, and means this event.
            Verdict::Succeeded | Verdict::Rejected => self.queue.breaker.succeeded(),
            Verdict::Ours | Verdict::Shortage => {
                self.queue.breaker.passed(flight.is_probe, now.at, &periods);
                CircuitChange::default()
            }
            Verdict::Retry | Verdict::Gone => {
                self.queue.breaker.failed(flight.is_probe, now.at, now.wall_us, &periods)
            }
        };
        let is_gone = verdict == Verdict::Gone;
        if change == CircuitChange::default() && !is_gone {
            return None;
        }
        let health = *self.queue.breaker.health();
        let event = match change.recovered_from_us {
            Some(failing_since_us) => Some(ReceiverEvent::Recovered { failing_since_us }),
            None => change.is_failing.then(|| ReceiverEvent::Failing {
                failing_since_us: health.failing_since_us.unwrap_or(now.wall_us),
                failures: health.consecutive_failures,
                status: outcome.status.map(u16::cast_signed),
                error: outcome.error.clone(),
            }),
        };
        Some(Judgement { change, health, event, is_gone })
    }

    /// Carries out the effects, after the attempt itself has been recorded.
    pub fn follow(&mut self, judgement: Judgement) {
        let (subscription_id, Judgement { change, health, event, is_gone }) = (self.id, judgement);
        if change.opened {
            warn!(subscription_id, failures = health.consecutive_failures, "circuit.opened");
            self.spill_all();
        }
        if change.closed {
            info!(subscription_id, "circuit.closed");
            self.queue.pacing.restart();
        }
        if change.is_changed || event.is_some() {
            self.shared.effects.record(Record::ReceiverHealth { subscription_id, health, event });
        }
        if is_gone || change.disables {
            self.disable(if is_gone { GONE } else { NEVER_WELL });
        }
    }

    /// Stops sending at once. The table is updated afterwards.
    fn disable(&mut self, reason: &'static str) {
        if !self.queue.subscription.enabled || !self.queue.disabling.begin() {
            return;
        }
        warn!(subscription_id = self.id, reason, "subscription.disabled");
        self.close();
        self.shared.timers.forget(self.id);
        // The record below makes backlog of all its rows that wait for their time.
        let entry = self.shared.effects.last_entry();
        if let Some(groups) = &mut self.queue.groups {
            groups.park(entry);
        }
        self.shared.effects.record(Record::Disable { subscription_id: self.id, reason });
    }

    /// Records that the table has the subscription disabled, unless it has been enabled again
    /// since.
    pub fn disabled_in_table(&mut self) {
        self.queue.disabling.committed();
        // The rows that waited for their time are backlog now.
        self.restart_backlog();
        self.list();
    }
}

/// Counts the request out, and adjusts the concurrency and the rate to the outcome.
fn pace(send_queue: &mut SendQueue, flight: &InFlight, outcome: &Outcome, verdict: Verdict, now: Duration) {
    let is_full = send_queue.end(flight.bytes);
    let is_failing = !matches!(verdict, Verdict::Succeeded | Verdict::Rejected);
    let last = if is_failing { LastOutcome::Failed } else { LastOutcome::Succeeded };
    if std::mem::replace(&mut send_queue.last_outcome, last) != last {
        let (subscription_id, class) = (send_queue.subscription.id, outcome.class.as_str());
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
        Verdict::Succeeded => {
            send_queue.pacing.succeeded(
                flight.number,
                outcome.duration,
                is_full,
                send_queue.subscription.max_in_flight,
            );
        }
        // The time of a refusal does not show how fast the receiver works.
        Verdict::Rejected | Verdict::Ours => {}
        // Fewer requests at once need fewer descriptors, ports and lookups.
        Verdict::Shortage => drop(send_queue.pacing.pushed_back(flight.number)),
        _ if !overwhelmed => {}
        _ => {
            // Of the requests that were in flight together, only the first counts.
            if send_queue.pacing.pushed_back(flight.number) && outcome.status == Some(429) {
                send_queue.bucket.halve(now);
            }
        }
    }
}
