//! Promise: kill -9 of the daemon loses nothing. Duplicates are bounded, and are the same event,
//! byte for byte.

use e2e::{PATIENCE, daemon::Daemon, scale, world::World};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval};

/// The most requests that the subscription may have in flight.
const IN_FLIGHT_MAX: u64 = 64;
/// The most results that the ledger writes in one flush.
const FLUSH_ROWS_MAX: u64 = 1000;
const EVENTS_PER_SECOND: u64 = 2_000;
const WRITERS: u64 = 4;
/// Orders per transaction.
const BATCH: u64 = 4;

/// Inserts [`BATCH`] orders per transaction until `stop` is set, [`EVENTS_PER_SECOND`] together
/// with the other writers.
async fn write(world: Arc<World>, stop: Arc<AtomicBool>, next: Arc<AtomicI64>) {
    let client = world.database.client().await;
    let insert = "insert into orders select i, 'c', 1, null from generate_series($1::bigint, $1::bigint + $2::bigint - 1) i";
    let insert = client.prepare(insert).await.expect("it parses");
    let mut pace = interval(Duration::from_micros(1_000_000 * WRITERS * BATCH / EVENTS_PER_SECOND));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let first = next.fetch_add(BATCH as i64, Ordering::Relaxed);
        client.execute(&insert, &[&first, &(BATCH as i64)]).await.expect("orders can be inserted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_every_700_ms_under_load() {
    let seconds = scale("PGW_KILL_SECONDS", 15, 60);
    let world = Arc::new(World::new().await);
    world.subscribe_with("/ok", &format!("max_in_flight => {IN_FLIGHT_MAX}")).await;
    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(1)));
    let mut daemon = Daemon::start(&world.database).await;
    let writers: Vec<_> =
        (0..WRITERS).map(|_| tokio::spawn(write(world.clone(), stop.clone(), next.clone()))).collect();

    let began = Instant::now();
    let mut kills = 0;
    let mut murderer = interval(Duration::from_millis(700));
    murderer.tick().await;
    while began.elapsed() < Duration::from_secs(seconds) {
        murderer.tick().await;
        daemon.kill9().await;
        kills += 1;
        daemon = Daemon::spawn(&world.database);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("the writer has ended well");
    }
    let rate = (next.load(Ordering::Relaxed) - 1) as f64 / began.elapsed().as_secs_f64();

    let events = world.event_ids("order.%").await;
    assert_eq!(events.len() as i64, next.load(Ordering::Relaxed) - 1, "one event per order");
    world.receiver.wait_for("/ok", events.len(), PATIENCE * 2).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    // The views derive the operators' figures from rows, so no crash falsifies them.
    let figures =
        "select s.delivered_1h = (select count(*) from webhook.attempt) from webhook.subscription_stats s";
    assert_eq!(world.database.text(figures).await.as_deref(), Some("t"));

    let bound = kills * (IN_FLIGHT_MAX + FLUSH_ROWS_MAX);
    world.receiver.look(|record| {
        assert_eq!(record.ids("/ok"), events, "nothing lost, nothing invented");
        let duplicates = record.duplicates("/ok");
        println!(
            "{} events at {rate:.0}/s, {kills} kills, {duplicates} duplicates, bound {bound} = kills × ({IN_FLIGHT_MAX} in flight + {FLUSH_ROWS_MAX} in one flush)",
            events.len()
        );
        assert!(duplicates <= bound, "{duplicates} duplicates, at most {bound} are allowed");
        let mut bodies = HashMap::new();
        for request in record.at("/ok") {
            let first = bodies.entry(request.id()).or_insert(&request.body);
            assert_eq!(**first, request.body, "{}: a duplicate has the same body", request.id());
        }
    });
    assert!(kills >= seconds, "the daemon was killed {kills} times");
}
