//! Promise: any role can NOTIFY on the daemon's channel, and thousands of notifications cost the
//! daemon as little as a few do.

use e2e::{PATIENCE, cluster::Database, daemon::Daemon, receiver::SECRET, world::World};
use std::time::{Duration, Instant};

const FLOOD: Duration = Duration::from_secs(3);

/// How often the table of backfills has been read.
const READS: &str = "select seq_scan + coalesce(idx_scan, 0) from pg_stat_user_tables where relid = 'webhook.backfill'::regclass";

/// Notifies for three seconds. Returns how often the daemon read the table, and the notifications.
async fn flood(database: &Database) -> (i64, i64) {
    let guest = database.try_client("guest").await.expect("it may connect");
    let before = database.number(READS).await;
    let (began, mut sent) = (Instant::now(), 0);
    while began.elapsed() < FLOOD {
        // Each in a transaction of its own, so that they are not merged.
        for _ in 0..50 {
            guest.batch_execute("notify webhook_backfill").await.expect("any role may notify");
            sent += 1;
        }
    }
    (database.number(READS).await - before, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_and_without_a_backfill() {
    let world = World::new().await;
    world.database.run("create role guest login").await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 2000).await;
    world.receiver.wait_for("/ok", 2000, PATIENCE).await;
    // At most one read in 50 ms, and those of this test.
    let most = i64::try_from(FLOOD.as_millis() / 50).expect("a number") + 20;
    let (reads, sent) = flood(&world.database).await;
    assert!(reads <= most && sent > 3 * most, "{reads} reads for {sent} notifications");

    // A backfill that has no capacity, because its subscription is paused.
    let url = world.receiver.url("/status/500");
    world
        .database
        .run(&format!(
            "select webhook_backfill((webhook_subscribe('{url}', '{{order.snapshot}}', secret => '{SECRET}', enabled => false)).id, 'orders')"
        ))
        .await;
    let (reads, sent) = flood(&world.database).await;
    assert!(reads <= 2 * most && sent > 6 * most, "{reads} reads for {sent} notifications, with a backfill");
    world.insert_orders(2001, 10).await;
    world.receiver.wait_for("/ok", 2010, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
