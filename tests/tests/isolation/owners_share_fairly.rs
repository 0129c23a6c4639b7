//! Promise: an owner with thousands of subscriptions, slow receivers or bursts of events delays the
//! deliveries of other owners by little, and no host gets many requests at once.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Keep, SECRET},
    world::World,
};

/// A world in which one owner has many subscriptions to `path`, and another one has `/ok/other`.
async fn crowded(many: u32, path: &str, arguments: &str) -> World {
    let world = World::with(Keep::Ids, &[]).await;
    world.subscribe("/ok/other").await;
    world.database.run("create role crowd login; select webhook_grant('crowd', 'subscriber')").await;
    let crowd = world.database.try_client("crowd").await.expect("it may connect");
    let statement = format!(
        "select count(s.id) from generate_series(1, {many}) i, lateral webhook_subscribe('{}/' || i,
             '{{order.created}}', secret => '{SECRET}' {arguments}) s",
        world.receiver.url(path)
    );
    let made: i64 = crowd.query_one(&statement, &[]).await.expect("subscriptions").get(0);
    assert_eq!(made, i64::from(many));
    world.widen_scopes().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_nobody_answers_leave_places_for_others() {
    let world = crowded(3000, "/hold", ", timeout => '60 s'").await;
    // Without the limit of one host, the share of the owner is all that is left.
    for per_host in ["512", "65536"] {
        let daemon = Daemon::start_with(&world.database, &["--max-in-flight-per-host", per_host]).await;
        let before = world.receiver.look(|record| record.distinct("/ok/other"));
        let first = i64::try_from(before).expect("a few") + 1;
        world.insert_orders(first, 1).await;
        world.receiver.wait_for("/ok/other", before + 1, PATIENCE).await;
        world.receiver.wait("held requests", PATIENCE, |record| record.total > 500).await;
        world.insert_orders(first + 1, 20).await;
        world.receiver.wait_for("/ok/other", before + 21, PATIENCE).await;
        if per_host == "512" {
            assert!(world.receiver.max_in_flight() <= 512 + 64, "{}", world.receiver.max_in_flight());
        }
        daemon.kill9().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_passes_the_burst_of_another_owner() {
    let world = crowded(1000, "/ok/crowd", "").await;
    // The other owner does not get the burst.
    world
        .database
        .run("update webhook.subscription set events = '{invoice.paid}' where url like '%/other'")
        .await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 60).await;
    world.database.run("select webhook_emit('invoice.paid', '{}')").await;
    world.receiver.wait_for("/ok/other", 1, PATIENCE).await;
    let before_it = world.receiver.look(|record| record.total);
    assert!(before_it < 15_000, "{before_it} of 60 000 requests came before it");
    assert!(daemon.sigterm(PATIENCE).await.success());
}
