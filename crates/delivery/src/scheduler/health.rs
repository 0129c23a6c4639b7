//! Health of receivers: the effects of outcomes on the circuit, on pauses, and on subscriptions
//! that end.
//!
//! [`Scheduler::judge`] applies an outcome to the pacing and the circuit of a send queue, before the
//! attempt is recorded. [`Scheduler::follow`] carries out the result after it is recorded: it writes
//! the state of the receiver, gives deliveries back to the table, or disables the subscription.
//!
//! Failures that are not the receiver's fault ([`Verdict::Ours`]) must not be charged to it.

use crate::{
    lane::breaker::CircuitChange,
    outcome::{Class, Outcome, Verdict},
    queue_rows::RowState,
    record::{ReceiverEvent, ReceiverHealth},
    scheduler::{InFlight, Item, Lane, Now, Record, Scheduler, order_key},
};
use std::time::Duration;
use tracing::{info, warn};

/// Longest pause of a whole send queue. The delivery that was answered with Retry-After waits for
/// the full time, but one answer must not stop a subscription for a day.
pub const PAUSE_MAX: Duration = Duration::from_secs(3600);

pub const GONE: &str = "the receiver answered 410 Gone";
pub const NEVER_WELL: &str = "nothing but failures for too long";

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
            let Some(lane) = self.lane(id) else { continue };
            // An outcome since the start takes precedence over an old row.
            if *lane.breaker.health() == ReceiverHealth::default() {
                lane.breaker.restore(health);
            }
            if lane.breaker.is_open() {
                self.spill_all(id);
            }
        }
    }

    /// Counts an attempt out. Returns its effects on the receiver, if there are any.
    pub(super) fn judge(&mut self, flight: &InFlight, outcome: &Outcome, now: Now) -> Option<Judgement> {
        let periods = self.limits.periods;
        let id = flight.subscription_id;
        let lane = self.lanes.get_mut(&id)?;
        let verdict = outcome.verdict();
        pace(lane, flight, outcome, verdict, now.at);
        let quiet = outcome.quiet().map(|wait| now.at + wait.min(PAUSE_MAX));
        if let Some(until) = quiet.filter(|until| *until > lane.paused_until) {
            lane.paused_until = until;
            info!(subscription_id = id, pause_ms = (until - now.at).as_millis() as u64, "lane.pauses");
        }
        let change = match verdict {
            Verdict::Succeeded => lane.breaker.succeeded(),
            Verdict::Ours => {
                lane.breaker.passed(flight.is_probe, now.at, &periods);
                CircuitChange::default()
            }
            Verdict::Retry | Verdict::Gone => {
                lane.breaker.failed(flight.is_probe, now.at, now.wall_us, &periods)
            }
        };
        let is_gone = verdict == Verdict::Gone;
        if change == CircuitChange::default() && !is_gone {
            return None;
        }
        let health = *lane.breaker.health();
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
    pub(super) fn follow(&mut self, id: i64, judgement: Judgement) {
        let Judgement { change, health, event, is_gone } = judgement;
        if change.opened {
            warn!(subscription_id = id, failures = health.consecutive_failures, "circuit.opened");
            self.spill_all(id);
        }
        if change.closed {
            info!(subscription_id = id, "circuit.closed");
            if let Some(lane) = self.lanes.get_mut(&id) {
                lane.pacing.restart();
            }
        }
        if change.is_changed || event.is_some() {
            self.out.records.push(Record::ReceiverHealth { subscription_id: id, health, event });
        }
        if is_gone || change.disables {
            self.disable(id, if is_gone { GONE } else { NEVER_WELL });
        }
    }

    /// Stops sending at once. The table is updated afterwards.
    fn disable(&mut self, id: i64, reason: &'static str) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        if lane.is_disabled || !lane.subscription.enabled {
            return;
        }
        warn!(subscription_id = id, reason, "subscription.disabled");
        lane.is_disabled = true;
        lane.is_disabled_for_sure = false;
        lane.is_altered = false;
        self.close_lane(id);
        self.timers.forget(id);
        if let Some(lane) = self.lanes.get_mut(&id) {
            // The record below makes backlog of all its rows that wait for their time.
            if let Some(groups) = &mut lane.groups {
                groups.park();
            }
        }
        self.out.records.push(Record::Disable { subscription_id: id, reason });
    }

    /// Records that the table has the subscription disabled, unless it has been enabled again
    /// since.
    pub(super) fn disabled_for_sure(&mut self, id: i64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.is_disabled_for_sure = true;
            if lane.is_altered && lane.is_disabled {
                // The subscription may have changed before our update. Then our update follows, and
                // the receiver gets requests in between.
                (lane.is_disabled, lane.is_disabled_for_sure) = (false, false);
            }
        }
        // The rows that waited for their time are backlog now.
        self.restart_backlog(id);
        self.list(id);
    }

    /// Moves all waiting deliveries from memory to the table. New events go there too until the
    /// rows have been taken back.
    pub(super) fn spill_all(&mut self, id: i64) {
        self.spill_fresh(id);
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.is_spilling = true;
        let (queued, due) = (std::mem::take(&mut lane.queued), std::mem::take(&mut lane.due));
        let in_groups = lane.groups.as_mut().map(|groups| groups.take_queued()).unwrap_or_default();
        for item in queued {
            self.lay_back(id, item, None);
        }
        for item in in_groups {
            let lane = self.lanes.get(&id);
            let key = lane.and_then(|lane| order_key(&lane.subscription, &item.message));
            self.lay_back(id, item, key);
        }
        for due in due {
            self.put_due_aside(id, due);
        }
        self.ask(id);
    }

    /// Gives a row back to the table. The row there is usually up to date.
    fn lay_back(&mut self, id: i64, item: Item, order_key: Option<i64>) {
        let event_id = item.message.event().id;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        match (item.row, order_key, &mut lane.groups) {
            (RowState::Backlog, _, _) => {
                lane.backlog.again(event_id);
                lane.release(event_id);
            }
            (RowState::Blocked, Some(key), Some(groups)) => {
                groups.blocked(key, 0);
                groups.finish(key, event_id, 0);
                groups.forget_asides_behind(key, event_id);
                lane.release(event_id);
            }
            _ => self.put_aside(id, &item, order_key),
        }
    }
}

/// Counts the request out, and adjusts the concurrency and the rate to the outcome.
fn pace(lane: &mut Lane, flight: &InFlight, outcome: &Outcome, verdict: Verdict, now: Duration) {
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
        Verdict::Succeeded => {
            lane.pacing.succeeded(flight.number, outcome.duration, is_full, lane.subscription.max_in_flight);
        }
        // The time of a refusal does not show how fast the receiver works.
        _ if verdict == Verdict::Ours || !overwhelmed => {}
        _ => {
            // Of the requests that were in flight together, only the first counts.
            if lane.pacing.pushed_back(flight.number) && outcome.status == Some(429) {
                lane.bucket.halve(now);
            }
        }
    }
}
