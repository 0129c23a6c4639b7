//! Promise: the documentation of an event is true. Every row that a watched table accepts has a
//! payload that matches its schema, and the documents are valid OpenAPI and AsyncAPI.
//! `tests/foreign/setup.sh` installs the judges.

mod random_table;

use e2e::{
    cluster::{Cluster, Database},
    foreign::Language,
};
use rand::{SeedableRng as _, rngs::StdRng};
use random_table::{TYPES, Table};
use serde_json::{Value, json, value::RawValue};
use std::sync::Arc;
use tokio_postgres::Client;

async fn text(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}")).get(0)
}

/// Returns each payload with its schema, as a line for the judge. Numbers keep their spelling.
async fn cases(client: &Client, like: &str) -> Vec<(String, Box<RawValue>)> {
    let query = "with schema as materialized (
                     select t.type, webhook_event_schema(t.type)::text as data, webhook.previous_schema(t.type)::text as previous
                     from webhook.event_type t where t.type like $1)
                 select e.type, format('{\"schema\":%s,\"instance\":%s}', s.data, e.payload) from webhook.event e join schema s using (type)
                 union all
                 select e.type, format('{\"schema\":%s,\"instance\":%s}', s.previous, e.previous) from webhook.event e join schema s using (type)
                 where e.previous is not null";
    let rows = client.query(query, &[&like]).await.unwrap();
    rows.iter().map(|row| (row.get(0), RawValue::from_string(row.get(1)).unwrap())).collect()
}

fn judge(cases: &[Box<RawValue>]) -> Vec<String> {
    Language::Python.judge_raw("validate", cases)
}

async fn database(cluster: &Arc<Cluster>, name: &str) -> (Database, Client) {
    let database = cluster.database(name).await;
    let client = database.client().await;
    (database, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_table_accepts_is_valid() {
    let seed: u64 = std::env::var("PGW_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("PGW_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let cluster = Cluster::start().await;
    let (_database, client) = database(&cluster, "app").await;
    client.batch_execute(TYPES).await.unwrap();
    client
        .batch_execute("set webhook.payload_bytes_max = 1024; set time zone 'Europe/Vienna'")
        .await
        .unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for number in 0..40 {
        let table = Table::random(number, &mut random);
        client.batch_execute(&table.create).await.unwrap_or_else(|e| panic!("{}: {e:?}", table.create));
        // With a key, a change of the id deletes one row and creates another; without one it is an
        // update.
        let key = if number % 2 == 0 { ", key_columns => '{}'" } else { "" };
        client.execute(&format!("select webhook_watch('{}'{key})", table.name), &[]).await.unwrap();
        for insert in &table.inserts {
            match client.batch_execute(insert).await {
                Ok(()) => accepted += 1,
                Err(error) => {
                    let code = error.code().unwrap_or_else(|| panic!("{insert}: {error:?}")).code();
                    // Not null, check, and a failed cast within a check: every code of class 22 is
                    // about a value.
                    assert!(
                        ["23502", "23514", "0A000"].contains(&code) || code.starts_with("22"),
                        "{}\n{insert}: {error:?}",
                        table.create
                    );
                    refused += 1;
                }
            }
        }
        client
            .batch_execute(&format!(
                "update {} set id = -id; delete from {0} where id < -20; truncate {0}",
                table.name
            ))
            .await
            .unwrap();
    }
    assert!(accepted > 200 && refused > 50, "{accepted} accepted, {refused} refused");
    let (types, requests): (Vec<_>, Vec<_>) = cases(&client, "t%").await.into_iter().unzip();
    assert!(types.len() > 2 * accepted, "updates and deletes too: {} of {accepted} rows", types.len());
    for ((answer, request), event_type) in judge(&requests).iter().zip(&requests).zip(&types) {
        assert_eq!(answer, "valid", "{event_type}, PGW_SEED={seed}: {request}");
    }
    // Each documented example is valid itself.
    let examples = client
        .query("select t.type, format('{\"schema\":%s,\"instance\":%s}', webhook_event_schema(t.type), webhook_event_example(t.type)) from webhook.event_type t", &[])
        .await
        .unwrap();
    let requests: Vec<_> = examples.iter().map(|row| RawValue::from_string(row.get(1)).unwrap()).collect();
    for (answer, request) in judge(&requests).iter().zip(&requests) {
        assert_eq!(answer, "valid", "PGW_SEED={seed}: {request}");
    }
}

/// A schema that accepts everything would be worth little.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_table_refuses_is_not() {
    let cluster = Cluster::start().await;
    let (_database, client) = database(&cluster, "app").await;
    client.batch_execute(TYPES).await.unwrap();
    client
        .batch_execute(
            "create table thing (id int primary key, state text not null check (state in ('new', 'paid')), total numeric(8,2) check (total > 0),
                 word word, mood mood, tags text[], place address, day date not null, at time, no uuid, note varchar(3));
             select webhook_watch('thing')",
        )
        .await
        .unwrap();
    let schema: Value =
        serde_json::from_str(&text(&client, "select webhook_event_schema('thing.created')::text").await)
            .unwrap();
    let row = json!({"id": 1, "state": "new", "total": 1.50, "word": "ab", "mood": "sad", "tags": ["a"], "day": "2026-11-22", "at": "10:00:00",
        "place": {"street": null, "number": 1, "since": null, "spread": null, "mood": null}, "no": null, "note": "abc"});
    let with = |name: &str, value: Value| {
        let mut row = row.clone();
        row[name] = value;
        json!({"schema": schema, "instance": row})
    };
    let mut requests = vec![with("id", json!(1))];
    for (name, values) in [
        ("id", json!([null, 0.5, "1", 2147483648_i64])),
        ("state", json!([null, "open", 1])),
        ("total", json!([0, -1, 1_000_000, "Infinity", "1"])),
        ("word", json!(["a", "abcdefghi", 1])),
        ("mood", json!(["glad"])),
        ("tags", json!(["a", [1], {}])),
        ("place", json!([{}, [], {"street": 1, "number": 1, "since": null, "spread": null, "mood": null}])),
        ("day", json!([null, "22.11.2026", "yesterday"])),
        ("at", json!(["10:00", "10"])),
        ("no", json!(["1", 1])),
        ("note", json!(["abcd"])),
    ] {
        requests.extend(values.as_array().unwrap().iter().map(|value| with(name, value.clone())));
    }
    requests.push(json!({"schema": schema, "instance": {"id": 1, "state": "new"}}));
    requests.push(json!({"schema": schema, "instance": []}));
    let requests: Vec<_> = requests.iter().map(|r| RawValue::from_string(r.to_string()).unwrap()).collect();
    let answers = judge(&requests);
    assert_eq!(answers[0], "valid");
    for (answer, request) in answers.iter().zip(&requests).skip(1) {
        assert!(
            answer.starts_with("rejected: "),
            "{answer}: {}",
            serde_json::from_str::<Value>(request.get()).unwrap()["instance"]
        );
    }
}

/// Names, comments and descriptions that could break a document.
const AWKWARD: &str = r#"
    create schema "Sch ""ema";
    create table "Sch ""ema"."Größe \ ""x"", 🚀" ("a ""b"" \ {}" int primary key, "$ref" text, "ünï/~1" numeric check ("ünï/~1" > 0));
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_are_valid() {
    let cluster = Cluster::start().await;
    let (database, client) = database(&cluster, "app").await;
    client.batch_execute(TYPES).await.unwrap();
    client.batch_execute(AWKWARD).await.unwrap();
    client
        .batch_execute(
            r##"comment on table "Sch ""ema"."Größe \ ""x"", 🚀" is E'"quotes", \\ back\nslash, </script>, {"$ref": "#/x"}, 🚀';
             comment on column "Sch ""ema"."Größe \ ""x"", 🚀"."$ref" is E'a "column"\twith \u2028';
             select webhook_watch('"Sch ""ema"."Größe \ ""x"", 🚀"', noun => 'shop.size');
             create table event (id int primary key, mood mood, place address, tags text[]);
             select webhook_watch('event', verbs => '{"insert":"changed","update":"changed","truncate":"changed"}', exclude => '{tags}');
             create table shown (id int); create function shown_json(shown) returns jsonb language sql return to_jsonb($1.id);
             select webhook_watch('shown', payload => 'shown_json');
             insert into webhook.event_type (type, description) values ('invoice.paid', E'by "hand"\n🚀');
             insert into webhook.event_type (type, data_schema, example) values ('invoice.due', '{"type":"object","required":["no"]}', '{"no":"2026-17"}');
             create role clerk; select webhook_grant('clerk', 'reader')"##,
        )
        .await
        .unwrap();
    client.batch_execute("set role clerk").await.unwrap();
    let openapi = text(&client, "select webhook_openapi()::text").await;
    let asyncapi = text(&client, "select webhook_asyncapi()::text").await;
    client.batch_execute("reset role").await.unwrap();

    let raw = |text: String| RawValue::from_string(text).unwrap();
    let mut broken: Value = serde_json::from_str(&openapi).unwrap();
    broken["webhooks"]["invoice.paid"]["post"]["responses"] = json!({"never": {}});
    let mut broken_too: Value = serde_json::from_str(&asyncapi).unwrap();
    broken_too["operations"]["sendEvent"]["action"] = json!("shout");
    let answers = judge(&[
        raw(format!("{{\"openapi\":{openapi}}}")),
        raw(format!("{{\"asyncapi\":{asyncapi}}}")),
        raw(format!("{{\"openapi\":{broken}}}")),
        raw(format!("{{\"asyncapi\":{broken_too}}}")),
    ]);
    assert_eq!(answers[..2], ["valid", "valid"]);
    assert!(answers[2..].iter().all(|answer| answer.starts_with("rejected: ")), "{answers:?}");

    let openapi: Value = serde_json::from_str(&openapi).unwrap();
    let asyncapi: Value = serde_json::from_str(&asyncapi).unwrap();
    let names = [
        "event.changed",
        "invoice.due",
        "invoice.paid",
        "shop.size.created",
        "shop.size.deleted",
        "shop.size.truncated",
        "shop.size.updated",
        "shown.created",
        "shown.deleted",
        "shown.truncated",
        "shown.updated",
    ];
    for found in
        [&openapi["webhooks"], &openapi["components"]["schemas"], &asyncapi["components"]["messages"]]
    {
        assert_eq!(found.as_object().unwrap().keys().collect::<Vec<_>>(), names);
    }
    let created = &openapi["webhooks"]["shop.size.created"]["post"];
    assert!(
        created["description"]
            .as_str()
            .unwrap()
            .ends_with("\"quotes\", \\ back\nslash, </script>, {\"$ref\": \"#/x\"}, 🚀"),
        "{created}"
    );
    let data = &openapi["components"]["schemas"]["invoice.due"]["properties"]["data"];
    assert_eq!(data["required"], json!(["no"]));
    // The document makes no guess about a function's result.
    assert_eq!(openapi["components"]["schemas"]["shown.created"]["properties"]["data"], json!({}));
    // The version follows the described objects, and nothing else.
    client.batch_execute("reset role; create table other (id int)").await.unwrap();
    let version = || async { database.text("select webhook_openapi() #>> '{info,version}'").await };
    assert_eq!(version().await, openapi["info"]["version"].as_str().map(str::to_owned));
    client.batch_execute("alter table event add column later int").await.unwrap();
    assert_ne!(version().await, openapi["info"]["version"].as_str().map(str::to_owned));
}

/// Checks that the bodies of a real daemon match the documents.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_as_documented() {
    use e2e::{PATIENCE, daemon::Daemon, world::World};
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .database
        .run(
            "set webhook.actor = 'user:7'; insert into orders values (1, 'c', 'NaN', null); update orders set total = 2.50; delete from orders;
             truncate orders; insert into orders values (2, repeat('x', 300000), 1, null)",
        )
        .await;
    world.receiver.wait_for("/ok", 5, PATIENCE).await;
    let mut requests = Vec::new();
    for received in world.receiver.at("/ok") {
        let body = String::from_utf8(received.body.to_vec()).unwrap();
        let event_type = received.json()["type"].as_str().unwrap().to_owned();
        let schema = text(&world.app, &format!("select webhook.body_schema('{event_type}')::text")).await;
        requests.push(RawValue::from_string(format!("{{\"schema\":{schema},\"instance\":{body}}}")).unwrap());
    }
    assert!(requests.iter().any(|request| request.get().contains("\"truncated\":true,\"data\":{\"id\":2}")));
    for (answer, request) in judge(&requests).iter().zip(&requests) {
        assert_eq!(answer, "valid", "{request}");
    }
}
