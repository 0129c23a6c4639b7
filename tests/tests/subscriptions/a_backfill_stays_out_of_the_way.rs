//! Promise: a backfill never makes an application transaction fail or wait for another one, for any
//! order in which the transactions lock their rows. Its snapshot events still fit between the
//! application's changes.
//!
//! The tests call the steps themselves, without a daemon, and read the outbox instead of a
//! receiver. The steps therefore follow each other as closely as possible.

use e2e::{cluster::describe, world::World};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};
use tokio_postgres::{Client, error::SqlState};

/// Takes one step. Returns whether it was the last, or `None` if a row or the table was in use for
/// too long.
async fn step(client: &Client, backfill: i64, rows_max: i32) -> Option<bool> {
    match client.query_one("select webhook.backfill_step($1, $2)", &[&backfill, &rows_max]).await {
        Ok(row) => Some(row.get(0)),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => None,
        Err(error) => panic!("{}", describe(&error)),
    }
}

/// Returns the totals by order that result from applying the outbox by sequence, and the number of
/// snapshots.
async fn applied(world: &World) -> (BTreeMap<i64, i64>, i64) {
    let events = "select type, (payload->>'id')::bigint, (payload->>'total')::bigint from webhook.event
                  where type like 'order.%' order by id";
    let (mut known, mut snapshots) = (BTreeMap::new(), 0);
    for row in world.app.query(events, &[]).await.expect("the outbox can be read") {
        let (kind, id, total): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
        snapshots += i64::from(kind == "order.snapshot");
        if kind == "order.deleted" {
            known.remove(&id);
        } else {
            known.insert(id, total);
        }
    }
    (known, snapshots)
}

async fn table(world: &World) -> BTreeMap<i64, i64> {
    let rows = world.app.query("select id, total::bigint from orders", &[]).await.expect("it can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Creates a world with `rows` orders, without their events, and a backfill that has not begun.
async fn backfilled(rows: i64) -> (World, i64) {
    let world = World::with(e2e::receiver::Keep::Ids, &["fsync=off"]).await;
    let insert = format!(
        "insert into orders select i, 'c', 0 from generate_series(1, {rows}) i; truncate webhook.event"
    );
    world.app.batch_execute(&insert).await.expect("rows");
    let id = world.subscribe("/ok").await;
    let backfill = world.database.number(&format!("select webhook_backfill({id}, 'orders')")).await;
    (world, backfill)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_transactions_that_lock_from_the_end_to_the_beginning() {
    const ROWS: i64 = 2_000;
    let (world, backfill) = backfilled(ROWS).await;
    let (made, is_done) = <(Arc<AtomicU32>, Arc<AtomicBool>)>::default();
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let database = world.database.clone();
            let (made, is_done) = (Arc::clone(&made), Arc::clone(&is_done));
            tokio::spawn(async move {
                let client = database.client().await;
                let mut random = StdRng::seed_from_u64(number);
                // The writers run for as long as the backfill does.
                while !is_done.load(Ordering::Relaxed) {
                    // All writers lock in the same order, so they cannot deadlock with each other.
                    // The order is the reverse of the backfill's.
                    let mut ids: Vec<i64> = (0..5).map(|_| random.random_range(1..=ROWS)).collect();
                    ids.sort_unstable_by_key(|id| -id);
                    client.batch_execute("begin").await.expect("it begins");
                    for id in ids {
                        let statement = match random.random_range(0..10) {
                            0 => format!("delete from orders where id = {id}"),
                            _ => format!("update orders set total = total + 1 where id = {id}"),
                        };
                        if let Err(error) = client.batch_execute(&statement).await {
                            panic!("{statement}: {}", describe(&error));
                        }
                    }
                    client.batch_execute("commit").await.expect("it commits");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let stepper = world.database.client().await;
    let (mut steps, mut busy) = (0, 0);
    loop {
        match step(&stepper, backfill, 50).await {
            Some(true) => break,
            Some(false) => steps += 1,
            None => busy += 1,
        }
    }
    let beside = made.load(Ordering::Relaxed);
    is_done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no transaction of the application has failed");
    }
    println!("{steps} steps, {busy} found a row in use for too long; {beside} transactions beside them");
    assert!(beside > 20, "hardly any transaction ran beside the backfill: {beside}");
    let (known, snapshots) = applied(&world).await;
    assert_eq!(known, table(&world).await);
    assert!(snapshots <= ROWS, "{snapshots} snapshots of {ROWS} rows");
    let state = "select state || ' ' || (rows_done = (select count(*) from webhook.event where type = 'order.snapshot')) from webhook.backfill";
    assert_eq!(world.database.text(state).await.as_deref(), Some("done true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_use_is_waited_for_without_holding_another() {
    let (world, backfill) = backfilled(10).await;
    let (stepper, user) = (world.database.client().await, world.database.client().await);
    user.batch_execute("begin; update orders set total = 7 where id = 4").await.expect("it is in use");
    assert_eq!(step(&stepper, backfill, 10).await, Some(false));
    let after = "select after_key[1]::bigint from webhook.backfill";
    assert_eq!(world.database.number(after).await, 3, "up to the row in use");
    // The row in use is now the first of the step. No other transaction may wait meanwhile.
    let (waited, other) = tokio::join!(
        step(&stepper, backfill, 10),
        world.app.batch_execute("set statement_timeout = '5s'; update orders set total = 8 where id = 5")
    );
    assert_eq!(waited, None, "it gives up for now");
    other.expect("the row behind is free");
    assert_eq!(world.database.number(after).await, 3);
    user.batch_execute("delete from orders where id = 6; commit").await.expect("it commits");
    while step(&stepper, backfill, 10).await != Some(true) {}
    let (known, snapshots) = applied(&world).await;
    assert_eq!(known, table(&world).await);
    assert_eq!(snapshots, 9, "all but the deleted one");
}
