//! Promise: a delivery that is given up is reported once, as an event that any subscription may
//! select. The report can never cause another one.

use e2e::{PATIENCE, daemon::Daemon, world::World};

const EXHAUSTED: &str = "webhook.delivery.exhausted";

#[tokio::test(flavor = "multi_thread")]
async fn by_name_by_prefix_and_not_by_the_star() {
    let world = World::new().await;
    let failing = world.subscribe_with("/status/500", "events => '{order.*}', retry => '{100ms}'").await;
    world.subscribe_with("/ok/by-name", &format!("events => '{{{EXHAUSTED}}}'")).await;
    world.subscribe_with("/ok/by-prefix", "events => '{webhook.*}'").await;
    world.subscribe("/ok/star").await;
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "200"]).await;
    world.insert_orders(1, 3).await;
    world.receiver.wait_for("/ok/by-name", 3, PATIENCE).await;
    world
        .receiver
        .wait("the prefix too", PATIENCE, |record| {
            record.at("/ok/by-prefix").filter(|request| request.json()["type"] == EXHAUSTED).count() == 3
        })
        .await;
    world.receiver.wait_for("/ok/star", 3, PATIENCE).await;
    let bodies: Vec<_> = world.receiver.at("/ok/by-name").iter().map(|request| request.json()).collect();
    let orders = world.event_ids("order.%").await;
    for body in &bodies {
        assert_eq!(body["data"]["subscription_id"], failing, "{body}");
        let event = body["data"]["event_id"].as_str().expect("the event it is about");
        assert!(orders.contains(event), "{body}");
    }
    world.receiver.look(|record| {
        assert!(record.at("/ok/star").all(|request| request.json()["type"] != EXHAUSTED));
        assert_eq!(record.duplicates("/ok/by-name"), 0);
    });
    let keys = format!("select count(*) from webhook.event where type = '{EXHAUSTED}' and key = '{failing}'");
    assert_eq!(world.database.number(&keys).await, 3, "once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_own_receiver_fails() {
    let world = World::new().await;
    world.subscribe_with("/status/500", "events => '{order.*}', retry => '{100ms}'").await;
    let operator = world.subscribe_with("/status/503", "events => '{webhook.*}', retry => '{100ms}'").await;
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "200"]).await;
    world.insert_orders(1, 3).await;
    let given_up = format!(
        "select count(*) = 3 from webhook.delivery d where subscription_id = {operator} and type = '{EXHAUSTED}' and state = 'exhausted'"
    );
    world.database.until(&given_up, PATIENCE).await;
    // A later order is delivered completely, so everything that the end of the former ones could
    // cause has happened.
    world.insert_orders(4, 1).await;
    world.database.until(&given_up.replace("= 3", "= 4"), PATIENCE).await;
    world.database.until("select pending = 0 and queued = 0 from webhook.health", PATIENCE).await;
    let events = format!("select count(*) from webhook.event where type = '{EXHAUSTED}'");
    assert_eq!(world.database.number(&events).await, 4, "an event about a delivery causes no further event");
}
