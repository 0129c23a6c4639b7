//! Promise: the command line can show and change everything that SQL can, with exactly the rights
//! of the connecting role. Foreign texts cannot affect the terminal.

use e2e::{
    PATIENCE,
    daemon::{Daemon, binary},
    receiver::{Keep, SECRET},
    world::World,
};
use serde_json::Value;
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

fn webhookd(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--database-url", url]).env_remove("DATABASE_URL");
    command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command. Returns its exit code, standard output and standard error.
async fn run(url: &str, arguments: &str) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output =
        timeout(PATIENCE, webhookd(url, &arguments).output()).await.expect("it ends").expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed. Returns its standard output.
async fn ok(url: &str, arguments: &str) -> String {
    let (code, out, err) = run(url, arguments).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments}: {out}");
    out
}

async fn json(url: &str, arguments: &str) -> Vec<Value> {
    let out = ok(url, &format!("{arguments} --json")).await;
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Runs a command that must fail. Returns its one line on standard error; standard output must be
/// empty.
async fn refused(url: &str, arguments: &str, code: i32) -> String {
    let (found, out, err) = run(url, arguments).await;
    assert_eq!((found, out.as_str()), (Some(code), ""), "{arguments}: {err}");
    assert!(err.starts_with("webhookd: ") && err.matches('\n').count() == 1, "{err:?}");
    err
}

struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap().expect("a line")
    }
}

/// Whether the command has an idle session, so that later commits are new to it.
const LOOKING: &str =
    "select exists (select from pg_stat_activity where application_name like 'webhookd%' and usename = 'clerk'
    and state = 'idle' and query like '%pg_current_snapshot%')";

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_events_and_deliveries() {
    let world = World::new().await;
    let url = world.database.url();
    let id = world.subscribe("/ok").await;
    // The functions reject such a name; a restored table may hold one.
    world.database.run("update webhook.subscription set name = E'evil \\x1b[2J\\u202e\\u2066 name'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world
        .app
        .execute(
            "update orders set total = 12345678901234567890.50, note = E'\\x1b]0;x\\x07' where id = 1",
            &[],
        )
        .await
        .unwrap();
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    world.settled(PATIENCE).await;

    let table = ok(&url, "subscription list").await;
    assert!(
        table.starts_with("id  name") && table.contains("evil \u{fffd}[2J\u{fffd}\u{fffd} name"),
        "{table:?}"
    );
    let row = &json(&url, "subscription list").await[0];
    assert_eq!(row["name"], "evil \u{1b}[2J\u{202e}\u{2066} name", "programs get what there is");
    let shown = ok(&url, &format!("subscription show {id}")).await;
    assert!(
        shown.contains("max_in_flight") && !shown.contains('\u{1b}') && !shown.contains(SECRET),
        "{shown:?}"
    );

    let events = json(&url, "event list --type order.*").await;
    assert_eq!(
        events.iter().map(|event| &event["type"]).collect::<Vec<_>>(),
        ["order.updated", "order.created"]
    );
    let event = events[0]["id"].as_str().unwrap();
    let shown = ok(&url, &format!("event show {event}")).await;
    assert!(shown.contains("\"total\":12345678901234567890.50") && !shown.contains('\u{1b}'), "{shown:?}");
    assert_eq!(json(&url, "event list --type order.* --limit 1").await[0], events[0], "the newest");
    assert_eq!(json(&url, "event list --key 1").await.len(), 2);
    assert!(json(&url, "event list --key 2").await.is_empty());
    let second = events[0]["created_at"].as_str().unwrap();
    assert_eq!(json(&url, &format!("event list --since {second}")).await.len(), 1);
    assert_eq!(json(&url, &format!("event list --since -infinity --until {second}")).await.len(), 1);

    let deliveries = json(&url, &format!("delivery list --state delivered --subscription {id}")).await;
    assert_eq!(deliveries.len(), 2);
    assert!(json(&url, "delivery list --state exhausted").await.is_empty());
    for (filter, count) in [
        ("--limit 1".to_owned(), 1),
        (format!("--event {event}"), 1),
        (format!("--event {event} --state queued --state delivered"), 1),
        (format!("--event {event} --state queued --state retrying"), 0),
        ("--type order.* --key 1".to_owned(), 2),
        ("--type order.updated".to_owned(), 1),
        ("--key 2".to_owned(), 0),
        (format!("--since {second}"), 1),
        (format!("--since -infinity --until {second}"), 1),
        (format!("--since {second} --until {second}"), 0),
    ] {
        assert_eq!(json(&url, &format!("delivery list {filter}")).await.len(), count, "{filter}");
    }
    ok(&url, &format!("delivery redeliver {event} {id}")).await;
    world
        .database
        .until(
            &format!(
                "select count(*) = 2 from webhook.attempt where event_id = webhook.event_sequence('{event}')"
            ),
            PATIENCE,
        )
        .await;
    let attempts = json(&url, &format!("delivery show {event}")).await;
    assert_eq!(
        attempts.iter().map(|a| (a["attempt"].as_i64(), a["outcome"].as_str())).collect::<Vec<_>>(),
        [(Some(1), Some("succeeded")), (Some(2), Some("succeeded"))]
    );

    ok(&url, &format!("subscription pause {id} --reason night")).await;
    assert_eq!(json(&url, &format!("subscription show {id}")).await[0]["paused_reason"], "night");
    let ping = ok(&url, &format!("subscription ping {id}")).await;
    ok(&url, &format!("subscription resume {id}")).await;
    world.receiver.wait("the ping", PATIENCE, |record| record.at("/ok").any(|r| r.id() == ping.trim())).await;
    let secret = ok(&url, &format!("subscription rotate {id}")).await;
    assert!(secret.starts_with("whsec_") && secret.trim() != SECRET, "{secret}");

    assert!(refused(&url, "subscription show 999", 1).await.contains("999"));
    assert!(refused(&url, "subscription ping 999", 1).await.contains("999"));
    assert!(refused(&url, "event show evt_0", 1).await.contains("evt_0"));
    for nowhere in ["evt_0", "evt_00064a000000000007", &format!("{event} 999")] {
        assert!(refused(&url, &format!("delivery show {nowhere}"), 1).await.contains("no delivery"));
    }
    assert!(refused(&url, "delivery list --event evt_x", 1).await.contains("evt_x"));
    assert!(refused(&url, "delivery list --since nonsense", 1).await.contains("nonsense"));
    assert!(refused(&url, "replay 1 --since nonsense", 1).await.contains("nonsense"));
}

/// Lists the whole log in stretches, for a role that may skip gaps and for one that may not.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_listed_by_stretches() {
    let world = World::new().await;
    world.database.run("create role clerk login; select webhook_grant('clerk', 'reader')").await;
    let id = world.subscribe("/ok").await;
    world.database.run(&format!("select webhook_pause({id}, 'night')")).await;
    let insert = "insert into orders select n, 'c', 1, null from generate_series({}) n";
    world.database.run(&insert.replace("{}", "1, 300")).await;
    // Rolled-back transactions leave numbers that no event has.
    world.database.run("select setval('webhook.event_id_seq', 500000)").await;
    world.database.run(&insert.replace("{}", "301, 600")).await;
    for url in [world.database.url(), world.database.url_as("clerk")] {
        let listed = json(&url, "delivery list --limit 450").await;
        let keys: Vec<i64> = listed.iter().map(|row| row["key"].as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(keys, (151..=600).rev().collect::<Vec<_>>(), "the newest, each once");
        assert_eq!(json(&url, "delivery list --state queued --key 7").await.len(), 1);
    }
}

/// Checks that a command ends when its reader has gone, as in `webhookd tail | head -1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_what_follows() {
    let world = World::with(Keep::Requests, &[]).await;
    world.database.run("create role clerk login; select webhook_grant('clerk', 'reader')").await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    let url = world.database.url_as("clerk");
    let mut tail = Follower::start(webhookd(&url, &["tail", "--every-ms", "50"]));
    let looking = "select exists (select from pg_stat_activity where usename = 'clerk' and state = 'idle' and query like '%ended_us%')";
    world.database.until(looking, PATIENCE).await;
    world.insert_orders(1, 1).await;
    assert!(tail.line().await.contains("order.created"));
    let program = world.receiver.url("/ok");
    let mut forward = Follower::start(webhookd(&url, &["listen", "--forward-to", &program]));
    assert!(forward.line().await.starts_with("forwarding to "));
    for follower in [tail, forward] {
        let Follower { child, lines } = follower;
        drop(lines);
        let ended = timeout(PATIENCE, child.wait_with_output())
            .await
            .expect("it ends")
            .expect("it can be waited for");
        assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    }
}

/// `webhookd status | true`: a closed pipe is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_panic() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let url = world.database.url();
    for command in
        ["status", "status --json", "check", "token list", "subscription list", "event list", "man"]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut started = std::process::Command::new(binary());
        started.args(command.split(' ')).env("DATABASE_URL", &url).stdout(writer);
        let output = started.stderr(std::process::Stdio::piped()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{command}: {:?}: {said}", output.status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_sees_and_does_what_it_may() {
    let world = World::new().await;
    world.subscribe_with("/ok", "name => 'theirs'").await;
    world
        .database
        .run("create role anna login; create role bert login; select webhook_grant('anna', 'subscriber')")
        .await;
    let (anna, bert) = (world.database.url_as("anna"), world.database.url_as("bert"));
    assert_eq!(ok(&anna, "subscription list").await.lines().count(), 1, "the headings");
    world.insert_orders(1, 1).await;
    assert!(json(&anna, "delivery list").await.is_empty());
    assert_eq!(json(&world.database.url(), "delivery list").await.len(), 1);
    refused(&anna, "subscription pause 1", 1).await;
    assert!(refused(&anna, "event list", 1).await.contains("permission denied"));
    assert!(refused(&bert, "subscription list", 1).await.contains("permission denied"));
    assert!(refused(&bert, "tail --count 1", 1).await.contains("permission denied"));
    assert_eq!(
        world.database.text("select enabled::text from webhook.subscription").await.as_deref(),
        Some("true")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_followed_and_the_past_replayed() {
    let world = World::new().await;
    let url = world.database.url();
    let id = world.subscribe("/ok").await;
    world.subscribe_with("/status/500", "retry => '{}', name => 'fails'").await;
    let _daemon = Daemon::start(&world.database).await;
    let mut all = Follower::start(webhookd(&url, &["tail", "--json", "--every-ms", "50", "--count", "7"]));
    let mut failed =
        Follower::start(webhookd(&url, &["tail", "--failed", "--every-ms", "50", "--count", "2"]));
    let both = "select count(*) = 2 from pg_stat_activity where application_name like 'webhookd%' and state = 'idle' and query like '%ended_us%'";
    world.database.until(both, PATIENCE).await;
    world.insert_orders(1, 2).await;
    for _ in 0..2 {
        let line = failed.line().await;
        assert!(
            line.contains('✗') && line.contains("order.created") && line.contains("http_error 500"),
            "{line}"
        );
    }
    assert!(failed.child.wait().await.unwrap().success());
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    world.database.until("select count(*) = 4 from webhook.attempt", PATIENCE).await;

    assert_eq!(ok(&url, &format!("replay {id} --since -infinity --events order.*")).await, "2\n");
    assert_eq!(world.receiver.at("/ok").len(), 4, "it has waited for them");
    assert_eq!(ok(&url, &format!("replay {id} --since -infinity --events none.such")).await, "0\n");
    assert_eq!(ok(&url, &format!("replay {id} --within 1h --events order.*")).await, "2\n");
    assert_eq!(ok(&url, &format!("replay {id} --since -infinity --events order.* --no-wait")).await, "2\n");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..7 {
        let line: Value = serde_json::from_str(&all.line().await).unwrap();
        let key =
            (line["event_id"].to_string(), line["subscription_id"].to_string(), line["attempt"].to_string());
        assert!(seen.insert(key), "each once: {line}");
    }
    assert!(all.child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn live_events_are_forwarded_and_nothing_is_written() {
    let world = World::with(Keep::Requests, &[]).await;
    world.database.run("create role clerk login; select webhook_grant('clerk', 'reader')").await;
    world.insert_orders(100, 1).await;
    let state = "select concat_ws('|', (select count(*) from webhook.subscription), (select count(*) from webhook.attempt),
        (select count(*) from webhook.queue), (select count(*) from webhook.cursor))";
    let before = world.database.text(state).await;
    let url = world.receiver.url("/ok");
    let arguments =
        ["listen", "--forward-to", &url, "--secret", SECRET, "--events", "order.*", "--count", "1203"];
    let mut forward = Follower::start(webhookd(&world.database.url_as("clerk"), &arguments));
    assert_eq!(forward.line().await, format!("forwarding to {url}"));
    world.database.until(LOOKING, PATIENCE).await;
    world
        .app
        .batch_execute("begin; insert into orders values (1, 'rolled back', 1, null); rollback")
        .await
        .unwrap();
    world.insert_orders(2, 3).await;
    // More than a page, in one transaction.
    world.app.batch_execute("select webhook_emit('other.thing', '{}'); insert into orders select n, 'c', 1, null from generate_series(1001, 2200) n").await.unwrap();
    let first = forward.line().await;
    assert!(first.starts_with("✓ order.created  evt_") && first.contains("  200  "), "{first}");
    for _ in 1..1203 {
        forward.line().await;
    }
    assert!(forward.child.wait().await.unwrap().success());
    let keys: Vec<i64> =
        world.receiver.at("/ok").iter().map(|r| r.json()["data"]["id"].as_i64().unwrap()).collect();
    assert_eq!(keys, (2..5).chain(1001..2201).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(world.database.text(state).await, before);
}
