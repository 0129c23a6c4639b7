//! Promise: a receiver that only fails for a long time is reported, then disabled, and no event is
//! lost. A receiver that fails now and then is left alone. (The periods are 24 hours and 5 days;
//! here, flags make them seconds.)

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Received},
    world::World,
};
use std::time::Duration;

const FLAGS: [&str; 6] =
    ["--failing-after-ms", "2000", "--disable-after-ms", "6000", "--probe-interval-ms", "300"];
const FAILING: &str = "webhook.subscription.failing";
const DISABLED: &str = "webhook.subscription.disabled";
const RECOVERED: &str = "webhook.subscription.recovered";

/// Returns a retry schedule that does not run out within a test.
fn patient() -> String {
    format!("retry => '{{{}}}'", vec!["200ms"; 50].join(","))
}

/// Returns the types of the operational events about a subscription that arrived at `/ok/operator`,
/// ordered by sequence.
fn reported(world: &World, subscription: i64) -> Vec<String> {
    let of_subscription = |request: &Received| {
        let body = request.json();
        let about = body["data"]["id"].as_i64().or(body["data"]["subscription_id"].as_i64());
        let kind = body["type"].as_str().expect("a type").to_owned();
        (about == Some(subscription)).then(|| (body["sequence"].as_i64(), kind))
    };
    let mut all: Vec<_> = world.receiver.at("/ok/operator").iter().filter_map(of_subscription).collect();
    all.sort();
    let wanted = [FAILING, DISABLED, RECOVERED];
    all.into_iter().map(|(_, kind)| kind).filter(|kind| wanted.contains(&kind.as_str())).collect()
}

async fn wait_reported(world: &World, subscription: i64, kinds: &[&str]) {
    let emitted = format!(
        "select count(*) >= {} from webhook.event where key = '{subscription}'
         and type in ('{FAILING}', '{DISABLED}', '{RECOVERED}')",
        kinds.len()
    );
    world.database.until(&emitted, PATIENCE).await;
    world
        .receiver
        .wait("the operator gets the event", PATIENCE, |record| {
            record.at("/ok/operator").filter(|r| kinds.iter().any(|kind| r.json()["type"] == *kind)).count()
                >= kinds.len()
        })
        .await;
    assert_eq!(reported(world, subscription), kinds);
}

async fn with_operator() -> World {
    let world = World::new().await;
    world.subscribe_with("/ok/operator", "events => '{webhook.*}'").await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn warned_then_disabled_then_resumed_by_hand() {
    let world = with_operator().await;
    let dead = world.subscribe_with("/status/500", &patient()).await;
    world.subscribe_with("/ok/other", "events => '{order.*}'").await;
    let _daemon = Daemon::start_with(&world.database, &FLAGS).await;
    world.insert_orders(1, 20).await;
    wait_reported(&world, dead, &[FAILING]).await;
    let warned = format!(
        "select warned_at is not null and failing_since < warned_at from webhook.receiver where subscription_id = {dead}"
    );
    assert_eq!(world.database.text(&warned).await.as_deref(), Some("t"));
    wait_reported(&world, dead, &[FAILING, DISABLED]).await;
    let reason = format!("select paused_reason from webhook.subscription where id = {dead} and not enabled");
    let reason = world.database.text(&reason).await.expect("it is disabled, and says why");
    assert!(reason.contains("fail"), "{reason}");

    // From now on the receiver gets nothing, and matching events are kept.
    let before = world.receiver.at("/status/500").len();
    world.insert_orders(21, 10).await;
    world.receiver.wait_for("/ok/other", 30, PATIENCE).await;
    let kept = format!(
        "select count(*) = 30 from webhook.queue where subscription_id = {dead} and state = 'backlog'"
    );
    world.database.until(&kept, PATIENCE).await;
    assert_eq!(world.receiver.at("/status/500").len(), before, "not one more request");

    world.receiver.behave("/status/500", Behaviour::Ok);
    world.database.run(&format!("select webhook_resume({dead})")).await;
    world
        .receiver
        .wait("all of them", PATIENCE, |record| {
            record.at("/status/500").filter(|request| request.status() == Some(200)).count() == 30
        })
        .await;
    world.settled(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_recovers_in_time_is_reported_and_kept() {
    let world = with_operator().await;
    let failing = world.subscribe_with("/status/503", &patient()).await;
    let _daemon =
        Daemon::start_with(&world.database, &["--failing-after-ms", "2000", "--probe-interval-ms", "300"])
            .await;
    world.insert_orders(1, 20).await;
    wait_reported(&world, failing, &[FAILING]).await;
    world.receiver.behave("/status/503", Behaviour::Ok);
    wait_reported(&world, failing, &[FAILING, RECOVERED]).await;
    world.settled(PATIENCE).await;
    let clean = format!(
        "select not exists (select from webhook.receiver where subscription_id = {failing} and (failing_since is not null or circuit = 'open'))"
    );
    world.database.until(&clean, PATIENCE).await;
    // A second failing period is reported again.
    world.receiver.behave("/status/503", Behaviour::Status(503));
    world.insert_orders(101, 20).await;
    wait_reported(&world, failing, &[FAILING, RECOVERED, FAILING]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sporadic_failures_never_disable() {
    let world = with_operator().await;
    let flaky = world.subscribe_with("/flaky/2", &patient()).await;
    let _daemon = Daemon::start_with(&world.database, &FLAGS).await;
    // The test runs longer than both periods, with a success now and then.
    let begun = std::time::Instant::now();
    let mut order = 0;
    while begun.elapsed() < Duration::from_secs(8) {
        order += 1;
        world.insert_orders(order, 1).await;
        world
            .receiver
            .wait("a success", PATIENCE, move |record| {
                record.at("/flaky/2").filter(|request| request.status() == Some(200)).count() as i64 == order
            })
            .await;
    }
    world.settled(PATIENCE).await;
    assert_eq!(reported(&world, flaky), Vec::<String>::new());
    let enabled = format!("select enabled from webhook.subscription where id = {flaky}");
    assert_eq!(world.database.text(&enabled).await.as_deref(), Some("t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handful_of_attempts_is_not_enough() {
    let world = with_operator().await;
    let rare = world.subscribe_with("/status/500", "retry => '{2s,2s}'").await;
    let _daemon =
        Daemon::start_with(&world.database, &["--failing-after-ms", "1000", "--disable-after-ms", "3000"])
            .await;
    world.insert_orders(1, 1).await;
    // Three attempts over four seconds, all of them failures.
    world
        .database
        .until(
            "select bool_and(state = 'exhausted') from webhook.delivery where type like 'order.%'",
            PATIENCE,
        )
        .await;
    world.insert_orders(2, 1).await;
    world.receiver.wait("the next attempt", PATIENCE, |record| record.at("/status/500").count() == 4).await;
    world.database.until("select count(*) = 4 from webhook.attempt a join webhook.event e on e.id = a.event_id where e.type like 'order.%'", PATIENCE).await;
    let enabled = format!("select enabled from webhook.subscription where id = {rare}");
    assert_eq!(world.database.text(&enabled).await.as_deref(), Some("t"), "fewer than 10 attempts");
}
