//! Promise: kill -9 of the postmaster loses no committed event and sends none that recovery has
//! undone. The daemon comes back by itself.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

/// Inserts orders one by one through crashes, and reconnects after an error.
async fn write(world: Arc<World>, stop: Arc<AtomicBool>, next: Arc<AtomicI64>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(client) = world.database.try_client("postgres").await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let order = next.fetch_add(1, Ordering::Relaxed);
            // A lost connection leaves the commit's outcome unknown. The table shows it in the end.
            if client.execute("insert into orders values ($1, 'c', 1, null)", &[&order]).await.is_err() {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_twice_under_load() {
    let world = Arc::new(World::new().await);
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(1)));
    let writers: Vec<_> =
        (0..4).map(|_| tokio::spawn(write(world.clone(), stop.clone(), next.clone()))).collect();

    let mut expected = 0;
    for _ in 0..2 {
        expected += 500;
        world.receiver.wait_for("/ok", expected, PATIENCE).await;
        world.cluster.kill9().await;
        world.cluster.boot().await;
        // Every event after the crash comes through a daemon that has reconnected.
        expected = world.receiver.look(|record| record.distinct("/ok"));
    }
    world.receiver.wait_for("/ok", expected + 500, PATIENCE * 2).await;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("the writer has ended well");
    }

    let app = world.database.client().await;
    let ids = "select webhook.public_id(id, created_at), key from webhook.event where type = 'order.created'";
    let rows = app.query(ids, &[]).await.expect("the outbox can be read");
    let events: std::collections::HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let orders = world.database.number("select count(*) from orders").await;
    assert_eq!(events.len() as i64, orders, "after recovery too: one event per order");
    world.receiver.wait_for("/ok", events.len(), PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success(), "the daemon that saw both crashes ends well");
    world.receiver.look(|record| {
        assert_eq!(record.ids("/ok"), events, "delivered = committed; nothing that recovery has undone");
        println!("{} events, {} duplicates over two crashes", events.len(), record.duplicates("/ok"));
    });
}
