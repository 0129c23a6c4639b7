//! Promise: once a receiver is repaired, one call delivers the waiting events, without a wait for
//! the next probe or the next retry.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Record},
    world::World,
};

/// A probe interval far beyond [`PATIENCE`]. So a delivery that arrives was not a probe by the
/// clock.
const NEVER: &str = "3600000";

/// Starts a daemon, and opens the circuit of a subscription with 20 orders.
async fn opened(arguments: &str) -> (World, Daemon, i64) {
    let world = World::new().await;
    let retry = format!("retry => '{{{}}}'", vec!["50ms"; 50].join(","));
    let comma = if arguments.is_empty() { "" } else { ", " };
    let id = world.subscribe_with("/status/500", &format!("{retry}{comma}{arguments}")).await;
    let daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", NEVER]).await;
    world.insert_orders(1, 20).await;
    world.database.until("select circuits_open = 1 from webhook.health", PATIENCE).await;
    let all = "select count(*) = 20 and bool_and(state <> 'waiting') from webhook.queue";
    world.database.until(all, PATIENCE).await;
    (world, daemon, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_delivers_behind_an_open_circuit() {
    for arguments in ["", "ordering => 'key'", "ordering => 'strict'", "batch_size => 5"] {
        let (world, daemon, id) = opened(arguments).await;
        let requests = world.receiver.at("/status/500").len();
        world.database.run(&format!("select webhook_try_now({id})")).await;
        // The receiver still fails, so this makes one attempt.
        let more = move |record: &Record| record.at("/status/500").count() > requests;
        world.receiver.wait("another request", PATIENCE, more).await;
        let open = "select circuits_open = 1 and queued = 20 from webhook.health";
        world.database.until(open, PATIENCE).await;
        world.receiver.behave("/status/500", Behaviour::Ok);
        world.database.run(&format!("select webhook_try_now({id})")).await;
        world.settled(PATIENCE).await;
        assert!(daemon.sigterm(PATIENCE).await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_do_not_wait_for_their_time() {
    let world = World::new().await;
    let id = world.subscribe_with("/status/500", "retry => '{1h,1h}'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 3).await;
    let waiting = "select count(*) = 3 from webhook.queue where state = 'waiting' and attempts = 1";
    world.database.until(waiting, PATIENCE).await;
    world.receiver.behave("/status/500", Behaviour::Ok);
    world.database.run(&format!("select webhook_try_now({id})")).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_and_a_redelivery_are_sent_behind_an_open_circuit() {
    let (world, daemon, id) = opened("").await;
    let ping =
        world.database.text(&format!("select webhook_ping({id})")).await.expect("an id").replace('\'', "");
    let attempted = |event: &str| {
        format!(
            "select exists (select from webhook.attempt where event_id = webhook.event_sequence('{event}'))"
        )
    };
    world.database.until(&attempted(&ping), PATIENCE).await;
    // The newest order, which the probes by the clock reach last.
    let last = "select event_id from webhook.delivery where key = '20'";
    let last = world.database.text(last).await.expect("an id");
    let made =
        format!("select count(*) from webhook.attempt where event_id = webhook.event_sequence('{last}')");
    let before = world.database.number(&made).await;
    world.database.run(&format!("select webhook_redeliver('{last}', {id})")).await;
    world.database.until(&format!("select ({made}) = {}", before + 1), PATIENCE).await;
    world.receiver.behave("/status/500", Behaviour::Ok);
    world.database.run(&format!("select webhook_ping({id})")).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_and_a_resume_in_one_transaction_close_the_circuit() {
    let (world, daemon, id) = opened("").await;
    world.receiver.behave("/status/500", Behaviour::Ok);
    world
        .database
        .run(&format!("begin; select webhook_pause({id}); select webhook_resume({id}); commit"))
        .await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A URL that changes and changes back in one transaction also resets the failures in the table.
#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_changes_back_in_one_transaction_closes_the_circuit() {
    let (world, daemon, id) = opened("").await;
    world.receiver.behave("/status/500", Behaviour::Ok);
    let (other, same) = (world.receiver.url("/ok/other"), world.receiver.url("/status/500"));
    world
        .database
        .run(&format!(
            "begin; select webhook_alter({id}, url => '{other}'); select webhook_alter({id}, url => '{same}'); commit"
        ))
        .await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_subscription_is_not_tried() {
    let (world, daemon, id) = opened("").await;
    world.database.run(&format!("select webhook_pause({id})")).await;
    let error =
        world.app.batch_execute(&format!("select webhook_try_now({id})")).await.expect_err("a refusal");
    let error = error.as_db_error().expect("Postgres says it");
    assert_eq!((error.code().code(), error.message()), ("55000", &*format!("subscription {id} is paused")));
    assert!(error.hint().is_some_and(|hint| hint.contains("webhook_resume()")));
    assert!(daemon.sigterm(PATIENCE).await.success());
}
