//! Promise: the CloudEvents SDKs of other languages parse all three formats and find the same
//! content as the standard format has. `tests/foreign/setup.sh` installs them; the requests are
//! recorded from a real daemon.

use e2e::{PATIENCE, daemon::Daemon, foreign::Language, receiver::Received, world::World};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The changes: every kind of event, awkward texts, numbers beyond 2⁵³.
const EVENTS: &str = "
    insert into orders values (6, 'Zoë 🚀 \"quoted\" \\ back 100%', 12345678901234567890.123, E'tab\\tline\\nend');
    update orders set note = 'ünïcödé \u{2028}' where id = 6;
    set webhook.actor = 'user Ä 7%';
    delete from orders where id = 6;
    select webhook_emit('cafe.opened', '{\"n\": [1.0, 1e3, true, null]}', 'schlüssel 1');
    select webhook_emit('cafe.closed', '[]');
    create table \"Größe\" (id int primary key); select webhook_watch('\"Größe\"', noun => 'size');
    insert into \"Größe\" values (1)";
const COUNT: usize = 6;

fn request(received: &Received) -> Value {
    let headers: Map<String, Value> =
        received.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone().into())).collect();
    json!({ "headers": headers, "body": String::from_utf8_lossy(&received.body) })
}

/// Returns the event that an SDK should find, according to its standard body.
fn expected(standard: &Value, is_binary: bool) -> Map<String, Value> {
    let mut event = Map::new();
    let text = |name: &str| standard[name].as_str();
    event.insert("specversion".into(), json!("1.0"));
    event.insert("datacontenttype".into(), json!("application/json"));
    for (attribute, member) in
        [("id", "id"), ("type", "type"), ("table", "table"), ("actor", "actor"), ("data", "data")]
    {
        if let Some(value) = standard.get(member) {
            event.insert(attribute.into(), value.clone());
        }
    }
    let source = match text("table") {
        Some("public.orders") => "/app/public.orders",
        Some(_) => "/app/public.%22Gr%C3%B6%C3%9Fe%22",
        None => "/app",
    };
    event.insert("source".into(), json!(source));
    event.insert(
        "sequence".into(),
        json!(format!("{:019}", standard["sequence"].as_i64().unwrap_or_default())),
    );
    let subject = match text("type") {
        Some("cafe.opened") => Some("schlüssel 1"),
        Some("cafe.closed") => None,
        Some("size.created") => Some("1"),
        _ => Some("6"),
    };
    subject.map(|subject| event.insert("subject".into(), json!(subject)));
    if let Some(previous) = standard.get("previous").filter(|_| !is_binary) {
        event.insert("previous".into(), previous.clone());
    }
    event
}

/// Converts numbers to the type that these languages use.
fn as_float(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Array(items) => items.iter_mut().for_each(as_float),
        Value::Object(members) => members.values_mut().for_each(as_float),
        _ => {}
    }
}

/// Normalizes the members that SDKs treat differently: the time loses digits, and `previous` is
/// JSON within a text.
fn comparable(mut event: Map<String, Value>, standard: &Value) -> Map<String, Value> {
    let time = event.remove("time").expect("a time");
    let (time, whole) = (time.as_str().expect("a text"), standard["timestamp"].as_str().expect("a text"));
    assert_eq!(time[..23], whole[..23], "to the millisecond");
    if let Some(previous) = event.get_mut("previous") {
        *previous = serde_json::from_str(previous.as_str().expect("a text")).expect("JSON");
    }
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_javascript() {
    let world = World::new().await;
    world.subscribe("/ok/standard").await;
    world.subscribe_with("/ok/structured", "format => 'cloudevents-structured'").await;
    world.subscribe_with("/ok/binary", "format => 'cloudevents-binary'").await;
    let batched = "format => 'cloudevents-structured', batch_size => 4, batch_window => '1 s'";
    world.subscribe_with("/ok/batch", batched).await;
    let daemon = Daemon::start(&world.database).await;
    world.database.run(EVENTS).await;
    for path in ["/ok/standard", "/ok/structured", "/ok/binary"] {
        world.receiver.wait_for(path, COUNT, PATIENCE).await;
    }
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    let standards: HashMap<String, Value> =
        world.receiver.at("/ok/standard").iter().map(|r| (r.id().to_owned(), r.json())).collect();
    assert_eq!(standards.len(), COUNT);
    for path in ["/ok/structured", "/ok/binary", "/ok/batch"] {
        for language in Language::ALL {
            let requests: Vec<Value> = world.receiver.at(path).iter().map(request).collect();
            let mut parsed = 0;
            for (answer, request) in language.judge("parse_cloudevents", &requests).iter().zip(&requests) {
                let events: Vec<Map<String, Value>> = serde_json::from_str(answer)
                    .unwrap_or_else(|_| panic!("{language:?}, {path}: {answer}: {request}"));
                for event in events {
                    let standard = &standards[event["id"].as_str().expect("a text")];
                    let mut found = Value::Object(comparable(event, standard));
                    let mut wanted = Value::Object(expected(standard, path == "/ok/binary"));
                    as_float(&mut found);
                    as_float(&mut wanted);
                    assert_eq!(found, wanted, "{language:?}, {path}");
                    parsed += 1;
                }
            }
            assert_eq!(parsed, COUNT, "{language:?}, {path}");
            assert!(path != "/ok/batch" || requests.len() < COUNT, "some came together");
        }
    }
}

/// An SDK that accepts everything would prove nothing.
#[test]
fn what_is_no_cloudevent_is_rejected() {
    let structured = |body: Value| json!({ "headers": { "content-type": "application/cloudevents+json" }, "body": body.to_string() });
    let requests = [
        structured(json!({ "specversion": "1.0", "id": "a", "type": "b" })),
        structured(json!({ "specversion": "1.0", "id": "a", "type": "b", "source": "" })),
        json!({ "headers": { "content-type": "application/json", "ce-id": "a", "ce-specversion": "1.0" }, "body": "{}" }),
    ];
    for language in Language::ALL {
        for answer in language.judge("parse_cloudevents", &requests) {
            assert!(answer.starts_with("rejected: "), "{language:?}: {answer}");
        }
    }
}
