//! Promise: a range of the past can be sent again, under the same ids and in order, to the
//! requested subscription only. New events do not wait for it.

use e2e::{PATIENCE, daemon::Daemon, receiver::Keep, scale, world::World};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Returns the database's time, as text.
async fn now(world: &World) -> String {
    world.database.text("select clock_timestamp()").await.expect("a time")
}

/// Returns how often each order arrived on a path.
fn times(world: &World, path: &str) -> HashMap<i64, u32> {
    let mut times = HashMap::new();
    for request in world.receiver.at(path) {
        *times.entry(request.json()["data"]["id"].as_i64().unwrap_or_default()).or_default() += 1;
    }
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_and_some_types_of_it() {
    let world = World::new().await;
    let id = world.subscribe("/ok/again").await;
    world.subscribe("/ok/other").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 10).await;
    let since = now(&world).await;
    world.insert_orders(11, 10).await;
    world.database.run("update orders set note = 'x' where id = 15").await;
    let until = now(&world).await;
    world.insert_orders(21, 10).await;
    world.receiver.wait_for("/ok/again", 31, PATIENCE).await;
    world.settled(PATIENCE).await;

    let replay = format!("select webhook_replay({id}, '{since}', '{until}', events => '{{order.created}}')");
    assert_eq!(world.database.number(&replay).await, 10);
    world.receiver.wait("ten of them again", PATIENCE, |record| record.at("/ok/again").count() == 41).await;
    world.settled(PATIENCE).await;
    let again = &world.receiver.at("/ok/again")[31..];
    let mut orders: Vec<_> = again.iter().filter_map(|r| r.json()["data"]["id"].as_i64()).collect();
    orders.sort_unstable();
    assert_eq!(orders, (11..=20).collect::<Vec<_>>());
    for request in again {
        let first = world.receiver.at("/ok/again").into_iter().find(|other| other.id() == request.id());
        assert_eq!(first.expect("it came before").body, request.body, "the same id, the same bytes");
    }
    world
        .receiver
        .look(|record| assert_eq!(record.duplicates("/ok/other"), 0, "no other subscription gets it"));
    let twice = format!("select count(*) from webhook.attempt where subscription_id = {id} and attempt = 2");
    assert_eq!(world.database.number(&twice).await, 10);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn to_one_that_was_not_there_and_one_that_is_paused() {
    let world = World::new().await;
    let daemon = Daemon::start(&world.database).await;
    let since = now(&world).await;
    world.insert_orders(1, 30).await;
    let late = world.subscribe("/ok/late").await;
    let paused = world.subscribe_with("/ok/paused", "enabled => false").await;
    for id in [late, paused] {
        let replay = format!("select webhook_replay({id}, '{since}')");
        assert_eq!(world.database.number(&replay).await, 30);
    }
    world.receiver.wait_for("/ok/late", 30, PATIENCE).await;
    let kept = format!(
        "select count(*) = 30 and bool_and(state = 'backlog') from webhook.queue where subscription_id = {paused}"
    );
    world.database.until(&kept, PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.distinct("/ok/paused"), 0));
    world.database.run(&format!("select webhook_resume({paused})")).await;
    world.receiver.wait_for("/ok/paused", 30, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert_eq!(world.receiver.look(|record| record.total), 60);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A large replay, killed half-way, does not delay new events.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fresh_events_do_not_wait_behind_it() {
    let count: i64 = scale("PGW_REPLAY", 20_000, 200_000);
    let world = World::with(Keep::Requests, &["fsync=off"]).await;
    let id = world.subscribe_with("/slow/20", "max_in_flight => 32").await;
    world.database.run(&format!("select webhook_pause({id}, 'not yet')")).await;
    let since = now(&world).await;
    world
        .app
        .batch_execute(&format!("insert into orders select i, 'c' from generate_series(1, {count}) i"))
        .await
        .expect("rows");
    let mut daemon = Daemon::start(&world.database).await;
    world.database.until("select pending = 0 from webhook.health", PATIENCE * 2).await;
    world.database.run(&format!("select webhook_resume({id}, skip_backlog => true)")).await;
    let asked = format!("select webhook_replay({id}, '{since}')");
    assert_eq!(world.database.number(&asked).await, count);
    world.receiver.wait("the first of them", PATIENCE, |record| record.total > 500).await;
    daemon.kill9().await;
    daemon = Daemon::start(&world.database).await;
    world.receiver.wait("some more", PATIENCE, |record| record.total > 2_000).await;
    let committed = Instant::now();
    world.insert_orders(count + 1, 1).await;
    world
        .receiver
        .wait("the fresh one", PATIENCE, |record| {
            record.requests.iter().rev().take(400).any(|r| r.json()["data"]["id"] == count + 1)
        })
        .await;
    let (delay, before) = (committed.elapsed(), world.receiver.look(|record| record.distinct("/slow/20")));
    println!("the fresh one came after {delay:?}, with {before} of {count} replayed");
    assert!(before < count as usize / 2, "it came with the last of the replay");
    assert!(delay < Duration::from_secs(5), "{delay:?}");
    world.receiver.wait_for("/slow/20", count as usize + 1, PATIENCE * 4).await;
    world.settled(PATIENCE * 2).await;
    let twice = times(&world, "/slow/20").values().filter(|times| **times > 1).count();
    println!("{twice} came twice, for the kill");
    assert!(twice <= 32 + 1_000, "{twice}: what was in flight and one flush");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_lists_the_matching_events() {
    let world = World::new().await;
    let since = now(&world).await;
    let arguments = "events => '{order.*}', filter => '$.data.id > 3', exclude_origin => '{crm}'";
    let id = world.subscribe_with("/ok", arguments).await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 10).await;
    world
        .database
        .run("begin; set local webhook.origin = 'crm'; insert into orders values (20, 'c'); commit")
        .await;
    world.database.run("select webhook_emit('invoice.paid', '{\"id\": 9}')").await;
    world.receiver.wait_for("/ok", 7, PATIENCE).await;
    world.settled(PATIENCE).await;
    let dry = format!(
        "select string_agg(d.key, ',' order by d.sequence) from webhook_dry_run({id}, '{since}') d where d.matches"
    );
    assert_eq!(world.database.text(&dry).await.as_deref(), Some("4,5,6,7,8,9,10"));
    let reasons = format!(
        "select count(*) from webhook_dry_run({id}, '{since}') d where not d.matches and d.reason is not null and d.type !~ '^webhook'"
    );
    assert_eq!(
        world.database.number(&reasons).await,
        5,
        "three by the filter, one by its origin, one by its type"
    );
    world.receiver.look(|record| assert_eq!(record.total, 7, "asking delivers nothing"));
}
