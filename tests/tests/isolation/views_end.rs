//! Operators see the state of delivery while thousands of subscriptions match more events than the
//! daemon has reached. All pairs would be 40 million.

use e2e::{PATIENCE, admin::Admin, daemon::binary, world::World};
use serde_json::Value;
use std::process::Stdio;
use tokio::time::timeout;

const SUBSCRIPTIONS: i64 = 2_000;

/// Half of them have a filter that no event passes.
const MANY: &str = "
    insert into webhook.subscription (name, url, events, scope, filter)
    select 'many ' || i, 'http://127.0.0.1:9/' || i, '{*}', 'all', case when i % 2 = 0 then '$.data.id == -1'::jsonpath end
    from generate_series(1, 2000) i";

/// The checkpoint of a daemon that has ended.
const CHECKPOINT: &str = "
    insert into webhook.cursor (snapshot, system_identifier, database_oid)
    select pg_current_snapshot(), c.system_identifier, d.oid
    from pg_control_system() c, pg_database d where d.datname = current_database()";

const EVENTS: &str = "insert into orders select i, 'c' from generate_series(1, 20000) i";

/// Executes a command. Returns what it prints.
async fn webhookd(world: &World, arguments: &[&str]) -> String {
    let url = world.database.url();
    let command = tokio::process::Command::new(binary())
        .args(arguments)
        .args(["--database-url", &url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, command).await.expect("it ends").expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_large_backlog_can_be_read() {
    let world = World::new().await;
    world.app.batch_execute(MANY).await.expect("subscriptions");
    world.database.run(CHECKPOINT).await;
    world.app.batch_execute(EVENTS).await.expect("events");

    let said = webhookd(&world, &["status"]).await;
    let pending = said.lines().find(|line| line.starts_with("pending")).expect("a line");
    assert!(pending.contains("at least "), "{said}");
    let said: Value = serde_json::from_str(&webhookd(&world, &["status", "--json"]).await).expect("JSON");
    assert_eq!(said["health"]["pending_is_lower_bound"], Value::Bool(true));
    assert!(said["health"]["pending"].as_i64().is_some_and(|pending| pending > 0), "{}", said["health"]);
    assert_eq!(said["receivers"].as_array().map(Vec::len), usize::try_from(SUBSCRIPTIONS).ok());

    let listed = webhookd(&world, &["delivery", "list", "--limit", "30", "--json"]).await;
    assert_eq!(listed.lines().count(), 30, "{listed}");
}

/// Fifty for each subscription. These are paused, so the rows stay.
const QUEUE: &str = "
    update webhook.subscription set enabled = false;
    insert into webhook.queue (subscription_id, event_id, event_xid, event_slot, state)
    select s.id, e.id, e.xid, e.slot, 'backlog'
    from (select o.*, row_number() over (order by o.id) as place from webhook.event o where o.type = 'order.created') e
    cross join generate_series(0, 4) n
    join (select o.id, row_number() over (order by o.id) as place from webhook.subscription o) s
        on s.place = 1 + (e.place + n) % 2000";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sampled_beside_a_large_queue() {
    let world = World::new().await;
    world.app.batch_execute(MANY).await.expect("subscriptions");
    world.app.batch_execute(EVENTS).await.expect("events");
    world.app.batch_execute(QUEUE).await.expect("a queue");
    world.database.run(CHECKPOINT).await;
    Admin::roles(&world.database).await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    let first = world.database.number("select min(id) from webhook.subscription").await;
    admin.until("/metrics", 200, &format!("webhookd_backlog{{subscription=\"{first}\"}} 50\n")).await;
}
