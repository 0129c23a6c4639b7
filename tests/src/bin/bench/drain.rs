//! Measures how fast a backlog is delivered, compared with a bare HTTP loop, and with a transaction
//! held open.
//!
//! The rate is the receiver's: events over the time from the first arrival to the last. The three
//! variants (daemon, bare loops, daemon during an open REPEATABLE READ transaction) take turns.
//! Each drain has a backlog of its own, written before its daemon starts.

use crate::{
    bare::{self, Message},
    median,
    report::{Goal, Report},
    sink::{Drained, Sink},
};
use bytes::Bytes;
use e2e::{cluster::Cluster, cluster::Database, daemon::Daemon, receiver::SECRET, scale, world::ORDERS};
use std::{sync::Arc, time::Duration};

/// Builds in SQL the body that the daemon makes of an event. The bench compares it with a body that
/// the daemon sent.
const BODIES: &str = r#"
    select webhook.public_id(id, created_at),
           '{"id":"' || webhook.public_id(id, created_at) || '","type":"' || type || '","timestamp":"'
           || to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","sequence":' || id
           || ',"table":"' || table_name || '","data":' || payload::text || '}'
    from webhook.event where type = 'order.created' and id > $1 order by id"#;

/// Creates a database with a watched table and one subscription to the sink.
pub async fn prepare(cluster: &Arc<Cluster>, sink: &Sink) -> Database {
    let database = cluster.database("bench").await;
    let subscribe =
        format!("select id from webhook_subscribe('{}', secret => '{SECRET}')", sink.url("/events"));
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order'); {subscribe}")).await;
    database
}

/// Writes a backlog in one statement per 50 000 rows; returns the last event before it.
pub async fn write_backlog(database: &Database, count: u64) -> i64 {
    let before = database.number("select coalesce(max(id), 0) from webhook.event").await;
    let first = database.number("select coalesce(max(id), 0) + 1 from orders").await;
    let last = first + i64::try_from(count).expect("it fits") - 1;
    for from in (first..=last).step_by(50_000) {
        let to = last.min(from + 49_999);
        let rows = format!(
            "insert into orders select i, 'customer ' || i, (i % 99999) / 100.0, md5(i::text) from generate_series({from}, {to}) i"
        );
        database.run(&rows).await;
    }
    database.run("checkpoint").await;
    before
}

/// Drains the backlog with a fresh daemon; checks that each event was sent once and has its attempt
/// row.
pub async fn drain(database: &Database, sink: &Sink, count: u64) -> (Drained, f64) {
    let attempts = "select count(*) from webhook.attempt where outcome = 'succeeded'";
    let before = database.number(attempts).await;
    sink.reset(count).await;
    let daemon = Daemon::spawn(database);
    let drained = sink.drained(Duration::from_secs(240)).await;
    let peak_mib = daemon.peak_mib();
    assert!(daemon.sigterm(Duration::from_secs(60)).await.success(), "the daemon ends well");
    assert_eq!(sink.now().await.count, count, "each event once");
    assert_eq!(database.number(attempts).await - before, count as i64, "one attempt row each");
    (drained, peak_mib)
}

/// Returns the daemon's backlog as messages for the bare loops.
async fn messages(database: &Database, after: i64, count: u64, sample: &Bytes) -> Arc<Vec<Message>> {
    let rows = database.client().await.query(BODIES, &[&after]).await.expect("the outbox can be read");
    let messages: Vec<Message> =
        rows.into_iter().take(count as usize).map(|r| (r.get(0), r.get::<_, String>(1).into())).collect();
    assert_eq!(messages.len() as u64, count);
    let same = messages.iter().any(|(_, body)| sample.ends_with(body));
    assert!(same, "the daemon's body differs from the bare loop's:\n{}\n{:?}", text(sample), messages[0].1);
    Arc::new(messages)
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the number of dead tuples in the ring, counted by reading it.
async fn dead_tuples(database: &Database) -> i64 {
    let query = "select sum((pgstattuple(c.oid)).dead_tuple_count)::bigint from pg_class c
        where c.relkind = 'r' and c.relnamespace = 'webhook'::regnamespace and c.relname ~ '^(event|attempt)_[0-9]+$'";
    database.number(query).await
}

/// The number of connections at which the bare loops are about fastest on two cores.
const FEW: usize = 64;

/// The rates of all rounds, by variant.
#[derive(Debug, Default)]
struct Rates {
    daemon: Vec<f64>,
    held: Vec<f64>,
    /// reqwest with as many connections as the daemon ended with, and with few.
    bare: Vec<f64>,
    bare_few: Vec<f64>,
    own_few: Vec<f64>,
}

/// Drains a backlog of its own, during an open transaction if `held`. Returns the result and the
/// last event before the backlog.
async fn drain_fresh(database: &Database, sink: &Sink, count: u64, held: bool) -> (Drained, i64) {
    let holder = database.client().await;
    if held {
        let open = "begin isolation level repeatable read; select count(*) from orders";
        holder.batch_execute(open).await.expect("it can be held open");
    }
    let after = write_backlog(database, count).await;
    let (drained, _) = drain(database, sink, count).await;
    if held {
        holder.batch_execute("commit").await.expect("it was open throughout");
    }
    (drained, after)
}

async fn round(database: &Database, sink: &Sink, count: u64, turn: usize, rates: &mut Rates) -> (u64, usize) {
    // The order changes from round to round, so a machine that becomes slower favours neither.
    let held_first = turn % 2 == 1;
    if held_first {
        rates.held.push(drain_fresh(database, sink, count, true).await.0.per_second());
    }
    let (drained, after) = drain_fresh(database, sink, count, false).await;
    rates.daemon.push(drained.per_second());
    let sample = sink.last().await;
    let head = sample.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(0, |at| at + 4);
    let backlog = messages(database, after, count, &sample).await;
    yardsticks(sink, &backlog, drained.connections, rates).await;
    drop(backlog);
    if !held_first {
        rates.held.push(drain_fresh(database, sink, count, true).await.0.per_second());
    }
    (drained.connections, sample.len() - head)
}

async fn yardsticks(sink: &Sink, backlog: &Arc<Vec<Message>>, connections: u64, rates: &mut Rates) {
    let (url, soon, count) = (sink.url("/events"), Duration::from_secs(10), backlog.len() as u64);
    for (width, rates) in [(connections.max(1) as usize, &mut rates.bare), (FEW, &mut rates.bare_few)] {
        sink.reset(count).await;
        bare::send_all(backlog.clone(), &url, SECRET, width).await;
        rates.push(sink.drained(soon).await.per_second());
    }
    sink.reset(count).await;
    bare::send_all_as_the_daemon(backlog.clone(), &url, SECRET, FEW).await;
    rates.own_few.push(sink.drained(soon).await.per_second());
}

pub async fn run(report: &mut Report) {
    let (rounds, count) = (scale("PGW_BENCH_ROUNDS", 5, 9), scale("PGW_BENCH_EVENTS", 200_000, 200_000));
    let sink = Sink::start().await;
    let cluster = Cluster::start().await;
    let database = prepare(&cluster, &sink).await;
    database.run("create extension pgstattuple").await;
    let mut rates = Rates::default();
    let (mut connections, mut body_bytes) = (0, 0);
    for turn in 0..rounds {
        (connections, body_bytes) = round(&database, &sink, count, turn, &mut rates).await;
        let last = |rates: &[f64]| rates.last().map_or(0.0, |rate| rate.round());
        eprintln!(
            "bench: drain round {}: daemon {}/s, held open {}/s; reqwest {}/s with {connections} connections, {}/s with {FEW}; own sender {}/s with {FEW}",
            turn + 1,
            last(&rates.daemon),
            last(&rates.held),
            last(&rates.bare),
            last(&rates.bare_few),
            last(&rates.own_few)
        );
    }
    let Rates { daemon, held, bare, bare_few, own_few } = rates;
    let ratio = |a: &[f64], b: &[f64]| median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>());
    let fastest: Vec<f64> =
        (0..rounds).map(|turn| bare[turn].max(bare_few[turn]).max(own_few[turn])).collect();
    let note = format!("{count} events, bodies of {body_bytes} bytes, {connections} connections");
    report.add("drain", median(&daemon), "events/s", Goal::None, note);
    let note = format!("reqwest, {connections} connections");
    report.add("bare loop", median(&bare), "requests/s", Goal::None, note);
    report.add(
        "bare loop, few connections",
        median(&bare_few),
        "requests/s",
        Goal::None,
        format!("reqwest, {FEW}"),
    );
    let note = format!("webhookd's sender without its database, {FEW}");
    report.add("bare loop, own sender", median(&own_few), "requests/s", Goal::None, note);
    report.add("drain / bare loop", ratio(&daemon, &bare), "", Goal::AtLeast(0.5), "same concurrency");
    report.add(
        "drain / fastest bare loop",
        ratio(&daemon, &fastest),
        "",
        Goal::AtLeast(0.5),
        "of the three, by round",
    );
    let note = "REPEATABLE READ transaction open throughout";
    report.add(
        "drain beside an open transaction / without",
        ratio(&held, &daemon),
        "",
        Goal::AtLeast(0.95),
        note,
    );
    let dead = dead_tuples(&database).await;
    report.add("dead tuples in event and attempt", dead as f64, "", Goal::AtMost(0.0), "pgstattuple");
}
