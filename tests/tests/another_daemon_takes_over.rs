//! Promise: any number of daemons may run; one delivers, and when it goes another takes over within seconds.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::time::{Duration, Instant};

/// From the end of the active daemon to the next one's first delivery.
const TAKEOVER: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_active_one_is_killed_or_stopped() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let first = Daemon::start(&world.database).await;
    let second = Daemon::spawn(&world.database);
    let third = Daemon::spawn(&world.database);
    // All three are connected: the active one and two that stand by.
    let sessions = "select count(distinct client_port) >= 3 from pg_stat_activity where datname = 'app' and application_name like 'webhookd%'";
    world.database.until(sessions, PATIENCE).await;
    world.insert_orders(1, 300).await;
    world.receiver.wait_for("/ok", 300, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0, "one of them delivers"));

    first.kill9().await;
    let killed = Instant::now();
    world.insert_orders(301, 100).await;
    world.receiver.wait_for("/ok", 400, TAKEOVER).await;
    println!("took over {:?} after the kill", killed.elapsed());

    for daemon in [second, third] {
        world.settled(PATIENCE).await;
        assert!(daemon.sigterm(PATIENCE).await.success());
        let last = Daemon::spawn(&world.database);
        let count = world.receiver.look(|record| record.distinct("/ok")) as i64;
        world.insert_orders(count + 1, 50).await;
        world.receiver.wait_for("/ok", count as usize + 50, TAKEOVER).await;
        assert!(last.sigterm(PATIENCE).await.success());
    }
    world.receiver.look(|record| {
        println!("{} events, {} duplicates", record.distinct("/ok"), record.duplicates("/ok"));
        assert_eq!(record.distinct("/ok"), 500);
    });
}
