//! Promise: `webhookd schema diff` reports the changes that a migration makes for receivers and
//! which of them break receivers. Its exit code says the same.

use e2e::{
    cluster::{Cluster, Database},
    daemon::binary,
};
use serde_json::Value;
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Runs the command. Returns the exit code, standard output and standard error.
fn webhookd(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.arg("schema").args(arguments).env_remove("DATABASE_URL");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // A command that ends with an error need not read its input.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const OLD: &str = "
    create type state as enum ('open', 'paid');
    create table orders (id int primary key, customer text not null, total numeric(8,2) not null check (total >= 0),
                         state state not null, code varchar(8), note text);
    create table ticket (id int primary key);
    create table job (id int primary key);
    select webhook_watch('orders', noun => 'order', verbs => '{\"insert\":\"created\",\"update\":\"updated\"}');
    select webhook_watch('ticket', verbs => '{\"insert\":\"created\"}');
    select webhook_watch('job', verbs => '{\"insert\":\"created\"}');";

const MIGRATION: &str = "
    alter type state add value 'refunded';
    alter table orders alter total drop not null, alter id type bigint, alter code type varchar(16), drop column note, add column weight int,
                       alter customer type varchar(40);
    select webhook_watch('ticket', noun => 'task', verbs => '{\"insert\":\"created\"}');
    select webhook_unwatch('job');
    insert into webhook.event_type (type) values ('invoice.paid');";

async fn two() -> (Database, Database) {
    let cluster = Cluster::start().await;
    let (old, new) = (cluster.database("old").await, cluster.database("new").await);
    old.run(OLD).await;
    new.run(OLD).await;
    (old, new)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_databases_and_of_a_file() {
    let (old, new) = two().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.json");
    let path = file.to_str().expect("a path of text").to_owned();
    let (code, document, error) = webhookd(&["dump", "--database-url", &old.url()], "");
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let of_sql = old.text("select webhook_openapi()::text").await.expect("a document");
    assert_eq!(document, format!("{of_sql}\n"), "what SQL says, to the byte");
    std::fs::write(&file, &document).expect("it can be written");

    // Another database with the same watches and tables shows no difference.
    for (a, b, input) in
        [(&old.url(), &new.url(), ""), (&path, &new.url(), ""), (&"-".to_owned(), &path, document.as_str())]
    {
        assert_eq!(
            webhookd(&["diff", a, b], input),
            (Some(0), "no change\n".to_owned(), String::new()),
            "{a} {b}"
        );
    }

    new.run(MIGRATION).await;
    let (code, table, error) = webhookd(&["diff", &path, &new.url()], "");
    assert_eq!((code, error.as_str()), (Some(1), ""), "{table}");
    let (_, by_url, _) = webhookd(&["diff", &old.url(), &new.url()], "");
    assert_eq!(table, by_url, "a file or its database");
    let (code, json, _) = webhookd(&["diff", "--json", &path, &new.url()], "");
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&json).expect("JSON");
    let changes = told["changes"].as_array().expect("changes");
    let has = |breaking: bool, event_type: &str, field: &str, rule: &str| {
        let found = changes.iter().any(|change| {
            change["breaking"] == breaking
                && change["event_type"] == event_type
                && change["field"] == field
                && change["rule"] == rule
        });
        assert!(found, "{rule} of {event_type} {field}: {table}");
    };
    for event_type in ["order.created", "order.updated"] {
        has(true, event_type, "data.state", "values-added");
        has(true, event_type, "data.total", "null-added");
        has(true, event_type, "data.id", "range-widened");
        has(true, event_type, "data.code", "length-widened");
        has(true, event_type, "data.note", "field-removed");
        has(false, event_type, "data.weight", "field-added");
        has(false, event_type, "data.customer", "length-narrowed");
    }
    has(true, "ticket.created", "", "event-type-removed");
    has(true, "job.created", "", "event-type-removed");
    has(false, "task.created", "", "event-type-added");
    has(false, "invoice.paid", "", "event-type-added");
    assert_eq!(changes.len(), 18, "and nothing else: {table}");
    assert_eq!(told["breaking"], 12);
    assert!(
        table.contains("BREAKING")
            && table.contains("additional values: \"refunded\"")
            && table.ends_with("12 breaking, 6 compatible\n"),
        "{table}"
    );
    assert!(table.contains("task.created was added with the same data: renamed?"), "{table}");

    // In the opposite direction, compatible changes become breaking ones, and the reverse.
    let (code, back, _) = webhookd(&["diff", &new.url(), &path], "");
    assert_eq!(code, Some(1));
    assert!(
        back.contains("values that no longer occur") && back.ends_with("6 breaking, 12 compatible\n"),
        "{back}"
    );

    // A migration that only adds.
    old.run("alter table orders add column colour text, alter code set not null; comment on table orders is 'Another description'").await;
    let (code, added, _) = webhookd(&["diff", &path, &old.url()], "");
    assert_eq!(code, Some(0), "{added}");
    assert!(
        added.contains("field added") && added.contains("no longer null") && added.contains("0 breaking"),
        "{added}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_ends_with_2() {
    let (old, _new) = two().await;
    old.run("create role clerk login; select webhook_grant('clerk', 'reader'); create role stranger login; create role alice login; select webhook_grant('alice', 'publisher')").await;
    let plain = old.cluster.empty_database("plain").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.to_str().expect("a path of text").to_owned()
    };
    let (empty, other) = (file("empty.json", ""), file("other.json", r#"{"openapi":"3.1.0"}"#));
    for role in ["clerk", "alice"] {
        let (code, told, error) = webhookd(&["diff", &old.url(), &old.url_as(role)], "");
        assert_eq!(
            (code, told.as_str(), error.as_str()),
            (Some(0), "no change\n", ""),
            "a {role}'s rights are enough"
        );
    }
    for (wrong, why) in [
        (
            old.url_as("stranger"),
            "NEW, a database, cannot be read: permission denied to read the documentation",
        ),
        (plain.url(), "the extension"),
        ("postgres://stranger:hunter2@127.0.0.1:1/x".to_owned(), "NEW, a database, cannot be read"),
        ("host=127.0.0.1 port=1 password=hunter2 sslmode=never".to_owned(), "sslmode"),
        ("nowhere.json".to_owned(), "NEW, the file nowhere.json, cannot be read"),
        (empty, "invalid JSON"),
        (other, "not an OpenAPI 3.1 document"),
        ("-".to_owned(), "standard input, cannot be read"),
    ] {
        let (code, told, error) = webhookd(&["diff", &old.url(), &wrong], "nonsense");
        assert_eq!((code, told.as_str()), (Some(2), ""), "{wrong}: {error}");
        assert!(
            error.contains(why) && error.trim_end().lines().count() == 1 && !error.contains("hunter2"),
            "{wrong}: {error}"
        );
    }
    assert_eq!(webhookd(&["diff", "-", "-"], "").0, Some(2));
    assert_eq!(webhookd(&["diff", &old.url()], "").0, Some(2));
    assert_eq!(webhookd(&["dump", "--database-url", &plain.url()], "").0, Some(3));
}
