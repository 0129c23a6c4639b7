//! Measures the cost of subscriptions: one event to a thousand of them, and an event that one of
//! ten thousand matches.
//!
//! Every figure is a ratio against the drain of the same database with a single subscription. The
//! two take turns in one run.

use crate::{
    drain::{drain, write_backlog},
    median,
    report::{Goal, Report},
    sink::Sink,
};
use e2e::{
    cluster::{Cluster, Database},
    daemon::Daemon,
    receiver::SECRET,
    scale,
    world::ORDERS,
};
use std::{sync::Arc, time::Duration};

/// Subscriptions that all get every event.
const ALL: u64 = 1_000;
/// Subscriptions in addition to the matching one.
const MANY: [u64; 3] = [0, 99, 9_999];

/// Creates a database with a watched table and no subscription.
async fn watched(cluster: &Arc<Cluster>, name: &str) -> Database {
    let database = cluster.database(name).await;
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order')")).await;
    database
}

/// Subscribes to `events` at the sink, `count` times; `{}` in `events` is the number.
async fn subscribe(database: &Database, sink: &Sink, events: &str, count: u64) {
    let events = events.replace("{}", "' || i || '");
    let many = format!(
        "select count(s.id) from generate_series(1, {count}) i,
         lateral webhook_subscribe('{}' || i, array['{events}'], secret => '{SECRET}') s",
        sink.url("/events/")
    );
    let made = database.number(&many).await;
    assert_eq!(made as u64, count);
}

/// Returns the rate of a drain of `events` events that each go to `receivers` subscriptions.
async fn deliveries_per_second(database: &Database, sink: &Sink, events: u64, receivers: u64) -> f64 {
    write_backlog(database, events).await;
    drain(database, sink, events * receivers).await.0.per_second()
}

/// Compares one event to a thousand subscriptions with a thousand events to one.
async fn one_to_a_thousand(report: &mut Report, cluster: &Arc<Cluster>, sink: &Sink, rounds: usize) {
    let events = scale("PGW_BENCH_FANOUT_EVENTS", 200, 200);
    let (one, all) = (watched(cluster, "one").await, watched(cluster, "thousand").await);
    subscribe(&one, sink, "order.created", 1).await;
    subscribe(&all, sink, "order.created", ALL).await;
    let (mut single, mut fanned, mut ratios) = (vec![], vec![], vec![]);
    for turn in 0..rounds {
        single.push(deliveries_per_second(&one, sink, events * ALL, 1).await);
        fanned.push(deliveries_per_second(&all, sink, events, ALL).await);
        ratios.push(fanned[turn] / single[turn]);
        eprintln!(
            "bench: fan-out round {}: {:.0}/s to one, {:.0}/s to {ALL}",
            turn + 1,
            single[turn],
            fanned[turn]
        );
    }
    let note = format!("{events} events to {ALL} subscriptions each");
    report.add("fan-out", median(&fanned), "deliveries/s", Goal::None, note);
    let note = format!("against {} events to one subscription", events * ALL);
    report.add("fan-out / drain to one", median(&ratios), "", Goal::AtLeast(0.5), note);
    latency(report, &all, sink).await;
}

/// Measures the time from the commit of one event to the last of its thousand requests.
async fn latency(report: &mut Report, database: &Database, sink: &Sink) {
    let daemon = Daemon::start(database).await;
    let app = database.client().await;
    let mut took = Vec::new();
    let first = database.number("select max(id) + 1 from orders").await;
    for turn in 0..10 {
        sink.reset(ALL).await;
        let insert = format!("insert into orders values ({}, 'c')", first + turn);
        let begun = std::time::Instant::now();
        app.batch_execute(&insert).await.expect("an order can be inserted");
        sink.drained(Duration::from_secs(60)).await;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report.add(
        "one event to the last of 1000",
        median(&took),
        "ms",
        Goal::None,
        "from before the INSERT, median of 10",
    );
    assert!(daemon.sigterm(Duration::from_secs(60)).await.success(), "the daemon ends well");
}

/// Repeats the same drain with an increasing number of subscriptions that do not match.
async fn one_of_many(report: &mut Report, cluster: &Arc<Cluster>, sink: &Sink, rounds: usize) {
    let events = scale("PGW_BENCH_EVENTS", 200_000, 200_000);
    let mut databases = Vec::new();
    for others in MANY {
        let database = watched(cluster, &format!("of_{others}")).await;
        subscribe(&database, sink, "order.created", 1).await;
        // Exact names and prefixes: the router looks up both kinds.
        subscribe(&database, sink, "other_{}.created", others / 2).await;
        subscribe(&database, sink, "thing_{}.*", others - others / 2).await;
        databases.push(database);
    }
    let mut rates: [Vec<f64>; MANY.len()] = Default::default();
    for turn in 0..rounds {
        for at in 0..MANY.len() {
            // Each round starts with another one.
            let at = (at + turn) % MANY.len();
            rates[at].push(deliveries_per_second(&databases[at], sink, events, 1).await);
        }
        let last: Vec<_> = rates.iter().map(|rates| rates[turn].round()).collect();
        eprintln!("bench: one of many, round {}: {last:?}/s beside {MANY:?} others", turn + 1);
    }
    for (others, of) in MANY.into_iter().zip(&rates).skip(1) {
        let ratios: Vec<f64> = of.iter().zip(&rates[0]).map(|(many, alone)| many / alone).collect();
        let cost: Vec<f64> = of.iter().zip(&rates[0]).map(|(many, alone)| 1e6 / many - 1e6 / alone).collect();
        let name = format!("drain beside {others} subscriptions that do not match / alone");
        let note = format!("{:+.2} µs an event", median(&cost));
        report.add(&name, median(&ratios), "", Goal::AtLeast(0.9), note);
    }
}

pub async fn run(report: &mut Report) {
    let rounds = scale("PGW_BENCH_ROUNDS", 5, 9);
    let sink = Sink::start().await;
    let cluster = Cluster::start().await;
    one_to_a_thousand(report, &cluster, &sink, rounds).await;
    one_of_many(report, &cluster, &sink, rounds).await;
}
