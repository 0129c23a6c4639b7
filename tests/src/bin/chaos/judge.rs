//! Did every promise hold? By what was committed, what the outbox and the ledger say, and what the receiver has seen.

use crate::{IN_FLIGHT_MAX, SUBSCRIPTIONS, faults::Fault};
use e2e::{
    cluster::Database,
    receiver::{Received, Receiver},
    traffic::Changes,
    verdict,
};
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// Results that the ledger writes in one flush, at most.
const FLUSH_ROWS_MAX: u64 = 1000;

#[derive(Debug, Default)]
pub struct Report {
    events: usize,
    faults: usize,
    /// Committed changes without an event, and events without a committed change.
    not_captured: usize,
    not_committed: usize,
    /// Over all subscriptions: events that did not come, and requests that tell of no event.
    lost: usize,
    phantom: usize,
    rejected: usize,
    /// Answered with 2xx more than once, and how often that may be.
    duplicates: u64,
    duplicates_max: u64,
    out_of_order: Vec<String>,
    /// Attempts that the receiver knows nothing of, and deliveries without a successful one.
    unknown_attempts: i64,
    changed_bodies: usize,
}

impl Report {
    pub fn is_kept(&self) -> bool {
        let broken = self.not_captured
            + self.not_committed
            + self.lost
            + self.phantom
            + self.rejected
            + self.changed_bodies;
        broken == 0
            && self.unknown_attempts == 0
            && self.out_of_order.is_empty()
            && self.duplicates <= self.duplicates_max
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events, {} faults; {} changes without event, {} events without change; {} lost, {} phantom, {} rejected, \
             {} with a changed body; {} twice (bound {}); {} out of order; {} attempts unknown to the receiver",
            self.events,
            self.faults,
            self.not_captured,
            self.not_committed,
            self.lost,
            self.phantom,
            self.rejected,
            self.changed_bodies,
            self.duplicates,
            self.duplicates_max,
            self.out_of_order.len(),
            self.unknown_attempts
        )?;
        self.out_of_order.iter().take(5).try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// `rate`: events a second, on average.
pub async fn judge(
    database: &Database,
    receiver: &Receiver,
    committed: &Changes,
    faults: &[Fault],
    rate: f64,
) -> Report {
    let client = database.client().await;
    let query =
        "select webhook.public_id(id, created_at), type, key from webhook.event where type like 'order.%'";
    let rows = client.query(query, &[]).await.expect("the outbox can be read");
    let events: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut captured = Changes::new();
    for row in &rows {
        *captured.entry((row.get(1), row.get(2))).or_default() += 1;
    }
    let beyond = |one: &Changes, other: &Changes| {
        one.iter()
            .map(|(change, count)| count.saturating_sub(other.get(change).copied().unwrap_or(0)) as usize)
            .sum()
    };
    let mut report = Report {
        events: events.len(),
        faults: faults.len(),
        not_captured: beyond(committed, &captured),
        not_committed: beyond(&captured, committed),
        duplicates_max: duplicates_max(faults, rate),
        rejected: receiver.look(|record| record.rejected.len()),
        ..Report::default()
    };
    let attempts =
        "select webhook.public_id(e.id, e.created_at), count(*) filter (where a.status is not null),
            count(*) filter (where a.outcome = 'succeeded')
        from webhook.attempt a join webhook.event e on e.xid = a.event_xid and e.id = a.event_id
        join webhook.subscription s on s.id = a.subscription_id where s.name = $1 group by 1";
    for (path, _) in SUBSCRIPTIONS {
        let requests = receiver.at(path);
        let came: HashSet<String> = requests.iter().map(|request| request.id().to_owned()).collect();
        report.lost += events.difference(&came).count();
        report.phantom += came.difference(&events).count();
        let rows = client.query(attempts, &[&path]).await.expect("the ledger can be read");
        let written = rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        compare(&mut report, &requests, &events, &written);
        if path == "/ok/key" {
            report.out_of_order = verdict::out_of_order(&requests, |body| body["data"]["id"].to_string(), 51);
        }
    }
    report
}

/// Of each event: attempts with an answer, and successful ones, that the ledger has written.
type Written = HashMap<String, (i64, i64)>;

fn compare(report: &mut Report, requests: &[Received], events: &HashSet<String>, written: &Written) {
    let mut seen: HashMap<&str, (i64, i64)> = HashMap::new();
    let mut bodies = HashMap::new();
    for request in requests {
        let (answered, succeeded) = seen.entry(request.id()).or_default();
        *answered += 1;
        *succeeded += i64::from(matches!(request.status(), Some(200..=299)));
        let first = bodies.entry(request.id()).or_insert(&request.body);
        report.changed_bodies += usize::from(**first != request.body);
    }
    report.duplicates +=
        seen.values().map(|(_, succeeded)| (succeeded - 1).max(0).unsigned_abs()).sum::<u64>();
    for id in events {
        let (answered, succeeded) = written.get(id).copied().unwrap_or_default();
        let (came, taken) = seen.get(id.as_str()).copied().unwrap_or_default();
        let unknown = (answered - came).max(0) + (succeeded - taken).max(0);
        report.unknown_attempts += unknown + i64::from(succeeded == 0);
    }
}

/// What was in flight plus one flush for whatever ends a session of the ledger; with the server the last asynchronous commits
/// go too, those of 0.6 s (three times wal_writer_delay).
fn duplicates_max(faults: &[Fault], rate: f64) -> u64 {
    let subscriptions = SUBSCRIPTIONS.len() as u64;
    let in_flight = subscriptions * IN_FLIGHT_MAX + FLUSH_ROWS_MAX;
    let unflushed = (rate * 0.6) as u64 * subscriptions;
    let bound = |fault: &Fault| match fault {
        Fault::KillDaemon(_) | Fault::FreezeDaemon(..) | Fault::HoldLink(_) => in_flight,
        Fault::EndDaemonSession(_) | Fault::EndDaemonSessions | Fault::CutLink => in_flight,
        Fault::KillServer => in_flight + unflushed,
        // Torn down before they were answered.
        Fault::EndWriterSession(_) | Fault::ResetRequests(_) => 0,
    };
    faults.iter().map(bound).sum()
}
