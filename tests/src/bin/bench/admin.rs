//! What the admin server costs deliveries: the time from commit to receiver at 200 events/s, with and without 200 requests
//! a second to the REST API, the page and the metrics, in turns on one daemon.

use crate::{
    median, percentile,
    report::{Goal, Report},
};
use e2e::{
    admin::{Admin, token},
    scale,
    world::World,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

const PER_SECOND: f64 = 200.0;

/// What is asked for, in turn.
const PATHS: [&str; 6] = [
    "/v1/subscriptions",
    "/v1/deliveries?limit=20",
    "/v1/deliveries?state=exhausted&limit=20",
    "/v1/events?limit=20",
    "/metrics",
    "/readyz",
];

/// The time from COMMIT acknowledged to receiver of some seconds' events, in milliseconds.
async fn latencies(world: &World, random: &mut StdRng, first: i64, count: i64) -> Vec<f64> {
    let insert =
        world.app.prepare("insert into orders values ($1, 'customer', 1, null)").await.expect("it parses");
    let mut stamps = HashMap::new();
    let mut due = Instant::now();
    for id in first..first + count {
        due += Duration::from_secs_f64(-random.random::<f64>().max(1e-9).ln() / PER_SECOND);
        tokio::time::sleep_until(due.into()).await;
        world.app.execute(&insert, &[&id]).await.expect("insert");
        stamps.insert(id, Instant::now());
    }
    let all = usize::try_from(first + count - 1).expect("a count");
    world.receiver.wait_for("/ok", all, e2e::PATIENCE).await;
    let arrived = world.receiver.at("/ok");
    let ids = arrived
        .iter()
        .map(|request| (request.json()["data"]["id"].as_i64().expect("an id"), request.arrived));
    ids.filter_map(|(id, at)| {
        stamps.get(&id).map(|from| at.saturating_duration_since(*from).as_secs_f64() * 1e3)
    })
    .collect()
}

/// Asks so often a second, several at a time, until it is dropped.
async fn ask(admin: &Admin, token: &str, answered: &AtomicU64) {
    let one = async |from: usize| {
        let mut ticks = interval(Duration::from_secs_f64(4.0 / PER_SECOND));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for at in from.. {
            ticks.tick().await;
            let answer = admin.get(PATHS[at % PATHS.len()], token).await;
            assert!(answer.status.is_success(), "{answer:?}");
            answered.fetch_add(1, Ordering::Relaxed);
        }
    };
    tokio::join!(one(0), one(1), one(2), one(3));
}

pub async fn run(report: &mut Report) {
    let rounds: usize = scale("PGW_BENCH_ROUNDS", 5, 5);
    let seconds: f64 = scale("PGW_BENCH_ADMIN_SECONDS", 5.0, 10.0);
    let count = (PER_SECOND * seconds) as i64;
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let token = token(&world.database, &["--role", "ops"]);
    world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &[]).await;
    let mut random = StdRng::seed_from_u64(1);
    let (mut quiet, mut asked, mut first, answered) = (vec![], vec![], 1, AtomicU64::new(0));
    let mut asked_for = 0.0;
    for round in 0..=rounds {
        let alone = latencies(&world, &mut random, first, count).await;
        let began = Instant::now();
        let beside = tokio::select! {
            beside = latencies(&world, &mut random, first + count, count) => beside,
            () = ask(&admin, &token, &answered) => unreachable!("it goes on"),
        };
        first += 2 * count;
        // The first round warms up.
        if round > 0 {
            quiet.push(percentile(&alone, 0.99));
            asked.push(percentile(&beside, 0.99));
        }
        asked_for += began.elapsed().as_secs_f64();
    }
    let ratios: Vec<f64> = asked.iter().zip(&quiet).map(|(asked, quiet)| asked / quiet).collect();
    let rate = answered.load(Ordering::Relaxed) as f64 / asked_for;
    report.add("latency p99, admin server idle", median(&quiet), "ms", Goal::None, "200 events/s");
    report.add(
        "latency p99, admin server asked",
        median(&asked),
        "ms",
        Goal::None,
        format!("{rate:.0} requests/s"),
    );
    let note = format!("median of {rounds} rounds: {ratios:.2?}");
    report.add("latency p99, asked / idle", median(&ratios), "×", Goal::AtMost(1.2), note);
}
