//! Promise: a signing secret is shown once, to its owner. No view, table, log, error, statistic or
//! dump contains it, even after errors.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    PATIENCE,
    daemon::{Daemon, binary},
    world::World,
};
use std::{path::Path, process::Stdio};
use tokio::process::Command;

/// A text that was written, and its place.
struct Written {
    place: String,
    text: String,
}

/// Returns every form in which a secret could leak: its text, its base64 without the prefix, its
/// bytes in hex.
fn forms(secret: &str) -> Vec<String> {
    let encoded = secret.rsplit('_').next().unwrap();
    let hex = STANDARD.decode(encoded).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    vec![encoded.trim_end_matches('=').to_owned(), hex]
}

/// Returns the content of the tables and views of the extension and of Postgres's statistics.
async fn relations(world: &World) -> Vec<Written> {
    let client = world.database.client().await;
    let found = client
        .query(
            "select c.oid::regclass::text from pg_class c
             where c.relnamespace in ('webhook'::regnamespace, 'public'::regnamespace) and c.relkind in ('r', 'p', 'v')
             union all select unnest(array['pg_stat_activity', 'pg_stat_statements', 'pg_prepared_statements', 'pg_settings', 'pg_locks'])",
            &[],
        )
        .await
        .unwrap();
    let mut written = Vec::new();
    for row in &found {
        let place: String = row.get(0);
        let query = format!("select coalesce(string_agg(r::text, E'\\n'), '') from {place} r");
        let text = world.database.text(&query).await.unwrap_or_default();
        written.push(Written { place, text });
    }
    written
}

/// Returns every answer of the admin server: of each route, about each subscription and some
/// deliveries, and to rejected requests.
async fn answers(world: &World, daemon: &Daemon, wrong: &str) -> Vec<Written> {
    let line = daemon.process().wait_for_line(|line| line.contains("admin.listens"), PATIENCE).await;
    let (_, url) = line.split_once("url=").expect("it says where");
    let url: String = url.chars().take_while(|c| !c.is_whitespace() && *c != '\u{1b}').collect();
    let client = e2e::http_client().build().expect("a client");
    let ids = world.database.text("select string_agg(id::text, ' ') from webhook.subscription").await;
    let some = "select string_agg(event_id || ' ' || subscription_id, ',') from
        (select distinct on (subscription_id) event_id, subscription_id from webhook.delivery) d";
    let some = world.database.text(some).await.expect("deliveries");
    let mut paths = Vec::new();
    // The stream contains only numbers, and has no end.
    for path in admin::routes::paths().into_iter().filter(|path| path != "/live") {
        if path.contains("{event_id}") {
            paths.extend(
                some.split(',')
                    .filter_map(|pair| pair.split_once(' '))
                    .map(|(event, id)| path.replace("{event_id}", event).replace("{subscription_id}", id)),
            );
        } else if path.contains("{id}") {
            paths.extend(ids.as_deref().unwrap_or_default().split(' ').map(|id| path.replace("{id}", id)));
        } else {
            paths.push(path);
        }
    }
    let mut written = Vec::new();
    for path in paths {
        let answer =
            client.get(format!("{}{path}", url.trim_end_matches('/'))).send().await.expect("an answer");
        let head = format!("{:?}", answer.headers());
        let text = answer.text().await.expect("a text");
        written.push(Written { place: format!("GET {path}"), text: format!("{head}\n{text}") });
    }
    let refused = client
        .post(format!("{}/v1/subscriptions", url.trim_end_matches('/')))
        .header("content-type", "application/json")
        .body(format!(r#"{{"url":"https://example.com/","secret":"{wrong}"}}"#));
    let answer = refused.send().await.expect("an answer");
    assert_eq!(answer.status(), 422);
    written
        .push(Written { place: "POST /v1/subscriptions".into(), text: answer.text().await.expect("a text") });
    written
}

async fn dump(world: &World) -> Written {
    let mut command = world.cluster.program("pg_dump");
    command.args(["--dbname", &world.database.url()]).stdin(Stdio::null());
    let output = command.output().expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Written { place: "pg_dump".into(), text: String::from_utf8_lossy(&output.stdout).into_owned() }
}

async fn webhookd(arguments: &[&str], key: Option<&Path>) -> Written {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(key) = key {
        command.arg("--key-file").arg(key);
    }
    let output = command.output().await.expect("webhookd runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Written { place: format!("webhookd {}", arguments[0]), text }
}

#[tokio::test(flavor = "multi_thread")]
async fn grep_of_everything() {
    let world = World::with(
        e2e::receiver::Keep::Requests,
        &[
            "shared_preload_libraries=pg_stat_statements",
            "log_min_duration_statement=-1",
            "log_error_verbosity=verbose",
        ],
    )
    .await;
    let database = &world.database;
    database.run("create extension pg_stat_statements; select pg_stat_statements_reset()").await;
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let public = Command::new(binary()).args(["keygen", key.to_str().unwrap()]).output().await.unwrap();
    let public = String::from_utf8(public.stdout).unwrap();
    database.run(&format!("select webhook_seal('{}')", public.trim())).await;
    let private = std::fs::read_to_string(&key).unwrap();
    let private = private.lines().last().unwrap().trim().to_owned();
    let (in_file, in_variable) = (SECRETS[0], SECRETS[1]);
    std::fs::create_dir(dir.path().join("secrets")).unwrap();
    std::fs::write(dir.path().join("secrets/good"), in_file).unwrap();
    std::fs::write(dir.path().join("secrets/bad"), "whsec_aHVudGVyMiBpcyBubyBnb29k").unwrap();

    // Secrets that were generated, supplied or kept elsewhere; good and bad; rotated, altered,
    // rejected.
    let client = database.client().await;
    let mut secrets = vec![
        private,
        in_file.to_owned(),
        in_variable.to_owned(),
        "whsec_aHVudGVyMiBpcyBubyBnb29k".to_owned(),
    ];
    let url = |path: &str| world.receiver.url(path);
    for (path, signature) in [
        ("/ok/a", "{standard}"),
        ("/ok/b", "{standard,standard-v1a,svix,github,stripe}"),
        ("/status/500/c", "{github,standard}"),
    ] {
        let subscribe =
            "select id, secret from webhook_subscribe($1, signature => $2::text::text[], retry => '{1h}')";
        let row = client.query_one(subscribe, &[&url(path), &signature]).await.unwrap();
        let (id, secret): (i64, String) = (row.get(0), row.get(1));
        secrets.push(secret);
        let rotated = client.query_one("select webhook_rotate_secret($1)", &[&id]).await.unwrap();
        let rotated: String = rotated.get(0);
        world.receiver.expect_secret(path, &rotated);
        secrets.push(rotated);
    }
    let brought = SECRETS[2];
    let subscribe = "select id from webhook_subscribe($1, secret => $2)";
    client.query_one(subscribe, &[&url("/ok/d"), &brought]).await.unwrap();
    secrets.push(brought.to_owned());
    for (path, secret) in [("/ok/d", brought), ("/ok/file", in_file), ("/ok/variable", in_variable)] {
        world.receiver.expect_secret(path, secret);
    }
    for (path, reference) in [
        ("/ok/file", "file:good"),
        ("/ok/none", "file:bad"),
        ("/ok/variable", "env:WEBHOOKD_SECRET_GOOD"),
        ("/ok/none", "env:WEBHOOKD_SECRET_BAD"),
    ] {
        client.query_one(subscribe, &[&url(path), &reference]).await.unwrap();
    }
    // A wrong secret, in a failing statement with its parameters.
    let wrong = format!("{}*", SECRETS[3]);
    secrets.push(SECRETS[3].to_owned());
    for statement in
        [subscribe, "select webhook_alter(1, url => $1, secret => $2)", "select webhook_sign($2, $1, 1, 'b')"]
    {
        client.query_one(statement, &[&url("/ok"), &wrong]).await.unwrap_err();
    }

    let environment = [
        ("WEBHOOKD_SECRET_GOOD", in_variable.as_ref()),
        ("WEBHOOKD_SECRET_BAD", "whsec_aHVudGVyMiBpcyBubyBnb29k".as_ref()),
        ("RUST_LOG", "trace".as_ref()),
    ];
    let directory = dir.path().join("secrets");
    let arguments = [
        "--allow-net",
        "127.0.0.0/8",
        "--key-file",
        key.to_str().unwrap(),
        "--secrets-dir",
        directory.to_str().unwrap(),
        "--log-level",
        "trace",
        "--admin",
        "127.0.0.1:0",
        "--admin-open-as",
        "postgres",
    ];
    let daemon = Daemon::spawn_in(&database.url(), &arguments, &environment);
    daemon.ready(database).await;
    world.insert_orders(1, 3).await;
    world.receiver.wait_for("/ok/a", 3, PATIENCE).await;
    world.receiver.wait_for("/ok/b", 3, PATIENCE).await;
    world.receiver.wait_for("/ok/d", 3, PATIENCE).await;
    world.receiver.wait_for("/ok/file", 3, PATIENCE).await;
    world.receiver.wait_for("/ok/variable", 3, PATIENCE).await;
    assert!(world.receiver.at("/ok/none").is_empty(), "sent without a usable secret");
    world.receiver.wait_for("/status/500/c", 1, PATIENCE).await;

    let mut written = relations(&world).await;
    written.extend(answers(&world, &daemon, &wrong).await);
    written.push(dump(&world).await);
    for (command, key) in [("check", Some(&*key)), ("status", None), ("rekey", Some(&*key))] {
        written.push(webhookd(&[command, "--database-url", &database.url()], key).await);
    }
    assert!(daemon.sigterm(PATIENCE).await.success());
    written.push(Written { place: "webhookd's log".into(), text: daemon.process().log().join("\n") });
    written.push(Written { place: "Postgres' log".into(), text: world.cluster.log().join("\n") });

    // The search itself works: it finds public texts in the places where they should be.
    let found = |place: &str, text: &str| {
        assert!(
            written.iter().any(|w| w.place == place && w.text.contains(text)),
            "{place} does not show {text}"
        );
    };
    found("webhook.subscription", "/ok/a");
    found("webhook.secret", "sealed:v1:");
    found("GET /v1/subscriptions", "/ok/a");
    found("GET /subscriptions/1", "/ok/a");
    found("GET /metrics", "webhookd_attempts_total");
    found("POST /v1/subscriptions", "secret");
    found("webhook.public_key", "whpk_");
    found("pg_stat_statements", "webhook_subscribe");
    found("pg_dump", "sealed:v1:");
    found("webhookd check", "secrets    secret of subscription");
    found("webhookd rekey", "4 are kept elsewhere");
    found("webhookd's log", "secret_unusable");
    found("Postgres' log", "must be padded base64");
    for secret in &secrets {
        if secret.starts_with("whpk_") {
            continue;
        }
        for form in forms(secret) {
            for Written { place, text } in &written {
                assert!(
                    !text.to_lowercase().contains(&form.to_lowercase()),
                    "{place} shows a secret: {form}"
                );
            }
        }
    }
}

/// 32 bytes each, which occur nowhere else.
const SECRETS: [&str; 4] = [
    "whsec_ZmlsZS1maWxlLWZpbGUtZmlsZS1maWxlLWZpbGUtMDE=",
    "whsec_ZW52LWVudi1lbnYtZW52LWVudi1lbnYtZW52LWVudjA=",
    "whsec_YnJvdWdodC1icm91Z2h0LWJyb3VnaHQtYnJvdWdodC0=",
    "whsec_d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I=",
];
