//! Promise: a receiver that hangs, is down or is slow delays only its own deliveries.

use e2e::{PATIENCE, daemon::Daemon, scale, world::World};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Returns the URL of a port of this machine on which no process listens.
fn refused_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}/", listener.local_addr().expect("it is bound"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hanging_refusing_and_slow_beside_a_fast_one() {
    let count: i64 = scale("PGW_EVENTS", 2_000, 10_000);
    let world = World::new().await;
    let hanging = world.subscribe_with("/hang", "timeout => '12 s'").await;
    let refused = world.subscribe_url(&refused_url(), "retry => '{1h}'").await;
    let slow = world.subscribe("/slow/1500").await;
    let fast = world.subscribe("/ok/fast").await;
    let daemon = Daemon::start(&world.database).await;

    let insert = world.app.prepare("insert into orders values ($1, 'c', 1, null)").await.expect("it parses");
    let mut stamps = HashMap::new();
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for id in 1..=count {
        pace.tick().await;
        stamps.insert(id, Instant::now());
        world.app.execute(&insert, &[&id]).await.expect("an order can be inserted");
    }
    world.receiver.wait_for("/ok/fast", count as usize, PATIENCE).await;
    let mut delays: Vec<_> = world
        .receiver
        .at("/ok/fast")
        .iter()
        .map(|r| r.arrived.duration_since(stamps[&r.json()["data"]["id"].as_i64().expect("an id")]))
        .collect();
    delays.sort();
    let (p50, p99, max) =
        (delays[delays.len() / 2], delays[delays.len() * 99 / 100], delays[delays.len() - 1]);
    println!("fast receiver beside three bad ones: p50 {p50:?}, p99 {p99:?}, max {max:?}");
    assert!(p99 < Duration::from_millis(500) && max < Duration::from_secs(3), "p99 {p99:?}, max {max:?}");

    // The slow receiver gets everything too, since it may have many requests in flight.
    world.receiver.wait_for("/slow/1500", count as usize, PATIENCE * 2).await;

    // The cursor moves past hanging deliveries: nothing is pending, and the bad receivers' share is
    // in the queue.
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    let app = &world.app;
    let queued = async |id: i64| -> i64 {
        let rows =
            app.query_one("select count(*) from webhook.queue where subscription_id = $1", &[&id]).await;
        rows.expect("the queue can be read").get(0)
    };
    assert_eq!(queued(fast).await, 0, "the queue is for the unhappy path");
    assert_eq!(queued(refused).await, count, "all that was refused waits");
    assert!(queued(hanging).await > 0, "what hangs waits");
    world
        .database
        .until(
            &format!("select not exists (select from webhook.queue where subscription_id = {slow})"),
            PATIENCE,
        )
        .await;
    let delivered = format!(
        "select count(*) = {count} from webhook.attempt where subscription_id = {slow} and outcome = 'succeeded'"
    );
    world.database.until(&delivered, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success(), "hanging requests do not keep it from ending");
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok/fast"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_receivers_ten_events_and_one_that_is_slow() {
    let world = World::new().await;
    for n in 0..9 {
        world.subscribe(&format!("/ok/{n}")).await;
    }
    let slow = world.subscribe_with("/hold", "max_in_flight => 2").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 10).await;
    for n in 0..9 {
        world.receiver.wait_for(&format!("/ok/{n}"), 10, PATIENCE).await;
    }
    // Only the slow receiver's ten deliveries are still to come.
    let rest = format!(
        "select count(*) = 10 and bool_and(subscription_id = {slow}) from webhook.delivery where state <> 'delivered'"
    );
    world.database.until(&rest, PATIENCE).await;
    world.receiver.release();
    world.receiver.wait_for("/hold", 10, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.total, 100));
}
