//! Promise: PREPARE TRANSACTION works with events in the transaction (a NOTIFY would make it fail).
//! The events are delivered after COMMIT PREPARED, and never after ROLLBACK PREPARED.

use e2e::{PATIENCE, daemon::Daemon, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn prepared_asleep_and_awake_committed_and_rolled_back() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let mut daemon = Daemon::start(&world.database).await;
    Daemon::asleep(&world.database).await;
    for (order, name) in [(1, "asleep"), (2, "undone"), (3, "after_restart")] {
        let prepare =
            format!("begin; insert into orders values ({order}, 'c'); prepare transaction '{name}'");
        world.app.batch_execute(&prepare).await.expect("a transaction with an event can be prepared");
    }
    // This order is a fence: it was committed last, so an event that has not arrived by now was not
    // sent.
    world.insert_orders(10, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;

    Daemon::asleep(&world.database).await;
    world.app.batch_execute("commit prepared 'asleep'").await.expect("it was prepared");
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    world.app.batch_execute("rollback prepared 'undone'").await.expect("it was prepared");

    // Another session commits, and another daemon delivers.
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.database.run("commit prepared 'after_restart'").await;
    daemon = Daemon::start(&world.database).await;
    world.receiver.wait_for("/ok", 3, PATIENCE).await;
    world.insert_orders(11, 1).await;
    world.receiver.wait_for("/ok", 4, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    world.receiver.look(|record| {
        let mut orders: Vec<_> =
            record.at("/ok").filter_map(|request| request.json()["data"]["id"].as_i64()).collect();
        orders.sort_unstable();
        assert_eq!(orders, [1, 3, 10, 11]);
    });
}
