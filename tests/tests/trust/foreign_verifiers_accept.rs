//! Promise: the Standard Webhooks libraries of other languages accept our requests, and reject
//! tampered ones. `tests/foreign/setup.sh` installs them; the requests are recorded from a real
//! daemon.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    foreign::Language,
    receiver::{Received, SECRET},
    world::World,
};
use serde_json::{Value, json};

const PAIR: &str =
    "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA==";
const PUBLIC: &str = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";

/// A signature profile and its headers for id, timestamp and signature. `None` means that the
/// profile has no such header.
struct Profile {
    name: &'static str,
    id: Option<&'static str>,
    timestamp: Option<&'static str>,
    signature: &'static str,
}

const PROFILES: [Profile; 5] = [
    Profile {
        name: "standard",
        id: Some("webhook-id"),
        timestamp: Some("webhook-timestamp"),
        signature: "webhook-signature",
    },
    Profile {
        name: "standard-v1a",
        id: Some("webhook-id"),
        timestamp: Some("webhook-timestamp"),
        signature: "webhook-signature",
    },
    Profile {
        name: "svix",
        id: Some("svix-id"),
        timestamp: Some("svix-timestamp"),
        signature: "svix-signature",
    },
    Profile { name: "github", id: None, timestamp: None, signature: "x-hub-signature-256" },
    Profile { name: "stripe", id: None, timestamp: None, signature: "stripe-signature" },
];

fn request(profile: &Profile, received: &Received, secret: &str) -> Value {
    let headers: serde_json::Map<_, _> =
        received.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone().into())).collect();
    let body = String::from_utf8_lossy(&received.body);
    json!({ "profile": profile.name, "secret": secret, "headers": headers, "body": body })
}

/// Returns every forgery of a request. The judges must notice each of them.
fn tampered(profile: &Profile, original: &Value) -> Vec<(&'static str, Value)> {
    let with = |what: &dyn Fn(&mut Value)| {
        let mut copy = original.clone();
        what(&mut copy);
        copy
    };
    let body = original["body"].as_str().expect("a body");
    let signature = original["headers"][profile.signature].as_str().expect("a signature");
    let other_secret = match profile.name {
        "standard-v1a" => "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        _ => "whsec_AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    };
    // Only the last token is forged: among several tokens, one valid token is enough.
    let last = signature.rsplit(' ').next().expect("a token");
    let mut forged = vec![
        ("a byte more", with(&|r| r["body"] = format!("{body} ").into())),
        ("another value", with(&|r| r["body"] = body.replacen("\"sequence\":", "\"sequence\":1", 1).into())),
        ("a cut signature", with(&|r| r["headers"][profile.signature] = last[..last.len() - 4].into())),
        ("another secret", with(&|r| r["secret"] = other_secret.into())),
        ("no signature", with(&|r| r["headers"][profile.signature] = "".into())),
    ];
    if let Some(id) = profile.id {
        forged.push(("another id", with(&|r| r["headers"][id] = "evt_00000000000001".into())));
    }
    if let Some(name) = profile.timestamp {
        let header = original["headers"][name].as_str();
        let timestamp: i64 = header.and_then(|t| t.parse().ok()).expect("a timestamp");
        let at = |seconds: i64| with(&|r| r["headers"][name] = seconds.to_string().into());
        forged.push(("another second", at(timestamp + 1)));
        forged.push(("an old timestamp", at(timestamp - 3600)));
    }
    if let Some(rest) = signature.strip_prefix("t=") {
        let (timestamp, rest) = rest.split_once(',').expect("t=…,v1=…");
        let timestamp: i64 = timestamp.parse().expect("a timestamp");
        let at =
            |seconds: i64| with(&|r| r["headers"][profile.signature] = format!("t={seconds},{rest}").into());
        forged.push(("another second", at(timestamp + 1)));
        forged.push(("an old timestamp", at(timestamp - 3600)));
    }
    forged
}

/// Checks that both languages return the expected verdict for each request.
fn judge(requests: &[Value], expected: &[(String, bool)]) {
    for language in Language::ALL {
        let verdicts = language.judge("verify", requests);
        for ((what, accept), (verdict, request)) in expected.iter().zip(verdicts.iter().zip(requests)) {
            assert_eq!(verdict == "accepted", *accept, "{language:?}: {what}: {verdict}: {request}");
        }
        println!("{language:?}: {} verdicts as they should be", verdicts.len());
    }
}

/// Creates a subscription with every profile at once, and with each kind of key.
async fn subscribe(world: &World) -> i64 {
    let id = world.subscribe("/ok").await;
    let profiles: Vec<_> = PROFILES.iter().map(|profile| profile.name).collect();
    let alter =
        format!("select webhook_alter({id}, signature => '{{{}}}', secret => '{PAIR}')", profiles.join(","));
    world.database.run(&alter).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_javascript() {
    let world = World::new().await;
    subscribe(&world).await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 2).await;
    world
        .database
        .run(
            "insert into orders values (6, 'Zoë 🚀 \"quoted\" \\ back', 12345678901234567890.123456789, E'tab\\tline\\nend');
             update orders set note = 'ünïcödé \u{2028}' where id = 1;
             delete from orders where id = 2;
             select webhook_emit('cafe.opened', '{\"n\": 1e400, \"a\": [1.0, -0]}')",
        )
        .await;
    world.receiver.wait_for("/ok", 6, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for received in world.receiver.at("/ok") {
        for profile in &PROFILES {
            let secret = if profile.name == "standard-v1a" { PUBLIC } else { SECRET };
            let original = request(profile, &received, secret);
            for (forgery, forged) in tampered(profile, &original) {
                requests.push(forged);
                expected.push((format!("{}: {forgery}", profile.name), false));
            }
            requests.push(original);
            expected.push((format!("{}: the original", profile.name), true));
        }
    }
    judge(&requests, &expected);
}

/// During a rotation the old secret and the new one each verify. GitHub's header only has room for
/// the new one.
#[tokio::test(flavor = "multi_thread")]
async fn either_secret_during_a_rotation() {
    let world = World::new().await;
    let id = subscribe(&world).await;
    let daemon = Daemon::start(&world.database).await;
    let rotated = world.database.text(&format!("select webhook_rotate_secret({id})")).await;
    let new = rotated.expect("a new secret");
    let keys = format!(
        "select public_key from webhook.public_key where subscription_id = {id} and expires_at is null"
    );
    let new_public = world.database.text(&keys).await.expect("a new public key");
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    let newest = world.database.text(&format!("select webhook_rotate_secret({id}, overlap => '0')")).await;
    world.receiver.expect_secret("/ok", &newest.expect("a third secret"));
    world.insert_orders(2, 1).await;
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());

    let received = world.receiver.at("/ok");
    let (during, after) = (&received[0], &received[1]);
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for profile in &PROFILES {
        let (old, new) = match profile.name {
            "standard-v1a" => (PUBLIC, new_public.as_str()),
            _ => (SECRET, new.as_str()),
        };
        for (what, received, secret, accept) in [
            ("old secret during", during, old, profile.name != "github"),
            ("new secret during", during, new, true),
            ("old secret after", after, old, false),
            ("first new secret after another, without overlap", after, new, false),
        ] {
            requests.push(request(profile, received, secret));
            expected.push((format!("{}: {what}", profile.name), accept));
        }
    }
    judge(&requests, &expected);
}
