//! Promise: a transaction that stays open delays its own events and nobody else's.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::time::Duration;

/// Others' events have to be there within this while the transaction is open.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_another_database() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let other = world.cluster.empty_database("other").await.client().await;
    other.batch_execute("create table t (i int); begin; insert into t values (1)").await.expect("it is open");
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;
    other.batch_execute("commit").await.expect("it was open throughout");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_with_events_of_their_own() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let mut daemon = Daemon::start(&world.database).await;
    let (commits, aborts) = (world.database.client().await, world.database.client().await);
    commits.batch_execute("begin; insert into orders values (-1, 'commits')").await.expect("it is open");
    aborts.batch_execute("begin; insert into orders values (-2, 'aborts')").await.expect("it is open");
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;

    // The checkpoint knows the open transactions: a restart neither forgets nor repeats.
    assert!(daemon.sigterm(PATIENCE).await.success());
    daemon = Daemon::start(&world.database).await;
    world.insert_orders(201, 200).await;
    world.receiver.wait_for("/ok", 400, SOON).await;
    world.receiver.look(|record| {
        assert!(record.at("/ok").all(|r| r.json()["data"]["id"].as_i64() > Some(0)), "nothing uncommitted");
    });

    aborts.batch_execute("rollback").await.expect("it was open throughout");
    commits.batch_execute("commit").await.expect("it was open throughout");
    world.receiver.wait_for("/ok", 401, SOON).await;
    world.settled(SOON).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| {
        assert_eq!(record.distinct("/ok"), 401);
        assert_eq!(record.duplicates("/ok"), 0);
        assert!(record.at("/ok").any(|r| r.json()["data"]["id"] == -1), "the committed one");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    let prepare = "begin; insert into orders values (-1, 'prepared'); prepare transaction 'long'";
    world.app.batch_execute(prepare).await.expect("it is prepared");
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;
    world.app.batch_execute("commit prepared 'long'").await.expect("it was prepared throughout");
    world.receiver.wait_for("/ok", 201, SOON).await;
}
