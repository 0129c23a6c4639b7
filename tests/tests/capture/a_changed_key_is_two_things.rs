//! Promise: when a row's key changes, a consumer that knows rows only by key hears of both keys:
//! the old one is deleted and the new one is created. Each key keeps its own order through
//! failures, waits, merges and kills.

use e2e::{PATIENCE, daemon::Daemon, receiver::Behaviour, world::World};
use serde_json::Value;

const FLAGS: [&str; 2] = ["--probe-interval-ms", "20"];

/// Returns the verbs of the events about a key that a path accepted, in order of arrival and
/// without duplicates.
fn told(world: &World, path: &str, key: &str) -> Vec<String> {
    let mut ids = std::collections::HashSet::new();
    let accepted = world.receiver.at(path).into_iter().filter(|request| request.status() == Some(200));
    let bodies = accepted.filter(|request| ids.insert(request.id().to_owned())).map(|request| request.json());
    let about = bodies.filter(|body| body["key"] == key);
    about.map(|body| body["type"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn thin_events_name_both_keys_in_the_order_of_each() {
    let world = World::new().await;
    // The deletion of key 1 fails at first; key 2 does not wait for it.
    world.receiver.behave_by("/keyed", |request, attempt| {
        let body: Value = request.json();
        let is_end = body["type"] == "order.deleted" && body["key"] == "1";
        if is_end && attempt < 3 { Behaviour::Status(500) } else { Behaviour::Ok }
    });
    let arguments = "payload_mode => 'thin', ordering => 'key', retry => '{100ms,100ms,100ms}'";
    world.subscribe_with("/keyed", arguments).await;
    let daemon = Daemon::start_with(&world.database, &FLAGS).await;
    world.insert_orders(1, 1).await;
    world.database.run("update orders set total = 2 where id = 1").await;
    world.database.run("update orders set id = 2, total = 3 where id = 1").await;
    world.database.run("update orders set total = 4 where id = 2").await;
    // Another row takes the old key while the deletion of the old row is still undelivered.
    world.database.run("insert into orders values (1, 'another', 1)").await;
    daemon.kill9().await;
    let daemon = Daemon::start_with(&world.database, &FLAGS).await;
    world.settled(PATIENCE).await;
    assert_eq!(
        told(&world, "/keyed", "1"),
        ["order.created", "order.updated", "order.deleted", "order.created"]
    );
    assert_eq!(told(&world, "/keyed", "2"), ["order.created", "order.updated"]);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_ends_the_one_and_begins_the_other() {
    let world = World::new().await;
    let arguments = "payload_mode => 'changed', compact => true, enabled => false";
    let id = world.subscribe_with("/ok/compact", arguments).await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.run("update orders set total = 2 where id = 1").await;
    world.database.run("update orders set id = 2, total = 3 where id = 1").await;
    world.database.run("update orders set total = 4 where id = 2").await;
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    world.database.run(&format!("select webhook_resume({id})")).await;
    world.settled(PATIENCE).await;
    assert_eq!(told(&world, "/ok/compact", "1"), ["order.deleted"]);
    assert_eq!(told(&world, "/ok/compact", "2"), ["order.created"]);
    let requests = world.receiver.at("/ok/compact");
    let created = requests.iter().map(|request| request.json()).find(|body| body["key"] == "2");
    assert_eq!(created.map(|body| body["data"]["total"].clone()), Some(4.into()), "the last state");
    assert!(daemon.sigterm(PATIENCE).await.success());
}
