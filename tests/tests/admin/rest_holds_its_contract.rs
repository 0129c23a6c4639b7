//! Promise: the REST API does what its own document says, as judged by a foreign tool. A
//! subscription's whole life can run through it.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    receiver::SECRET,
    world::World,
};
use serde_json::{Value, json};
use std::{path::Path, process::Command};

/// A search may end for lack of time. It has a next page only if there is something left.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_search_ends_where_the_rows_end() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    let is_passed = "select not exists (select from webhook.beyond_checkpoint)
        and exists (select from webhook.delivery where state = 'delivered' and sequence > 1)";
    world.database.until(is_passed, PATIENCE).await;
    // The filter of the request takes longer than a search may.
    let slow = "create or replace function webhook.pattern_matches(events text[], type text) returns boolean
        language plpgsql immutable parallel safe as $$ begin
            if pattern_matches.type = 'order.created' then perform pg_sleep(1); end if;
            return pattern_matches.events = array[pattern_matches.type];
        end $$";
    world.database.run(slow).await;
    for path in ["/v1/events?type=order.created", "/v1/deliveries?type=order.created"] {
        let page = admin.ask("GET", path, None, &[], None).await;
        let page = page.json();
        assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{path}: {page}");
        assert_eq!(page["next"], Value::Null, "{path}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_lives_through_it() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.orders_belong_to("alice").await;
    let alice = token(&world.database, &["--role", "alice"]);
    let admin = Admin::start(&world.database, &[]).await;
    let (good, bad) = (world.receiver.url("/ok/rest"), world.receiver.url("/status/503"));

    // Repeated requests create one subscription.
    let body = json!({"url": bad, "events": ["order.*"], "name": "rest", "retry": ["PT1H"], "headers": {"X-Team": "a"}, "secret": SECRET}).to_string();
    let key = [("idempotency-key", "key-1")];
    let made = admin.ask("POST", "/v1/subscriptions", Some(&alice), &key, Some(&body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["secret"], SECRET, "it is shown once");
    let id = made.json()["id"].as_i64().expect("a number");
    let path = format!("/v1/subscriptions/{id}");
    assert_eq!(made.header("location"), path);
    let again = admin.ask("POST", "/v1/subscriptions", Some(&alice), &key, Some(&body)).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["id"].as_i64(), &again.json()["secret"]),
        (200, Some(id), &Value::Null)
    );
    let other = admin
        .ask("POST", "/v1/subscriptions", Some(&alice), &key, Some(r#"{"url":"https://a.example"}"#))
        .await;
    assert_eq!((other.status.as_u16(), other.json()["field"].as_str()), (422, Some("Idempotency-Key")));

    // The delivery fails and is listed as failing. A client that knows the current state repairs
    // the subscription and redelivers.
    world.insert_orders(1, 1).await;
    let retrying = format!(
        "select exists (select from webhook.delivery where subscription_id = {id} and state = 'retrying')"
    );
    world.database.until(&retrying, PATIENCE).await;
    let listed = admin
        .get(&format!("/v1/deliveries?subscription={id}&state=retrying&type=order.*&key=1"), &alice)
        .await
        .json();
    let delivery = &listed["items"][0];
    assert_eq!(
        (delivery["last_status"].as_i64(), delivery["attempts"].as_i64()),
        (Some(503), Some(1)),
        "{listed}"
    );
    let event = delivery["event_id"].as_str().expect("an id").to_owned();
    let attempts = admin.get(&format!("/v1/deliveries/{event}/{id}/attempts"), &alice).await.json();
    assert_eq!(attempts["items"][0]["outcome"], "http_error");
    let etag = admin.get(&path, &alice).await.header("etag").to_owned();
    let change = json!({"url": good, "name": null}).to_string();
    let stale = admin.ask("PATCH", &path, Some(&alice), &[("if-match", "\"0\"")], Some(&change)).await;
    assert_eq!(stale.status, 412);
    // RFC 9110, section 13.2.1: the errors of the request itself come first.
    let wrong = json!({"payload_mode": "none"}).to_string();
    let wrong = admin.ask("PATCH", &path, Some(&alice), &[("if-match", "\"0\"")], Some(&wrong)).await;
    assert_eq!(wrong.status, 422, "{wrong:?}");
    let changed = admin.ask("PATCH", &path, Some(&alice), &[("if-match", &etag)], Some(&change)).await;
    assert_eq!(
        (changed.status.as_u16(), &changed.json()["name"], &changed.json()["url"]),
        (200, &Value::Null, &json!(good))
    );
    let late = admin.ask("DELETE", &path, Some(&alice), &[("if-match", &etag)], None).await;
    assert_eq!(late.status, 412, "the state it is about is gone");
    assert_eq!(admin.post(&format!("/v1/deliveries/{event}/{id}/redeliver"), &alice, "{}").await.status, 202);
    world.receiver.wait_for("/ok/rest", 1, PATIENCE).await;

    // A pause keeps events and a resume sends them. A receiver can fetch the events that it missed.
    assert_eq!(
        admin.post(&format!("{path}/pause"), &alice, r#"{"reason":"night"}"#).await.json()["paused_reason"],
        "night"
    );
    world.insert_orders(2, 2).await;
    let pulled = admin.get(&format!("{path}/events?after={event}"), &alice).await.json();
    let keys: Vec<_> =
        pulled["items"].as_array().expect("events").iter().map(|event| event["data"]["id"].clone()).collect();
    assert_eq!(keys, [2, 3], "{pulled}");
    let nothing = admin
        .get(&format!("{path}/events?after={}", pulled["next"].as_str().expect("a place")), &alice)
        .await
        .json();
    assert_eq!((nothing["items"].as_array().map(Vec::len), &nothing["more"]), (Some(0), &json!(false)));
    assert_eq!(admin.post(&format!("{path}/resume"), &alice, "{}").await.json()["enabled"], true);
    world.receiver.wait_for("/ok/rest", 3, PATIENCE).await;
    let rotated = admin.post(&format!("{path}/rotate"), &alice, r#"{"overlap":"PT1H"}"#).await.json();
    assert!(rotated["secret"].as_str().is_some_and(|new| new.starts_with("whsec_") && new != SECRET));
    assert_eq!(admin.post(&format!("{path}/ping"), &alice, "{}").await.status, 202);
    world.receiver.wait_for("/ok/rest", 4, PATIENCE).await;
    let replayed = admin
        .post(&format!("{path}/replay"), &alice, r#"{"since":"-infinity","events":["order.created"]}"#)
        .await;
    assert_eq!((replayed.status.as_u16(), replayed.json()["events"].as_i64()), (202, Some(3)));
    let all = "select count(*) = 7 from webhook.attempt where outcome = 'succeeded'";
    world.database.until(all, PATIENCE).await;
    assert_eq!(admin.ask("DELETE", &path, Some(&alice), &[], None).await.status, 204);
    assert_eq!(admin.get(&path, &alice).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field_and_changes_nothing() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (alice, ops) =
        (token(&world.database, &["--role", "alice"]), token(&world.database, &["--role", "ops"]));
    let admin = Admin::start(&world.database, &[]).await;
    for (body, status, field) in [
        (r#"{"events":["*"]}"#, 422, Some("url")),
        (r#"{"url":"ftp://a"}"#, 422, Some("url")),
        (r#"{"url":7}"#, 422, Some("url")),
        (r#"{"url":"https://a","timeout":"yesterday"}"#, 422, Some("timeout")),
        (r#"{"url":"https://a","retry":["PT1S","x"]}"#, 422, Some("retry")),
        (r#"{"url":"https://a","retry":["PT1S",null]}"#, 422, Some("retry[1]")),
        (r#"{"url":"https://a","filter":"$."}"#, 422, Some("filter")),
        (r#"{"url":"https://a","batch_size":1001}"#, 422, Some("batch_size")),
        (r#"{"url":"https://a","headers":{"Host":"b"}}"#, 422, Some("headers")),
        (r#"{"url":"https://a","name":"\u0000"}"#, 422, Some("name")),
        (r#"{"url":"https://a","urls":null}"#, 422, Some("urls")),
        (r#"{"url":"https://a","owner":"bob"}"#, 403, Some("owner")),
        (r#"["url"]"#, 422, None),
        (r#"{"url":"#, 400, None),
    ] {
        let answer = admin.post("/v1/subscriptions", &alice, body).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["field"].as_str(), field, "{body}: {answer:?}");
    }
    // A malformed id is not found.
    for path in ["/v1/events/%FF", "/v1/events/x", "/v1/deliveries/%FF/1", "/v1/subscriptions/%FF"] {
        let answer = admin.get(path, &ops).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (404, "application/problem+json"),
            "{path}"
        );
    }
    let large = format!(r#"{{"url":"https://a","name":"{}"}}"#, "x".repeat(300_000));
    assert_eq!(admin.post("/v1/subscriptions", &alice, &large).await.status, 413);
    let form = [("content-type", "text/plain")];
    assert_eq!(admin.ask("POST", "/v1/subscriptions", Some(&alice), &form, Some("{}")).await.status, 415);
    for path in [
        "/v1/deliveries?limit=0",
        "/v1/deliveries?state=x",
        "/v1/deliveries?nope=1",
        "/v1/events?limit=1&limit=2",
    ] {
        assert_eq!(admin.get(path, &alice).await.status, 400, "{path}");
    }
    assert_eq!(admin.ask("PUT", "/v1/subscriptions", Some(&alice), &[], None).await.status, 405);
    assert_eq!(world.database.number("select count(*) from webhook.subscription").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_stable_while_rows_arrive() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    world.subscribe("/ok/1").await;
    world.subscribe("/ok/2").await;
    let admin = Admin::start(&world.database, &[]).await;
    world.insert_orders(1, 100).await;
    world.settled(PATIENCE).await;
    for (list, each, name) in
        [("/v1/deliveries?type=order.*", 2, "event_id"), ("/v1/events?type=order.*", 1, "id")]
    {
        let newest = world.database.number("select count(*) from orders").await;
        let (mut seen, mut cursor, mut first) = (Vec::new(), String::new(), 10_000 + newest);
        loop {
            let page = admin.get(&format!("{list}&limit=7{cursor}"), &ops).await.json();
            for item in page["items"].as_array().expect("items") {
                seen.push((
                    item[name].to_string(),
                    item["subscription_id"].to_string(),
                    item["key"].to_string(),
                ));
            }
            // Events that arrive between two pages belong before the first one.
            world.insert_orders(first, 3).await;
            first += 3;
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let count = usize::try_from(newest).expect("a count") * each;
        assert_eq!(seen.len(), count, "{list}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), count, "{list}: none twice");
    }
}

/// Returns the keys that a filter of deliveries matches, on all pages, oldest first.
async fn keys(admin: &Admin, token: &str, filter: &str) -> Vec<i64> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("/v1/deliveries?limit=7&{filter}{cursor}"), token).await.json();
        let items = page["items"].as_array().expect("items").iter();
        found.extend(items.map(|item| item["key"].as_str().and_then(|key| key.parse::<i64>().ok()).unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    found.reverse();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_found_by_its_time() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    let id = world.subscribe("/ok").await;
    world.database.run(&format!("select webhook_pause({id}, 'night')")).await;
    // One event per minute. All go into the present slot, which the daemon reads.
    let past = "insert into webhook.event (type, key, payload, slot, created_at)
        select 'order.created', n, '{}', webhook.ring_slot(now()), now() - (5000 - n) * interval '1 minute'
        from generate_series(1, 5000) n";
    world.database.run(past).await;
    let moment = async |key: i64| {
        let query = format!(
            "select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from webhook.event where key = '{key}'"
        );
        world.database.text(&query).await.expect("it is there")
    };
    let found = async |admin: &Admin| {
        let (since, until) = (moment(2000).await, moment(2010).await);
        let filter = format!("state=queued&since={since}&until={until}");
        assert_eq!(keys(admin, &ops, &filter).await, (2000..2010).collect::<Vec<_>>());
        let since = moment(4990).await;
        assert_eq!(keys(admin, &ops, &format!("since={since}")).await, (4990..=5000).collect::<Vec<_>>());
        let until = moment(4).await;
        assert_eq!(keys(admin, &ops, &format!("until={until}")).await, [1, 2, 3]);
    };
    let admin = Admin::start(&world.database, &[]).await;
    world.database.until("select count(*) = 5000 from webhook.queue", PATIENCE).await;
    found(&admin).await;
    // The same holds while the checkpoint is before them.
    world.database.run("delete from webhook.queue").await;
    let before = "update webhook.cursor set snapshot = (select format('%1$s:%1$s:', min(xid)) from webhook.event where type = 'order.created')::pg_snapshot";
    let pending = "select count(*) = 5000 from webhook.pending";
    world.database.run(before).await;
    assert!(world.database.becomes(pending, PATIENCE).await);
    let number = "select webhook.number_at((select created_at from webhook.event where key = '2000')) < min(id) + 2000 from webhook.event where type = 'order.created'";
    assert_eq!(world.database.text(number).await.as_deref(), Some("t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_true() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (ops, alice) =
        (token(&world.database, &["--role", "ops"]), token(&world.database, &["--role", "alice"]));
    let admin = Admin::start(&world.database, &[]).await;
    let document = admin.ask("GET", "/v1/openapi.json", None, &[], None).await.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let mut count = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let path = path
            .replace("{id}", "1")
            .replace("{event_id}", "evt_00000000000000001")
            .replace("{subscription_id}", "1");
        for method in methods.as_object().expect("methods").keys() {
            count += 1;
            let answer = admin.ask(&method.to_uppercase(), &path, None, &[], None).await;
            let want: &[u16] = if path.ends_with('z') { &[200, 503] } else { &[401] };
            assert!(want.contains(&answer.status.as_u16()), "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(count, 28, "a new route belongs into ROUTES of tenants_see_only_their_own.rs too");

    world.subscribe("/ok").await;
    world.insert_orders(1, 20).await;
    // The fuzzer rotates secrets, and the receiver does not get the new ones. Requests before and
    // after it are judged.
    world.receiver.wait_for("/ok", 20, e2e::PATIENCE).await;
    world.receiver.trust();
    for token in [&ops, &alice] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/schemathesis.sh");
        let seconds = e2e::scale("PGW_SCHEMATHESIS_SECONDS", "30".to_owned(), "120".to_owned());
        let (url, token) = (admin.url.clone(), token.clone());
        let output =
            tokio::task::spawn_blocking(move || Command::new(script).args([&url, &token, &seconds]).output())
                .await
                .expect("no panic")
                .expect("it runs");
        assert!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // After everything that the fuzzer has done, a new subscription gets signed events.
    let after = e2e::receiver::Receiver::start().await;
    world.subscribe_url(&after.url("/ok"), "").await;
    world.insert_orders(101, 5).await;
    after.wait_for("/ok", 5, e2e::PATIENCE).await;
    let panics: Vec<_> = admin
        .daemon
        .process()
        .log()
        .into_iter()
        .filter(|line| line.contains("ERROR") || line.contains("panicked"))
        .collect();
    assert_eq!(panics, Vec::<String>::new());
}
