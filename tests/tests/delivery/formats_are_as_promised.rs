//! Promise: each format follows its standard, is signed over the exact bytes that are sent, and is
//! the same on every retry.

use e2e::{PATIENCE, daemon::Daemon, receiver::Received, world::World};
use serde_json::Value;

/// Returns the content type without its parameters.
fn content_type(request: &Received) -> &str {
    let value = request.header("content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Returns the created and the updated event of one order, received on a path whose first attempts
/// failed.
async fn pair(world: &World, path: &str) -> [Received; 2] {
    world.receiver.wait("all attempts", PATIENCE, |record| record.at(path).count() == 4).await;
    let requests = world.receiver.at(path);
    let mut of: Vec<Received> = Vec::new();
    for request in requests {
        match of.iter().find(|known| known.id() == request.id()) {
            Some(known) => {
                assert_eq!(known.body, request.body, "{path}: every retry sends the same bytes");
                assert_eq!(content_type(known), content_type(&request));
            }
            None => of.push(request),
        }
    }
    let ids: Vec<_> = of.iter().map(|request| request.id().to_owned()).collect();
    let mut two: Vec<Received> = of;
    // Public ids sort by age.
    two.sort_by(|a, b| a.id().cmp(b.id()));
    two.try_into().unwrap_or_else(|_| panic!("{path}: two events, not {ids:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_five() {
    let world = World::new().await;
    let formats = ["standard", "cloudevents-structured", "cloudevents-binary", "form", "raw"];
    for format in formats {
        let arguments = format!("format => '{format}', events => '{{order.*}}', retry => '{{100ms}}'");
        world.subscribe_with(&format!("/flaky/1/{format}"), &arguments).await;
    }
    let _daemon = Daemon::start(&world.database).await;
    world.database.run("insert into orders values (1, 'Zoë 🚀', 12345678901234567890.10)").await;
    world.database.run("update orders set note = 'a&b=c +%' where id = 1").await;

    let [created, updated] = pair(&world, "/flaky/1/standard").await;
    let standard = [created.json(), updated.json()];
    assert_eq!(content_type(&created), "application/json");
    assert_eq!(standard[0]["type"], "order.created");
    assert_eq!(standard[1]["previous"], serde_json::json!({ "note": null }));
    assert!(
        String::from_utf8_lossy(&created.body).contains("12345678901234567890.10"),
        "numbers are as written"
    );

    let [_, structured] = pair(&world, "/flaky/1/cloudevents-structured").await;
    assert_eq!(content_type(&structured), "application/cloudevents+json");
    let event = structured.json();
    assert_eq!(event["specversion"], "1.0");
    for (member, want) in [("id", "id"), ("type", "type"), ("time", "timestamp")] {
        assert_eq!(event[member], standard[1][want], "{member}");
    }
    assert!(event["source"].as_str().is_some_and(|source| !source.is_empty()), "{event}");

    let [_, binary] = pair(&world, "/flaky/1/cloudevents-binary").await;
    assert_eq!(content_type(&binary), "application/json");
    assert_eq!(binary.header("ce-specversion"), Some("1.0"));
    assert_eq!(binary.header("ce-id"), standard[1]["id"].as_str());
    assert_eq!(binary.header("ce-type"), Some("order.updated"));
    assert_eq!(binary.header("ce-time"), standard[1]["timestamp"].as_str());
    assert_eq!(binary.header("ce-source"), event["source"].as_str());

    let [_, form] = pair(&world, "/flaky/1/form").await;
    assert_eq!(content_type(&form), "application/x-www-form-urlencoded");
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&form.body).into_owned().collect();
    let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(field("type"), Some("order.updated"), "{fields:?}");
    assert!(fields.iter().any(|(_, value)| value.contains("a&b=c +%")), "{fields:?}");
    assert!(fields.iter().any(|(_, value)| value.contains("Zoë 🚀")), "{fields:?}");

    let [_, raw] = pair(&world, "/flaky/1/raw").await;
    assert_eq!(raw.json(), standard[1]["data"], "the payload and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn thin_changed_and_headers_of_ones_own() {
    let world = World::new().await;
    world.subscribe_with("/ok/thin", "payload_mode => 'thin'").await;
    world.subscribe_with("/ok/changed", "payload_mode => 'changed'").await;
    world
        .subscribe_with("/ok/headers", r#"headers => '{"Authorization": "Bearer abc", "x-tenant": "7"}'"#)
        .await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.run("update orders set note = 'new', total = 7 where id = 1").await;
    for path in ["/ok/thin", "/ok/changed", "/ok/headers"] {
        world.receiver.wait_for(path, 2, PATIENCE).await;
    }
    let update = |path: &str| -> Received {
        let all = world.receiver.at(path);
        all.into_iter().find(|r| r.json()["type"] == "order.updated").expect("the update came")
    };
    let thin = update("/ok/thin").json();
    assert!(thin["previous"].is_null() && thin["data"].get("customer").is_none(), "{thin}");
    assert!(thin.to_string().contains("\"1\""), "which order it was about: {thin}");
    let changed = update("/ok/changed").json();
    assert_eq!(changed["data"]["note"], "new");
    assert_eq!(changed["data"]["total"], 7);
    assert!(changed["data"].get("customer").is_none(), "{changed}");
    let named = update("/ok/headers");
    assert_eq!((named.header("authorization"), named.header("x-tenant")), (Some("Bearer abc"), Some("7")));
    assert!(!daemon.process().log().iter().any(|line| line.contains("Bearer")), "not in the log");
    let _: Value = named.json();
}

/// Checks the bodies against the documentation of Supabase and Hasura, member by member.
#[tokio::test(flavor = "multi_thread")]
async fn those_of_others() {
    let world = World::new().await;
    for format in ["supabase", "hasura"] {
        let arguments = format!("format => '{format}', events => '{{order.*}}', retry => '{{100ms}}'");
        world.subscribe_with(&format!("/flaky/1/{format}"), &arguments).await;
    }
    let _daemon = Daemon::start(&world.database).await;
    world
        .database
        .run(
            "set webhook.actor = 'user:7';
             set webhook.traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
             insert into orders values (1, 'Zoë 🚀', 12345678901234567890.10)",
        )
        .await;
    world.database.run("update orders set note = 'new' where id = 1").await;
    let (before, after) = (
        serde_json::json!({ "id": 1, "customer": "Zoë 🚀", "total": 12345678901234567890.10, "note": null }),
        serde_json::json!({ "id": 1, "customer": "Zoë 🚀", "total": 12345678901234567890.10, "note": "new" }),
    );

    let [created, updated] = pair(&world, "/flaky/1/supabase").await;
    assert_eq!(
        created.json(),
        serde_json::json!({ "type": "INSERT", "table": "orders", "schema": "public", "record": before, "old_record": null })
    );
    assert_eq!(
        updated.json(),
        serde_json::json!({ "type": "UPDATE", "table": "orders", "schema": "public", "record": after, "old_record": before })
    );
    assert!(
        String::from_utf8_lossy(&updated.body).matches("12345678901234567890.10").count() == 2,
        "as written"
    );
    assert_eq!(updated.header("webhook-event-type"), Some("order.updated"));

    let [created, updated] = pair(&world, "/flaky/1/hasura").await;
    let mut body = created.json();
    let id = body["id"].take();
    let parts: Vec<usize> = id.as_str().expect("an id").split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
    assert_ne!(id, updated.json()["id"]);
    let at = body["created_at"].take();
    assert_eq!(
        body,
        serde_json::json!({
            "id": null, "created_at": null, "delivery_info": { "max_retries": 0, "current_retry": 0 },
            "trigger": { "name": "order" }, "table": { "schema": "public", "name": "orders" },
            "event": {
                "op": "INSERT", "data": { "old": null, "new": before },
                "session_variables": { "x-hasura-user-id": "user:7" },
                "trace_context": { "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331" },
            },
        })
    );
    let written = "select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') from webhook.event where type = 'order.created'";
    assert_eq!(at.as_str(), world.database.text(written).await.as_deref());
    let event = &updated.json()["event"];
    assert_eq!(
        (&event["op"], &event["data"]),
        (&serde_json::json!("UPDATE"), &serde_json::json!({ "old": before, "new": after }))
    );
    assert!(event["session_variables"].is_null() && event["trace_context"].is_null());
}
