//! Measures what one owner notices of another, who has thousands of subscriptions: the latency of
//! its events, alone and beside each attack, in turns.

use crate::{
    median, percentile,
    report::{Goal, Report},
    sink::Sink,
    steady::{PER_SECOND, Steady},
};
use e2e::{
    daemon::Daemon,
    receiver::{Keep, Receiver, SECRET},
    scale,
    world::World,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Subscriptions of the other owner, all to one host.
const CROWD: i64 = 5_000;
/// Time between two events that all of them get.
const EVERY: Duration = Duration::from_millis(500);

/// Creates the other owner, with its subscriptions to this URL.
async fn crowd(world: &World, url: &str) {
    world.database.run("create role crowd login; select webhook_grant('crowd', 'subscriber')").await;
    let session = world.database.try_client("crowd").await.expect("it may connect");
    let statement = format!(
        "select count(s.id) from generate_series(1, {CROWD}) i,
         lateral webhook_subscribe('{url}/' || i, '{{crowd.tick}}', secret => '{SECRET}', timeout => '60 s') s"
    );
    let made: i64 = session.query_one(&statement, &[]).await.expect("subscriptions").get(0);
    assert_eq!(made, CROWD);
}

/// Emits events for the crowd until `is_done`.
async fn attack(world: &World, is_done: &AtomicBool) {
    let session = world.database.client().await;
    while !is_done.load(Ordering::Relaxed) {
        session.batch_execute("select webhook_emit('crowd.tick', '{}')").await.expect("it may emit");
        tokio::time::sleep(EVERY).await;
    }
}

/// Measures latencies alone and beside the attack, each in `rounds` worlds of its own.
async fn measure(report: &mut Report, name: &str, url: &str, rounds: usize) {
    let count = (PER_SECOND * 5.0) as i64;
    let (mut ratios, mut p99s) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let world = World::new().await;
        world.subscribe_with("/ok", "events => '{order.*}'").await;
        crowd(&world, url).await;
        let daemon = Daemon::start(&world.database).await;
        let mut steady = Steady::new();
        steady.latencies(&world, |written| written < 200).await;
        let alone = steady.latencies(&world, |written| written < count).await;
        let is_done = AtomicBool::new(false);
        let measured = async {
            let times = steady.latencies(&world, |written| written < count).await;
            is_done.store(true, Ordering::Relaxed);
            times
        };
        let ((), beside) = tokio::join!(attack(&world, &is_done), measured);
        daemon.kill9().await;
        let (alone, beside) = (percentile(&alone, 0.99), percentile(&beside, 0.99));
        eprintln!("bench: {name}: p99 {alone:.2} ms alone, {beside:.2} ms beside it");
        ratios.push(beside / alone);
        p99s.push(beside);
    }
    let note = format!("{CROWD} subscriptions of another owner to one host, an event every {EVERY:?}");
    report.add(&format!("latency p99 beside {name}"), median(&p99s), "ms", Goal::None, note);
    report.add(&format!("latency p99 beside {name} / alone"), median(&ratios), "", Goal::AtMost(2.0), "");
}

pub async fn run(report: &mut Report) {
    let rounds = scale("PGW_BENCH_ROUNDS", 3, 5);
    let stalled = Receiver::start_with(Keep::Ids).await;
    measure(report, "a stalled crowd", &stalled.url("/hold"), rounds).await;
    let sink = Sink::start().await;
    sink.reset(u64::MAX).await;
    measure(report, "a busy crowd", &sink.url("/events"), rounds).await;
}
