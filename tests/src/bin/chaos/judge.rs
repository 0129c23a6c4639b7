//! Judges whether every promise held. Pure: it compares the commits, the outbox, the ledger and the
//! receiver's record.
//!
//! **Lost, phantom, order, bodies** have no tolerance. Every event of the outbox arrived at every
//! subscription and nothing else did. Each event arrived with the same body every time, and none
//! before an earlier one of its key was final.
//!
//! **Duplicates** are limited by G2: "what was in flight plus one flush", once for each fault that
//! can destroy results ([`Harm`]). Both parts are counted from the receiver's record, fault by
//! fault:
//!
//! * In flight: requests that arrived before the fault began or within [`NOTICE`] of it, and were
//!   not answered before it. A daemon that was cut off keeps sending until it notices.
//! * One flush: requests that were answered within [`FLUSH`] before it. The ledger waits 5 ms for
//!   more results and needs a statement for them. If nothing could pass to the server before the
//!   fault (a link that was held), the answers of that time wait too, and count.
//! * A crash of the server undoes the ledger's asynchronous commits of up to three times
//!   `wal_writer_delay`: [`UNFLUSHED`] more.
//!
//! * A recovery to a point in time undoes everything since that point: events that were delivered
//!   ([`Report::undone`]), and results of events that are still there.
//!
//! A request is counted once, even if two faults are close together, because it can be lost only
//! once. So the bound is the number of requests whose results were only in the memory of the killed
//! process. A fault that hits a standby, the application or a clock allows none.
//!
//! **Attempts** match the receiver's record. There is no answered attempt without a request, and
//! each delivered event has a successful attempt. The answered requests without an attempt are at
//! most those that could be lost, as above. A request that was torn down may be one of two of one
//! attempt (the daemon replaces a kept-alive connection that fails at once), so those are not
//! counted.

use e2e::{receiver::Received, traffic::Changes, verdict};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

/// The longest time from an answer to its commit.
pub const FLUSH: Duration = Duration::from_millis(100);

/// The longest time from the end of a connection to the last request that is still sent.
pub const NOTICE: Duration = Duration::from_millis(50);

/// How long Postgres may leave an asynchronous commit unflushed.
pub const UNFLUSHED: Duration = Duration::from_millis(600);

/// From this number of harmful faults on, a quarter of them must have met requests.
const TELLING_MIN: usize = 10;

/// What a fault can destroy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    None,
    /// Nothing by itself, but the results of answers in this time are written later.
    Delay,
    /// The leader's requests in flight and its unwritten results.
    Results,
    /// The same, and the last results that were written.
    ResultsAndUnflushedCommits,
    /// Everything that was committed while the fault lasted, events and results.
    Undone,
}

/// A fault that was performed.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    pub harm: Harm,
    pub began: Instant,
    pub ended: Instant,
}

/// The rows of `webhook.attempt` of one event and one subscription: how many were answered, and how
/// many succeeded.
#[derive(Debug, Default, Clone, Copy)]
pub struct Attempts {
    pub answered: i64,
    pub succeeded: i64,
}

/// One subscription's part of the evidence.
#[derive(Debug, Default)]
pub struct Delivered {
    /// In order of arrival.
    pub requests: Vec<Received>,
    /// By public id of the event.
    pub attempts: HashMap<String, Attempts>,
    /// The most attempts of an event, if the subscription is ordered.
    pub ordered_attempts_max: Option<usize>,
}

/// Everything that is known after a run.
#[derive(Debug, Default)]
pub struct Evidence {
    pub committed: Changes,
    /// Public id of each event, with its type and key.
    pub events: Vec<(String, String, String)>,
    pub delivered: Vec<Delivered>,
    pub rejected: usize,
    pub faults: Vec<Happened>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    events: usize,
    faults: usize,
    /// Faults that could destroy something, and those of them that found requests in flight or
    /// unwritten results.
    harmful: usize,
    struck: usize,
    /// Committed changes without an event, and events without a committed change.
    not_captured: usize,
    not_committed: usize,
    /// Over all subscriptions: events that did not arrive, and requests about no event of the
    /// outbox.
    lost: usize,
    phantom: usize,
    /// Requests about events that a recovery has undone, and numbers that two events had.
    undone: usize,
    numbers_used_twice: usize,
    rejected: usize,
    changed_bodies: usize,
    /// Answers with 2xx beyond the first of an event, and their bound.
    duplicates: usize,
    duplicates_max: usize,
    out_of_order: Vec<String>,
    /// Attempts without a request at the receiver, and deliveries without a successful attempt.
    unknown_attempts: usize,
    /// Requests without an attempt in the ledger, and their bound.
    unknown_requests: usize,
    unknown_requests_max: usize,
}

impl Report {
    pub fn is_kept(&self) -> bool {
        let broken = self.not_captured
            + self.not_committed
            + self.lost
            + self.phantom
            + self.numbers_used_twice
            + self.rejected
            + self.changed_bodies
            + self.unknown_attempts
            + self.out_of_order.len();
        // A run in which faults hardly ever met requests proves nothing.
        let is_telling = self.harmful < TELLING_MIN || self.struck * 4 >= self.harmful;
        broken == 0
            && is_telling
            && self.duplicates <= self.duplicates_max
            && self.unknown_requests <= self.unknown_requests_max
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} faults, {} of {} harmful ones met requests; {} changes without event, {} events without change; {} lost, {} phantom, {} undone by recoveries, \
             {} numbers used twice, {} rejected, {} with a changed body; {} twice (bound {}); {} out of order; {} attempts unknown to the receiver, \
             {} requests unknown to the ledger (bound {})",
            self.events,
            self.faults,
            self.struck,
            self.harmful,
            self.not_captured,
            self.not_committed,
            self.lost,
            self.phantom,
            self.undone,
            self.numbers_used_twice,
            self.rejected,
            self.changed_bodies,
            self.duplicates,
            self.duplicates_max,
            self.out_of_order.len(),
            self.unknown_attempts,
            self.unknown_requests,
            self.unknown_requests_max,
        )?;
        self.out_of_order.iter().take(5).try_for_each(|line| write!(f, "\n  {line}"))
    }
}

pub fn judge(evidence: &Evidence) -> Report {
    let mut captured = Changes::new();
    for (_, event_type, key) in &evidence.events {
        *captured.entry((event_type.clone(), key.clone())).or_default() += 1;
    }
    let beyond = |one: &Changes, other: &Changes| {
        one.iter()
            .map(|(change, count)| count.saturating_sub(other.get(change).copied().unwrap_or(0)) as usize)
            .sum()
    };
    let mut report = Report {
        events: evidence.events.len(),
        faults: evidence.faults.len(),
        not_captured: beyond(&evidence.committed, &captured),
        not_committed: beyond(&captured, &evidence.committed),
        rejected: evidence.rejected,
        ..Report::default()
    };
    let events: HashSet<&str> = evidence.events.iter().map(|(id, ..)| id.as_str()).collect();
    let windows = windows(&evidence.faults);
    let meets = |window: &&Window| {
        evidence
            .delivered
            .iter()
            .any(|delivered| delivered.requests.iter().any(|request| window.holds(request)))
    };
    report.harmful = windows.len();
    report.struck = windows.iter().filter(meets).count();
    let recoveries: Vec<_> = evidence.faults.iter().filter(|fault| fault.harm == Harm::Undone).collect();
    for delivered in &evidence.delivered {
        // An event that was committed after the point in time, and that reached the receiver before
        // the recovery was over.
        let is_undone = |request: &&Received| {
            !events.contains(request.id())
                && recoveries
                    .iter()
                    .any(|fault| request.arrived >= fault.began && request.arrived <= fault.ended + NOTICE)
        };
        let undone: HashSet<String> =
            delivered.requests.iter().filter(is_undone).map(|request| request.id().to_owned()).collect();
        report.undone += undone.len();
        report.numbers_used_twice += numbers_used_twice(&delivered.requests);
        let delivered = &Delivered {
            requests: delivered
                .requests
                .iter()
                .filter(|request| !undone.contains(request.id()))
                .cloned()
                .collect(),
            attempts: delivered.attempts.clone(),
            ordered_attempts_max: delivered.ordered_attempts_max,
        };
        compare(&mut report, delivered, &events);
        let at_risk =
            delivered.requests.iter().filter(|request| windows.iter().any(|window| window.holds(request)));
        let (successes, all) = at_risk.fold((0, 0), |(successes, all), request| {
            (successes + usize::from(is_success(request)), all + 1)
        });
        report.duplicates_max += successes;
        report.unknown_requests_max += all;
        if let Some(attempts_max) = delivered.ordered_attempts_max {
            let wrong = verdict::out_of_order(
                &delivered.requests,
                |body| body["data"]["id"].to_string(),
                attempts_max,
            );
            report.out_of_order.extend(wrong);
        }
    }
    report
}

/// Counts the sequence numbers that came with two different ids.
fn numbers_used_twice(requests: &[Received]) -> usize {
    let mut ids: HashMap<i64, &str> = HashMap::new();
    let mut twice = 0;
    for request in requests {
        if let Some(number) = request.json()["sequence"].as_i64() {
            twice += usize::from(*ids.entry(number).or_insert(request.id()) != request.id());
        }
    }
    twice
}

fn is_success(request: &Received) -> bool {
    matches!(request.status(), Some(200..=299))
}

fn compare(report: &mut Report, delivered: &Delivered, events: &HashSet<&str>) {
    let mut seen: HashMap<&str, (i64, i64)> = HashMap::new();
    let mut bodies = HashMap::new();
    for request in &delivered.requests {
        let (answered, taken) = seen.entry(request.id()).or_default();
        *answered += i64::from(request.answered.is_some());
        *taken += i64::from(is_success(request));
        let first = bodies.entry(request.id()).or_insert(&request.body);
        report.changed_bodies += usize::from(**first != request.body);
    }
    let beyond = |more: i64, less: i64| usize::try_from(more - less).unwrap_or(0);
    report.lost += events.iter().filter(|id| seen.get(**id).is_none_or(|(_, taken)| *taken == 0)).count();
    report.phantom += seen.keys().filter(|id| !events.contains(**id)).count();
    report.duplicates += seen.values().map(|(_, taken)| beyond(*taken, 1)).sum::<usize>();
    for id in events {
        let written = delivered.attempts.get(*id).copied().unwrap_or_default();
        let (answered, taken) = seen.get(*id).copied().unwrap_or_default();
        report.unknown_attempts += beyond(written.answered, answered) + beyond(written.succeeded, taken);
        report.unknown_attempts += usize::from(written.succeeded == 0);
        report.unknown_requests += beyond(answered, written.answered);
    }
}

/// The requests whose results a fault could destroy: those in flight when it began, and those
/// answered since `flushed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    flushed: Instant,
    at: Instant,
}

impl Window {
    /// Reports whether the request is one of them. An unanswered request has no result that could
    /// be lost.
    fn holds(&self, request: &Received) -> bool {
        request.arrived <= self.at + NOTICE && request.answered.is_some_and(|(at, _)| at >= self.flushed)
    }
}

fn windows(faults: &[Happened]) -> Vec<Window> {
    let before = |at: Instant, by: Duration| at.checked_sub(by).unwrap_or(at);
    let window = |(number, fault): (usize, &Happened)| {
        let unflushed = match fault.harm {
            Harm::None | Harm::Delay => return None,
            Harm::Results => Duration::ZERO,
            Harm::ResultsAndUnflushedCommits | Harm::Undone => UNFLUSHED,
        };
        let mut flushed = before(fault.began, FLUSH + unflushed);
        // Results that were held back until shortly before the fault may or may not have been
        // written.
        for earlier in faults[..number].iter().rev().filter(|earlier| earlier.harm == Harm::Delay) {
            if earlier.ended >= flushed {
                flushed = flushed.min(before(earlier.began, FLUSH));
            }
        }
        let at = if fault.harm == Harm::Undone { fault.ended } else { fault.began };
        Some(Window { flushed, at })
    };
    faults.iter().enumerate().filter_map(window).collect()
}

#[cfg(test)]
mod tests;
