//! The support itself: a judge that accepts everything, or a model that counts what was rolled back, would make every
//! other test worthless.

use bytes::Bytes;
use e2e::{
    PATIENCE,
    cluster::Cluster,
    receiver::{Receiver, SECRET, verify},
    traffic, world,
};
use standardwebhooks::Webhook;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
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
async fn the_receiver_does_as_it_is_told() {
    let receiver = Receiver::start().await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
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

/// The writers' model against a trigger that is certainly right: a plain table, written in the same transaction.
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
