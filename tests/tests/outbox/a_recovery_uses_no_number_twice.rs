//! Promise: after a recovery of production itself, no event gets a number that receivers have seen.
//! A receiver that keeps the highest sequence of each row misses nothing.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, describe},
    daemon::Daemon,
    receiver::{Keep, Receiver, SECRET},
    world::ORDERS,
};
use std::sync::Arc;

/// Receivers keep numbers up to 2^53 exactly.
const EXACT_MAX: i64 = 1 << 53;

async fn start(settings: &[&str]) -> (Arc<Cluster>, Database, Receiver) {
    let cluster = Cluster::start_with(settings).await;
    let database = cluster.database("app").await;
    let receiver = Receiver::start_with(Keep::Requests).await;
    let url = receiver.url("/ok");
    database
        .run(&format!(
            "{ORDERS}; select webhook_watch('orders', noun => 'order');
             select webhook_subscribe('{url}', '{{order.*}}', secret => '{SECRET}')"
        ))
        .await;
    (cluster, database, receiver)
}

async fn insert(database: &Database, first: i64, count: i64) {
    let each = format!(
        "do $$ begin for i in {first}..{} loop insert into orders values (i, 'c'); commit; end loop; end $$",
        first + count - 1
    );
    database.run(&each).await;
}

/// The sequence of each request, in order of arrival.
fn sequences(receiver: &Receiver) -> Vec<i64> {
    let number = |request: &e2e::receiver::Received| request.json()["sequence"].as_i64();
    receiver.at("/ok").iter().map(|request| number(request).expect("a number")).collect()
}

/// Checks that events of orders from `first` on have higher numbers than the events of earlier
/// orders. Events from before the recovery may come again, under their own numbers.
fn are_higher(receiver: &Receiver, first: i64) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for body in receiver.at("/ok").iter().map(e2e::receiver::Received::json) {
        let (Some(number), Some(order)) = (body["sequence"].as_i64(), body["data"]["id"].as_i64()) else {
            continue;
        };
        if order < first { before.push(number) } else { after.push(number) }
    }
    let (highest, lowest) = (before.iter().max().expect("some"), after.iter().min().expect("some"));
    assert!(lowest > highest, "{lowest} after {highest}");
    assert!(after.iter().all(|number| *number < EXACT_MAX));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn to_a_point_in_time() {
    let (cluster, database, receiver) = start(&["wal_keep_size=4GB"]).await;
    cluster.back_up();
    let mut known = 0;
    for round in 0..3 {
        let daemon = Daemon::start(&database).await;
        insert(&database, round * 1_000 + 10_001, 40).await;
        known += 40;
        receiver.wait_for("/ok", known, PATIENCE).await;
        // From the second round on, the recovery ends at the point of the first.
        database.run("select pg_create_restore_point('here')").await;
        // These are delivered and then undone, and more of them than a sequence logs ahead.
        insert(&database, round * 1_000 + 501, 100).await;
        known += 100;
        receiver.wait_for("/ok", known, PATIENCE).await;
        let delivered = sequences(&receiver).len();
        assert!(daemon.sigterm(PATIENCE).await.success());
        cluster.recover_to("here").await;
        // The application comes back before the daemon. An SQL function emits the first event.
        let first = "select webhook.event_sequence(webhook_emit('order.seen', '{}'))";
        let first = if round == 1 { database.number(first).await } else { 0 };
        insert(&database, round * 1_000 + 801, 50).await;
        let daemon = Daemon::start(&database).await;
        known += if round == 1 { 51 } else { 50 };
        receiver.wait_for("/ok", known, PATIENCE).await;
        let repeated = receiver.look(|record| record.duplicates("/ok"));
        println!("{repeated} events were repeated");
        let fresh: Vec<i64> = sequences(&receiver).split_off(delivered);
        let highest = sequences(&receiver)[..delivered].iter().copied().max().expect("some");
        // What was delivered between the checkpoint and the point in time may come again, under its
        // own number.
        let higher = fresh.iter().filter(|number| **number > highest).count();
        assert!(higher >= 50, "{higher} of {} above {highest}", fresh.len());
        assert!(round != 1 || first > highest, "{first} after {highest}");
        assert!(fresh.iter().all(|number| *number < EXACT_MAX));
        assert!(daemon.sigterm(PATIENCE).await.success());
    }
}

/// The timeline is the same. A daemon that runs knows higher numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn from_a_snapshot_of_the_disk() {
    let (cluster, database, receiver) = start(&[]).await;
    let daemon = Daemon::start(&database).await;
    insert(&database, 1, 40).await;
    receiver.wait_for("/ok", 40, PATIENCE).await;
    let written = "select count(*) = 40 from webhook.attempt";
    database.until(written, PATIENCE).await;
    cluster.take_snapshot().await;
    daemon.ready(&database).await;
    insert(&database, 501, 100).await;
    receiver.wait_for("/ok", 140, PATIENCE).await;
    cluster.restore_snapshot().await;
    daemon.process().wait_for_line(|line| line.contains("numbers.skipped"), PATIENCE).await;
    insert(&database, 801, 50).await;
    receiver.wait_for("/ok", 190, PATIENCE).await;
    are_higher(&receiver, 801);

    // One that is new knows nothing, and webhook_arm() helps.
    assert!(daemon.sigterm(PATIENCE).await.success());
    cluster.restore_snapshot().await;
    database.run("select webhook_arm()").await;
    insert(&database, 901, 10).await;
    let daemon = Daemon::start(&database).await;
    receiver.wait_for("/ok", 200, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A transaction that is rolled back, a crash and a restart skip nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn and_none_is_skipped_without_a_recovery() {
    let (cluster, database, _receiver) = start(&[]).await;
    insert(&database, 1, 10).await;
    let app = database.client().await;
    app.batch_execute("begin; insert into orders values (11, 'c'); rollback")
        .await
        .unwrap_or_else(|e| panic!("{}", describe(&e)));
    drop(app);
    cluster.kill9().await;
    cluster.boot().await;
    insert(&database, 12, 10).await;
    cluster.stop().await;
    cluster.boot().await;
    insert(&database, 22, 10).await;
    let last = database.number("select max(id) from webhook.event").await;
    assert!(last < 200, "{last}");
}
