//! Promise: a batch is one request with an array of events, and each event keeps its own attempt
//! rows. Events that fail together are retried until each one has arrived.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Received},
    world::World,
};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};

/// Returns the events of a batch, as bodies.
fn events(request: &Received) -> Vec<serde_json::Value> {
    request.json().as_array().cloned().unwrap_or_else(|| panic!("an array, not {:?}", request.body))
}

fn ids(request: &Received) -> Vec<String> {
    events(request).iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

/// Returns `bat_` and the first 16 hex digits of SHA-256 over the ids.
fn batch_id(ids: &[String]) -> String {
    let hash = Sha256::digest(ids.join(","));
    hash[..8].iter().fold("bat_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn filled_by_size_or_by_time() {
    let world = World::new().await;
    let id = world.subscribe_with("/ok/batch", "batch_size => 10, batch_window => '300 ms'").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 95) i")
        .await
        .expect("rows");
    let all = format!("select count(*) = 95 from webhook.attempt where subscription_id = {id}");
    world.database.until(&all, PATIENCE).await;
    let requests = world.receiver.at("/ok/batch");
    let sizes: Vec<_> = requests.iter().map(|request| events(request).len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 95);
    assert!(sizes.iter().all(|size| (1..=10).contains(size)) && sizes.len() <= 12, "{sizes:?}");
    for request in &requests {
        assert_eq!(
            request.header("content-type").map(|v| v.split(';').next()),
            Some(Some("application/json"))
        );
        assert_eq!(request.id(), batch_id(&ids(request)), "the id follows from the events");
        let sequences: Vec<_> = events(request).iter().map(|event| event["sequence"].as_i64()).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
    let seen: HashSet<String> = requests.iter().flat_map(ids).collect();
    assert_eq!(seen, world.event_ids("order.%").await);
    let rows = world.app.query(
        "select batch_id, count(*) from webhook.attempt where subscription_id = $1 and attempt = 1 group by 1", &[&id],
    ).await.expect("attempts can be read");
    let rows: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let want: HashMap<String, i64> =
        requests.iter().map(|r| (r.id().to_owned(), events(r).len() as i64)).collect();
    assert_eq!(rows, want, "one attempt row per event, and they share the batch's id");
    world.settled(PATIENCE).await;

    // A single event is not held for longer than the window.
    let asked = std::time::Instant::now();
    world.insert_orders(1001, 1).await;
    world
        .receiver
        .wait("the lone one", PATIENCE, |record| record.at("/ok/batch").count() > requests.len())
        .await;
    println!("a lone event came after {:?}", asked.elapsed());
    assert_eq!(
        events(world.receiver.at("/ok/batch").last().expect("it came")).len(),
        1,
        "an array all the same"
    );
}

/// A receiver takes requests of up to 1 MiB, and 1 000 events of 16 KiB come in batches of 200.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_split() {
    let world = World::new().await;
    world.subscribe_with("/limit/1048576", "batch_size => 200").await;
    world.subscribe_with("/rejects/poison", "batch_size => 500, retry => '{}', name => 'picky'").await;
    world.app.batch_execute(
        "insert into orders select i, case i when 400 then 'poison' else repeat('x', 16000) end from generate_series(1, 1000) i"
    ).await.expect("rows");
    let daemon = Daemon::start(&world.database).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let final_states = "select string_agg(s.name || ' ' || d.state || ' ' || d.count, ', ' order by s.name, d.state)
        from (select subscription_id, state, count(*) from webhook.delivery group by 1, 2) d
        join (select id, coalesce(name, 'limited') as name from webhook.subscription) s on s.id = d.subscription_id";
    assert_eq!(
        world.database.text(final_states).await.as_deref(),
        Some("limited delivered 1000, picky delivered 999, picky exhausted 1")
    );
    let too_large = "select count(distinct batch_id) from webhook.attempt where status = 413";
    let refused = world.database.number(too_large).await;
    assert!(
        (1..=12).contains(&refused),
        "{refused} requests were too large: later batches stay below the limit"
    );
    let closed = "select count(*) from webhook.subscription_stats where circuit = 'open'";
    assert_eq!(world.database.number(closed).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_fails_is_tried_again() {
    let world = World::new().await;
    let id = world
        .subscribe_with(
            "/status/500",
            "batch_size => 8, batch_window => '100 ms', retry => '{300ms,300ms,300ms,300ms}'",
        )
        .await;
    let daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 24) i")
        .await
        .expect("rows");
    let failed = format!(
        "select count(*) = 24 from webhook.attempt where subscription_id = {id} and attempt = 1 and outcome = 'http_error'"
    );
    world.database.until(&failed, PATIENCE).await;
    world.receiver.behave("/status/500", Behaviour::Ok);
    world.settled(PATIENCE).await;
    let mut delivered: HashMap<String, u32> = HashMap::new();
    for request in world.receiver.at("/status/500").iter().filter(|r| r.status() == Some(200)) {
        assert!(events(request).len() <= 8);
        assert_eq!(request.id(), batch_id(&ids(request)));
        ids(request).into_iter().for_each(|id| *delivered.entry(id).or_default() += 1);
    }
    assert_eq!(delivered.len(), 24);
    assert!(delivered.values().all(|times| *times == 1), "{delivered:?}");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn cloudevents_have_a_batch_of_their_own() {
    let world = World::new().await;
    world
        .subscribe_with(
            "/ok/batch",
            "batch_size => 5, batch_window => '100 ms', format => 'cloudevents-structured'",
        )
        .await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 5) i")
        .await
        .expect("rows");
    world.settled(PATIENCE).await;
    world.database.until("select count(*) = 5 from webhook.attempt", PATIENCE).await;
    for request in world.receiver.at("/ok/batch") {
        let kind = request.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/cloudevents-batch+json"), "{kind}");
        assert!(events(&request).iter().all(|event| event["specversion"] == "1.0"));
    }
}

/// With an ordering, a batch holds at most one run of each key, and the next batch waits for its
/// end.
#[tokio::test(flavor = "multi_thread")]
async fn order_holds_from_batch_to_batch() {
    let world = World::new().await;
    let arguments =
        "batch_size => 7, batch_window => '20 ms', ordering => 'key', retry => '{100ms,100ms,100ms}'";
    world.subscribe_with("/ok/batch", arguments).await;
    // Every third request fails.
    let count = std::sync::atomic::AtomicU32::new(0);
    world.receiver.behave_by("/ok/batch", move |_, _| {
        let turn = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Behaviour::Status(if turn.is_multiple_of(3) { 500 } else { 200 })
    });
    let _daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "200"]).await;
    world.insert_orders(1, 5).await;
    for round in 1..=20 {
        world.database.run(&format!("update orders set total = 100 + {round}")).await;
    }
    world
        .database
        .until(
            "select not exists (select from webhook.delivery where state not in ('delivered', 'exhausted'))",
            PATIENCE,
        )
        .await;
    // For each key, sequences rise within a batch. A batch with later sequences comes after the
    // answer to the earlier one.
    let requests = world.receiver.at("/ok/batch");
    let mut final_at: HashMap<i64, Vec<(i64, std::time::Instant)>> = HashMap::new();
    for request in &requests {
        if let Some((at, 200)) = request.answered {
            for event in events(request) {
                let (key, sequence) =
                    (event["data"]["id"].as_i64().expect("an id"), event["sequence"].as_i64().expect("one"));
                final_at.entry(key).or_default().push((sequence, at));
            }
        }
    }
    for (key, finals) in &final_at {
        assert!(finals.is_sorted_by_key(|(sequence, _)| *sequence), "key {key}: {finals:?}");
    }
    for request in &requests {
        for event in events(request) {
            let (key, sequence) =
                (event["data"]["id"].as_i64().expect("an id"), event["sequence"].as_i64().expect("one"));
            let in_batch: HashSet<_> =
                events(request).iter().map(|event| event["sequence"].as_i64()).collect();
            for (earlier, at) in final_at.get(&key).into_iter().flatten() {
                let held =
                    *earlier >= sequence || *at <= request.arrived || in_batch.contains(&Some(*earlier));
                assert!(held, "key {key}: {sequence} came before {earlier} was final");
            }
        }
    }
}
