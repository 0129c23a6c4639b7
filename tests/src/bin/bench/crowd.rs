//! Measures what operators read in trouble, with 20 000 subscriptions and 1 000 000 queued
//! deliveries and as many attempts, at default settings; and what changes of subscriptions do to
//! the deliveries of the others.

use crate::{
    median, percentile,
    report::{Goal, Report},
    steady::{PER_SECOND, Steady},
};
use e2e::{daemon::Daemon, scale, world::World};
use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Subscriptions 1 to `$1` have a noun of their own each. The next three are `large`, with most of
/// the queue, `small`, with the rest, and `past`, with all attempts.
const SUBSCRIPTIONS: &str = "
    insert into webhook.subscription (name, url, events, enabled)
    select name, 'http://127.0.0.1:9/' || name, array[events], enabled
    from (select i, 'n' || i as name, 'n' || i || '.created' as events, true as enabled from generate_series(1, $1::int) i
          union all
          select $1 + i, (array['large', 'small', 'past'])[i], 'bulk.*', false from generate_series(1, 3) i) s
    order by i";

const QUEUE: &str = "
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state)
    select $1::int + case when e.id % 100 = 0 then 2 else 1 end, e.id, e.xid, e.slot, 'backlog'
    from webhook.event e where e.type = 'bulk.created'";

const ATTEMPTS: &str = "
    insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select e.id, e.xid, $1::int + 3, now(), 3, e.slot, 1, 200, 'succeeded'
    from webhook.event e where e.type = 'bulk.created'";

/// The statements, and the most milliseconds that each may take.
const LOOKS: [(&str, &str, f64); 10] = [
    ("webhook_check()", "select * from webhook_check()", 500.0),
    ("webhook.health", "select * from webhook.health", 500.0),
    ("webhook.pending", "select count(*) from webhook.pending", 500.0),
    ("webhook.subscription_stats", "select * from webhook.subscription_stats", 3_000.0),
    ("webhook.subscription_health", "select * from webhook.subscription_health", 3_000.0),
    ("last 50 of 990 000 queued", "select * from webhook_deliveries(large)", 500.0),
    ("last 50 of 1 000 000 attempted", "select * from webhook_deliveries(past)", 500.0),
    ("last 50 of a quiet subscription", "select * from webhook_deliveries(17)", 500.0),
    ("deliveries of one event", "select * from webhook.delivery where sequence = middle", 500.0),
    ("webhook.ring", "select * from webhook.ring", 500.0),
];

const ALTERS_PER_SECOND: f64 = 10.0;

/// Alters one subscription after the other until `is_done`. Returns how many.
async fn alter(world: &World, subscriptions: i32, is_done: &AtomicBool) -> u32 {
    let session = world.database.client().await;
    let altered = AtomicU32::new(0);
    while !is_done.load(Ordering::Relaxed) {
        let due = Instant::now() + Duration::from_secs_f64(1.0 / ALTERS_PER_SECOND);
        let number = altered.fetch_add(1, Ordering::Relaxed);
        let id = 1 + number.wrapping_mul(7919) % u32::try_from(subscriptions).expect("a count");
        let statement = format!("select webhook_alter({id}, max_in_flight => {})", 1 + number % 50);
        session.batch_execute(&statement).await.expect("it can be altered");
        tokio::time::sleep_until(due.into()).await;
    }
    altered.into_inner()
}

pub async fn run(report: &mut Report) {
    let rounds: usize = scale("PGW_BENCH_ROUNDS", 3, 5);
    let (subscriptions, queued) = (20_000, scale("PGW_BENCH_QUEUED", 1_000_000, 1_000_000));
    let world = World::new().await;
    world.app.execute(SUBSCRIPTIONS, &[&subscriptions]).await.expect("subscriptions");
    world.subscribe_with("/ok", "events => '{order.*}'").await;
    let bulk = format!(
        "create table bulk (id bigint primary key, note text); select webhook_watch('bulk');
         insert into bulk select i, 'x' from generate_series(1, {queued}) i"
    );
    world.database.run(&bulk).await;
    world.app.execute(QUEUE, &[&subscriptions]).await.expect("a queue");
    world.app.execute(ATTEMPTS, &[&subscriptions]).await.expect("attempts");
    world.database.run("update webhook.cursor set snapshot = pg_current_snapshot()").await;
    let daemon = Daemon::start(&world.database).await;
    let mut steady = Steady::new();
    steady.latencies(&world, |written| written < 200).await;

    let middle = world.database.number("select (min(id) + max(id)) / 2 from webhook.event").await.to_string();
    for (name, statement, most) in LOOKS {
        let statement = statement
            .replace("large", &(subscriptions + 1).to_string())
            .replace("past", &(subscriptions + 3).to_string())
            .replace("middle", &middle);
        let mut times = Vec::new();
        for _ in 0..rounds {
            // A session of its own, as an operator has who looks once.
            let session = world.database.client().await;
            let from = Instant::now();
            session.batch_execute(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
            times.push(from.elapsed().as_secs_f64() * 1e3);
        }
        let note = format!("{subscriptions} subscriptions, {queued} queued");
        report.add(name, median(&times), "ms", Goal::AtMost(most), note);
    }

    let count = (PER_SECOND * 5.0) as i64;
    let (mut alone, mut beside, mut altered) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        alone.extend(steady.latencies(&world, |written| written < count).await);
        let is_done = AtomicBool::new(false);
        let measured = async {
            let times = steady.latencies(&world, |written| written < count).await;
            is_done.store(true, Ordering::Relaxed);
            times
        };
        let (changes, times) = tokio::join!(alter(&world, subscriptions, &is_done), measured);
        altered += changes;
        beside.extend(times);
    }
    assert!(daemon.sigterm(e2e::PATIENCE).await.success(), "the daemon ends well");
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (alone, beside) = (percentile(&alone, share), percentile(&beside, share));
        let note =
            format!("{altered} changes of {subscriptions} subscriptions, {ALTERS_PER_SECOND} a second");
        report.add(&format!("latency {name}, nothing altered"), alone, "ms", Goal::None, "");
        report.add(&format!("latency {name}, subscriptions altered"), beside, "ms", Goal::None, note);
    }
}
