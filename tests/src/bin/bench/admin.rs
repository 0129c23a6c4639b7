//! Measures the admin server's effect on deliveries: the time from commit to receiver at 200
//! events/s, with and without 200 requests a second to the REST API, the page and the metrics. The
//! variants take turns on one daemon whose tables hold a past.
//!
//! The callers run in tasks of their own, so they do not delay the writer's reading of the clock.
//! The rate of answers is a goal too: a server that answers less would cost less.

use crate::{
    median, percentile,
    report::{Goal, Report},
    steady::{PER_SECOND, Steady},
};
use e2e::{
    admin::{Admin, token},
    scale,
    world::World,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// The number of concurrent callers.
const CALLERS: usize = 4;

/// The requested paths, in turn; `PGW_BENCH_ADMIN_PATHS` names others, separated by blanks.
const PATHS: [&str; 9] = [
    "/v1/subscriptions",
    "/v1/deliveries?limit=20",
    "/v1/deliveries?state=exhausted&limit=20",
    "/v1/events?limit=20",
    "/metrics",
    "/readyz",
    "/",
    "/deliveries",
    "/subscriptions/1",
];

/// Events from the past, of which one in a hundred failed. The polls and requests have to search
/// through them.
const PAST: &str = "with e as (
        insert into webhook.event (type, key, payload) select 'order.created', n::text, json_build_object('id', -n)
        from generate_series(1, $1::int) n returning id, xid, created_at)
    insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
    select id, xid, 1, created_at, 5, webhook.ring_slot(created_at), 1, case when id % 100 = 0 then 500 else 200 end,
           case when id % 100 = 0 then 'http_error' else 'succeeded' end from e";

/// Sends requests at a fixed rate, several at a time, until the result is dropped.
fn ask(admin: &Arc<Admin>, token: &str, answered: &Arc<AtomicU64>) -> JoinSet<()> {
    let given = std::env::var("PGW_BENCH_ADMIN_PATHS").unwrap_or_else(|_| PATHS.join(" "));
    let paths: Arc<[String]> = given.split_whitespace().map(str::to_owned).collect();
    let mut callers = JoinSet::new();
    for from in 0..CALLERS {
        let (admin, token) = (Arc::clone(admin), token.to_owned());
        let (answered, paths) = (Arc::clone(answered), Arc::clone(&paths));
        callers.spawn(async move {
            let cookie = admin.cookie(&token).await;
            let mut ticks = interval(Duration::from_secs_f64(CALLERS as f64 / PER_SECOND));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for at in from.. {
                ticks.tick().await;
                let path = &*paths[at % paths.len()];
                let is_api = path.starts_with("/v1/") || path == "/metrics";
                let answer = if is_api {
                    admin.get(path, &token).await
                } else {
                    admin.ask("GET", path, None, &[("cookie", &cookie)], None).await
                };
                assert!(answer.status.is_success(), "{path}: {answer:?}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    callers
}

pub async fn run(report: &mut Report) {
    let rounds: usize = scale("PGW_BENCH_ROUNDS", 5, 5);
    let seconds: f64 = scale("PGW_BENCH_ADMIN_SECONDS", 5.0, 10.0);
    let past: i32 = scale("PGW_BENCH_ADMIN_PAST", 100_000, 1_000_000);
    let count = (PER_SECOND * seconds) as i64;
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let token = token(&world.database, &["--role", "ops"]);
    world.subscribe("/ok").await;
    world.app.execute(PAST, &[&past]).await.expect("a past");
    world
        .app
        .batch_execute("update webhook.cursor set snapshot = pg_current_snapshot()")
        .await
        .expect("it is done with");
    world.app.batch_execute("vacuum analyze").await.expect("statistics");
    let admin = Arc::new(Admin::start(&world.database, &[]).await);
    let mut steady = Steady::new();
    let (mut quiet, mut asked, mut rates) = (vec![], vec![], vec![]);
    let answered = Arc::<AtomicU64>::default();
    for round in 0..=rounds {
        let alone = steady.latencies(&world, |written| written < count).await;
        let (began, before) = (Instant::now(), answered.load(Ordering::Relaxed));
        let mut callers = ask(&admin, &token, &answered);
        let beside = steady.latencies(&world, |written| written < count).await;
        let rate = (answered.load(Ordering::Relaxed) - before) as f64 / began.elapsed().as_secs_f64();
        if let Some(ended) = callers.try_join_next() {
            ended.expect("who asks is answered");
        }
        drop(callers);
        // The first round warms up.
        if round > 0 {
            quiet.push(percentile(&alone, 0.99));
            asked.push(percentile(&beside, 0.99));
            rates.push(rate);
        }
    }
    let ratios: Vec<f64> = asked.iter().zip(&quiet).map(|(asked, quiet)| asked / quiet).collect();
    report.add("latency p99, admin server idle", median(&quiet), "ms", Goal::None, "200 events/s");
    report.add(
        "latency p99, admin server asked",
        median(&asked),
        "ms",
        Goal::None,
        format!("{past} attempts past"),
    );
    report.add(
        "admin server, answers",
        median(&rates),
        "/s",
        Goal::AtLeast(0.95 * PER_SECOND),
        "of 200 asked for",
    );
    let note = format!("median of {rounds} rounds: {ratios:.2?}");
    report.add("latency p99, asked / idle", median(&ratios), "×", Goal::AtMost(1.2), note);
}
