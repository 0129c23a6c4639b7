//! Promise: parameters that a DBA sets for a database or for the daemon's role do not change the
//! deliveries.

use e2e::{PATIENCE, cluster::describe, daemon::Daemon, parameters::extremes, world::World};
use serde_json::json;

/// Set for the daemon's role alone: with them, these tests' own application would not get far.
const LIMITS: [&str; 12] = [
    "default_tablespace",
    "session_replication_role",
    "statement_timeout",
    "lock_timeout",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "restrict_nonsystem_relation_kind",
    "search_path",
    "exit_on_error",
];

/// Sets them for the role, and for the database too if an application can bear that. Returns how
/// many were accepted.
async fn set(world: &World, settings: &[(String, String)]) -> usize {
    let mut accepted = 0;
    for (name, value) in settings {
        let literal =
            if name == "search_path" || name == "DateStyle" { value.clone() } else { format!("'{value}'") };
        let of_role = format!("alter role webhookd set {name} = {literal}");
        match world.app.batch_execute(&of_role).await {
            Ok(()) => accepted += 1,
            // The value excludes another one, or this build does not support it.
            Err(error) => {
                println!("{of_role}: {}", describe(&error));
                continue;
            }
        }
        if !LIMITS.contains(&name.as_str()) {
            let of_database = format!("alter database app set {name} = {literal}");
            world
                .app
                .batch_execute(&of_database)
                .await
                .unwrap_or_else(|e| panic!("{of_database}: {}", describe(&e)));
        }
    }
    accepted
}

async fn deliveries_go_on(is_least: bool) {
    let mut world = World::new().await;
    world
        .database
        .run(
            "create role webhookd login; select webhook_grant('webhookd', 'dispatcher');
             create schema evil;
             create function evil.equal(text, text) returns boolean language plpgsql as $$ begin raise 'evil'; end $$;
             create operator evil.= (leftarg = text, rightarg = text, procedure = evil.equal)",
        )
        .await;
    let settings = extremes(&world.app, is_least).await;
    assert!(set(&world, &settings).await > 120, "{} settings", settings.len());
    // New sessions get the settings.
    world.app = world.database.client().await;
    world
        .app
        .batch_execute(
            "create table sale (id int primary key, at timestamptz, data bytea, share float8);
             select webhook_watch('sale', noun => 'sale', exclude => '{share}', condition => 'new.id > 0',
                                  verbs => jsonb_build_object('insert', 'created'));
             create table part (id int, at date, primary key (id, at)) partition by range (at);
             create table part_1 partition of part for values from ('2020-01-01') to ('2021-01-01');
             select webhook_watch('part', noun => 'part')",
        )
        .await
        .unwrap_or_else(|e| panic!("{}", describe(&e)));
    let ok = world.subscribe("/ok").await;
    let failing = world.subscribe_with("/status/500/x", "retry => '{100ms}', events => '{part.*}'").await;
    world.subscribe_with("/ok/filtered", "filter => '$.data.id > 50', events => '{sale.*}'").await;

    let daemon = Daemon::spawn_with(&world.database.url_as("webhookd"), &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(&world.database).await;
    world
        .app
        .batch_execute(
            "insert into sale select i, '2026-01-02 03:04:05+00', decode('00ff', 'hex'), i / 3.0 from generate_series(1, 100) i;
             insert into part values (1, '2020-02-03'); update part set id = 2; delete from part",
        )
        .await
        .unwrap_or_else(|e| panic!("{}", describe(&e)));
    world.insert_orders(1, 100).await;
    world.receiver.wait_for("/ok", 204, PATIENCE).await;
    world.receiver.wait_for("/ok/filtered", 50, PATIENCE).await;
    let gave_up = "select count(*) = 4 from webhook.delivery where state = 'exhausted'";
    world.database.until(gave_up, PATIENCE).await;

    // A change of a subscription reaches the daemon, and so does a replay.
    let altered = format!(
        "select webhook_pause({ok}, 'a test'); select webhook_resume({ok});
         select webhook_alter({failing}, url => '{}');
         select webhook_replay({failing}, now() - interval '1 hour')",
        world.receiver.url("/ok/altered")
    );
    world.app.batch_execute(&altered).await.unwrap_or_else(|e| panic!("{}", describe(&e)));
    world.insert_orders(101, 10).await;
    world.receiver.wait_for("/ok", 214, PATIENCE).await;
    world.receiver.wait_for("/ok/altered", 4, PATIENCE).await;
    let check = "select coalesce(string_agg(problem || ': ' || detail, e'\n'), '') from webhook_check()";
    assert_eq!(world.database.text(check).await.as_deref(), Some(""));
    world.receiver.look(|record| {
        let sales = record.at("/ok").filter(|request| request.json()["type"] == "sale.created");
        let data: Vec<serde_json::Value> = sales.map(|request| request.json()["data"].clone()).collect();
        assert_eq!(data.len(), 100);
        let first = data.iter().find(|data| data["id"] == 1).expect("the first sale");
        assert_eq!(*first, json!({"id": 1, "at": "2026-01-02T03:04:05+00:00", "data": "\\x00ff"}));
    });
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_least_of_every_parameter() {
    deliveries_go_on(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_greatest_of_every_parameter() {
    deliveries_go_on(false).await;
}
