//! Promise: an UPDATE of a million rows leaves the daemon's memory flat, and the events of other
//! tables continue.

use e2e::{daemon::Daemon, receiver::Keep, scale, world::World};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The daemon's memory stays below this, in MiB.
const MEMORY_MIB_MAX: f64 = 100.0;
/// The longest delay of an order. The daemon must read, but not deliver, the events that come
/// before it in commit order.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// Inserts an order every 20 ms until `stop` is set, waiting for each to arrive. Returns the delays
/// before and after the large commit.
async fn trickle(
    world: Arc<World>,
    stop: Arc<AtomicBool>,
    committed: Arc<Mutex<Option<Instant>>>,
) -> (Vec<Duration>, Vec<Duration>) {
    let client = world.database.client().await;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let mut id = 0_i64;
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        id += 1;
        let inserted = Instant::now();
        client
            .execute("insert into orders values ($1, 'c')", &[&id])
            .await
            .expect("an order can be inserted");
        world.receiver.wait_for("/ok/orders", id as usize, DELAY_MAX).await;
        let phase = if committed.lock().expect("no panic").is_some() { &mut after } else { &mut before };
        phase.push(inserted.elapsed());
    }
    (before, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_million_rows_in_one_transaction() {
    let rows: usize = scale("PGW_ROWS", 200_000, 1_000_000);
    let world = Arc::new(World::with(Keep::Ids, &["fsync=off", "max_wal_size=8GB"]).await);
    world
        .database
        .run(&format!(
            "create table big (id bigint primary key, note text);
             insert into big select i, md5(i::text) from generate_series(1, {rows}) i;
             select webhook_watch('big')"
        ))
        .await;
    world.subscribe_with("/ok/big", "events => '{big.*}'").await;
    world.subscribe_with("/ok/orders", "events => '{order.*}'").await;
    let daemon = Daemon::start(&world.database).await;

    let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
    let orders = tokio::spawn(trickle(world.clone(), stop.clone(), committed.clone()));
    let began = Instant::now();
    world.app.batch_execute("update big set note = note || 'x'").await.expect("the update");
    let updated = began.elapsed();
    *committed.lock().expect("no panic") = Some(Instant::now());
    world.receiver.wait_for("/ok/big", rows, Duration::from_secs(300)).await;
    let delivered = began.elapsed() - updated;
    stop.store(true, Ordering::Relaxed);
    let (before, after) = orders.await.expect("every order came in time");

    let peak = daemon.peak_mib();
    let max = |delays: &[Duration]| delays.iter().max().copied().unwrap_or_default();
    println!(
        "{rows} rows: updated in {updated:.1?}, delivered in {delivered:.1?}, daemon's peak {peak:.0} MiB; orders' worst delay {:?} before the commit ({}), {:?} after it ({})",
        max(&before),
        before.len(),
        max(&after),
        after.len()
    );
    assert!(peak <= MEMORY_MIB_MAX, "{peak:.0} MiB");
    assert!(max(&before) < Duration::from_secs(2), "an open update delays no transaction");
    assert!(!before.is_empty() && !after.is_empty(), "orders came in both phases");
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok/big"), 0));
}
