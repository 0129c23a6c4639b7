//! Measures the cost of filters: what a subscription without a filter notices of a thousand that
//! have one, and how fast a thousand filters of the simple kind are decided. The yardstick is the
//! same filters, written so that only Postgres can evaluate them.

use crate::{
    drain::drain,
    median, percentile,
    report::{Goal, Report},
    sink::Sink,
    steady::{PER_SECOND, Steady},
};
use e2e::{
    cluster::{Cluster, Database},
    daemon::Daemon,
    receiver::SECRET,
    scale,
    world::World,
};
use std::sync::Arc;

/// Subscriptions with a filter each.
const FILTERS: u64 = 1_000;

/// The same condition for the daemon and for Postgres. `{}` is the number of the subscription.
const SIMPLE: &str = "$.data.tenant == {}";
const BY_POSTGRES: &str = "strict $.data.tenant == {}";

/// Creates `count` subscriptions with filters.
async fn subscribe(database: &Database, url: &str, events: &str, filter: &str, count: u64) {
    let filter = filter.replace("{}", "' || i || '");
    let many = format!(
        "select count(s.id) from generate_series(0, {count} - 1) i,
         lateral webhook_subscribe('{url}' || i, array['{events}'], secret => '{SECRET}', filter => ('{filter}')::jsonpath) s"
    );
    assert_eq!(database.number(&many).await as u64, count);
}

/// Measures the latency of an unfiltered subscription alone, and beside filters that reject every
/// event.
async fn beside(report: &mut Report, sink: &Sink, name: &str, (filter, count): (&str, u64), goal: Goal) {
    let rounds = scale("PGW_BENCH_ROUNDS", 3, 5);
    let written = (PER_SECOND * 5.0) as i64;
    let (mut ratios, mut alones, mut besides) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let world = World::new().await;
        world.subscribe_with("/ok", "events => '{order.*}'").await;
        let daemon = Daemon::start(&world.database).await;
        let mut steady = Steady::new();
        steady.latencies(&world, |count| count < 200).await;
        let alone = percentile(&steady.latencies(&world, |count| count < written).await, 0.99);
        subscribe(&world.database, &sink.url("/events/"), "order.*", filter, count).await;
        steady.latencies(&world, |count| count < 200).await;
        let beside = percentile(&steady.latencies(&world, |count| count < written).await, 0.99);
        daemon.kill9().await;
        eprintln!("bench: p99 {alone:.2} ms alone, {beside:.2} ms beside {count} filters {name}");
        ratios.push(beside / alone);
        alones.push(alone);
        besides.push(beside);
    }
    let note = format!("alone: {:.2} ms; {PER_SECOND} events/s", median(&alones));
    report.add(
        &format!("latency p99 beside {count} filters {name}"),
        median(&besides),
        "ms",
        Goal::None,
        note,
    );
    report.add(&format!("latency p99 beside {count} filters {name} / alone"), median(&ratios), "", goal, "");
}

/// Creates a database with a watched table of tenants' rows, and a filter for each tenant.
async fn tenants(cluster: &Arc<Cluster>, sink: &Sink, name: &str, filter: &str) -> Database {
    let database = cluster.database(name).await;
    let table = "create table items (id bigserial primary key, tenant bigint not null)";
    database.run(&format!("{table}; select webhook_watch('items', noun => 'item')")).await;
    subscribe(&database, &sink.url("/events/"), "item.*", filter, FILTERS).await;
    database
}

/// Returns the rate of events that one of the filters lets through each.
async fn events_per_second(database: &Database, sink: &Sink, events: u64) -> f64 {
    let insert =
        format!("insert into items (tenant) select i % {FILTERS} from generate_series(1, {events}) i");
    database.run(&insert).await;
    database.run("checkpoint").await;
    drain(database, sink, events).await.0.per_second()
}

pub async fn run(report: &mut Report) {
    let rounds = scale("PGW_BENCH_ROUNDS", 3, 5);
    let sink = Sink::start().await;
    let cluster = Cluster::start().await;
    let simple = tenants(&cluster, &sink, "simple", SIMPLE).await;
    let by_postgres = tenants(&cluster, &sink, "by_postgres", BY_POSTGRES).await;
    let (mut fast, mut slow, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..rounds {
        slow.push(events_per_second(&by_postgres, &sink, 1_000).await);
        fast.push(events_per_second(&simple, &sink, 50_000).await);
        eprintln!("bench: {FILTERS} filters: {:.0} events/s, by Postgres {:.0}", fast[turn], slow[turn]);
        ratios.push(fast[turn] / slow[turn]);
    }
    let note = format!("{FILTERS} filters; each event passes one");
    report.add("simple filters", median(&fast), "events/s", Goal::None, note.clone());
    report.add("filters by Postgres", median(&slow), "events/s", Goal::None, note);
    report.add("simple filters / by Postgres", median(&ratios), "", Goal::AtLeast(20.0), "");
    drop((simple, by_postgres));
    cluster.stop().await;

    sink.reset(u64::MAX).await;
    beside(report, &sink, "in the daemon", (SIMPLE, FILTERS), Goal::AtMost(1.2)).await;
    beside(report, &sink, "in Postgres", (BY_POSTGRES, 50), Goal::None).await;
}
