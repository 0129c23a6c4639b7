//! Promise: parameters that a DBA sets for a database or for the daemon's role do not change the
//! deliveries.

use e2e::{PATIENCE, cluster::describe, daemon::Daemon, world::World};
use serde_json::json;

/// Parameters that stop or slow down any client, or that only take effect at a restart.
const NOT_SWEPT: [&str; 13] = [
    "allow_in_place_tablespaces", // for superusers' tests of Postgres
    "allow_system_table_mods",
    "client_encoding", // every driver sets it
    "debug_discard_caches",
    "dynamic_library_path",
    "extension_control_path",
    "local_preload_libraries",
    "max_stack_depth",
    "post_auth_delay",
    "session_preload_libraries",
    "temp_file_limit",
    "trace_recovery_messages",
    "wal_consistency_checking",
];

/// Strings that mean something to a statement.
const STRINGS: [(&str, &str); 9] = [
    ("search_path", "evil"),
    ("DateStyle", "German, DMY"),
    ("TimeZone", "Asia/Kolkata"),
    ("timezone_abbreviations", "India"),
    ("default_text_search_config", "pg_catalog.german"),
    ("lc_messages", "C"),
    ("application_name", "webhookd"),
    ("temp_tablespaces", "pg_default"),
    ("default_tablespace", "pg_default"),
];

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

/// Returns an extreme of each parameter: the other boolean, the first or last other value of an
/// enumeration, the lowest or highest number.
async fn extremes(world: &World, is_least: bool) -> Vec<(String, String)> {
    let rows = world
        .app
        .query(
            "select name, case vartype
                 when 'bool' then case boot_val when 'on' then 'off' else 'on' end
                 when 'enum' then (select v from unnest(enumvals) with ordinality as e (v, n) where v <> boot_val
                                   order by case when $1 then n else -n end limit 1)
                 when 'string' then null
                 else case when name like 'idle%timeout' then '5000' when name like '%timeout' then '500' when $1 then min_val else max_val end end
             from pg_settings where context in ('user', 'superuser')
               -- 2 TiB for a hash table fail in Postgres itself.
               and ($1 or category <> 'Resource Usage / Memory') and name <> all ($2)
               and name !~ '^(webhook[.]|log_|debug_print|debug_pretty|trace_)' order by name",
            &[&is_least, &&NOT_SWEPT[..]],
        )
        .await
        .expect("pg_settings can be read");
    let extreme = |row: &tokio_postgres::Row| -> Option<(String, String)> {
        let name: String = row.get(0);
        let string = STRINGS.iter().find(|(string, _)| *string == name).map(|(_, value)| (*value).to_owned());
        Some((name, row.get::<_, Option<String>>(1).or(string)?))
    };
    rows.iter().filter_map(extreme).collect()
}

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
    let settings = extremes(&world, is_least).await;
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
    let check = "select count(*) from webhook_check()";
    assert_eq!(world.database.number(check).await, 0);
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
