//! Promise: if Postgres takes results more slowly than receivers return them, deliveries slow down
//! to its pace. Unwritten results and memory are bounded, and the application notices nothing.

use e2e::{PATIENCE, daemon::Daemon, receiver::Keep, world::World};
use std::time::Duration;

/// The most results that may wait for the ledger (`UNCONFIRMED_MAX` of the send queues), plus the
/// attempts in flight.
const UNWRITTEN_MAX: i64 = 20_000 + 2_048;
const EVENTS: i64 = 60_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_bounded_memory_and_nothing_sent_twice() {
    let world = World::with(Keep::Ids, &[]).await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 100).await;
    world.receiver.wait_for("/ok", 100, PATIENCE).await;
    world.settled(PATIENCE).await;
    let memory_before = daemon.peak_mib();

    let blocker = world.database.client().await;
    blocker
        .batch_execute("begin; lock table webhook.attempt in share mode")
        .await
        .expect("the ledger is held up");
    let rows = format!(
        "insert into orders select i, 'customer ' || i, 1, md5(i::text) from generate_series(101, {EVENTS}) i"
    );
    world.app.batch_execute(&rows).await.expect("nothing holds up the application");
    // Deliveries continue until the limit of unwritten results is reached, and stop there. Spilled
    // events count towards the limit, so the test cannot know the number of deliveries beforehand.
    let unwritten = || world.receiver.look(|record| record.distinct("/ok")) as i64 - 100;
    let stopped = async {
        let mut seen = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            match unwritten() {
                now if now == seen && now > 0 => break,
                now => seen = now,
            }
        }
    };
    tokio::time::timeout(PATIENCE * 2, stopped).await.expect("deliveries stop while nothing is written");
    // The lock stays, so an insert that waited for it would fail.
    world.app.batch_execute("set lock_timeout = '5s'").await.expect("a setting");
    world.insert_orders(EVENTS + 1, 400).await;
    let held = unwritten();
    assert!(held <= UNWRITTEN_MAX, "{held} answers are not written");
    let written = "select count(*) from webhook.attempt";
    assert_eq!(world.database.number(written).await, 100);
    blocker.batch_execute("commit").await.expect("it was open");

    let all = (EVENTS + 400) as usize;
    world.receiver.wait_for("/ok", all, PATIENCE * 4).await;
    world.database.until(&format!("select count(*) = {all} from webhook.attempt"), PATIENCE).await;
    let memory = daemon.peak_mib();
    println!("{held} unwritten at most, {memory_before:.0} MiB before and {memory:.0} MiB at most");
    assert!(memory < memory_before + 100.0, "{memory_before} MiB before, {memory} MiB at most");
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
}
