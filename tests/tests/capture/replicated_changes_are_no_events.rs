//! Promise: a change that logical replication applies is an event at its origin. It is an event
//! here only on request (`enable always trigger`).

use e2e::{
    PATIENCE,
    cluster::Cluster,
    daemon::Daemon,
    world::{ORDERS, World},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unless_the_trigger_is_enabled_always() {
    let origin = Cluster::start_with(&["wal_level=logical"]).await.empty_database("app").await;
    origin.run(&format!("{ORDERS}; create publication orders for table orders")).await;
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let link = format!("create subscription orders connection '{}' publication orders", origin.url());
    world.database.run(&link).await;
    origin.run("insert into orders values (1, 'c'), (2, 'c')").await;
    world.database.until("select count(*) = 2 from orders", PATIENCE).await;
    assert_eq!(world.event_ids("order.%").await.len(), 0);

    world.database.run("alter table orders enable always trigger webhook_insert").await;
    origin.run("insert into orders values (3, 'c'); update orders set note = 'n' where id = 3").await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    world.database.until("select exists (select from orders where note = 'n')", PATIENCE).await;
    // A local write is an event as before.
    world.insert_orders(100, 1).await;
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.database.run("drop subscription orders").await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let keys = world
        .receiver
        .at("/ok")
        .iter()
        .map(|request| request.json()["data"]["id"].clone())
        .collect::<Vec<_>>();
    assert_eq!(keys, [3, 100]);
}
