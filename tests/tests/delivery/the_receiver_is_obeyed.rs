//! Promise: the daemon follows a receiver's answers. It waits until Retry-After, slows down after
//! 429, never follows a redirect, and stops after 410.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Received},
    world::World,
};
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

const DAY: f64 = 86_400.0;

/// Path, and the fewest and most seconds until the next attempt, with a schedule of 100 s (80 to
/// 120 with the jitter).
const WISHES: [(&str, f64, f64); 17] = [
    // Longer than the schedule: Retry-After applies, and the attempt is never earlier.
    ("/retry-after?v=300", 300.0, 400.0),
    ("/retry-after/502?v=300", 300.0, 400.0),
    ("/retry-after/503?v=300", 300.0, 400.0),
    ("/retry-after/504?v=300", 300.0, 400.0),
    ("/retry-after/503?v=300.5", 300.5, 400.0),
    // A date has whole seconds, and the receiver's clock is ours.
    ("/retry-after/503?v=in:300", 298.0, 400.0),
    // Shorter: the schedule applies.
    ("/retry-after/503?v=1", 80.0, 125.0),
    ("/retry-after/503?v=0", 80.0, 125.0),
    ("/retry-after/503?v=in:-300", 80.0, 125.0),
    // Invalid: the schedule applies.
    ("/retry-after/503?v=-5", 80.0, 125.0),
    ("/retry-after/503?v=soon", 80.0, 125.0),
    ("/retry-after/503?v=", 80.0, 125.0),
    // More than the maximum.
    ("/retry-after/503?v=9999999", DAY, 1.25 * DAY),
    ("/retry-after/429?v=99999999999999999999", DAY, 1.25 * DAY),
    // Retry-After applies with other failure statuses too.
    ("/retry-after/500?v=300", 300.0, 400.0),
    ("/retry-after/404?v=300", 300.0, 400.0),
    ("/retry-after/302?v=300", 300.0, 400.0),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_is_not_before_retry_after() {
    let world = World::new().await;
    let mut subscriptions = Vec::new();
    for wish in WISHES {
        subscriptions.push((wish, world.subscribe_with(wish.0, "retry => '{100s}'").await));
    }
    let accepted = world.subscribe_with("/retry-after/200?v=300", "retry => '{100s}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    let all = format!("select count(*) = {} from webhook.attempt", WISHES.len() + 1);
    world.database.until(&all, PATIENCE).await;
    let mut wrong = Vec::new();
    for ((path, least, most), id) in subscriptions {
        let wait = "select extract(epoch from q.next_at - a.started_at)::float8,
                           extract(epoch from a.next_at - q.next_at)::float8
                    from webhook.queue q join webhook.attempt a using (event_id, subscription_id)
                    where subscription_id = $1";
        let row = world.app.query_one(wait, &[&id]).await.expect("it waits in the queue");
        let (wait, difference): (f64, f64) = (row.get(0), row.get(1));
        if !(least..=most).contains(&wait) || difference != 0.0 {
            wrong.push(format!(
                "{path}: {wait} s, not {least} to {most}; attempt and queue differ by {difference}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let delivered = format!("select state from webhook.delivery where subscription_id = {accepted}");
    assert_eq!(world.database.text(&delivered).await.as_deref(), Some("delivered"));
}

#[tokio::test(flavor = "multi_thread")]
async fn and_it_comes_then() {
    let world = World::new().await;
    world.subscribe_with("/retry-after/503?v=2", "retry => '{100ms,100ms}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait("three attempts", PATIENCE, |record| record.total == 3).await;
    let requests = world.receiver.at("/retry-after/503?v=2");
    for pair in requests.windows(2) {
        let gap = pair[1].arrived - pair[0].arrived;
        assert!(gap >= Duration::from_secs(2) && gap < Duration::from_secs(6), "{gap:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_recorded_and_not_followed() {
    let world = World::new().await;
    let elsewhere = world.receiver.url("/ok/elsewhere");
    for status in [301, 302, 303, 307, 308] {
        world.subscribe_with(&format!("/redirect/{status}?to={elsewhere}"), "retry => '{1h}'").await;
    }
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select count(*) = 5 from webhook.queue where state = 'waiting'", PATIENCE).await;
    let told = format!(
        "select count(*) from webhook.attempt where outcome = 'http_error' and error like '%Location: {elsewhere}%'"
    );
    assert_eq!(world.database.number(&told).await, 5);
    world.receiver.look(|record| assert_eq!(record.distinct("/ok/elsewhere"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn gone_ends_it_at_once() {
    let world = World::new().await;
    let gone = world.subscribe_with("/gone", "max_in_flight => 1, name => 'crm'").await;
    world.subscribe_with("/ok/operator", "events => '{webhook.*}'").await;
    world.subscribe_with("/ok/other", "events => '{order.*}'").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 20) i")
        .await
        .expect("rows");
    let disabled = format!("select not enabled from webhook.subscription where id = {gone}");
    world.database.until(&disabled, PATIENCE).await;
    let reason = format!("select paused_reason from webhook.subscription where id = {gone}");
    assert_eq!(world.database.text(&reason).await.as_deref(), Some("the receiver answered 410 Gone"));
    // Waiting deliveries are parked and new events are kept, without another request.
    world.insert_orders(21, 5).await;
    world.receiver.wait_for("/ok/other", 25, PATIENCE).await;
    let parked = format!(
        "select count(*) >= 24 and bool_and(state = 'backlog') from webhook.queue where subscription_id = {gone}"
    );
    world.database.until(&parked, PATIENCE).await;
    world
        .receiver
        .look(|record| assert_eq!(record.at("/gone").count(), 1, "410 is the last answer asked for"));
    let told = |request: &&Received| {
        let body = request.json();
        body["type"] == "webhook.subscription.disabled" && body["data"]["id"] == gone
    };
    world
        .receiver
        .wait("the operator gets the event", PATIENCE, |record| record.at("/ok/operator").any(|r| told(&r)))
        .await;

    // An operator resumes the subscription.
    world.receiver.behave("/gone", Behaviour::Ok);
    world.database.run(&format!("select webhook_resume({gone})")).await;
    world.receiver.wait_for("/gone", 25, PATIENCE).await;
    world
        .database
        .until(
            &format!("select not exists (select from webhook.queue where subscription_id = {gone})"),
            PATIENCE,
        )
        .await;
    let times = world.receiver.look(|record| record.at("/ok/operator").filter(told).count());
    assert_eq!(times, 1, "told once");
}

/// A receiver with a rate limit of its own answers 429 without Retry-After.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn too_many_slows_the_deliveries_down_and_they_recover() {
    const PER_SECOND: usize = 40;
    let world = World::new().await;
    let taken = Mutex::new(Vec::<Instant>::new());
    world.receiver.behave_by("/ok", move |request, _| {
        let mut taken = taken.lock().expect("no panic");
        taken.retain(|at| request.arrived.saturating_duration_since(*at) < Duration::from_secs(1));
        if taken.len() >= PER_SECOND {
            return Behaviour::Status(429);
        }
        taken.push(request.arrived);
        Behaviour::Ok
    });
    let retry = vec!["1s"; 50].join(",");
    world.subscribe_with("/ok", &format!("retry => '{{{retry}}}'")).await;
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "1000"]).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 300) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/ok", 300, PATIENCE * 2).await;
    world.settled(PATIENCE * 2).await;
    let requests = world.receiver.at("/ok");
    let refused = requests.iter().filter(|request| request.status() == Some(429)).count();
    println!("300 events in {} requests, {refused} of them refused", requests.len());
    // By the schedule alone, all waiting deliveries would come once a second: seven rounds, a
    // thousand refusals.
    assert!(refused < 300, "{refused} refusals: it keeps pushing");

    // Without the limit, the subscription becomes fast again. The rate rises by a sixtieth per
    // second.
    world.receiver.behave("/ok", Behaviour::Ok);
    let seconds = |from: Instant, to: u64| from + Duration::from_secs(to);
    let freed = Instant::now();
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1001, 6000) i")
        .await
        .expect("rows");
    world
        .receiver
        .wait("20 seconds of it, or all", PATIENCE * 2, |record| {
            record.requests.last().is_some_and(|last| last.arrived > seconds(freed, 20))
                || record.distinct("/ok") == 5_300
        })
        .await;
    let arrivals: Vec<_> = world.receiver.at("/ok")[requests.len()..].iter().map(|r| r.arrived).collect();
    let within = |from, to| {
        arrivals.iter().filter(|at| **at > seconds(freed, from) && **at <= seconds(freed, to)).count()
    };
    let (early, late) = (within(0, 5), within(15, 20));
    println!("{early} in the first five seconds, {late} in the last of 20; {} in all", arrivals.len());
    assert!(arrivals.len() == 5_000 || late * 100 > early * 115, "{early}, then {late}");
}
