//! Promise: the daemon survives or reports an operator's interventions in a running system:
//! terminated sessions, an emptied queue, a dropped extension, a changed schedule. It never stalls.

use e2e::{PATIENCE, daemon::Daemon, receiver::Behaviour, scale, world::World};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_sessions_are_terminated_every_second() {
    let seconds: i64 = scale("PGW_TERMINATE_SECONDS", 6, 30);
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let terminator = {
        let (stop, database) = (stop.clone(), world.database.clone());
        tokio::spawn(async move {
            let client = database.client().await;
            let mut terminated = 0_i64;
            let mut pace = tokio::time::interval(Duration::from_secs(1));
            while !stop.load(Ordering::Relaxed) {
                pace.tick().await;
                let sessions = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'webhookd%'";
                terminated += client.query_one(sessions, &[]).await.expect("it may").get::<_, i64>(0);
            }
            terminated
        })
    };
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let count = seconds * 200;
    for id in 1..=count {
        pace.tick().await;
        world.insert_orders(id, 1).await;
    }
    // The interventions continue: a daemon that only recovers in peace has stalled.
    world.receiver.wait_for("/ok", count as usize * 9 / 10, PATIENCE).await;
    stop.store(true, Ordering::Relaxed);
    let terminated = terminator.await.expect("the terminator ends well");
    world.receiver.wait_for("/ok", count as usize, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| {
        println!("{terminated} sessions terminated, {count} events, {} duplicates", record.duplicates("/ok"));
    });
    assert!(terminated >= seconds, "{terminated}");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_emptied_under_its_hands() {
    let world = World::new().await;
    world.subscribe_with("/status/500", "retry => '{300ms,300ms,300ms}'").await;
    world.subscribe_with("/status/503", "retry => '{1h}'").await;
    let daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "200"]).await;
    for round in 0..5 {
        world.insert_orders(round * 100 + 1, 100).await;
        world.database.until("select count(*) >= 100 from webhook.queue", PATIENCE).await;
        world
            .database
            .run(if round % 2 == 0 { "truncate webhook.queue" } else { "delete from webhook.queue" })
            .await;
    }
    world.receiver.behave("/status/500", Behaviour::Ok);
    world.receiver.behave("/status/503", Behaviour::Ok);
    world.insert_orders(1001, 1).await;
    let all = "select count(*) = 2 from webhook.delivery where key = '1001' and state = 'delivered'";
    world.database.until(all, PATIENCE).await;
    // The daemon does not wait for the deleted deliveries, and they do not come back.
    world.database.until("select pending = 0 and queued = 0 from webhook.health", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Checks that deleting a row cancels its delivery, even while a retry is in flight.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_called_off_while_it_is_under_way() {
    let world = World::new().await;
    // The second attempt of each delivery is in flight until it times out.
    world.receiver.behave_by("/two", |_, attempt| match attempt {
        2 => Behaviour::Hang,
        _ => Behaviour::Status(503),
    });
    world.subscribe_with("/two", "retry => '{300ms,1h}', timeout => '3s'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 3).await;
    world.receiver.wait("the retries are under way", PATIENCE, |record| record.at("/two").count() >= 6).await;
    let by_hand = "delete from webhook.queue where event_id = (select min(event_id) from webhook.queue)";
    world.database.run(by_hand).await;
    world.database.run("truncate webhook.queue").await;
    // One statement writes both attempt and queue.
    world.database.until("select count(*) = 6 from webhook.attempt", PATIENCE).await;
    let left = "select count(*) from webhook.queue";
    assert_eq!(world.database.number(left).await, 0, "they do not come back");
    let states = "select string_agg(distinct state, ' ') from webhook.delivery";
    assert_eq!(world.database.text(states).await.as_deref(), Some("exhausted"));

    // A redelivery by hand brings one back.
    let event = world.database.text("select min(event_id) from webhook.delivery").await.expect("an event");
    world
        .database
        .run(&format!("select webhook_redeliver('{event}', (select id from webhook.subscription))"))
        .await;
    world.database.until("select count(*) >= 7 from webhook.attempt", PATIENCE).await;
    assert_eq!(world.database.number(left).await, 1, "with its own schedule");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extension_is_dropped_and_created_again() {
    let world = World::new().await;
    world.subscribe("/slow/50").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/slow/50", 20, PATIENCE).await;
    world.database.run("drop extension pg_webhook cascade").await;
    // The daemon logs this and exits, because it cannot know when, or whether, there will be work
    // again.
    let status = daemon.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(3), "{:#?}", daemon.process().log());
    let said = daemon.process().log();
    assert!(said.iter().any(|line| line.contains("create extension")), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:#?}");

    world.database.run("create extension pg_webhook; select webhook_watch('orders', noun => 'order')").await;
    world.subscribe("/ok/again").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1001, 10).await;
    world.receiver.wait_for("/ok/again", 10, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_dropped() {
    let world = World::new().await;
    world.subscribe("/slow/50").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/slow/50", 20, PATIENCE).await;
    world.cluster.existing("postgres").run("drop database app with (force)").await;
    let status = daemon.ended(PATIENCE).await;
    let said = daemon.process().log();
    assert!(!status.success() && status.code().is_some(), "{status}: {said:#?}");
    assert!(said.iter().any(|line| line.contains("database \"app\" does not exist")), "{said:#?}");
    assert!(!said.iter().any(|line| line.contains("panicked")), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_changed_while_a_retry_waits() {
    let world = World::new().await;
    let id = world.subscribe_with("/status/500", "retry => '{1s}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select bool_and(state = 'retrying') from webhook.delivery", PATIENCE).await;
    world.database.run(&format!("select webhook_alter({id}, retry => '{{1s,200ms,200ms}}')")).await;
    world.database.until("select bool_and(state = 'exhausted') from webhook.delivery", PATIENCE).await;
    world
        .receiver
        .look(|record| assert_eq!(record.total, 4, "the steps of the new schedule, the old one's wait"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_made_by_hand_before_its_time() {
    let world = World::new().await;
    let id = world.subscribe_with("/flaky/1", "retry => '{4s}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select bool_and(state = 'retrying') from webhook.delivery", PATIENCE).await;
    let event = world.database.text("select event_id from webhook.delivery").await.expect("it is there");
    world.database.run(&format!("select webhook_redeliver('{event}', {id})")).await;
    world.settled(PATIENCE).await;
    // The retry's own time by the schedule passes.
    let past = "select bool_and(a.next_at + interval '1 s' < now()) from webhook.attempt a where attempt = 1";
    world.database.until(past, PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.total, 2, "by hand, and not again by the schedule"));
    let attempts = "select string_agg(attempt || ' ' || outcome, ', ' order by attempt) from webhook.attempt";
    assert_eq!(world.database.text(attempts).await.as_deref(), Some("1 http_error, 2 succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_there_cannot_be_sent_again() {
    let world = World::new().await;
    let id = world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.settled(PATIENCE).await;
    let event = world.receiver.at("/ok")[0].id().to_owned();
    world.database.run("truncate webhook.event").await;
    let refused = world.app.batch_execute(&format!("select webhook_redeliver('{event}', {id})")).await;
    let error = refused.expect_err("it is gone");
    let error = error.as_db_error().expect("Postgres says so");
    assert!(error.message().contains(&event), "{error:?}");
    assert!(error.hint().is_some(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subscription_exists() {
    let world = World::new().await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 500).await;
    // The cursor passes these events. They stay readable, and no subscription gets them.
    world.database.until("select pending = 0 and queued = 0 and checkpoint_at > now() - interval '5 s' from webhook.health", PATIENCE).await;
    assert_eq!(world.event_ids("order.%").await.len(), 500);
    assert_eq!(world.database.number("select count(*) from webhook.attempt").await, 0);
    world.subscribe("/ok").await;
    world.insert_orders(501, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    world.settled(PATIENCE).await;
    world
        .receiver
        .look(|record| assert_eq!(record.total, 1, "what was before the subscription does not match"));
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_inserted_by_hand() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    Daemon::asleep(&world.database).await;
    // One insert goes into the table and one directly into its slot's child table. Neither wakes
    // the daemon; the safety poll finds both.
    world
        .database
        .run("insert into webhook.event (type, payload) values ('order.noted', '{\"id\": 1}')")
        .await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    let slot = world.database.number("select webhook.ring_slot(clock_timestamp())").await;
    Daemon::asleep(&world.database).await;
    world
        .database
        .run(&format!("insert into webhook.event_{slot} (type, payload) values ('order.noted', '{{}}')"))
        .await;
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    world.settled(PATIENCE).await;
}
