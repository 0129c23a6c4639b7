//! Promise: a change of a subscription takes effect in commit order. It applies to all events that
//! commit after it and to none that commit before it.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

fn orders(world: &World, path: &str) -> Vec<i64> {
    let mut ids: Vec<i64> =
        world.receiver.at(path).iter().filter_map(|request| request.json()["data"]["id"].as_i64()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_changed_in_the_midst_of_traffic() {
    let world = World::new().await;
    let id = world.subscribe_with("/ok", "events => '{order.created}'").await;
    world.subscribe("/ok/fence").await;
    let daemon = Daemon::start(&world.database).await;
    let mut random = StdRng::seed_from_u64(3);
    let (mut matches, mut expected, mut count) = (true, Vec::new(), 0);
    for order in 1..=400 {
        if random.random_bool(0.1) {
            matches = !matches;
            let pattern = if matches { "order.created" } else { "order.deleted" };
            let alter = format!("select webhook_alter({id}, events => '{{{pattern}}}')");
            world.app.batch_execute(&alter).await.expect("it can be altered");
        }
        world.insert_orders(order, 1).await;
        count += 1;
        if matches {
            expected.push(order);
        }
    }
    world.receiver.wait_for("/ok/fence", count, PATIENCE).await;
    world.receiver.wait_for("/ok", expected.len(), PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert_eq!(orders(&world, "/ok"), expected);
}

/// The daemon finds the changes and the events in one window, which began before it was started.
#[tokio::test(flavor = "multi_thread")]
async fn patterns_changed_while_no_daemon_ran() {
    let world = World::new().await;
    let id = world.subscribe_with("/ok", "events => '{order.created}'").await;
    world.subscribe("/ok/fence").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok/fence", 1, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.insert_orders(2, 1).await;
    let alter = async |option: String| world.database.run(&format!("select webhook_alter({option})")).await;
    alter(format!("{id}, events => '{{order.deleted}}'")).await;
    world.insert_orders(3, 1).await;
    alter(format!("{id}, name => 'another'")).await;
    world.insert_orders(4, 1).await;
    alter(format!("{id}, events => '{{order.created}}'")).await;
    world.insert_orders(5, 1).await;
    alter(format!("{id}, events => '{{order.deleted}}'")).await;
    let daemon = Daemon::start(&world.database).await;
    world.receiver.wait_for("/ok/fence", 5, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert_eq!(orders(&world, "/ok"), [1, 2, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn from_subscribe_to_unsubscribe() {
    let world = World::new().await;
    world.subscribe("/ok/fence").await;
    let daemon = Daemon::start(&world.database).await;
    let open = world.database.client().await;
    // An event that is written before the subscription and commits after it belongs to the
    // subscription.
    open.batch_execute("begin; insert into orders values (1000, 'open')").await.expect("it is open");
    world.insert_orders(1, 5).await;
    let id = world.subscribe("/ok/late").await;
    world.insert_orders(6, 5).await;
    open.batch_execute("commit").await.expect("it was open");
    world.receiver.wait_for("/ok/late", 6, PATIENCE).await;
    world.database.run(&format!("select webhook_unsubscribe({id})")).await;
    world.insert_orders(11, 5).await;
    world.receiver.wait_for("/ok/fence", 16, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert_eq!(orders(&world, "/ok/late"), [6, 7, 8, 9, 10, 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_is_rolled_back_never_was() {
    let world = World::new().await;
    world.subscribe("/ok/fence").await;
    let daemon = Daemon::start(&world.database).await;
    let subscribe = format!("select webhook_subscribe('{}')", world.receiver.url("/ok/never"));
    world
        .app
        .batch_execute(&format!("begin; {subscribe}; insert into orders values (1, 'c'); rollback"))
        .await
        .expect("rolled back");
    world.insert_orders(2, 1).await;
    world.receiver.wait_for("/ok/fence", 1, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    assert!(world.receiver.at("/ok/never").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_secret_signs_and_a_ping_goes_to_one_alone() {
    let world = World::new().await;
    world.subscribe("/ok/other").await;
    let subscribe = format!("select id, secret from webhook_subscribe('{}')", world.receiver.url("/ok/own"));
    let row = world.app.query_one(&subscribe, &[]).await.expect("it can be subscribed");
    let (id, secret): (i64, String) = (row.get(0), row.get(1));
    world.receiver.expect_secret("/ok/own", &secret);
    let daemon = Daemon::start(&world.database).await;
    world.database.run(&format!("select webhook_ping({id})")).await;
    world.receiver.wait_for("/ok/own", 1, PATIENCE).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok/own", 2, PATIENCE).await;
    world.receiver.wait_for("/ok/other", 1, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let types = |path: &str| -> Vec<String> {
        world
            .receiver
            .at(path)
            .iter()
            .map(|r| r.json()["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(types("/ok/own"), ["webhook.ping", "order.created"]);
    assert_eq!(types("/ok/other"), ["order.created"]);
}
