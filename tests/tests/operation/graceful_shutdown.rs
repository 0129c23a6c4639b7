//! Promise: after SIGTERM the daemon drains the attempts in flight, saves the checkpoint and exits
//! 0 within the stated bound. A restart neither loses nor repeats an event.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Ten seconds for the attempts in flight and five for the last writes.
const BOUND: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_nothing_is_lost_or_repeated() {
    let world = Arc::new(World::new().await);
    world.subscribe_with("/slow/200", "max_in_flight => 256").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (world, stop) = (world.clone(), stop.clone());
        tokio::spawn(async move {
            let mut id = 0_i64;
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            let client = world.database.client().await;
            let insert =
                client.prepare("insert into orders values ($1, 'c', 1, null)").await.expect("parses");
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                id += 1;
                client.execute(&insert, &[&id]).await.expect("an order can be inserted");
            }
            id as usize
        })
    };
    for stage in 1..=4 {
        let daemon = Daemon::start(&world.database).await;
        world.receiver.wait_for("/slow/200", stage * 300, PATIENCE).await;
        let status = daemon.sigterm(BOUND).await;
        assert!(status.success(), "{status}");
    }
    stop.store(true, Ordering::Relaxed);
    let count = writer.await.expect("the writer has ended well");
    let daemon = Daemon::start(&world.database).await;
    world.receiver.wait_for("/slow/200", count, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(BOUND).await.success());
    world.receiver.look(|record| {
        assert_eq!(record.distinct("/slow/200"), count);
        assert_eq!(record.duplicates("/slow/200"), 0, "nothing twice");
    });
    let attempts = world.database.number("select count(*) from webhook.attempt").await;
    assert_eq!(attempts, count as i64, "one attempt row each");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_does_not_keep_it() {
    let world = World::new().await;
    world.subscribe_with("/hold", "timeout => '2 min'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/hold", 20, PATIENCE).await;
    assert!(daemon.sigterm(BOUND).await.success(), "exit 0 within {BOUND:?}");
    world.receiver.release();
    let daemon = Daemon::start(&world.database).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(BOUND).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_daemon_goes_at_once() {
    let world = World::new().await;
    let daemon = Daemon::start(&world.database).await;
    Daemon::asleep(&world.database).await;
    assert!(daemon.sigterm(Duration::from_secs(2)).await.success());
    assert_eq!(
        world.database.text("select dispatcher_running from webhook.health").await.as_deref(),
        Some("f")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_without_a_meaning_are_logged_and_ignored() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    for (signal, name) in [(libc::SIGUSR1, "SIGUSR1"), (libc::SIGUSR2, "SIGUSR2")] {
        daemon.process().signal(signal);
        daemon
            .process()
            .wait_for_line(|line| line.contains("signal.ignored") && line.contains(name), PATIENCE)
            .await;
    }
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    daemon.process().signal(libc::SIGQUIT);
    assert!(daemon.ended(PATIENCE).await.success(), "SIGQUIT drains");
}
