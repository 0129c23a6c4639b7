//! Promise: a subscription without a filter never waits for one that has a filter. Deliveries that
//! wait for a filter are not lost, and stay in order.

use e2e::{
    PATIENCE,
    cluster::{Database, value},
    daemon::Daemon,
    world::World,
};
use std::time::Duration;

/// A filter that only Postgres can evaluate. Every order matches.
const BY_POSTGRES: &str = "filter => '$.data.customer like_regex \".\"'";

/// The daemon's session that evaluates filters, stopped. It continues when this is dropped.
struct Hanging {
    pid: i32,
}

impl Hanging {
    /// Stops the session. It must have evaluated a filter: only its last statement resets the time
    /// limit.
    async fn begin(database: &Database) -> Self {
        let session = "select pid from pg_stat_activity where datname = current_database()
                       and application_name like 'webhookd%' and query = 'set statement_timeout = 0'";
        // The receiver may have the event before the session's last statement ends.
        database.until(&format!("select exists ({session})"), PATIENCE).await;
        let pid = database.number(session).await;
        let pid = i32::try_from(pid).expect("a process");
        // SAFETY: a system call without memory.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0, "the server's process can be stopped");
        Self { pid }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // SAFETY: a system call without memory.
        unsafe { libc::kill(self.pid, libc::SIGCONT) };
    }
}

/// Starts a daemon, and lets it evaluate a filter in Postgres for order 1.
async fn warm(world: &World, paths: &[&str]) -> Daemon {
    let daemon = Daemon::start(&world.database).await;
    // The reader itself evaluates what it recovers.
    daemon.process().wait_for_line(|line| line.contains("outbox.recovers"), PATIENCE).await;
    world.insert_orders(1, 1).await;
    for path in paths {
        world.receiver.wait_for(path, 1, PATIENCE).await;
    }
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_hangs_stops_no_other_and_nothing_is_lost_after_kill_9() {
    let world = World::new().await;
    world.subscribe("/ok/all").await;
    world.subscribe_with("/ok/simple", "filter => '$.data.id > 0'").await;
    world.subscribe_with("/ok/filtered", BY_POSTGRES).await;
    let daemon = warm(&world, &["/ok/all", "/ok/simple", "/ok/filtered"]).await;
    let hanging = Hanging::begin(&world.database).await;
    world.insert_orders(2, 100).await;
    for path in ["/ok/all", "/ok/simple"] {
        world.receiver.wait_for(path, 101, PATIENCE).await;
    }
    assert_eq!(world.receiver.look(|record| record.distinct("/ok/filtered")), 1, "the filter hangs");
    let passed = "select pg_visible_in_snapshot(e.xid::text::xid8, c.snapshot)
                  from webhook.event e, webhook.cursor c where e.key = '2' and e.type = 'order.created'";
    let is_passed = world.database.becomes(passed, Duration::from_secs(3)).await;
    assert!(!is_passed, "the checkpoint waits for undecided deliveries");
    daemon.kill9().await;
    drop(hanging);
    let daemon = Daemon::start(&world.database).await;
    world.receiver.wait("/ok/filtered", PATIENCE, |record| record.distinct("/ok/filtered") == 101).await;
    world.settled(PATIENCE).await;
    world.database.until(passed, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_meets_the_filter_of_its_moment() {
    let world = World::new().await;
    world.subscribe("/ok/all").await;
    let id = world.subscribe_with("/ok/filtered", BY_POSTGRES).await;
    let daemon = warm(&world, &["/ok/all", "/ok/filtered"]).await;
    let hanging = Hanging::begin(&world.database).await;
    world.insert_orders(2, 10).await;
    world.receiver.wait_for("/ok/all", 11, PATIENCE).await;
    world.database.run(&format!("select webhook_alter({id}, filter => '$.data.id == 20')")).await;
    world.insert_orders(12, 10).await;
    world.receiver.wait_for("/ok/all", 21, PATIENCE).await;
    assert_eq!(world.receiver.look(|record| record.distinct("/ok/filtered")), 1, "the filter hangs");
    drop(hanging);
    world.receiver.wait_for("/ok/filtered", 12, PATIENCE).await;
    world.settled(PATIENCE).await;
    let mut came = numbers(&world, "/ok/filtered", "id");
    came.sort_unstable();
    assert_eq!(came, (1..=11).chain([20]).collect::<Vec<_>>());
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// The daemon leaves a number of more than a thousand digits to Postgres. So every third event
/// takes a longer way than the others.
#[tokio::test(flavor = "multi_thread")]
async fn decided_and_undecided_events_of_a_subscription_stay_in_order() {
    let world = World::new().await;
    world.subscribe_with("/ok/ordered", "filter => '$.data.n > 0', ordering => 'strict'").await;
    let daemon = Daemon::start(&world.database).await;
    let session = world.database.client().await;
    let long = format!("0.{}", "1".repeat(2000));
    for n in 1..=300 {
        let large = if n % 3 == 0 { long.as_str() } else { "1" };
        let emit = format!("select webhook_emit('note.added', '{{\"n\": {n}, \"large\": {large}}}')");
        assert!(value(&session, &emit).await.is_some());
    }
    world.receiver.wait_for("/ok/ordered", 300, PATIENCE).await;
    assert_eq!(numbers(&world, "/ok/ordered", "n"), (1..=300).collect::<Vec<_>>());
    assert!(daemon.sigterm(PATIENCE).await.success());
}

fn numbers(world: &World, path: &str, name: &str) -> Vec<i64> {
    world.receiver.at(path).iter().filter_map(|request| request.json()["data"][name].as_i64()).collect()
}
