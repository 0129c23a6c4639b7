//! How fast a backlog goes out, against a bare HTTP loop, and with a transaction held open.
//!
//! The rate is the receiver's: events over the time from the first arrival to the last. The three variants (daemon,
//! bare loop, daemon beside an open REPEATABLE READ transaction) take turns; each drain has a backlog of its own,
//! written before its daemon starts.

use crate::{
    bare::{self, Message},
    median,
    report::{Goal, Report},
    sink::{Drained, Sink},
};
use bytes::Bytes;
use e2e::{cluster::Cluster, cluster::Database, daemon::Daemon, receiver::SECRET, scale, world::ORDERS};
use std::{sync::Arc, time::Duration};

/// The body that the daemon makes of an event, made in SQL: compared with what the daemon really sent.
const BODIES: &str = r#"
    select webhook.public_id(id, created_at),
           '{"id":"' || webhook.public_id(id, created_at) || '","type":"' || type || '","timestamp":"'
           || to_char(created_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","sequence":' || id
           || ',"table":"' || table_name || '","data":' || payload::text || '}'
    from webhook.event where type = 'order.created' and id > $1 order by id"#;

/// A database with a watched table and one subscription to the sink.
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

/// Drains the backlog with a fresh daemon; checks that each event went out once and has its attempt row.
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

/// The same backlog as the daemon had, as messages for the bare loops.
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

/// Dead tuples in the ring, counted by reading it.
async fn dead_tuples(database: &Database) -> i64 {
    let query = "select sum((pgstattuple(c.oid)).dead_tuple_count)::bigint from pg_class c
        where c.relkind = 'r' and c.relnamespace = 'webhook'::regnamespace and c.relname ~ '^(event|attempt)_[0-9]+$'";
    database.number(query).await
}

pub async fn run(report: &mut Report) {
    let (rounds, count) = (scale("PGW_BENCH_ROUNDS", 3, 5), scale("PGW_BENCH_EVENTS", 200_000, 200_000));
    let sink = Sink::start(report).await;
    let cluster = Cluster::start().await;
    let database = prepare(&cluster, &sink).await;
    database.run("create extension pgstattuple").await;
    let (mut daemon, mut bare, mut own, mut held, mut connections) = (vec![], vec![], vec![], vec![], 0);
    let mut body_bytes = 0;
    for round in 1..=rounds {
        let after = write_backlog(&database, count).await;
        let (drained, _) = drain(&database, &sink, count).await;
        let sample = sink.last().await;
        connections = drained.connections;
        body_bytes = sample.len() - sample.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
        daemon.push(drained.per_second());

        let backlog = messages(&database, after, count, &sample).await;
        let (url, width, soon) = (sink.url("/events"), connections.max(1) as usize, Duration::from_secs(10));
        sink.reset(count).await;
        bare::send_all(backlog.clone(), &url, SECRET, width).await;
        bare.push(sink.drained(soon).await.per_second());
        sink.reset(count).await;
        bare::send_all_as_the_daemon(backlog, &url, SECRET, width).await;
        own.push(sink.drained(soon).await.per_second());

        let holder = database.client().await;
        holder
            .batch_execute("begin isolation level repeatable read; select count(*) from orders")
            .await
            .expect("it can be held open");
        write_backlog(&database, count).await;
        let (drained, _) = drain(&database, &sink, count).await;
        held.push(drained.per_second());
        holder.batch_execute("commit").await.expect("it was open");
        eprintln!(
            "bench: drain round {round}: daemon {:.0}/s, bare loop {:.0}/s, its own sender bare {:.0}/s, held open {:.0}/s, {connections} connections",
            daemon[round - 1],
            bare[round - 1],
            own[round - 1],
            held[round - 1]
        );
    }
    let ratios = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>();
    let note = format!("{count} events, bodies of {body_bytes} bytes, {connections} connections");
    report.add("drain", median(&daemon), "events/s", Goal::None, note);
    report.add(
        "bare HTTP loop",
        median(&bare),
        "requests/s",
        Goal::None,
        "same bodies, signatures, receiver",
    );
    report.add("drain / bare HTTP loop", median(&ratios(&daemon, &bare)), "", Goal::AtLeast(0.5), "");
    report.add("bare loop over webhookd's own sender", median(&own), "requests/s", Goal::None, "for scale");
    report.add(
        "drain / bare loop over webhookd's own sender",
        median(&ratios(&daemon, &own)),
        "",
        Goal::None,
        "",
    );
    let note = "REPEATABLE READ transaction open throughout";
    report.add(
        "drain beside an open transaction / without",
        median(&ratios(&held, &daemon)),
        "",
        Goal::AtLeast(0.95),
        note,
    );
    let dead = dead_tuples(&database).await;
    report.add("dead tuples in event and attempt", dead as f64, "", Goal::AtMost(0.0), "pgstattuple");
}
