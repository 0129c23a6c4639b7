//! Promise: the Standard Webhooks libraries of other languages accept what is sent, and reject it when it is tampered
//! with. `tests/foreign/setup.sh` installs them; requests are recorded from a real daemon.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    foreign::Language,
    receiver::{Received, SECRET},
    world::World,
};
use serde_json::{Value, json};

fn request(received: &Received, secret: &str) -> Value {
    let headers: serde_json::Map<_, _> = received
        .headers
        .iter()
        .filter(|(name, _)| name.to_lowercase().starts_with("webhook-"))
        .map(|(name, value)| (name.to_lowercase(), value.clone().into()))
        .collect();
    json!({ "secret": secret, "headers": headers, "body": String::from_utf8_lossy(&received.body) })
}

/// Every way in which a request may be forged: each must be noticed.
fn tampered(original: &Value) -> Vec<(&'static str, Value)> {
    let with = |what: &dyn Fn(&mut Value)| {
        let mut copy = original.clone();
        what(&mut copy);
        copy
    };
    let body = original["body"].as_str().expect("a body");
    let signature = original["headers"]["webhook-signature"].as_str().expect("a signature");
    let timestamp: i64 =
        original["headers"]["webhook-timestamp"].as_str().and_then(|t| t.parse().ok()).expect("a timestamp");
    vec![
        ("a byte more", with(&|r| r["body"] = format!("{body} ").into())),
        ("another value", with(&|r| r["body"] = body.replacen("\"sequence\":", "\"sequence\":1", 1).into())),
        ("another id", with(&|r| r["headers"]["webhook-id"] = "evt_00000000000001".into())),
        ("another second", with(&|r| r["headers"]["webhook-timestamp"] = (timestamp + 1).to_string().into())),
        (
            "an old timestamp",
            with(&|r| r["headers"]["webhook-timestamp"] = (timestamp - 3600).to_string().into()),
        ),
        (
            "a cut signature",
            with(&|r| r["headers"]["webhook-signature"] = signature[..signature.len() - 4].into()),
        ),
        (
            "another secret",
            with(&|r| r["secret"] = "whsec_AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into()),
        ),
        ("no signature", with(&|r| r["headers"]["webhook-signature"] = "".into())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_javascript() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 5).await;
    world
        .database
        .run(
            "insert into orders values (6, 'Zoë 🚀 \"quoted\" \\ back', 12345678901234567890.123456789, E'tab\\tline\\nend');
             update orders set note = 'ünïcödé \u{2028}' where id = 1;
             delete from orders where id = 2;
             select webhook_emit('cafe.opened', '{\"n\": 1e400, \"a\": [1.0, -0]}')",
        )
        .await;
    world.receiver.wait_for("/ok", 9, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for received in world.receiver.at("/ok") {
        let original = request(&received, SECRET);
        for (forgery, forged) in tampered(&original) {
            requests.push(forged);
            expected.push((forgery, false));
        }
        requests.push(original);
        expected.push(("the original", true));
    }
    for language in Language::ALL {
        let verdicts = language.judge("verify", &requests);
        for ((what, accept), (verdict, request)) in expected.iter().zip(verdicts.iter().zip(&requests)) {
            assert_eq!(verdict == "accepted", *accept, "{language:?}: {what}: {verdict}: {request}");
        }
        println!("{language:?}: {} verdicts as they should be", verdicts.len());
    }
}
