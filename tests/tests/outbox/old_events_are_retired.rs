//! Promise: old, finished events are removed automatically. Unfinished ones stay until `max_age`,
//! and their end is reported. Readers delay the removal, the application waits for neither, and an
//! outbox that no daemon empties accepts inserts for ever.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, value},
    daemon::Daemon,
    receiver::{Receiver, SECRET},
    world::{ORDERS, World},
};
use std::time::Duration;

const EAGER: [&str; 2] = ["--retire-interval-ms", "50"];

/// Inserts events as if they had been captured `turns` × 2.5 days ago, in a slot of their own.
async fn insert_old(database: &Database, turns: i64, count: i64) {
    // This keeps them away from young events.
    database.run("select webhook.turn_ring(true)").await;
    database
        .run(&format!(
            "insert into webhook.event (type, key, payload, created_at)
             select 'order.created', n::text, json_build_object('id', n), now() - {turns} * interval '216000 seconds'
             from generate_series(1, {count}) n"
        ))
        .await;
    assert!(database.text("select webhook.turn_ring(true)").await.is_some(), "there is an empty slot");
}

fn old(turns: i64) -> String {
    format!(
        "(select count(*) from webhook.event where created_at < now() - {} * interval '216000 seconds')",
        turns - 1
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_stay_until_their_reader_ends_and_no_other_session_waits() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.database.run("update webhook.setting set retention_period = '1 day', max_age = '20 days'").await;
    let reader = world.database.client().await;
    reader.batch_execute("begin").await.expect("a transaction");
    // Like pg_dump, the reader holds a lock on every slot until it ends.
    value(&reader, "select count(*) from webhook.event, webhook.attempt").await;
    let writer = world.database.client().await;
    insert_old(&world.database, 5, 100).await;
    let open = "begin; insert into webhook.event (type, payload, created_at)
        values ('order.late', '{}', now() - 7 * interval '216000 seconds')";
    writer.batch_execute(open).await.expect("an open insert");
    world.database.run("select webhook.turn_ring(true)").await;

    let daemon = Daemon::start_with(&world.database, &EAGER).await;
    world.receiver.wait_for("/ok", 100, PATIENCE).await;
    world.settled(PATIENCE).await;
    // The retirer runs twenty times a second meanwhile. An insert that waited for its locks would
    // fail.
    world.app.batch_execute("set lock_timeout = '1s'").await.expect("a setting");
    world.insert_orders(1, 2_000).await;
    world.receiver.wait_for("/ok", 2_100, PATIENCE).await;
    assert_eq!(world.database.number(&format!("select {}", old(5))).await, 100, "the reader holds them");
    let waiting = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'";
    assert_eq!(world.database.number(waiting).await, 0, "the retirer queues for no lock");

    reader.batch_execute("commit").await.expect("it ends");
    let gone = format!("select {} = 0", old(5));
    assert!(world.database.becomes(&gone, Duration::from_secs(70)).await, "no reader is left");
    writer.batch_execute("commit").await.expect("the slot was not taken from under it");
    world.receiver.wait_for("/ok", 2_101, PATIENCE).await;
    assert_eq!(
        world.database.number("select count(*) from webhook.event where type = 'order.created'").await,
        2_000
    );
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn undelivered_events_stay_until_max_age_and_are_then_reported() {
    let world = World::new().await;
    let paused = world.subscribe_with("/ok/paused", "enabled => false").await;
    world.subscribe_with("/ok/told", "events => '{webhook.delivery.exhausted}'").await;
    world.subscribe_with("/ok", "events => '{order.*}'").await;
    world.database.run("update webhook.setting set retention_period = '1 day', max_age = '20 days'").await;
    insert_old(&world.database, 5, 1_500).await;
    insert_old(&world.database, 12, 500).await;
    let daemon = Daemon::start_with(&world.database, &EAGER).await;
    world.receiver.wait_for("/ok", 2_000, PATIENCE).await;

    // 12 turns are 30 days: over max_age. 5 turns are 12.5 days: those events stay, because the
    // subscription may be resumed.
    world.receiver.wait_for("/ok/told", 500, PATIENCE).await;
    world.database.until(&format!("select {} = 0", old(12)), PATIENCE).await;
    let given_up = format!(
        "select count(*) = 500 from webhook.delivery where subscription_id = {paused} and state = 'exhausted'
         and attempts = 1 and last_error like 'not delivered within %'"
    );
    assert_eq!(world.database.text(&given_up).await.as_deref(), Some("t"));
    assert_eq!(world.database.number(&format!("select {}", old(5))).await, 1_500);
    world.database.run(&format!("select webhook_resume({paused})")).await;
    world.receiver.wait_for("/ok/paused", 1_500, PATIENCE).await;
    world.database.until(&format!("select {} = 0", old(5)), Duration::from_secs(70)).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| {
        assert_eq!(record.ids("/ok/told").len(), 500, "each once");
        assert_eq!(
            record.duplicates("/ok/told") + record.duplicates("/ok/paused") + record.duplicates("/ok"),
            0
        );
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_daemon_that_was_away_for_months_finds_everything_and_no_insert_has_failed() {
    // 100 days, 2.5 per step.
    const STEPS: i64 = 40;
    let cluster = Cluster::start_with_clock("-100d").await;
    let database = cluster.database("app").await;
    let receiver = Receiver::start().await;
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order')")).await;
    database.run(&format!("select webhook_subscribe('{}', secret => '{SECRET}')", receiver.url("/ok"))).await;
    let app = database.client().await;
    for step in 0..STEPS {
        let hours = (STEPS - step) * 60;
        cluster.set_clock(&format!("-{hours}h"));
        let moved = format!(
            "select clock_timestamp() > to_timestamp({}) - {hours} * interval '1 hour'",
            now_seconds()
        );
        database.until(&moved, PATIENCE).await;
        let insert = format!(
            "insert into orders select i, 'c', 1, null from generate_series({step} * 10 + 1, {step} * 10 + 10) i"
        );
        app.batch_execute(&insert).await.expect("an insert never fails");
    }
    cluster.set_clock("+0");
    database.until(&format!("select clock_timestamp() > to_timestamp({})", now_seconds()), PATIENCE).await;
    assert_eq!(
        database.number("select count(distinct slot) from webhook.event").await,
        1,
        "nothing has turned"
    );

    let daemon = Daemon::start_with(&database, &EAGER).await;
    receiver.wait_for("/ok", 400, PATIENCE).await;
    // The ring turns now, and the last events are 2.5 days old.
    database.until("select count(*) > 1 from webhook.ring where began_at is not null", PATIENCE).await;
    assert_eq!(database.number("select count(*) from webhook.event where type = 'order.created'").await, 400);
    database.run("update webhook.setting set retention_period = '1 day'").await;
    database.until("select count(*) = 0 from webhook.event where type = 'order.created'", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| {
        assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (400, 0));
        let sequences: Vec<i64> =
            record.at("/ok").map(|request| request.json()["sequence"].as_i64().unwrap()).collect();
        assert_eq!(sequences.len(), 400);
    });
}

/// Returns the seconds since 1970, by this machine's clock.
fn now_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
