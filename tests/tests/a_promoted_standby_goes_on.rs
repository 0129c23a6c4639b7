//! Promise: after a failover the daemon on the new primary delivers what was committed and not yet delivered, and goes on.

use e2e::{PATIENCE, daemon::Daemon, receiver::Behaviour, world::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn promoted_after_the_primary_was_lost() {
    let world = World::new().await;
    let standby = world.cluster.standby().await;
    let copy = standby.existing("app");
    world.receiver.behave("/ok/held", Behaviour::Status(503));
    world.subscribe("/ok").await;
    world.subscribe_with("/ok/held", "retry => '{2s,2s,2s,2s,2s,2s,2s,2s,2s,2s}'").await;
    let first = Daemon::start(&world.database).await;
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, PATIENCE).await;
    world.receiver.wait_for("/ok/held", 10, PATIENCE).await;
    // The last orders reach the standby, and no daemon.
    assert!(first.sigterm(PATIENCE).await.success());
    world.insert_orders(51, 50).await;
    copy.until("select count(*) = 100 from webhook.event where type = 'order.created'", PATIENCE).await;
    world.cluster.kill9().await;
    let orphan = Daemon::spawn(&world.database);
    assert!(!orphan.ended(PATIENCE).await.success(), "there is no old primary to deliver from");
    copy.run("select pg_promote()").await;
    copy.until("select not pg_is_in_recovery()", PATIENCE).await;

    let second = Daemon::start_with(&copy, &["--probe-interval-ms", "500"]).await;
    world.receiver.wait_for("/ok", 100, PATIENCE).await;
    copy.run("insert into orders select i, 'c' from generate_series(101, 150) i").await;
    world.receiver.wait_for("/ok", 150, PATIENCE).await;
    // What waited for its retry before the failover waits no longer than it should have.
    world.receiver.behave("/ok/held", Behaviour::Ok);
    world.receiver.wait_for("/ok/held", 150, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0, "none was in flight"));
    assert!(second.sigterm(PATIENCE).await.success());
}
