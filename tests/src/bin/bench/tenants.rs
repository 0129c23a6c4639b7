//! Measures what the number of owners and of their subscriptions costs: the rate of a drain for
//! 10 000 owners, the start and the memory of a daemon with 100 000 subscriptions, and the latency
//! of 100 owners beside one whose endpoints hang.

use crate::{
    drain::drain,
    median, percentile,
    report::{Goal, Report},
    sink::Sink,
};
use e2e::{
    PATIENCE,
    cluster::{Cluster, Database},
    daemon::Daemon,
    receiver::{Record, SECRET},
    scale,
    world::World,
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const OWNERS: u64 = 10_000;
const SUBSCRIPTIONS: u64 = 100_000;
/// Owners with a healthy endpoint, and endpoints of the one whose endpoints hang.
const HEALTHY: i64 = 100;
const HANGING: i64 = 100;
const PER_SECOND: f64 = 200.0;

/// Subscribes `count` owners to `*` at paths under this URL, without the functions that check each.
/// The next daemon starts behind the events about them.
async fn subscribe(database: &Database, url: &str, owner: &str, count: u64, scope: &str) {
    adopt(database).await;
    let statement = format!(
        "with made as (
             insert into webhook.subscription (url, events, owner, scope)
             select '{url}' || i, '{{*}}', '{owner}' || i, '{scope}' from generate_series(1, {count}) i returning id)
         insert into webhook.secret (subscription_id, secret) select id, '{SECRET}' from made"
    );
    database.run(&statement).await;
    database.run("analyze webhook.subscription; analyze webhook.secret").await;
    database.run("update webhook.cursor set snapshot = pg_current_snapshot()").await;
}

/// Lets a daemon create the cursor, if there is none.
async fn adopt(database: &Database) {
    if database.number("select count(*) from webhook.cursor").await == 0 {
        let daemon = Daemon::start(database).await;
        assert!(daemon.sigterm(PATIENCE).await.success(), "the daemon ends well");
    }
}

/// Writes events that the owners get in turn.
async fn write_events(database: &Database, count: u64) {
    for from in (1..=count).step_by(50_000) {
        let statement = format!(
            "insert into webhook.event (type, table_name, key, payload, owner)
             select 'order.created', 'orders', i::text, json_build_object('id', i, 'note', md5(i::text)),
                    'tenant-' || 1 + i % {OWNERS}
             from generate_series({from}, {}) i",
            count.min(from + 49_999)
        );
        database.run(&statement).await;
    }
    database.run("checkpoint").await;
}

/// Compares the drain for many owners with the drain for one subscription.
async fn many_owners(report: &mut Report) {
    let rounds: usize = scale("PGW_BENCH_ROUNDS", 5, 9);
    let events = scale("PGW_BENCH_EVENTS", 200_000, 200_000);
    let sink = Sink::start().await;
    let cluster = Cluster::start().await;
    let one = cluster.database("one").await;
    subscribe(&one, &sink.url("/events/"), "all-", 1, "all").await;
    let many = cluster.database("many").await;
    subscribe(&many, &sink.url("/events/"), "tenant-", OWNERS, "own").await;
    let (mut rates, mut ratios) = (vec![], vec![]);
    for turn in 0..rounds {
        let mut pair = [0.0; 2];
        for at in [turn % 2, 1 - turn % 2] {
            let database = [&one, &many][at];
            write_events(database, events).await;
            pair[at] = drain(database, &sink, events).await.0.per_second();
        }
        eprintln!("bench: tenants round {}: {:.0}/s to one, {:.0}/s to {OWNERS}", turn + 1, pair[0], pair[1]);
        rates.push(pair[1]);
        ratios.push(pair[1] / pair[0]);
    }
    let note = format!("{events} events, each to one of {OWNERS} owners with a subscription to *");
    report.add("drain to many owners", median(&rates), "events/s", Goal::None, note);
    let note = "the same events to one subscription";
    report.add("drain to many owners / to one", median(&ratios), "", Goal::AtLeast(0.9), note);
}

/// Returns the memory that a process uses now, in KiB.
fn resident_kib(daemon: &Daemon) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.process().pid()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Starts a daemon. Returns it with the seconds until it is ready, and its memory in KiB.
async fn start(world: &World) -> (Daemon, f64, f64) {
    let from = Instant::now();
    let daemon = Daemon::start(&world.database).await;
    let seconds = from.elapsed().as_secs_f64();
    Daemon::asleep(&world.database).await;
    let kib = resident_kib(&daemon);
    (daemon, seconds, kib)
}

/// Changes one subscription after the other, and emits an event that it gets because of that.
/// Returns the milliseconds from the commit of the change to the receiver.
async fn changes(world: &World, rounds: u64) -> Vec<f64> {
    let session = world.database.client().await;
    let mut times = Vec::new();
    for round in 1..=rounds {
        let id = 1 + round * 7919 % SUBSCRIPTIONS;
        let path = format!("/ok/changed/{round}");
        let url = world.receiver.url(&path);
        let from = Instant::now();
        session.batch_execute(&format!("select webhook_alter({id}, url => '{url}')")).await.expect("alter");
        let emit = format!(
            "insert into webhook.event (type, payload, owner) values ('order.created', '{{}}', 'tenant-{id}');
             select webhook.gate_ring()"
        );
        session.batch_execute(&emit).await.expect("emit");
        world.receiver.wait_for(&path, 1, PATIENCE).await;
        let arrived = world.receiver.at(&path)[0].arrived;
        times.push(arrived.saturating_duration_since(from).as_secs_f64() * 1e3);
    }
    times
}

/// Measures the start, the memory and the changes of a daemon with many subscriptions.
async fn many_subscriptions(report: &mut Report) {
    let world = World::new().await;
    subscribe(&world.database, &world.receiver.url("/ok/tenants/"), "tenant-", 1, "own").await;
    let (daemon, seconds_of_one, kib_of_one) = start(&world).await;
    daemon.kill9().await;
    let world = World::new().await;
    subscribe(&world.database, &world.receiver.url("/ok/tenants/"), "tenant-", SUBSCRIPTIONS, "own").await;
    let (daemon, seconds, kib) = start(&world).await;
    let each = (kib - kib_of_one) / SUBSCRIPTIONS as f64;
    let times = changes(&world, scale("PGW_BENCH_CHANGES", 50, 50)).await;
    daemon.kill9().await;
    let note = format!("{SUBSCRIPTIONS} subscriptions of as many owners; {seconds_of_one:.2} s with one");
    report.add("start with 100 000 subscriptions", seconds, "s", Goal::AtMost(5.0), note);
    let note = format!("{:.0} MiB; {:.0} MiB with one", kib / 1024.0, kib_of_one / 1024.0);
    report.add("memory of a subscription", each, "KiB", Goal::AtMost(1.0), note);
    let note = format!("p99 {:.1} ms; with the alter and an event", percentile(&times, 0.99));
    report.add("a changed one takes effect", median(&times), "ms", Goal::AtMost(50.0), note);
}

/// Emits events that the healthy owners get in turn, and for each one event of the owner whose
/// endpoints hang if `hangs`. Returns the milliseconds to the receiver.
async fn latencies(world: &World, first: i64, count: i64, hangs: bool) -> Vec<f64> {
    let session = world.database.client().await;
    let mut stamps = HashMap::new();
    let mut due = Instant::now();
    for n in first..first + count {
        due += Duration::from_secs_f64(1.0 / PER_SECOND);
        tokio::time::sleep_until(due.into()).await;
        let hanging = if hangs && n % 20 == 0 { ", ('order.created', '{}', 'hanging')" } else { "" };
        let statement = format!(
            "insert into webhook.event (type, payload, owner)
             values ('order.created', '{{\"n\": {n}}}', 'healthy-{}'){hanging}; select webhook.gate_ring()",
            1 + n % HEALTHY
        );
        session.batch_execute(&statement).await.expect("emit");
        stamps.insert(n, Instant::now());
    }
    let all = usize::try_from(first + count - 1).expect("a count");
    let of_healthy = |path: &str| path.starts_with("/ok/");
    let are_here =
        |record: &Record| record.requests.iter().filter(|request| of_healthy(&request.path)).count() >= all;
    world.receiver.wait("the events of the healthy owners", PATIENCE, are_here).await;
    let arrived = world.receiver.look(|record| record.requests.clone());
    let arrived = arrived.iter().filter(|request| of_healthy(&request.path));
    let numbers = arrived.map(|request| (request.json()["data"]["n"].as_i64(), request.arrived));
    let times = numbers.filter_map(|(n, at)| Some(at.saturating_duration_since(*stamps.get(&n?)?)));
    times.map(|time| time.as_secs_f64() * 1e3).collect()
}

/// Measures what healthy owners notice of one whose endpoints do not answer.
async fn one_that_hangs(report: &mut Report) {
    let (rounds, count): (usize, _) = (scale("PGW_BENCH_ROUNDS", 3, 5), (PER_SECOND * 5.0) as i64);
    let world = World::new().await;
    let (healthy, hanging) = (world.receiver.url("/ok/"), world.receiver.url("/hang/"));
    subscribe(&world.database, &healthy, "healthy-", HEALTHY as u64, "own").await;
    subscribe(&world.database, &hanging, "hanging-", HANGING as u64, "own").await;
    world
        .database
        .run("update webhook.subscription set owner = 'hanging' where owner like 'hanging-%'")
        .await;
    let daemon = Daemon::start(&world.database).await;
    let mut first = 1;
    let mut next = |count: i64| {
        first += count;
        first - count
    };
    latencies(&world, next(200), 200, false).await;
    let (mut ratios, mut p99s) = (vec![], vec![]);
    for _ in 0..rounds {
        let alone = percentile(&latencies(&world, next(count), count, false).await, 0.99);
        let beside = percentile(&latencies(&world, next(count), count, true).await, 0.99);
        eprintln!("bench: tenants: p99 {alone:.2} ms alone, {beside:.2} ms beside endpoints that hang");
        ratios.push(beside / alone);
        p99s.push(beside);
    }
    daemon.kill9().await;
    let note = format!("{HEALTHY} owners, beside one with {HANGING} endpoints that do not answer");
    report.add("latency p99 beside an owner that hangs", median(&p99s), "ms", Goal::None, note);
    report.add("latency p99 beside it / alone", median(&ratios), "", Goal::AtMost(1.5), "");
}

pub async fn run(report: &mut Report, part: Option<&str>) {
    let wanted = |name| part.is_none_or(|part| part == name);
    if wanted("owners") {
        many_owners(report).await;
    }
    if wanted("subscriptions") {
        many_subscriptions(report).await;
    }
    if wanted("hanging") {
        one_that_hangs(report).await;
    }
}
