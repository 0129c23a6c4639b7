//! Measures the views that operators read in trouble, with 10 000 subscriptions, in two states:
//! 1 000 000 events that no daemon has reached, and 1 000 000 rows of the queue. A quarter of the
//! subscriptions has patterns for other events, and half have a filter that no event passes. Each
//! statement runs in a new session with `jit = off`, as in the daemon's sessions.

use crate::{
    median,
    report::{Goal, Report},
};
use e2e::{scale, world::World};
use std::time::Instant;

const SUBSCRIPTIONS: i32 = 10_000;

/// The most milliseconds that a statement may take.
const GOAL: f64 = 1_000.0;

/// The last one is `quiet`: its patterns match nothing. The two before are `busy` and `filtered`.
const SUBSCRIBE: &str = "
    insert into webhook.subscription (name, url, events, filter)
    select 'n' || i, 'http://127.0.0.1:9/' || i,
           case i % 4 when 1 then '{bulk.*}'::text[] when 2 then '{*}' when 3 then '{bulk.created,invoice.paid}'
                      else array['n' || i || '.created'] end,
           case when i % 2 = 0 then '$.data.id == -1'::jsonpath end
    from generate_series(1, $1::int) i order by i";

/// The checkpoint of a daemon that has ended.
const CHECKPOINT: &str = "
    insert into webhook.cursor (snapshot, system_identifier, database_oid)
    select pg_current_snapshot(), c.system_identifier, d.oid
    from pg_control_system() c, pg_database d where d.datname = current_database()";

/// Half of the events wait for one subscription.
const QUEUE: &str = "
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state)
    select case when e.id % 2 = 0 then 1 else 1 + e.id % $1::bigint end, e.id, e.xid, e.slot, 'backlog'
    from webhook.event e where e.type = 'bulk.created'";

const STATEMENTS: [(&str, &str); 13] = [
    ("webhook.health", "select * from webhook.health"),
    ("webhook.pending", "select * from webhook.pending"),
    ("webhook.subscription_stats", "select * from webhook.subscription_stats"),
    ("webhook.subscription_health", "select * from webhook.subscription_health"),
    ("webhook_check()", "select * from webhook_check()"),
    ("webhook.ring", "select * from webhook.ring"),
    ("last 50 of a busy subscription", "select * from webhook_deliveries(busy)"),
    ("last 50 of a filtered subscription", "select * from webhook_deliveries(filtered)"),
    ("last 50 of a quiet subscription", "select * from webhook_deliveries(quiet)"),
    ("deliveries of one event", "select * from webhook.delivery where sequence = middle"),
    (
        "exhausted deliveries",
        "select * from webhook.delivery where state = 'exhausted' order by sequence desc limit 50",
    ),
    (
        "one event of a subscription",
        "select * from webhook.delivered_event where sequence = middle and subscription_id = busy",
    ),
    ("webhook.number_at()", "select webhook.number_at(now() - interval '1 hour')"),
];

async fn measure(world: &World, report: &mut Report, rounds: usize, state: &str) {
    let middle = world.database.number("select (min(id) + max(id)) / 2 from webhook.event").await.to_string();
    for (name, statement) in STATEMENTS {
        let statement = statement
            .replace("busy", &(SUBSCRIPTIONS - 3).to_string())
            .replace("filtered", &(SUBSCRIPTIONS - 2).to_string())
            .replace("quiet", &SUBSCRIPTIONS.to_string())
            .replace("middle", &middle);
        let mut times = Vec::new();
        for _ in 0..rounds {
            let session = world.database.client().await;
            session.batch_execute("set jit = off").await.expect("a setting");
            let from = Instant::now();
            session.batch_execute(&statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
            times.push(from.elapsed().as_secs_f64() * 1e3);
        }
        report.add(&format!("{name}, {state}"), median(&times), "ms", Goal::AtMost(GOAL), "");
    }
}

pub async fn run(report: &mut Report) {
    let rounds: usize = scale("PGW_BENCH_ROUNDS", 3, 5);
    let events: i64 = scale("PGW_BENCH_PENDING", 1_000_000, 1_000_000);
    let world = World::new().await;
    world.app.execute(SUBSCRIBE, &[&SUBSCRIPTIONS]).await.expect("subscriptions");
    world.database.run(CHECKPOINT).await;
    let bulk = format!(
        "create table bulk (id bigint primary key, note text); select webhook_watch('bulk');
         insert into bulk select i, 'x' from generate_series(1, {events}) i"
    );
    world.database.run(&bulk).await;
    let is_partial = "select pending_is_lower_bound and pending > 0 from webhook.health";
    assert_eq!(world.database.text(is_partial).await.as_deref(), Some("t"), "events are pending");
    measure(&world, report, rounds, &format!("{events} pending")).await;

    world.app.execute(QUEUE, &[&i64::from(SUBSCRIPTIONS)]).await.expect("a queue");
    world.database.run("update webhook.cursor set snapshot = pg_current_snapshot()").await;
    measure(&world, report, rounds, &format!("{events} queued")).await;
}
