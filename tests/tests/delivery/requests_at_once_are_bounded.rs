//! Promise: a receiver has at most `max_in_flight` requests at a time, however many deliveries
//! wait.

use e2e::{PATIENCE, daemon::Daemon, world::World};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_at_one_that_does_not_answer() {
    let world = World::new().await;
    let id = world.subscribe_with("/hold", "max_in_flight => 20, timeout => '2 min'").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 1000) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/hold", 20, PATIENCE).await;
    // The other deliveries go to the queue, without a lock that another session could wait for.
    let aside = format!("select count(*) = 1000 from webhook.queue where subscription_id = {id}");
    world.database.until(&aside, PATIENCE).await;
    world.database.run("begin; lock table webhook.queue in share row exclusive mode nowait; commit").await;
    world.receiver.look(|record| assert_eq!(record.total, 20, "as many as it may have, and not one more"));

    world.receiver.release();
    world.receiver.wait_for("/hold", 1000, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(world.receiver.max_in_flight(), 20);
    world.receiver.look(|record| assert_eq!(record.duplicates("/hold"), 0));
}
