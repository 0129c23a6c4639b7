//! Promise: with `ordering => 'key'` no event arrives before an earlier one of its key is final,
//! through failures, kills and backlogs, and other keys are not held. `strict` does the same for
//! all events.
//!
//! The receiver's record alone is the evidence. Failures are drawn from a seed, which the test
//! prints: `PGW_SEED` repeats a run.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Received},
    scale,
    verdict::out_of_order,
    world::World,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const FLAGS: [&str; 2] = ["--probe-interval-ms", "20"];
/// Three retries: four attempts.
const RETRY: &str = "retry => '{100ms,200ms,300ms}'";
const ATTEMPTS_MAX: usize = 4;
const KEYS: i64 = 24;

fn seed() -> u64 {
    let seed = scale("PGW_SEED", rand::random::<u32>().into(), rand::random::<u32>().into());
    println!("PGW_SEED={seed}");
    seed
}

/// Returns the behaviour for the `attempt`th request of an event. It is drawn from the seed, so a
/// run can be repeated.
fn fate(seed: u64, request: &Received, attempt: u32) -> Behaviour {
    let mut hasher = DefaultHasher::new();
    (seed, request.id(), attempt).hash(&mut hasher);
    let body = request.json();
    let key = body["data"]["id"].as_i64().unwrap_or_default();
    match (hasher.finish() % 100, key % 8) {
        // Every eighth key fails most of the time, so some of its events are given up.
        (0..65, 0) => Behaviour::Status(500),
        (0..10, _) => Behaviour::Status(500),
        (10..14, _) => Behaviour::Status(404),
        (14..17, _) => Behaviour::Reset,
        (roll, _) => Behaviour::Slow(Duration::from_millis(roll % 20)),
    }
}

fn key_of(body: &serde_json::Value) -> String {
    body["data"]["id"].to_string()
}

fn all_as_one(_: &serde_json::Value) -> String {
    "all".to_owned()
}

/// Updates random orders, one or several per transaction.
async fn write(world: &World, seed: u64, transactions: u32, pause: Duration) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..transactions {
        let mut statements = "begin;".to_owned();
        for _ in 0..random.random_range(1..=3) {
            let (id, total) = (random.random_range(1..=KEYS), random.random_range(1..1_000_000_000_u64));
            statements += &format!("update orders set total = {total} where id = {id};");
        }
        statements += "commit";
        world.app.batch_execute(&statements).await.expect("orders can be updated");
        tokio::time::sleep(pause).await;
    }
}

/// Waits until every delivery is delivered or given up.
async fn all_final(world: &World) {
    let all =
        "select not exists (select from webhook.delivery where state not in ('delivered', 'exhausted'))";
    if !world.database.becomes(all, PATIENCE * 2).await {
        let rest = world.database.text("select string_agg(q::text, ' ') from (select * from webhook.queue order by subscription_id, event_id limit 9) q").await;
        panic!("not final within {:?}: {rest:?}", PATIENCE * 2);
    }
}

/// Checks the order on a path, and that every event arrived.
async fn judge(world: &World, path: &str, key_of: fn(&serde_json::Value) -> String) {
    let requests = world.receiver.at(path);
    let wrong = out_of_order(&requests, key_of, ATTEMPTS_MAX);
    assert!(
        wrong.is_empty(),
        "{path}: {} violations, such as {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let came = world.receiver.look(|record| record.ids(path));
    assert_eq!(came, world.event_ids("order.%").await, "{path}: every event came at least once");
    let failed = requests.iter().filter(|r| !matches!(r.status(), Some(200..=299))).count();
    println!("{path}: {} events in {} requests, {failed} of them failed", came.len(), requests.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_random_failures_and_kills() {
    let (seed, transactions) = (seed(), scale("PGW_TRANSACTIONS", 300, 2_000));
    let world = Arc::new(World::new().await);
    world.receiver.behave_by("/ok/ordered", move |request, attempt| fate(seed, request, attempt));
    world.subscribe_with("/ok/ordered", &format!("ordering => 'key', {RETRY}")).await;
    world.insert_orders(1, KEYS).await;

    let mut daemon = Daemon::start_with(&world.database, &FLAGS).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (world, stop) = (world.clone(), stop.clone());
        tokio::spawn(async move {
            write(&world, seed, transactions, Duration::from_millis(15)).await;
            stop.store(true, Ordering::Relaxed);
        })
    };
    let mut random = StdRng::seed_from_u64(seed ^ 1);
    let mut kills = 0;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1_500))).await;
        daemon.kill9().await;
        kills += 1;
        daemon = Daemon::start_with(&world.database, &FLAGS).await;
    }
    writer.await.expect("the writer ends well");
    all_final(&world).await;
    println!("{kills} kills");
    judge(&world, "/ok/ordered", key_of).await;
    let given_up =
        world.database.number("select count(*) from webhook.delivery where state = 'exhausted'").await;
    assert!(given_up > 0 && kills > 1, "{given_up} given up, {kills} kills: the run shows nothing");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_catching_up() {
    let seed = seed();
    let world = World::new().await;
    world.receiver.behave_by("/ok/ordered", move |request, attempt| fate(seed, request, attempt));
    let id = world.subscribe_with("/ok/ordered", &format!("ordering => 'key', {RETRY}")).await;
    world.insert_orders(1, KEYS).await;
    // Three backlogs: before the daemon's first start, during a pause, and across a restart
    // half-way.
    write(&world, seed, 150, Duration::ZERO).await;
    let daemon = Daemon::start_with(&world.database, &FLAGS).await;
    all_final(&world).await;
    world.database.run(&format!("select webhook_pause({id}, 'maintenance')")).await;
    write(&world, seed ^ 2, 150, Duration::ZERO).await;
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    world.database.run(&format!("select webhook_resume({id})")).await;
    write(&world, seed ^ 3, 50, Duration::from_millis(2)).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let daemon = Daemon::start_with(&world.database, &FLAGS).await;
    all_final(&world).await;
    judge(&world, "/ok/ordered", key_of).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// One key's event cannot be delivered; all other keys continue.
#[tokio::test(flavor = "multi_thread")]
async fn other_keys_are_not_held() {
    let world = World::new().await;
    world.receiver.behave_by("/ok/ordered", |request, _| match request.json()["data"]["id"].as_i64() {
        Some(1) => Behaviour::Status(500),
        _ => Behaviour::Ok,
    });
    let id = world.subscribe_with("/ok/ordered", "ordering => 'key', retry => '{1h}'").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, KEYS).await;
    for round in 1..=5 {
        world.database.run(&format!("update orders set total = 100 + {round}")).await;
    }
    // Six events of each other key, and one of the first.
    world.receiver.wait_for("/ok/ordered", (KEYS as usize - 1) * 6 + 1, PATIENCE).await;
    let held = format!(
        "select string_agg(state || ' ' || count, ', ' order by state) from (
             select state, count(*) from webhook.queue where subscription_id = {id} group by state) q"
    );
    let blocked = format!("select ({held}) = 'blocked 5, waiting 1'");
    assert!(world.database.becomes(&blocked, PATIENCE).await, "{:?}", world.database.text(&held).await);
    world.database.until("select pending = 0 from webhook.health", PATIENCE).await;
    // After a successful redelivery by hand, the rest of the key follows in order.
    world.receiver.behave("/ok/ordered", Behaviour::Ok);
    let event = world.database.text("select webhook.public_id(e.id, e.created_at) from webhook.event e join webhook.queue q on q.event_id = e.id where q.state = 'waiting'").await.expect("the event that failed");
    world.database.run(&format!("select webhook_redeliver('{event}', {id})")).await;
    world.settled(PATIENCE).await;
    judge(&world, "/ok/ordered", key_of).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strict_is_one_after_the_other() {
    let seed = seed();
    let world = World::new().await;
    // Fewer failures, because every event waits behind each of them.
    world.receiver.behave_by("/ok/strict", move |request, attempt| match fate(seed, request, attempt) {
        Behaviour::Status(_) | Behaviour::Reset
            if !seed.wrapping_add(request.json()["sequence"].as_u64().unwrap_or(0)).is_multiple_of(9) =>
        {
            Behaviour::Ok
        }
        other => other,
    });
    world.subscribe_with("/ok/strict", &format!("ordering => 'strict', {RETRY}")).await;
    let mut daemon = Daemon::start_with(&world.database, &FLAGS).await;
    world.insert_orders(1, KEYS).await;
    write(&world, seed, 40, Duration::from_millis(5)).await;
    daemon.kill9().await;
    write(&world, seed ^ 1, 20, Duration::ZERO).await;
    daemon = Daemon::start_with(&world.database, &FLAGS).await;
    all_final(&world).await;
    judge(&world, "/ok/strict", all_as_one).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
