//! Measures the time from commit to receiver at 200 events/s.
//!
//! Writer and receiver run in this process, apart from the daemon's, and share one clock. Each
//! event is an explicit transaction. The writer stamps `COMMIT` before it is sent and when its
//! acknowledgement arrives; the receiver stamps the request when it has been read.
//!
//! The goal applies to the time from the acknowledgement. Before it, the commit waits for its WAL
//! flush, which depends on the disk, and no session can see the event. The report also gives the
//! time from the sending, flush included. Gaps between events are exponential, so that no timer of
//! the daemon synchronizes with the writer.

use crate::{
    percentile,
    report::{Goal, Report},
};
use e2e::{daemon::Daemon, scale, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

pub async fn run(report: &mut Report) {
    let (rate, seconds) = (200.0, scale("PGW_BENCH_LATENCY_SECONDS", 20.0, 60.0));
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    let mut random = StdRng::seed_from_u64(1);
    let insert =
        world.app.prepare("insert into orders values ($1, 'customer', 1, null)").await.expect("it parses");
    let (begin, commit) = (
        world.app.prepare("begin").await.expect("it parses"),
        world.app.prepare("commit").await.expect("it parses"),
    );
    let warm_up = 200;
    let count = (rate * seconds) as i64 + warm_up;
    let mut stamps = HashMap::new();
    let mut due = Instant::now();
    for id in 1..=count {
        due += Duration::from_secs_f64(-random.random::<f64>().max(1e-9).ln() / rate);
        tokio::time::sleep_until(due.into()).await;
        world.app.execute(&begin, &[]).await.expect("begin");
        world.app.execute(&insert, &[&id]).await.expect("insert");
        let sent = Instant::now();
        world.app.execute(&commit, &[]).await.expect("commit");
        stamps.insert(id, (sent, Instant::now()));
    }
    world.receiver.wait_for("/ok", count as usize, e2e::PATIENCE).await;
    let (mut upper, mut lower, mut commits) = (vec![], vec![], vec![]);
    for request in world.receiver.at("/ok") {
        let id = request.json()["data"]["id"].as_i64().expect("an id");
        let (sent, acknowledged) = stamps[&id];
        if id > warm_up {
            let ms = |from: Instant| match request.arrived.checked_duration_since(from) {
                Some(after) => after.as_secs_f64() * 1e3,
                None => -(from - request.arrived).as_secs_f64() * 1e3,
            };
            upper.push(ms(sent));
            lower.push(ms(acknowledged));
            commits.push((acknowledged - sent).as_secs_f64() * 1e3);
        }
    }
    let note = format!("{} events, from COMMIT acknowledged", lower.len());
    report.add("latency p50", percentile(&lower, 0.5), "ms", Goal::AtMost(1.5), note.clone());
    report.add("latency p99", percentile(&lower, 0.99), "ms", Goal::AtMost(5.0), note);
    let note = "from COMMIT sent: with the commit's own WAL flush";
    report.add("latency with COMMIT p50", percentile(&upper, 0.5), "ms", Goal::None, note);
    report.add("latency with COMMIT p99", percentile(&upper, 0.99), "ms", Goal::None, note);
    report.add("COMMIT itself p50", percentile(&commits, 0.5), "ms", Goal::None, "");
    report.add("COMMIT itself p99", percentile(&commits, 0.99), "ms", Goal::None, "");
}
