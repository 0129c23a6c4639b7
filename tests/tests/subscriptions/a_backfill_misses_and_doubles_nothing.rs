//! Promise: a backfill sends each existing row as one `noun.snapshot` event, between the concurrent
//! changes. A consumer that applies the events by sequence ends with exactly the table.

use e2e::{PATIENCE, daemon::Daemon, scale, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Changes random orders until `stop` is set: updates, deletes and inserts.
async fn write(world: Arc<World>, rows: i64, stop: Arc<AtomicBool>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let client = world.database.client().await;
    let mut next = rows + 1;
    while !stop.load(Ordering::Relaxed) {
        let (id, total) = (random.random_range(1..next), random.random_range(1..1_000_000_u32));
        let statement = match random.random_range(0..10) {
            0..6 => format!("update orders set total = {total} where id = {id}"),
            6..8 => format!("delete from orders where id = {id}"),
            _ => {
                next += 1;
                format!("insert into orders values ({}, 'new', {total})", next - 1)
            }
        };
        client.batch_execute(&statement).await.expect("orders can be changed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Returns the totals by order that result from applying every event by its sequence.
fn applied(world: &World, path: &str) -> (BTreeMap<i64, i64>, HashMap<i64, u32>) {
    let mut events = BTreeMap::new();
    for request in world.receiver.at(path) {
        let body = request.json();
        events.insert(body["sequence"].as_i64().expect("a sequence"), body);
    }
    let (mut known, mut snapshots) = (BTreeMap::new(), HashMap::new());
    for body in events.values() {
        let id = body["data"]["id"].as_i64().expect("an id");
        match body["type"].as_str() {
            Some("order.deleted") => drop(known.remove(&id)),
            Some(kind) => {
                known.insert(id, body["data"]["total"].as_i64().expect("a total"));
                *snapshots.entry(id).or_default() += u32::from(kind == "order.snapshot");
            }
            None => panic!("an event without a type: {body}"),
        }
    }
    (known, snapshots)
}

async fn table(world: &World) -> BTreeMap<i64, i64> {
    let rows =
        world.app.query("select id, total::bigint from orders", &[]).await.expect("the table can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_changes_and_a_kill() {
    let rows: i64 = scale("PGW_ROWS", 3_000, 50_000);
    let seed = scale("PGW_SEED", rand::random::<u32>().into(), rand::random::<u32>().into());
    println!("PGW_SEED={seed}");
    let world = Arc::new(World::new().await);
    world
        .app
        .batch_execute(&format!("insert into orders select i, 'old', i from generate_series(1, {rows}) i"))
        .await
        .expect("rows");
    let id = world.subscribe_with("/ok/backfilled", "events => '{order.*}'").await;
    world.subscribe_with("/ok/other", "events => '{order.*}'").await;
    let mut daemon = Daemon::start(&world.database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(world.clone(), rows, stop.clone(), seed));

    let backfill = world.database.number(&format!("select webhook_backfill({id}, 'orders')")).await;
    let under_way = format!("select rows_done > 0 from webhook.backfill where id = {backfill}");
    world.database.until(&under_way, PATIENCE).await;
    daemon.kill9().await;
    daemon = Daemon::start(&world.database).await;
    let state = |state: &str| format!("select state = '{state}' from webhook.backfill where id = {backfill}");
    world.database.until(&state("done"), PATIENCE * 4).await;
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the writer ends well");
    world.settled(PATIENCE * 2).await;

    let (known, snapshots) = applied(&world, "/ok/backfilled");
    let table = table(&world).await;
    let differ: Vec<_> = table.iter().filter(|(id, total)| known.get(id) != Some(total)).take(5).collect();
    assert!(differ.is_empty(), "missed, or of an older state: {differ:?}");
    let too_many: Vec<_> = known.keys().filter(|id| !table.contains_key(id)).take(5).collect();
    assert!(too_many.is_empty(), "deleted, and alive for the receiver: {too_many:?}");
    let doubled: Vec<_> = snapshots.iter().filter(|(_, times)| **times > 1).take(5).collect();
    assert!(doubled.is_empty(), "{doubled:?}");
    println!("{} rows at the end, {} snapshots", table.len(), snapshots.values().sum::<u32>());
    world.receiver.look(|record| {
        let other =
            record.at("/ok/other").filter(|request| request.json()["type"] == "order.snapshot").count();
        assert_eq!(other, 0, "for one subscription alone");
    });
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_some_rows_and_stopped_by_hand() {
    let world = World::new().await;
    world
        .app
        .batch_execute("insert into orders select i, 'old', i from generate_series(1, 300) i")
        .await
        .expect("rows");
    let id = world.subscribe("/ok/some").await;
    let daemon = Daemon::start(&world.database).await;
    let some = format!("select webhook_backfill({id}, 'orders', condition => 'total > 250')");
    let backfill = world.database.number(&some).await;
    world
        .database
        .until(&format!("select state = 'done' from webhook.backfill where id = {backfill}"), PATIENCE)
        .await;
    world.receiver.wait_for("/ok/some", 50, PATIENCE).await;
    world.settled(PATIENCE).await;
    let (known, _) = applied(&world, "/ok/some");
    assert_eq!(known.into_keys().collect::<Vec<_>>(), (251..=300).collect::<Vec<_>>());

    // A paused backfill waits; a cancelled one has ended.
    let many = "insert into orders select i, 'old', i from generate_series(1001, 20000) i";
    world
        .database
        .run(&format!(
            "select webhook_pause({id}, 'later'); begin; set local webhook.mute = on; {many}; commit"
        ))
        .await;
    let second = world.database.number(&format!("select webhook_backfill({id}, 'orders')")).await;
    // A second backfill runs to its end meanwhile.
    let other = world.subscribe("/ok/other").await;
    let third = world.database.number(&format!("select webhook_backfill({other}, 'orders')")).await;
    let done = format!("select state = 'done' from webhook.backfill where id = {third}");
    world.database.until(&done, PATIENCE * 2).await;
    world.receiver.wait_for("/ok/other", 19_300, PATIENCE).await;
    let done = format!("select rows_done from webhook.backfill where id = {second}");
    assert_eq!(world.database.number(&done).await, 0, "nothing is put before one that is paused");
    assert_eq!(
        world.database.text(&format!("select webhook_backfill_cancel({second})")).await.as_deref(),
        Some("t")
    );
    let state = format!("select state from webhook.backfill where id = {second}");
    assert_eq!(world.database.text(&state).await.as_deref(), Some("cancelled"));
    assert!(daemon.sigterm(PATIENCE).await.success());
}
