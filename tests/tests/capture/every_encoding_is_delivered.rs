//! Promise: in a database of any encoding, an event with bytes that UTF-8 lacks is delivered,
//! marked as changed, and delays no other.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, describe},
    daemon::{Daemon, binary},
    receiver::{Received, Receiver, SECRET},
};
use serde_json::Value;
use std::process::Command;

const REPLACED: &str = "\u{fffd}";

async fn start(encoding: &str) -> (Database, Receiver) {
    let database = Cluster::start().await.database_in("app", encoding).await;
    let receiver = Receiver::start().await;
    let subscribe = |path: &str, more: &str| {
        let url = receiver.url(path);
        format!("select webhook_subscribe('{url}', '{{thing.*}}', secret => '{SECRET}'{more});")
    };
    database
        .run(&format!(
            "create extension pg_webhook;
             create table thing (id text primary key, note text);
             select webhook_watch('thing');
             {}{}{}{}{}{}",
            subscribe("/ok", ""),
            subscribe("/ok/key", ", ordering => 'key', compact => true"),
            subscribe("/ok/raw", ", format => 'raw'"),
            subscribe("/ok/cloud", ", format => 'cloudevents-structured'"),
            subscribe("/ok/filter", ", filter => '$.data.note == \"good\"'"),
            subscribe(
                "/foreign",
                ", retry => '{100ms,100ms}', filter => '$.data.note == \"naïve\" || $.data.id == \"1\"'"
            ),
        ))
        .await;
    (database, receiver)
}

/// A literal of SQL for a text of these bytes.
fn literal(bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("e'{escaped}'")
}

fn note_of(request: &Received) -> Value {
    request.json()["data"]["note"].clone()
}

async fn delivers(encoding: &str, bad: [&[u8]; 2], good: &str) {
    let (database, receiver) = start(encoding).await;
    let daemon = Daemon::start(&database).await;
    let app = database.client().await;
    let [one, other] = bad.map(literal);
    // In SQL_ASCII, the session of the application may write any bytes.
    let write = async |sql: String| {
        app.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{encoding}: {sql}: {}", describe(&e)));
    };
    write("insert into thing values ('1', 'good')".to_owned()).await;
    write(format!("insert into thing values ('2', {one}), ('3', '{good}')")).await;
    write(format!("insert into thing values ({one}, 'a'), ({other}, 'b')")).await;
    write(format!(
        "update thing set note = 'c' where id = {one}; update thing set note = 'd' where id = {other}"
    ))
    .await;
    write("insert into thing values ('4', 'good')".to_owned()).await;
    receiver.wait_for("/ok", 8, PATIENCE).await;
    receiver.wait_for("/ok/filter", 2, PATIENCE).await;
    let done =
        "select not exists (select from webhook.delivery where state not in ('delivered', 'exhausted'))";
    database.until(done, PATIENCE).await;

    let requests = receiver.at("/ok");
    let bodies: Vec<Value> = requests.iter().map(Received::json).collect();
    let of = |id: &str| bodies.iter().find(|body| body["data"]["id"] == id).expect("it came");
    assert_eq!(of("1")["data"]["note"], "good");
    assert_eq!(of("1").get("replaced"), None);
    assert_eq!(of("3")["data"]["note"], good, "what UTF-8 has is unchanged");
    assert_eq!(of("3").get("replaced"), None);
    let replaced = of("2");
    assert_eq!(replaced["replaced"], true, "{replaced}");
    assert!(replaced["data"]["note"].as_str().expect("text").contains(REPLACED), "{replaced}");
    // Two keys that read the same are not compacted into one.
    let notes: Vec<Value> = receiver.at("/ok/key").iter().map(note_of).collect();
    for last in ["c", "d"] {
        assert!(notes.contains(&last.into()), "{encoding}: {notes:?}");
    }
    let raw = receiver.at("/ok/raw");
    assert!(raw.iter().any(|request| request.header("webhook-replaced") == Some("true")));
    assert!(raw.iter().all(|request| std::str::from_utf8(&request.body).is_ok()));
    let cloud = receiver.at("/ok/cloud");
    assert!(cloud.iter().any(|request| request.json()["replaced"] == true));
    // An answer of a receiver is stored, with replacements for what the database lacks.
    let stored = "select bool_and(response is not null) and count(*) >= 3 from webhook.attempt where outcome = 'http_error'";
    assert_eq!(database.text(stored).await.as_deref(), Some("t"), "{encoding}");

    // After a start, in a redelivery, and on the command line.
    assert!(daemon.sigterm(PATIENCE).await.success());
    write(format!("insert into thing values ('5', {other})")).await;
    let daemon = Daemon::start(&database).await;
    receiver.wait_for("/ok", 9, PATIENCE).await;
    let count = receiver.at("/ok").len();
    database
        .run("select webhook_redeliver(event_id, subscription_id) from webhook.delivery where key = '2' and subscription_id = 1")
        .await;
    receiver.wait("the redelivery", PATIENCE, |record| record.at("/ok").count() == count + 1).await;
    database.run("select webhook_pause(1)").await;
    write(format!("insert into thing values ('6', {one})")).await;
    database.until("select count(*) = 1 from webhook.queue", PATIENCE).await;
    database.run("select webhook_resume(1)").await;
    receiver.wait_for("/ok", 10, PATIENCE).await;
    for arguments in [&["event", "list", "--json"][..], &["delivery", "list", "--json"]] {
        let mut command = Command::new(binary());
        let done = command.args(arguments).args(["--database-url", &database.url()]).output();
        let done = done.expect("it runs");
        assert!(done.status.success() && !done.stdout.is_empty(), "{encoding}: {arguments:?}: {done:?}");
    }
    assert_eq!(database.number("select count(*) from webhook_check()").await, 0);
    assert!(daemon.sigterm(PATIENCE).await.success());
    let log = daemon.process().log().join("\n");
    assert!(!log.contains("session.lost") && !log.contains("refused"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_sql_ascii() {
    delivers("SQL_ASCII", [b"x\xe9", b"x\xe8"], "naïve").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_win1252() {
    delivers("WIN1252", [b"x\x81", b"x\x8d"], "naïve €").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_euc_jp() {
    delivers("EUC_JP", [b"\x8f\xa1\xa1", b"\x8f\xa1\xa2"], "日本").await;
}

/// Every byte of LATIN1 has a meaning, and what it lacks comes from receivers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_latin1() {
    let (database, receiver) = start("LATIN1").await;
    let daemon = Daemon::start(&database).await;
    let app = database.client().await;
    app.batch_execute("insert into thing values ('é', 'naïve')").await.expect("it can be written");
    receiver.wait_for("/ok", 1, PATIENCE).await;
    let body = receiver.at("/ok")[0].json();
    assert_eq!((&body["data"]["id"], &body["data"]["note"]), (&"é".into(), &"naïve".into()));
    assert_eq!(body.get("replaced"), None);
    let stored = "select response = 'za<U+017C>ó<U+0142><U+0107> <U+20AC>' from webhook.attempt where outcome = 'http_error' limit 1";
    database.until(stored, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Existing rows whose key is not ASCII.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn and_a_backfill_too() {
    let (database, receiver) = start("WIN1252").await;
    let app = database.client().await;
    app.batch_execute(
        "alter table thing disable trigger user;
         insert into thing select 'é' || i, e'\\x81' from generate_series(1, 1200) i;
         insert into thing values (e'\\x8d', 'x');
         alter table thing enable trigger user",
    )
    .await
    .unwrap_or_else(|e| panic!("{}", describe(&e)));
    let daemon = Daemon::start(&database).await;
    database.run("select webhook_backfill(1, 'thing')").await;
    receiver.wait_for("/ok", 1201, PATIENCE).await;
    database.until("select state = 'done' from webhook.backfill", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
