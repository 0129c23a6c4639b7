//! Tests the test support itself. A judge that accepts everything, or a model that counts
//! rolled-back changes, would make every other test worthless.

use bytes::Bytes;
use e2e::{
    PATIENCE,
    cluster::Cluster,
    receiver::{
        Behaviour, Received, Receiver, SECRET,
        tls::{Authority, Identity},
        verify,
    },
    traffic, world,
};
use standardwebhooks::Webhook;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    since.as_secs() as i64
}

fn signed(secret: &str, id: &str, timestamp: i64, body: &str) -> Vec<(String, String)> {
    let signature = Webhook::new(secret).unwrap().sign(id, timestamp, body.as_bytes()).unwrap();
    [("webhook-id", id), ("webhook-timestamp", &timestamp.to_string()), ("webhook-signature", &signature)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[test]
fn the_judge_rejects_what_is_forged() {
    let headers = signed(SECRET, "evt_1", now(), "{}");
    assert_eq!(verify(SECRET, &headers, b"{}"), Ok(()));
    assert!(verify(SECRET, &headers, b"{ }").is_err(), "another body");
    assert!(verify("whsec_AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", &headers, b"{}").is_err());
    assert!(verify(SECRET, &headers[..2], b"{}").is_err(), "no signature");
    assert!(verify(SECRET, &signed(SECRET, "evt_1", now() - 301, "{}"), b"{}").is_err(), "too old");
    let mut twice = headers.clone();
    twice.push(twice[0].clone());
    assert!(verify(SECRET, &twice, b"{}").is_err(), "a header that came twice");
}

#[tokio::test]
async fn the_receiver_behaves_as_set() {
    let receiver = Receiver::start().await;
    let client = e2e::http_client().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let send = async |path: &str, id: &str| {
        let mut request = client.post(receiver.url(path)).body(Bytes::from_static(b"{\"a\":1}"));
        for (name, value) in signed(SECRET, id, now(), "{\"a\":1}") {
            request = request.header(name, value);
        }
        request.send().await
    };
    assert_eq!(send("/ok", "evt_1").await.unwrap().status(), 200);
    assert_eq!(send("/status/503", "evt_1").await.unwrap().status(), 503);
    for (id, status) in [("evt_1", 500), ("evt_2", 500), ("evt_1", 500), ("evt_1", 200), ("evt_2", 500)] {
        assert_eq!(send("/flaky/2", id).await.unwrap().status(), status, "{id}");
    }
    assert_eq!(send("/echo", "evt_1").await.unwrap().text().await.unwrap(), "{\"a\":1}");
    assert_eq!(send("/huge/100000", "evt_1").await.unwrap().bytes().await.unwrap().len(), 100_000);
    assert_eq!(send("/redirect?to=http://127.0.0.1:1/", "evt_1").await.unwrap().status(), 302);
    for path in ["/reset", "/close", "/half-headers"] {
        assert!(send(path, "evt_1").await.is_err(), "{path}");
    }
    receiver.wait_for("/flaky/2", 2, PATIENCE).await;
    receiver.look(|record| {
        assert_eq!(record.duplicates("/flaky/2"), 3);
        assert_eq!(record.ids("/ok"), ["evt_1".to_owned()].into());
    });
    let echoed = &receiver.at("/echo")[0];
    assert_eq!((echoed.id(), echoed.body.as_ref()), ("evt_1", b"{\"a\":1}".as_ref()));
}

#[tokio::test]
async fn the_receiver_remembers_how_it_answered() {
    let receiver = Receiver::start().await;
    let client = e2e::http_client().build().expect("a client");
    let post = async |path: &str| {
        let mut request = client.post(receiver.url(path)).body("{}");
        for (name, value) in signed(SECRET, "evt_1", now(), "{}") {
            request = request.header(name, value);
        }
        request.send().await
    };
    receiver.behave_by("/ok/judged", |request, attempt| {
        assert_eq!(request.json(), serde_json::json!({}));
        Behaviour::Status(if attempt == 1 { 429 } else { 200 })
    });
    for status in [429, 200] {
        assert_eq!(post("/ok/judged").await.unwrap().status(), status);
    }
    post("/slow/50").await.unwrap();
    assert!(post("/not-http/status").await.is_err());
    let answers = |path: &str| receiver.at(path).iter().map(Received::status).collect::<Vec<_>>();
    assert_eq!(answers("/ok/judged"), [Some(429), Some(200)]);
    assert_eq!(answers("/not-http/status"), [None]);
    let slow = &receiver.at("/slow/50")[0];
    assert!(slow.answered.expect("it was answered").0 - slow.arrived >= Duration::from_millis(50));

    let answer = post("/retry-after/503?v=in:60").await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers()["retry-after"].to_str().unwrap().ends_with(" GMT"));
    assert_eq!(post("/retry-after?v=120").await.unwrap().headers()["retry-after"], "120");
    assert_eq!(post("/interim/3").await.unwrap().status(), 200);
    let bomb = post("/gzip-bomb").await.unwrap();
    assert_eq!(bomb.headers()["content-encoding"], "gzip");
    assert!((64 * 1024..1024 * 1024).contains(&bomb.bytes().await.unwrap().len()));
}

#[tokio::test]
async fn the_receiver_shakes_hands_as_set() {
    let receiver = Receiver::start().await;
    let client = e2e::http_client().build().expect("a client");
    for (profile, status, allowed) in [
        ("ok", 200, Some("us.example")),
        ("any", 200, Some("*")),
        ("wrong", 200, Some("other.example")),
        ("absent", 200, None),
        ("refused", 403, None),
    ] {
        let url = receiver.url(&format!("/handshake/{profile}"));
        let options =
            client.request(reqwest::Method::OPTIONS, url).header("webhook-request-origin", "us.example");
        let answer = options.send().await.unwrap();
        let origin = answer.headers().get("webhook-allowed-origin").map(|value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), origin), (status, allowed), "{profile}");
    }
    receiver.look(|record| {
        assert_eq!((record.others.len(), record.total), (5, 0), "what is no POST is kept apart, unjudged");
    });
}

/// A client that trusts the authority and asks for the right name connects, and no other client
/// does.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_good_certificate_is_good() {
    let authority = Authority::new();
    let program = |url: &str| {
        let curl = ["-s", "-o", "/dev/null", "--cacert"];
        std::process::Command::new("curl")
            .args(curl)
            .arg(authority.file())
            .args(["-X", "OPTIONS", url])
            .status()
    };
    if program("--version").is_err() {
        println!("SKIPPED: no curl on this machine (apt-get install curl)");
        return;
    }
    for (identity, trusted) in [
        (Identity::Good, true),
        (Identity::SelfSigned, false),
        (Identity::Expired, false),
        (Identity::WrongHost, false),
    ] {
        let receiver = Receiver::start_tls(authority.acceptor(identity)).await;
        let url = receiver.url("/ok");
        let ended = tokio::task::block_in_place(|| program(&url)).expect("curl can be started");
        assert_eq!(ended.success(), trusted, "{identity:?}: curl ended with {ended}");
        receiver.look(|record| assert_eq!(record.others.len(), usize::from(trusted)));
    }
}

/// Compares the writers' model with a trigger that is certainly right: it fills a plain table in
/// the same transaction.
#[tokio::test(flavor = "multi_thread")]
async fn the_writers_know_what_they_committed() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let database = cluster.empty_database("model").await;
    database.run(world::ORDERS).await;
    database
        .run(
            "create table log (type text, key text);
             create function log() returns trigger language plpgsql as $$ begin
                 insert into log values (
                     case tg_op when 'INSERT' then 'order.created' when 'UPDATE' then 'order.updated' else 'order.deleted' end,
                     case tg_op when 'DELETE' then old.id else new.id end);
                 return null;
             end $$;
             create trigger log after insert or update or delete on orders for each row execute function log();",
        )
        .await;
    let style = traffic::Style { transactions: 100, ..traffic::Style::default() };
    let committed = traffic::write_concurrently(&database, 4, 7, &style).await;
    let mut logged = BTreeMap::new();
    for row in database.client().await.query("select type, key from log", &[]).await.unwrap() {
        *logged.entry((row.get(0), row.get(1))).or_default() += 1;
    }
    assert_eq!(committed, logged);
    assert!(committed.len() > 100, "there was traffic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_cluster_recovers_what_was_committed() {
    let cluster = Cluster::start().await;
    let database = cluster.empty_database("crash").await;
    database.run("create table t (i int); insert into t values (1)").await;
    let client = database.client().await;
    client.batch_execute("begin; insert into t values (2)").await.unwrap();
    cluster.kill9().await;
    assert!(client.batch_execute("commit").await.is_err());
    cluster.boot().await;
    assert_eq!(database.number("select sum(i) from t").await, 1);
}
