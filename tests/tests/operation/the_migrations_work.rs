//! Promise: every block of `docs/MIGRATING.md` runs as printed. The changeover, under a writer
//! that does not pause, loses no change and sends none twice. The old senders are small stand-ins
//! of the same shape; the receivers follow the documentation of Supabase and Hasura, and accept
//! both senders.

mod application;
mod guide;
mod hasura;
mod notify;
mod receiver;
mod supabase;

use application::{WRITES, Writers, each_once, started, written};
use e2e::{PATIENCE, daemon::binary};
use guide::{Guide, blocks};
use hasura::{HASURA, hasura, hasura_receiver};
use notify::{NOTIFY, listener, notify_receiver};
use receiver::Request;
use serde_json::{Value, json};
use std::{collections::BTreeSet, process::Command};
use supabase::{SUPABASE, pg_net, supabase_receiver};

#[test]
fn there_are_three_guides() {
    let sections: BTreeSet<String> = blocks().into_iter().map(|block| block.section).collect();
    let wanted = [
        "From Hasura event triggers",
        "From Supabase Database Webhooks, or pg_net",
        "From a trigger of your own with NOTIFY",
    ];
    assert_eq!(sections.iter().map(String::as_str).collect::<Vec<_>>(), wanted, "and each has a test");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_supabase() {
    let (database, receiver, _daemon) = started().await;
    database.run(SUPABASE).await;
    let trigger = r#"create trigger order_webhook after insert or update or delete on public.orders for each row execute function
        supabase_functions.http_request('URL', 'POST', '{"Content-Type":"application/json","Authorization":"Bearer let-me-in"}', '{}', '5000')"#;
    database.run(&trigger.replace("URL", &receiver.url)).await;
    let worker = tokio::spawn(pg_net(database.client().await));
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From Supabase Database Webhooks, or pg_net", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert!(seen.contains("order_webhook") && seen.contains(&receiver.url), "{seen}");
    let subscribed = guide.follow("2. Subscribe");
    assert!(subscribed.contains("whsec_"), "{subscribed}");
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("3. Change over");
    writers.more(20).await;
    guide.until("4. Let pg_net finish", |said| said == "0").await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    guide.until("5. Look", |said| said.contains("delivered|")).await;

    // The way back keeps the same promise.
    guide.change_over("Going back");
    writers.more(20).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE,DELETE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), supabase_receiver, &all);
    worker.abort();
    guide.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_hasura() {
    let (database, receiver, _daemon) = started().await;
    database.run(HASURA).await;
    let engine = tokio::spawn(hasura(database.client().await, receiver.url.clone()));
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From Hasura event triggers", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert_eq!(
        seen.lines().filter(|line| line.starts_with("orders|notify_hasura_order_changed_")).count(),
        3,
        "{seen}"
    );
    assert!(guide.follow("2. Subscribe").contains("whsec_"));
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("3. Change over");
    writers.more(20).await;
    guide.until("4. Let Hasura finish", |said| said == "0").await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE,DELETE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), hasura_receiver, &all);

    guide.follow("5. Remove the event trigger");
    let asked = receiver.all().pop().expect("the metadata API has been asked");
    assert_eq!(
        (asked.path.as_str(), asked.headers["x-hasura-admin-secret"].as_str()),
        ("/v1/metadata", "admin")
    );
    assert_eq!(asked.json()["type"], "pg_delete_event_trigger");
    assert_eq!(asked.json()["args"], json!({ "source": "default", "name": "order_changed" }));

    guide.follow("Session variables");
    let variables = json!({ "x-hasura-role": "user", "x-hasura-user-id": "7" });
    let count = receiver.all().len();
    database
        .run(&format!("begin; select set_config('hasura.user', '{variables}', true); insert into orders values (0, 'Zoë'); commit; insert into orders values (-1, 'Zoë')"))
        .await;
    receiver.wait("two more", |all| all.len() == count + 2).await;
    let of = |id: i64| {
        let all = receiver.all();
        let found =
            all.iter().map(Request::json).find(|payload| payload["event"]["data"]["new"]["id"] == json!(id));
        found.expect("it came")["event"]["session_variables"].clone()
    };
    assert_eq!((of(0), of(-1)), (variables, Value::Null));
    engine.abort();
    guide.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn from_notify() {
    let (database, receiver, _daemon) = started().await;
    database.run(NOTIFY).await;
    let listening = listener(&database, receiver.url.clone()).await;
    let mut writers = Writers::start(&database, WRITES).await;
    receiver.wait("the old sender is at work", |all| all.len() > 30).await;

    let mut guide = Guide::new("From a trigger of your own with NOTIFY", &database, &receiver);
    let seen = guide.follow("1. See what there is");
    assert_eq!(seen, "tell_order()|orders|tell_order");
    assert!(guide.follow("2. Subscribe").contains("whsec_"));
    guide.follow("3. Let the writers emit");
    writers.more(20).await;
    assert!(!receiver.all().iter().any(Request::is_ours), "a subscription alone changes nothing");
    guide.change_over("4. Change over");
    writers.more(20).await;
    receiver.wait("both are at work", |all| all.iter().filter(|one| one.is_ours()).count() > 30).await;
    writers.stop().await;
    let all = written(&database, "{INSERT,UPDATE}").await;
    receiver.wait("everything", |requests| requests.len() >= all.len()).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    each_once(&receiver.all(), notify_receiver, &all);
    listening.abort();
    guide.until("5. End the listener", |said| said.starts_with("delivered|")).await;

    guide.change_over("Further");
    let count = receiver.all().len();
    database.run("insert into orders values (0, 'Zoë')").await;
    receiver.wait("one more", |all| all.len() > count).await;
    let told = receiver.all().pop().expect("it came").json();
    assert_eq!((&told["type"], &told["data"]["id"]), (&json!("order.created"), &json!(0)));
    guide.end();
}

/// Checks the page's statements about the daemon's command.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_finds_nothing_wrong() {
    let (database, _receiver, _daemon) = started().await;
    let output =
        Command::new(binary()).args(["check", "--database-url", &database.url()]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}
