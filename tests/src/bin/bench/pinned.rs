//! `bench pinned 60` runs for an hour (the number is in minutes) with a transaction that holds
//! xmin, so dead rows cannot be vacuumed. It sends 2 000 events a second to ten receivers, two of
//! which fail three attempts of ten.
//!
//! Some figures must not change from the first part of the run to the last: throughput, latency,
//! the processor time of the daemon and its sessions per event, and the space of an event in the
//! ring. The report states the cause of each growth: a failed delivery has a row in the queue for a
//! while, and the dead row stays as long as the transaction does.

use crate::{
    percentile,
    report::{Goal, Report},
};
use e2e::{
    cluster::{Cluster, Database, value},
    daemon::Daemon,
    process::{cpu_of, lock},
    receiver::{SECRET, wire::Connection},
    scale,
};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::net::{TcpListener, TcpStream};

const RECEIVERS: i64 = 10;
/// The number of good receivers; the others fail.
const WELL: i64 = 8;
const WRITERS: i64 = 4;
const EVENTS_PER_SECOND: i64 = 2_000;
/// How many of ten attempts fail at a failing receiver.
const FAILING: u64 = 3;

/// The number of parts in which the report shows the run.
const PARTS: u32 = 6;

/// The receivers' counts since the last query.
#[derive(Debug, Default)]
struct Seen {
    taken: u64,
    failed: u64,
    /// From capture to arrival at the good receivers, in milliseconds.
    latencies: Vec<f64>,
}

fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Starts all ten receivers, one path each; returns their address.
async fn receivers(seen: Arc<Mutex<Seen>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            tokio::spawn(serve(stream, seen.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, seen: Arc<Mutex<Seen>>) -> std::io::Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.read().await? {
        let arrived = now_us();
        let header =
            |name: &str| request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        let is_well = request.path.trim_start_matches('/').parse().is_ok_and(|number: i64| number < WELL);
        let mut hasher = DefaultHasher::new();
        // The hash includes the time, so each attempt has an outcome of its own.
        (header("webhook-id"), arrived).hash(&mut hasher);
        let fails = !is_well && hasher.finish() % 10 < FAILING;
        {
            let mut seen = lock(&seen);
            if fails {
                seen.failed += 1;
            } else {
                seen.taken += 1;
            }
            if is_well && let Some(at) = made_at(&request.body) {
                seen.latencies.push((arrived - at) as f64 / 1e3);
            }
        }
        connection.respond(if fails { 503 } else { 200 }, b"").await?;
    }
    Ok(())
}

/// Returns when the writer made the event, in microseconds since 1970.
fn made_at(body: &[u8]) -> Option<i64> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body["data"]["at"].as_i64()
}

/// Writes its share, one event per transaction, until `stop` is set.
async fn write(database: Database, number: i64, written: Arc<AtomicI64>, stop: Arc<AtomicBool>) {
    let client = database.client().await;
    let emit = client
        .prepare("select webhook_emit($1, json_build_object('at', $2::bigint, 'number', $3::bigint))")
        .await
        .expect("it parses");
    let gap = Duration::from_micros((1_000_000 * WRITERS / EVENTS_PER_SECOND).unsigned_abs());
    let mut due = tokio::time::Instant::now();
    for count in (number..).step_by(usize::try_from(WRITERS).expect("a few")) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        due += gap;
        tokio::time::sleep_until(due).await;
        let event_type = format!("part{}.made", (count / WRITERS) % RECEIVERS);
        client.execute(&emit, &[&event_type, &now_us(), &count]).await.expect("it can be emitted");
        written.fetch_add(1, Ordering::Relaxed);
    }
}

/// The counters and sizes at one moment.
#[derive(Debug, Clone, Copy)]
struct State {
    at: Instant,
    written: i64,
    ring_bytes: i64,
    queue_bytes: i64,
    queue_rows: i64,
    /// Cursor, receivers, subscriptions.
    other_bytes: i64,
    daemon_cpu: Duration,
    backends_cpu: Duration,
}

impl State {
    async fn now(database: &Database, daemon: &Daemon, written: &AtomicI64) -> Self {
        let client = database.client().await;
        let sizes = "select (select sum(event_bytes + attempt_bytes)::bigint from webhook.ring),
            pg_total_relation_size('webhook.queue'), (select count(*) from webhook.queue),
            pg_total_relation_size('webhook.cursor') + pg_total_relation_size('webhook.receiver')
                + pg_total_relation_size('webhook.subscription')";
        let row = client.query_one(sizes, &[]).await.expect("sizes can be asked for");
        let pids = "select string_agg(pid::text, ' ') from pg_stat_activity where application_name like 'webhookd%' and backend_start < now() - interval '3 seconds'";
        let pids = value(&client, pids).await.unwrap_or_default();
        Self {
            at: Instant::now(),
            written: written.load(Ordering::Relaxed),
            ring_bytes: row.get(0),
            queue_bytes: row.get(1),
            queue_rows: row.get(2),
            other_bytes: row.get(3),
            daemon_cpu: daemon.process().cpu(),
            backends_cpu: pids.split(' ').filter_map(|pid| pid.parse().ok()).map(cpu_of).sum(),
        }
    }
}

/// One part of the run.
#[derive(Debug)]
struct Part {
    written: f64,
    taken: f64,
    failed: f64,
    p50_ms: f64,
    p99_ms: f64,
    ring_bytes_per_event: f64,
    queue_bytes_per_failure: f64,
    other_bytes: f64,
    daemon_us: f64,
    backends_us: f64,
}

impl Part {
    fn between(from: &State, to: &State, seen: Seen) -> Self {
        let seconds = (to.at - from.at).as_secs_f64();
        let events = (to.written - from.written) as f64;
        let latencies = if seen.latencies.is_empty() { vec![f64::NAN] } else { seen.latencies };
        let us = |to: Duration, from: Duration| to.saturating_sub(from).as_secs_f64() * 1e6 / events;
        Self {
            written: events / seconds,
            taken: seen.taken as f64 / seconds,
            failed: seen.failed as f64 / seconds,
            p50_ms: percentile(&latencies, 0.5),
            p99_ms: percentile(&latencies, 0.99),
            ring_bytes_per_event: (to.ring_bytes - from.ring_bytes) as f64 / events,
            queue_bytes_per_failure: (to.queue_bytes - from.queue_bytes) as f64 / seen.failed.max(1) as f64,
            other_bytes: to.other_bytes as f64,
            daemon_us: us(to.daemon_cpu, from.daemon_cpu),
            backends_us: us(to.backends_cpu, from.backends_cpu),
        }
    }
}

pub async fn run(report: &mut Report, minutes: Option<f64>) {
    let minutes = minutes.unwrap_or_else(|| scale("PGW_MINUTES", 1.0, 60.0));
    let part = Duration::from_secs_f64(minutes * 60.0) / PARTS;
    let cluster = Cluster::start().await;
    let database = cluster.database("bench").await;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let address = receivers(seen.clone()).await;
    for number in 0..RECEIVERS {
        database
            .run(&format!(
                "select webhook_subscribe('http://{address}/{number}', '{{part{number}.*}}', secret => '{SECRET}',
                     retry => array_fill(interval '1 second', array[50]))"
            ))
            .await;
    }
    let holder = database.client().await;
    holder
        .batch_execute("begin isolation level repeatable read; select 1")
        .await
        .expect("it can be held open");
    let daemon = Daemon::start_with(&database, &["--probe-interval-ms", "1000"]).await;
    let (written, stop) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(database.clone(), number, written.clone(), stop.clone())))
        .collect();
    // The warm-up opens connections, makes plans and extends the first slot.
    tokio::time::sleep(part.min(Duration::from_secs(5))).await;
    let mut state = State::now(&database, &daemon, &written).await;
    *lock(&seen) = Seen::default();
    let mut parts = Vec::new();
    for number in 1..=PARTS {
        tokio::time::sleep(part).await;
        let before = std::mem::replace(&mut state, State::now(&database, &daemon, &written).await);
        parts.push(Part::between(&before, &state, std::mem::take(&mut *lock(&seen))));
        let last = &parts[parts.len() - 1];
        eprintln!(
            "bench: pinned part {number} of {PARTS}: {:.0}/s written, {:.0}/s taken, {:.0}/s failed; p50 {:.1} ms, p99 {:.1} ms; \
             {:.0} B an event in the ring; queue {} rows, {:.1} MiB, {:.0} B a failure; others {:.0} KiB; CPU an event: daemon {:.0} µs, \
             its sessions {:.0} µs",
            last.written,
            last.taken,
            last.failed,
            last.p50_ms,
            last.p99_ms,
            last.ring_bytes_per_event,
            state.queue_rows,
            state.queue_bytes as f64 / f64::from(1 << 20),
            last.queue_bytes_per_failure,
            last.other_bytes / 1024.0,
            last.daemon_us,
            last.backends_us,
        );
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("it ends well");
    }
    let all = "select not exists (select from webhook.delivery where state <> 'delivered')";
    database.until(all, Duration::from_secs(120)).await;
    holder.batch_execute("commit").await.expect("it was open throughout");
    assert!(daemon.sigterm(Duration::from_secs(60)).await.success(), "the daemon ends well");
    tell(report, &parts, minutes);
}

fn tell(report: &mut Report, parts: &[Part], minutes: f64) {
    let (first, last) = (&parts[0], &parts[parts.len() - 1]);
    let note =
        format!("of what was written in the last sixth of {minutes} min, {:.0} events/s", last.written);
    report.add("pinned: taken", last.taken / last.written, "", Goal::AtLeast(0.95), note);
    report.add(
        "pinned: latency p99",
        last.p99_ms / first.p99_ms,
        "",
        Goal::AtMost(1.5),
        format!("{:.1} ms, then {:.1} ms", first.p99_ms, last.p99_ms),
    );
    report.add(
        "pinned: space of an event in the ring",
        last.ring_bytes_per_event / first.ring_bytes_per_event,
        "",
        Goal::AtMost(1.1),
        format!("{:.0} bytes, then {:.0}", first.ring_bytes_per_event, last.ring_bytes_per_event),
    );
    report.add(
        "pinned: the daemon's CPU an event",
        last.daemon_us / first.daemon_us,
        "",
        Goal::AtMost(1.2),
        format!("{:.0} µs, then {:.0} µs", first.daemon_us, last.daemon_us),
    );
    report.add(
        "pinned: its sessions' CPU an event",
        last.backends_us / first.backends_us,
        "",
        Goal::AtMost(1.2),
        format!("{:.0} µs, then {:.0} µs", first.backends_us, last.backends_us),
    );
    report.add(
        "pinned: left behind by a failed attempt in the queue",
        last.queue_bytes_per_failure,
        "bytes",
        Goal::None,
        format!("{:.0}/s failed", last.failed),
    );
    report.add(
        "pinned: cursor, receivers, subscriptions",
        last.other_bytes / 1024.0,
        "KiB",
        Goal::None,
        format!("{:.0} KiB after the first sixth", first.other_bytes / 1024.0),
    );
}
