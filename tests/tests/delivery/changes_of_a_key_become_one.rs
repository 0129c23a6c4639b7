//! Promise: with `compact`, the undelivered changes of one key arrive as one event with the last
//! state, the first previous values and the number of changes. Every change is accounted for.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use serde_json::{Value, json};

/// Returns the compacted bodies about a key.
fn about(world: &World, path: &str, key: i64) -> Vec<Value> {
    world.receiver.at(path).iter().map(|r| r.json()).filter(|body| body["data"]["id"] == key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_paused() {
    let world = World::new().await;
    world.insert_orders(1, 3).await;
    let id = world.subscribe_with("/ok/compact", "compact => true, enabled => false").await;
    world.subscribe("/ok/all").await;
    let daemon = Daemon::start(&world.database).await;
    for total in [10, 20, 30] {
        world.database.run(&format!("update orders set total = {total} where id = 1")).await;
    }
    world.database.run("update orders set note = 'x' where id = 1").await;
    world
        .database
        .run("insert into orders values (4, 'new', 1); update orders set total = 2 where id = 4")
        .await;
    world.database.run("update orders set total = 5 where id = 2; delete from orders where id = 2").await;
    world.database.run("update orders set total = 7 where id = 3").await;
    world.receiver.wait_for("/ok/all", 9, PATIENCE).await;
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    world.database.run(&format!("select webhook_resume({id})")).await;
    world.receiver.wait_for("/ok/compact", 4, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.at("/ok/compact").count(), 4, "one for each order"));

    let [updated] = &about(&world, "/ok/compact", 1)[..] else { panic!("one event about order 1") };
    assert_eq!((&updated["type"], &updated["compacted"]), (&json!("order.updated"), &json!(4)));
    assert_eq!((&updated["data"]["total"], &updated["data"]["note"]), (&json!(30), &json!("x")));
    assert_eq!(updated["previous"], json!({ "total": 1, "note": null }), "the oldest of each column");
    let last = world.database.text("select max(webhook.public_id(id, created_at)) from webhook.event where key = '1' and type = 'order.updated'").await;
    assert_eq!(updated["id"].as_str(), last.as_deref(), "the id of the last");

    let [created] = &about(&world, "/ok/compact", 4)[..] else { panic!("one event about order 4") };
    assert_eq!((&created["type"], &created["data"]["total"]), (&json!("order.created"), &json!(2)));
    let [deleted] = &about(&world, "/ok/compact", 2)[..] else { panic!("one event about order 2") };
    assert_eq!((&deleted["type"], &deleted["compacted"]), (&json!("order.deleted"), &json!(2)));
    let [single] = &about(&world, "/ok/compact", 3)[..] else { panic!("one event about order 3") };
    assert!(single.get("compacted").is_none_or(|n| *n == 1), "{single}");

    // Each absorbed event has its attempt row, under the request that carried it.
    let rows = format!(
        "select count(*) from webhook.attempt where subscription_id = {id} and outcome = 'succeeded'"
    );
    assert_eq!(world.database.number(&rows).await, 9);
    let shared = format!(
        "select count(distinct batch_id) from webhook.attempt a join webhook.event e on e.id = a.event_id where a.subscription_id = {id} and e.key = '1'"
    );
    assert_eq!(world.database.number(&shared).await, 1);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A receiver that is slower than the changes gets fewer events, and ends with the last state of
/// each key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_receiver_ends_with_the_last_state() {
    let world = World::new().await;
    world.insert_orders(1, 5).await;
    world.subscribe_with("/slow/100", "compact => true, ordering => 'key', max_in_flight => 2").await;
    let daemon = Daemon::start(&world.database).await;
    for round in 1..=60 {
        world.database.run(&format!("update orders set total = 100 + {round}")).await;
    }
    world.settled(PATIENCE).await;
    let requests = world.receiver.at("/slow/100");
    println!("300 changes in {} requests", requests.len());
    assert!(requests.len() < 300, "{}", requests.len());
    for key in 1..=5 {
        let came = about(&world, "/slow/100", key);
        assert_eq!(came.last().map(|body| &body["data"]["total"]), Some(&json!(160)), "order {key}");
        let changes: i64 = came.iter().map(|body| body["compacted"].as_i64().unwrap_or(1)).sum();
        assert_eq!(changes, 60, "order {key}: none unaccounted for");
        let totals: Vec<_> = came.iter().map(|body| body["data"]["total"].as_i64()).collect();
        assert!(totals.is_sorted(), "order {key}: {totals:?}");
        // Each event starts from the state in which the one before it ended.
        let before: Vec<_> = came[1..].iter().map(|body| body["previous"]["total"].as_i64()).collect();
        assert_eq!(before, totals[..totals.len() - 1], "order {key}");
    }
    assert!(daemon.sigterm(PATIENCE).await.success());
}
