//! Promise: a failed delivery is retried by the subscription's schedule, as the same event. A
//! delivery that was given up is visible and can be sent again.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Received},
    world::World,
};
use std::time::Duration;

fn gaps(requests: &[Received]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].arrived - pair[0].arrived).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn spaced_by_the_schedule_same_id_same_body_new_timestamp() {
    let world = World::new().await;
    let steps = [1_500, 2_000, 2_500].map(Duration::from_millis);
    let id = world.subscribe_with("/flaky/3", "retry => '{1500ms,2000ms,2500ms}'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select bool_and(state = 'retrying') from webhook.delivery", PATIENCE).await;
    let view = "select state || ' ' || attempts || ' ' || last_status || ' ' || (next_attempt_at > now()) from webhook.delivery";
    let seen = world.database.text(view).await;
    assert!(seen.as_deref().is_some_and(|s| s.starts_with("retrying ") && s.contains(" 500 ")), "{seen:?}");
    world.receiver.wait("four attempts", PATIENCE, |record| record.total == 4).await;
    world.settled(PATIENCE).await;

    let requests = world.receiver.at("/flaky/3");
    for (gap, step) in gaps(&requests).iter().zip(steps) {
        // ±20 % jitter, and up to a second for a busy machine.
        let (min, max) = (step.mul_f64(0.8), step.mul_f64(1.2) + Duration::from_secs(1));
        assert!((min..max).contains(gap), "{:?} by the schedule {steps:?}", gaps(&requests));
    }
    for pair in requests.windows(2) {
        assert_eq!(pair[0].id(), pair[1].id());
        assert_eq!(pair[0].body, pair[1].body);
        assert!(pair[0].timestamp() < pair[1].timestamp(), "each attempt has a signature of its own");
    }
    let attempts = "select string_agg(attempt || ' ' || outcome || ' ' || status || ' ' || coalesce(response, '-') || ' '
                    || (next_at is not null), ', ' order by attempt) from webhook.attempt";
    assert_eq!(
        world.database.text(attempts).await.as_deref(),
        Some(
            "1 http_error 500 flaky true, 2 http_error 500 flaky true, 3 http_error 500 flaky true, 4 succeeded 200 - false"
        )
    );
    let queue = format!("select count(*) from webhook.queue where subscription_id = {id}");
    assert_eq!(world.database.number(&queue).await, 0);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_survives_a_restart() {
    let world = World::new().await;
    world.subscribe_with("/flaky/1", "retry => '{3s}'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select bool_and(state = 'retrying') from webhook.delivery", PATIENCE).await;
    daemon.kill9().await;
    let daemon = Daemon::start(&world.database).await;
    world.settled(PATIENCE).await;
    let requests = world.receiver.at("/flaky/1");
    assert_eq!(requests.len(), 2);
    assert!(gaps(&requests)[0] >= Duration::from_millis(2_400), "the restart does not hasten it");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_visible_and_sent_again_by_hand() {
    let world = World::new().await;
    let id = world.subscribe_with("/status/503", "retry => '{100ms,100ms}'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select bool_and(state = 'exhausted') from webhook.delivery", PATIENCE).await;
    let attempts =
        "select attempts || ' ' || last_status || ' ' || (next_attempt_at is null) from webhook.delivery";
    assert_eq!(world.database.text(attempts).await.as_deref(), Some("3 503 true"));
    assert_eq!(world.receiver.at("/status/503").len(), 3, "one attempt and two retries");
    assert_eq!(world.database.number("select count(*) from webhook.queue").await, 0);

    world.receiver.behave("/status/503", Behaviour::Ok);
    let event = world.database.text("select event_id from webhook.delivery").await.expect("it is there");
    world.database.run(&format!("select webhook_redeliver('{event}', {id})")).await;
    world.receiver.wait("the redelivery", PATIENCE, |record| record.total == 4).await;
    world.settled(PATIENCE).await;
    let requests = world.receiver.at("/status/503");
    assert!(requests.iter().all(|r| r.id() == event && r.body == requests[0].body), "the same event");
    let last = "select attempt || ' ' || outcome from webhook.attempt order by attempt desc limit 1";
    assert_eq!(world.database.text(last).await.as_deref(), Some("4 succeeded"));
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_event_can_be_sent_again_too() {
    let world = World::new().await;
    let id = world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.settled(PATIENCE).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    let event = world.receiver.at("/ok")[0].id().to_owned();
    for again in 1..=2 {
        world.database.run(&format!("select webhook_redeliver('{event}', {id})")).await;
        world.receiver.wait("a redelivery", PATIENCE, |record| record.total == 1 + again).await;
    }
    assert!(world.receiver.at("/ok").iter().all(|request| request.id() == event));
    world.database.until("select count(*) = 3 from webhook.attempt", PATIENCE).await;
}
