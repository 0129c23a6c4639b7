//! Promise: a daemon that commits cannot wake logs this once and uses its safety poll.

use e2e::{PATIENCE, daemon::Daemon, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn delivered_by_the_safety_poll() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.database.run("alter procedure webhook.gate_sleep(integer) rename to sleep_taken_away").await;
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
