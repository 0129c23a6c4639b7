//! Did every promise hold? Pure: by what was committed, what the outbox and the ledger say, and what the receiver has seen.
//!
//! **Lost, phantom, order, bodies** know no tolerance: every event of the outbox has come to every subscription, nothing else
//! has, each time with the same body, and none before an earlier one of its key was final.
//!
//! **Duplicates** are what G2 allows: "what was in flight plus one flush", once for each fault that can take results away
//! ([`Harm`]). Both are counted from what the receiver has seen, fault by fault:
//! * in flight: requests that had come when the fault began, or came within [`NOTICE`] of it (a daemon that has been cut off
//!   sends on until it notices), and were not answered before it;
//! * one flush: requests that were answered within [`FLUSH`] before it. The ledger waits 5 ms for more results and needs a statement
//!   for them. Where nothing had passed to the server before (a link that was held), what was answered meanwhile waits too, and counts.
//! * A crash of the server undoes the ledger's asynchronous commits of up to three times `wal_writer_delay`: [`UNFLUSHED`] more.
//!
//! A request is counted once, even if two faults lie close together, for it can be lost only once. So the bound is the
//! number of requests whose results were nowhere but in the memory of what was killed. A fault that hits a daemon that stands by, or the
//! application, or a clock, allows none.
//!
//! **Attempts** are what the receiver saw: no answered attempt without a request, each delivered event with a successful one, and of
//! requests that were answered no more without an attempt than could be lost, as above. A request that was torn down may be one of two
//! of one attempt (a kept-alive connection that fails at once is replaced), so those are not counted.

use e2e::{receiver::Received, traffic::Changes, verdict};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::{Duration, Instant},
};

/// From an answer to its commit.
pub const FLUSH: Duration = Duration::from_millis(100);

/// From the end of a connection to the last request that is still sent.
pub const NOTICE: Duration = Duration::from_millis(50);

/// How long Postgres may leave an asynchronous commit unflushed.
pub const UNFLUSHED: Duration = Duration::from_millis(600);

/// Of so many harmful faults, a quarter must have met something.
const TELLING_MIN: usize = 10;

/// What a fault can take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    None,
    /// Nothing by itself; but what is answered meanwhile is written later.
    Delay,
    /// What the active daemon has in flight and what it has not written.
    Results,
    /// That, and what it has written last.
    ResultsAndUnflushedCommits,
}

/// A fault that was done.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    pub harm: Harm,
    pub began: Instant,
    pub ended: Instant,
}

/// Of one event and one subscription, the rows of `webhook.attempt`: those that were answered, the successful ones.
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
    /// With an order: how often an event is tried at most.
    pub ordered_attempts_max: Option<usize>,
}

/// What is known after a run.
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
    /// Faults that could take something away, and those that found something under way or not written.
    harmful: usize,
    struck: usize,
    /// Committed changes without an event, and events without a committed change.
    not_captured: usize,
    not_committed: usize,
    /// Over all subscriptions: events that did not come, and requests that tell of no event.
    lost: usize,
    phantom: usize,
    rejected: usize,
    changed_bodies: usize,
    /// Answered with 2xx more than once, and how often that may be.
    duplicates: usize,
    duplicates_max: usize,
    out_of_order: Vec<String>,
    /// Attempts that the receiver knows nothing of, and deliveries without a successful one.
    unknown_attempts: usize,
    /// Requests that the ledger knows nothing of, and how many that may be.
    unknown_requests: usize,
    unknown_requests_max: usize,
}

impl Report {
    pub fn is_kept(&self) -> bool {
        let broken = self.not_captured
            + self.not_committed
            + self.lost
            + self.phantom
            + self.rejected
            + self.changed_bodies
            + self.unknown_attempts
            + self.out_of_order.len();
        // A run in which faults hardly ever found anything shows nothing.
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
            "{} events, {} faults, {} of {} harmful ones met requests; {} changes without event, {} events without change; {} lost, {} phantom, {} rejected, \
             {} with a changed body; {} twice (bound {}); {} out of order; {} attempts unknown to the receiver, \
             {} requests unknown to the ledger (bound {})",
            self.events,
            self.faults,
            self.struck,
            self.harmful,
            self.not_captured,
            self.not_committed,
            self.lost,
            self.phantom,
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
    for delivered in &evidence.delivered {
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

/// Which requests' results a fault could take away: what was under way when it began, and what was answered since `flushed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    flushed: Instant,
    at: Instant,
}

impl Window {
    /// One that was answered. What was not has told nobody anything that could be forgotten.
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
            Harm::ResultsAndUnflushedCommits => UNFLUSHED,
        };
        let mut flushed = before(fault.began, FLUSH + unflushed);
        // What was held back until shortly before has just been written, or not.
        for earlier in faults[..number].iter().rev().filter(|earlier| earlier.harm == Harm::Delay) {
            if earlier.ended >= flushed {
                flushed = flushed.min(before(earlier.began, FLUSH));
            }
        }
        Some(Window { flushed, at: fault.began })
    };
    faults.iter().enumerate().filter_map(window).collect()
}

#[cfg(test)]
mod tests;
