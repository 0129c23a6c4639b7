//! Promise: with `--durable-reads` no receiver gets an asynchronous commit that a crash of the
//! server undoes.

use e2e::{PATIENCE, daemon::Daemon, receiver::Keep, world::World};
use std::{collections::HashSet, time::Duration};

/// The WAL writer flushes so seldom that a crash undoes recent asynchronous commits.
const LAZY: [&str; 1] = ["wal_writer_delay=10s"];

async fn commit_asynchronously(world: &World, first: i64) {
    let insert = format!(
        "set synchronous_commit = off; insert into orders select i, 'c' from generate_series({first}, {first} + 19) i"
    );
    world.database.run(&insert).await;
}

/// Waits for a flush of the WAL writer. The next flush, unless of 1 MB, is `wal_writer_delay`
/// later.
///
/// The WAL writer flushes at its first wake-up after a start, which may fall between any commit and
/// a crash.
async fn wal_writer_has_flushed(world: &World) {
    let write =
        "set synchronous_commit = off; select pg_logical_emit_message(true, 'test', repeat('x', 20000))";
    world.database.run(write).await;
    let written = world.database.text("select pg_current_wal_insert_lsn()::text").await.expect("a position");
    world.database.until(&format!("select pg_current_wal_flush_lsn() >= '{written}'"), PATIENCE).await;
}

/// Crashes the server and recovers it. Returns how many of the orders are left; each transaction
/// has 20.
async fn crash(world: &World) -> i64 {
    world.cluster.kill9().await;
    world.cluster.boot().await;
    world.database.number("select count(*) from orders where id > 1000").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_durable_reads() {
    let world = World::with(Keep::Requests, &LAZY).await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start_with(&world.database, &["--durable-reads"]).await;
    // Synchronous commits are not delayed, one by one or in a window of many pages.
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, Duration::from_secs(5)).await;
    world.database.run("insert into orders select i, 'c' from generate_series(51, 1000) i; insert into orders select -i, 'c' from generate_series(1, 3000) i").await;
    world.receiver.wait_for("/ok", 4_000, PATIENCE).await;
    world.settled(PATIENCE).await;

    commit_asynchronously(&world, 1001).await;
    assert_eq!(
        world.database.number("select count(*) from webhook.event where key::bigint > 1000").await,
        20,
        "they are visible"
    );
    world.receiver.wait_for("/ok", 4_020, PATIENCE).await;
    let left = crash(&world).await;
    assert_eq!(left, 20, "what has come is there");
    // The server dies soon after the commit, perhaps before the daemon reads it. Only the rows that
    // survive are delivered.
    commit_asynchronously(&world, 2001).await;
    let left = crash(&world).await;
    world.database.run("insert into orders values (3001, 'c')").await;
    world.receiver.wait_for("/ok", 4_000 + left as usize + 1, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    // The world's own session did not survive the crashes.
    let app = world.database.client().await;
    let query = "select webhook.public_id(id, created_at) from webhook.event where type like 'order.%'";
    let rows = app.query(query, &[]).await.expect("the outbox can be read");
    let events: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    world.receiver.look(|record| assert_eq!(record.ids("/ok"), events));
}

/// Proves that the test above would notice a violation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_them_a_receiver_may_know_more_than_the_server() {
    let world = World::with(Keep::Requests, &LAZY).await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let mut first = 1001;
    // A session of the daemon may flush just before the crash, so the test tries several times.
    for _ in 0..5 {
        wal_writer_has_flushed(&world).await;
        let before = world.receiver.look(|record| record.distinct("/ok"));
        commit_asynchronously(&world, first).await;
        world.receiver.wait_for("/ok", before + 20, PATIENCE).await;
        crash(&world).await;
        let exists = format!("select exists (select from orders where id = {first})");
        if world.database.text(&exists).await.as_deref() == Some("f") {
            assert!(daemon.sigterm(PATIENCE).await.success());
            return;
        }
        first += 1000;
        Daemon::asleep(&world.database).await;
    }
    panic!("five crashes have undone nothing");
}
