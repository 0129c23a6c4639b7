//! Promise: `rate_limit` holds in every window, also after an idle period. Deliveries that wait
//! behind it cost neither memory nor processor time.

use e2e::{PATIENCE, daemon::Daemon, receiver::Keep, scale, verdict::most_within, world::World};
use std::time::{Duration, Instant};

/// The limit, in requests per second.
const RATE: usize = 5;

/// Returns when each attempt of a subscription was handed to the network, by the daemon's clock.
async fn started(world: &World, subscription: i64) -> Vec<Instant> {
    let query = "select extract(epoch from started_at - min(started_at) over ())::float8 from webhook.attempt where subscription_id = $1";
    let rows = world.app.query(query, &[&subscription]).await.expect("attempts can be read");
    let zero = Instant::now();
    rows.iter().map(|row| zero + Duration::from_secs_f64(row.get(0))).collect()
}

/// Checks the rate. By the daemon's timestamps, no window of one second holds more than the rate.
/// The receiver sees the requests through a network and two schedulers: it may see one request more
/// in 10 seconds, and one more in 0.8 seconds.
async fn judge(world: &World, subscription: i64, path: &str) {
    let sent = started(world, subscription).await;
    // Two milliseconds allow for the rounding of timestamps.
    let most = most_within(&sent, Duration::from_millis(998));
    assert!(most <= RATE, "{path}: {most} requests were sent within a second");
    let came: Vec<_> = world.receiver.at(path).iter().map(|request| request.arrived).collect();
    for (window, limit) in [(Duration::from_millis(800), RATE + 1), (Duration::from_secs(10), 10 * RATE + 1)]
    {
        let most = most_within(&came, window);
        assert!(most <= limit, "{path}: {most} requests came within {window:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_large_backlog_behind_it() {
    let count: i64 = scale("PGW_BACKLOG", 100_000, 1_000_000);
    let world = World::with(Keep::Requests, &["fsync=off"]).await;
    let id = world.subscribe_with("/ok/limited", &format!("rate_limit => {RATE}")).await;
    let daemon = Daemon::start(&world.database).await;
    let rows = format!("insert into orders select i, 'c' from generate_series(1, {count}) i");
    world.app.batch_execute(&rows).await.expect("rows");
    world.database.until("select pending = 0 from webhook.health", PATIENCE * 10).await;

    // The rate is steady now: for ten seconds only the limit is at work.
    let (begun, before, cpu) =
        (Instant::now(), world.receiver.at("/ok/limited").len(), daemon.process().cpu());
    world.receiver.wait_for("/ok/limited", before + 10 * RATE, PATIENCE).await;
    let (cpu, took) = (daemon.process().cpu() - cpu, begun.elapsed());
    let rate = (10 * RATE) as f64 / took.as_secs_f64();
    let peak = daemon.peak_mib();
    println!(
        "a backlog of {count} behind {RATE}/s: {rate:.2}/s, {cpu:?} of processor time in {took:.1?}, peak {peak:.0} MiB"
    );
    assert!(rate > 0.8 * RATE as f64, "{rate:.2}/s: it does not use what it may");
    assert!(cpu < took.mul_f64(0.1), "{cpu:?} of processor time in {took:?}");
    assert!(peak < 100.0, "{peak:.0} MiB");
    judge(&world, id, "/ok/limited").await;
    // The waiting events arrive in order.
    let came: Vec<_> =
        world.receiver.at("/ok/limited").iter().map(|r| r.json()["sequence"].as_i64()).collect();
    let displaced = came.windows(2).filter(|pair| pair[1] < pair[0]).count();
    println!("{displaced} of {} came out of order", came.len());
    assert!(daemon.sigterm(PATIENCE).await.success(), "waiting deliveries do not keep it from ending");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_idle_and_with_retries() {
    let world = World::new().await;
    let id = world.subscribe_with("/flaky/1", &format!("rate_limit => {RATE}, retry => '{{200ms}}'")).await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 3).await;
    world.settled(PATIENCE).await;
    // The subscription stays idle for longer than it would take to save up a burst.
    let idle = "select max(started_at) < now() - interval '3 s' from webhook.attempt";
    world.database.until(idle, PATIENCE).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(10, 29) i")
        .await
        .expect("rows");
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.total, 46, "each came twice: retries count too"));
    judge(&world, id, "/flaky/1").await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A change takes effect without a restart, and a fraction is a valid rate.
#[tokio::test(flavor = "multi_thread")]
async fn changed_while_it_holds() {
    let world = World::new().await;
    let id = world.subscribe_with("/ok/limited", "rate_limit => 0.5").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 60) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/ok/limited", 3, PATIENCE).await;
    let sent = started(&world, id).await;
    assert_eq!(most_within(&sent, Duration::from_millis(1_990)), 1, "one in two seconds");
    world.database.run(&format!("select webhook_alter({id}, rate_limit => 50)")).await;
    world.receiver.wait_for("/ok/limited", 60, Duration::from_secs(20)).await;
}
