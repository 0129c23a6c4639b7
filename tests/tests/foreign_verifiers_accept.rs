//! Promise: the Standard Webhooks libraries of other languages accept what is sent, and reject it when it is tampered
//! with. `tests/foreign/setup.sh` installs them; requests are recorded from a real daemon.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Received, SECRET},
    world::World,
};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

fn foreign() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let folder = target.join("foreign");
    assert!(folder.join("venv").exists() && folder.join("node").exists(), "run tests/foreign/setup.sh first");
    folder
}

/// Has a program judge requests; one word per request.
fn judge(mut program: Command, requests: &[Value]) -> Vec<String> {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut input = child.stdin.take().expect("stdin is piped");
    let text: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads everything");
    assert!(output.status.success(), "{program:?} ended with {}", output.status);
    String::from_utf8(output.stdout).expect("words").lines().map(str::to_owned).collect()
}

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
    let folder = foreign();
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
    let mut python = Command::new(folder.join("venv/bin/python"));
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/verify.py"));
    let mut node = Command::new("node");
    node.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/foreign/verify.cjs"));
    node.env("NODE_PATH", folder.join("node/node_modules"));
    for (language, program) in [("Python", python), ("JavaScript", node)] {
        let verdicts = judge(program, &requests);
        assert_eq!(verdicts.len(), requests.len(), "{language}: a verdict each");
        for ((what, accept), (verdict, request)) in expected.iter().zip(verdicts.iter().zip(&requests)) {
            assert_eq!(verdict == "accepted", *accept, "{language}: {what}: {verdict}: {request}");
        }
        println!("{language}: {} verdicts as they should be", verdicts.len());
    }
}
