//! Promise: a daemon that commits cannot wake logs this once and uses its safety poll.

use e2e::{PATIENCE, daemon::Daemon, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn delivered_by_the_safety_poll() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world
        .database
        .run(
            "alter function webhook.gate_sleep(integer) rename to sleep_taken_away;
             alter function webhook.gate_take() rename to gate_taken_away",
        )
        .await;
    let daemon = Daemon::start(&world.database).await;
    for order in 1..=3 {
        world.insert_orders(order, 1).await;
        world.receiver.wait_for("/ok", order as usize, PATIENCE).await;
    }
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let told = daemon.process().log().iter().filter(|line| line.contains("gate.unavailable")).count();
    assert_eq!(told, 1, "{:#?}", daemon.process().log());
}

/// The schema of version 0.1 has no gate_sleep(). The daemon takes the gate in its session, and
/// commits wake it with NOTIFY.
#[tokio::test(flavor = "multi_thread")]
async fn delivered_by_notifications_where_the_schema_is_of_the_version_before() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.database.run("alter function webhook.gate_sleep(integer) rename to sleep_taken_away").await;
    let daemon =
        Daemon::spawn_with(&world.database.url(), &["--allow-net", "127.0.0.0/8", "--safety-poll-ms", "0"]);
    daemon.ready(&world.database).await;
    for order in 1..=3 {
        Daemon::asleep(&world.database).await;
        world.insert_orders(order, 1).await;
        world.receiver.wait_for("/ok", order as usize, PATIENCE).await;
    }
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert!(!daemon.process().log().iter().any(|line| line.contains("gate.unavailable")));
}
