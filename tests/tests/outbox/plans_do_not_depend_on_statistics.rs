//! Promise: with any statistics, no statement of the daemon reads a table of ours from end
//! to end, and none reads many rows that it does not need.
//!
//! Postgres itself logs the plan of every statement that the daemon executes, nested ones included
//! (auto_explain), while the daemon does everything that it can do. The statistics are those of
//! empty tables, of tables a million times as large, and of tables with one value in every column.

use e2e::{
    PATIENCE,
    admin::Admin,
    receiver::{Behaviour, Keep},
    world::World,
};
use serde_json::Value;
use std::{collections::BTreeSet, time::Instant};

const SETTINGS: [&str; 9] = [
    "shared_preload_libraries=auto_explain",
    "auto_explain.log_min_duration=0",
    "auto_explain.log_nested_statements=on",
    "auto_explain.log_analyze=on",
    "auto_explain.log_timing=off",
    "auto_explain.log_format=json",
    "log_line_prefix=%a|",
    "log_parameter_max_length=0",
    "autovacuum=off",
];

/// Rows that a scan may read in vain for each time it is started.
const IN_VAIN_MAX: f64 = 300.0;

/// Statements that read a whole table because that is what they are for, by a part of their text,
/// and when they run.
const WHOLE_TABLES: [(&str, &str); 9] = [
    ("group by e.id / 1024", "a large window is measured, without the loads that have been"),
    ("select count(*), min(e.created_at), max(e.created_at) from webhook.event_", "a slot is counted once"),
    ("exists (select from webhook.queue q where q.event_slot = slot)", "before a slot is emptied"),
    ("max(a.event_id) from webhook.attempt_", "before a slot is emptied"),
    ("webhook.slot_is_held", "before a slot is emptied"),
    ("q.order_key is not null and q.state = 'waiting'", "once after a start, by a partial index"),
    (
        "exists (select from webhook.queue q where q.subscription_id = s.id and q.state = 'backlog')",
        "once after a start",
    ),
    ("from webhook.queue group by subscription_id", "the figures of the admin server"),
    ("truncate table", "no scan"),
];

/// What the statistics say.
#[derive(Debug, Clone, Copy)]
enum Statistics {
    /// ANALYZE has run while all tables were empty.
    Empty,
    /// Tables and indexes are said to be huge; nothing is known of their columns.
    Huge,
    /// ANALYZE has run while every column of the queue had one value.
    OneValue,
}

async fn falsify(world: &World, statistics: Statistics) {
    let ours = "select c.oid from pg_class c where c.relnamespace = 'webhook'::regnamespace";
    let statement = match statistics {
        Statistics::Empty => "analyze".to_owned(),
        Statistics::Huge => format!(
            "update pg_class set reltuples = 1e9, relpages = 1e7 where oid in ({ours}) and relkind in ('r', 'i')"
        ),
        Statistics::OneValue => "insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state, order_key)
                 select 1, 1, 1, 0, 'backlog', 0;
             insert into webhook.attempt (event_id, event_xid, subscription_id, started_at, duration_ms, slot, attempt, status, outcome)
                 select 1, 1, 1, now(), 1, 0, 1, 200, 'succeeded' from generate_series(1, 1000);
             analyze;
             delete from webhook.queue; delete from webhook.attempt"
            .to_owned(),
    };
    world.database.run(&statement).await;
}

/// Has the daemon do everything that it does.
async fn work(world: &World) {
    let (app, receiver) = (&world.app, &world.receiver);
    Admin::roles(&world.database).await;
    let plain = world.subscribe("/ok").await;
    world.subscribe_with("/ok/key", "ordering => 'key', compact => true").await;
    // Only Postgres can evaluate it.
    world.subscribe_with("/ok/filter", "filter => '$.data.id > 2000 && $.type like_regex \".\"'").await;
    receiver.behave("/ok/late", Behaviour::Status(503));
    let late = world
        .subscribe_with(
            "/ok/late",
            "ordering => 'key', retry => array_fill(interval '200 milliseconds', array[50])",
        )
        .await;
    let failing =
        world.subscribe_with("/status/500", "retry => '{50ms,50ms}', events => '{order.deleted}'").await;
    let paused = world.subscribe_with("/ok/paused", "enabled => false").await;
    let arguments = ["--admin-open-as", "ops", "--retire-interval-ms", "300", "--probe-interval-ms", "200"];
    let admin = Admin::start(&world.database, &arguments).await;
    let run = async |sql: String| {
        app.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {}", e2e::cluster::describe(&e)));
    };
    // The daemon reads a window with changes of subscriptions once for them alone, so these are not
    // in one window with many other events.
    let changes_are_read = "select pg_snapshot_xmin((select snapshot from webhook.cursor))::text::bigint
        > (select max(xid) from webhook.event where type like 'webhook.subscription.%')";
    world.database.until(changes_are_read, PATIENCE).await;
    // A large window, and small ones.
    run("insert into orders select i, 'c' from generate_series(1, 3000) i".to_owned()).await;
    receiver.wait_for("/ok", 3_000, PATIENCE).await;
    for id in 1..=20 {
        run(format!(
            "update orders set total = total + 1 where id = {id}; delete from orders where id = 2980 + {id}"
        ))
        .await;
    }
    receiver.wait_for("/ok", 3_040, PATIENCE).await;
    world.database.until("select count(*) > 2500 from webhook.queue where state = 'backlog'", PATIENCE).await;
    // Commands of SQL.
    run(format!(
        "select webhook_alter({failing}, max_in_flight => 7); select webhook_ping({plain});
         select webhook_replay({plain}, now() - interval '1 hour', events => '{{order.deleted}}');
         select webhook_redeliver(event_id, {plain}) from webhook.delivery where subscription_id = {plain} and state = 'delivered' limit 3;
         select webhook_rotate_secret({plain}); select webhook.turn_ring(true)"
    ))
    .await;
    world.database.until(changes_are_read, PATIENCE).await;
    run(format!("select webhook_backfill({plain}, 'orders', 'new.id <= 600')")).await;
    world.database.until("select state = 'done' from webhook.backfill", PATIENCE).await;
    receiver.behave("/ok/late", Behaviour::Ok);
    run(format!(
        "select webhook_resume({paused}); select webhook_pause({late}); select webhook_resume({late})"
    ))
    .await;
    receiver.wait_for("/ok/paused", 3_040, PATIENCE).await;
    receiver.wait_for("/ok/late", 3_000, PATIENCE).await;
    // Requests of the admin server.
    for path in [
        "/v1/subscriptions",
        "/v1/deliveries?limit=50",
        "/v1/deliveries?state=queued",
        "/v1/deliveries?state=exhausted&limit=5",
        "/v1/events?limit=50",
        "/metrics",
    ] {
        ask(&admin, path).await;
    }
    ask(&admin, &format!("/v1/deliveries?subscription={failing}&limit=5")).await;
    // A crash, and what is recovered after it.
    receiver.behave("/ok", Behaviour::Hold);
    run("insert into orders select i, 'c' from generate_series(5001, 5100) i".to_owned()).await;
    admin.daemon.kill9().await;
    receiver.behave("/ok", Behaviour::Ok);
    let admin = Admin::start(&world.database, &arguments).await;
    receiver.wait_for("/ok/paused", 3_140, PATIENCE).await;
    run(format!(
        "select webhook_unsubscribe({failing}); select webhook_resume({paused}, skip_backlog => true)"
    ))
    .await;
    run("insert into orders values (9000, 'c')".to_owned()).await;
    receiver.wait_for("/ok/paused", 3_141, PATIENCE).await;
    assert!(admin.daemon.sigterm(PATIENCE).await.success());
}

/// Requests a page. Postgres logs the plans of all nested statements meanwhile. So a request may
/// exceed its time limit on a busy machine. It is repeated then. Every other failure counts.
async fn ask(admin: &Admin, path: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = admin.ask("GET", path, None, &[], None).await;
        let is_late = answer.status == 503 && answer.text.contains("the request took too long");
        if !is_late || Instant::now() > deadline {
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            return;
        }
    }
}

/// The plans that the server has logged for the daemon. A long plan that another process's line has
/// cut apart is left out; each statement is executed often.
fn plans(log: &[String]) -> Vec<Value> {
    let mut plans: Vec<Value> = Vec::new();
    let mut lines = log.iter().peekable();
    while let Some(line) = lines.next() {
        let Some((name, message)) = line.split_once('|') else { continue };
        if !name.starts_with("webhookd") || !message.contains("duration:") || !message.contains("plan:") {
            continue;
        }
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
            text.push_str(&line[1..]);
            text.push('\n');
        }
        plans.extend(serde_json::from_str(&text).ok());
    }
    plans
}

fn is_large(relation: &str) -> bool {
    let is_slot = |prefix| relation.strip_prefix(prefix).is_some_and(|slot| slot.parse::<u8>().is_ok());
    relation == "queue" || is_slot("event_") || is_slot("attempt_")
}

/// Collects what is wrong with a node of a plan and those below it.
fn judge(node: &Value, relation: &str, wrong: &mut Vec<String>) {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let number = |name: &str| node[name].as_f64().unwrap_or_default();
    let kind = text("Node Type");
    let relation = match kind {
        "Bitmap Index Scan" => relation,
        _ => text("Relation Name"),
    };
    if kind.ends_with("Scan") && is_large(relation) && number("Actual Loops") > 0.0 {
        let is_by_index = ["Index Scan", "Index Only Scan", "Bitmap Index Scan"].contains(&kind);
        if kind == "Seq Scan" {
            wrong.push(format!("Seq Scan of {relation}"));
        }
        if is_by_index && !node["Index Cond"].is_string() && number("Actual Rows") > IN_VAIN_MAX {
            wrong.push(format!("{} of all {relation} ({} rows)", text("Index Name"), number("Actual Rows")));
        }
        let in_vain = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
        if in_vain > IN_VAIN_MAX {
            let (index, condition, filter) = (text("Index Name"), text("Index Cond"), text("Filter"));
            wrong.push(format!(
                "{kind} {index} of {relation}: {in_vain} rows in vain ({condition}; {filter})"
            ));
        }
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        judge(child, relation, wrong);
    }
}

async fn no_plan_reads_too_much(statistics: Statistics) {
    let world = World::with(Keep::Ids, &SETTINGS).await;
    falsify(&world, statistics).await;
    work(&world).await;
    let plans = plans(&world.cluster.log());
    let texts: BTreeSet<&str> = plans.iter().filter_map(|plan| plan["Query Text"].as_str()).collect();
    println!("{} plans of {} statements", plans.len(), texts.len());
    assert!(texts.len() > 60, "{} statements", texts.len());
    for part in [
        "insert into webhook.queue",
        "delete from webhook.queue",
        "remove_queued",
        "webhook.filter_matches",
        "order by q.order_key",
    ] {
        assert!(texts.iter().any(|text| text.contains(part)), "no statement with {part}");
    }
    let mut found = BTreeSet::new();
    for plan in &plans {
        let query = plan["Query Text"].as_str().unwrap_or_default();
        if WHOLE_TABLES.iter().any(|(part, _)| query.contains(part)) {
            continue;
        }
        let mut wrong = Vec::new();
        judge(&plan["Plan"], "", &mut wrong);
        found.extend(wrong.into_iter().map(|what| format!("{what}\n{query}")));
    }
    assert!(
        found.is_empty(),
        "{statistics:?}: {}\n{}",
        found.len(),
        found.iter().cloned().collect::<Vec<_>>().join("\n\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_analyze_of_empty_tables() {
    no_plan_reads_too_much(Statistics::Empty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_tables_that_are_said_to_be_huge() {
    no_plan_reads_too_much(Statistics::Huge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_an_analyze_of_one_value() {
    no_plan_reads_too_much(Statistics::OneValue).await;
}
