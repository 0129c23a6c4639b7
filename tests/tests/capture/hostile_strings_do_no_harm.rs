//! Promise: a text in any argument of the SQL API is either stored or rejected, and has no other
//! effect.

use e2e::{cluster::describe, receiver::Keep, world::World};
use std::{collections::BTreeMap, ffi::OsStr, os::unix::ffi::OsStrExt};
use tokio_postgres::Client;

/// Returns texts that try to break out of quotes, formats, paths, identifiers and encodings.
fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "'",
        "''",
        "\"",
        "\\",
        "\\'; drop table canary; --",
        "'; drop table canary; --",
        "\"; drop table canary; --",
        "'); drop table canary; --",
        "$$; drop table canary; --",
        "$1",
        "%s %I %L %",
        "{}",
        "{\"a\": \"'; drop table canary; --\"}",
        "[\"'\"]",
        "null",
        "true) or (true",
        "1); drop table canary; select (1",
        "new.id = 1); drop table canary; --",
        "pg_sleep(3600)",
        "current_user",
        "public.canary",
        "\"public\".\"canary\"",
        "../../../../etc/passwd",
        "file:///etc/passwd",
        "http://user:pass@example.com/#x",
        "https://example.com/\r\nx-injected: 1",
        "a\u{0}b",
        "\u{1}\u{7f}\u{9f}",
        "\u{202e}txt.exe",
        "Zoë 🚀 \u{2028}",
        "𝓌𝑒𝒷𝒽𝑜𝑜𝓀.ping",
        "webhook.ping",
        "*",
        "*.*",
        "${jndi:ldap://127.0.0.1/a}",
        "<script>alert(1)</script>",
        "-1",
        "1e309",
        "NaN",
        "infinity",
        "\u{feff}",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(100_000));
    texts.push("'".repeat(10_000));
    texts.push("(".repeat(20_000));
    texts.push(format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)));
    texts
}

/// Returns a valid call for each function with a text argument, as name → arguments in named
/// notation.
fn calls(id: i64) -> BTreeMap<&'static str, Vec<(&'static str, String)>> {
    let id = id.to_string();
    let text = |text: &str| format!("'{text}'");
    let of_subscription = |first: Vec<(&'static str, String)>| {
        let rest = [
            ("events", "'{order.*}'"),
            ("name", "null"),
            ("secret", "null"),
            ("timeout", "'15s'"),
            ("retry", "'{1s}'"),
            ("max_in_flight", "'1'"),
            ("enabled", "'true'"),
            ("filter", "'$.data'"),
            ("format", "'standard'"),
            ("payload_mode", "'full'"),
            ("headers", "'{}'"),
            ("rate_limit", "'1'"),
            ("ordering", "'none'"),
            ("batch_size", "'1'"),
            ("batch_window", "'0'"),
            ("compact", "'false'"),
            ("exclude_origin", "'{}'"),
            ("verification", "'none'"),
            ("signature", "'{standard}'"),
            ("owner", "null"),
            ("tls", "null"),
            ("expected_response", "'{}'"),
            ("keep_response", "'false'"),
            ("scope", "'all'"),
            ("locked", "'{filter}'"),
        ];
        first.into_iter().chain(rest.map(|(name, value)| (name, value.to_owned()))).collect::<Vec<_>>()
    };
    let mut alter = of_subscription(vec![("id", id.clone()), ("url", text("https://example.com"))]);
    alter.push(("clear", "'{}'".to_owned()));
    let evt = "evt_000000000000011".to_owned();
    BTreeMap::from([
        (
            "webhook_watch",
            vec![
                ("rel", text("orders")),
                ("noun", text("order")),
                ("verbs", text("{\"insert\":\"created\"}")),
                ("columns", text("{id,total}")),
                ("exclude", "null".into()),
                ("on_columns", text("{total}")),
                ("condition", text("new.total > 0")),
                ("payload", "null".into()),
                ("key_columns", text("{id}")),
                ("owner_column", text("customer")),
            ],
        ),
        ("webhook_unwatch", vec![("rel", text("orders"))]),
        (
            "webhook_migrate",
            vec![("rel", text("orders")), ("statement", text("alter table orders add column extra int"))],
        ),
        (
            "webhook_emit",
            vec![
                ("event_type", text("a.b")),
                ("payload", text("{}")),
                ("key", text("k")),
                ("owner", text("o")),
            ],
        ),
        ("webhook_ping", vec![("id", id.clone())]),
        ("webhook_redeliver", vec![("event_id", text(&evt)), ("subscription_id", id.clone())]),
        ("webhook_try_now", vec![("id", id.clone()), ("ignore_retry_after", "'false'".to_owned())]),
        (
            "webhook_redeliver_failed",
            vec![
                ("subscription_id", id.clone()),
                ("since", text("-infinity")),
                ("until", text("infinity")),
                ("dry_run", "'true'".to_owned()),
            ],
        ),
        (
            "webhook_deliveries",
            vec![("subscription_id", id.clone()), ("rows_max", text("10")), ("before", text("1000"))],
        ),
        (
            "webhook_replay",
            vec![
                ("subscription_id", id.clone()),
                ("since", text("yesterday")),
                ("until", text("now")),
                ("events", text("{order.*}")),
            ],
        ),
        ("webhook_dry_run", vec![("subscription_id", id.clone()), ("since", text("yesterday"))]),
        (
            "webhook_backfill",
            vec![("subscription_id", id.clone()), ("rel", text("orders")), ("condition", text("true"))],
        ),
        ("webhook_backfill_cancel", vec![("id", "0".into())]),
        ("webhook_subscribe", of_subscription(vec![("url", text("https://example.com"))])),
        ("webhook_alter", alter),
        ("webhook_unsubscribe", vec![("id", id.clone())]),
        ("webhook_pause", vec![("id", id.clone()), ("reason", text("r"))]),
        ("webhook_resume", vec![("id", id.clone()), ("skip_backlog", text("false"))]),
        ("webhook_rotate_secret", vec![("id", id.clone()), ("overlap", text("1h"))]),
        ("webhook_seal", vec![("public_key", text("webhookd_public_x"))]),
        ("webhook_erase", vec![("rel", text("orders")), ("key", text("1"))]),
        ("webhook_forget_owner", vec![("owner", text("x"))]),
        (
            "webhook_sign",
            vec![("secret", text("whsec_x")), ("id", text("i")), ("ts", "1".into()), ("body", text("b"))],
        ),
        (
            "webhook_verify",
            vec![
                ("secret", text("whsec_x")),
                ("id", text("i")),
                ("ts", "1".into()),
                ("body", text("b")),
                ("header", text("v1,x")),
                ("now", text("now")),
            ],
        ),
        ("webhook_grant", vec![("role", text("postgres")), ("what", text("reader"))]),
        ("webhook_arm", vec![]),
        ("webhook_check", vec![]),
        ("webhook_openapi", vec![("events", text("{order.*}"))]),
        ("webhook_asyncapi", vec![("events", text("{order.*}"))]),
        ("webhook_event_schema", vec![("event_type", text("order.created"))]),
        ("webhook_event_example", vec![("event_type", text("order.created"))]),
    ])
}

/// Returns a literal. Postgres texts cannot contain NUL, and the driver cannot send it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "\\0").replace('\'', "''"))
}

/// Runs a statement and rolls it back. Returns the SQLSTATE if Postgres rejects it.
async fn outcome(client: &Client, statement: &str) -> Option<String> {
    let outcome = client.batch_execute(&format!("begin; {statement}")).await;
    let refused = outcome.err().map(|e| {
        let shown: String = statement.chars().take(300).collect();
        let code = e.code().unwrap_or_else(|| panic!("{shown}\n{}", describe(&e))).code().to_owned();
        let says = describe(&e);
        // These errors would be our fault: a bug in pg_webhook, a crash, a query that had to be
        // cancelled. So would a syntax error, unless it is about the text itself in its intended
        // meaning.
        let is_about_text = ["condition", "jsonpath", "relation name", "qualified name", "name syntax"]
            .iter()
            .any(|of| says.contains(of));
        let is_ours = ["XX", "57", "58", "08"].iter().any(|class| code.starts_with(class));
        assert!(!is_ours && (code != "42601" || is_about_text), "{shown}\n{says}");
        assert!(!says.contains("SQL statement"), "a query of ours was cut open: {shown}\n{says}");
        code
    });
    client.batch_execute("rollback").await.expect("the session goes on");
    refused
}

#[tokio::test(flavor = "multi_thread")]
async fn through_every_argument() {
    // Otherwise these statements would fill the server's log.
    let world = World::with(Keep::Requests, &["log_min_error_statement=panic"]).await;
    world.database.run("create table canary (id int); insert into canary values (1)").await;
    let id = world.subscribe("/ok").await;
    let client = world.database.client().await;
    client.batch_execute("set statement_timeout = '30s'; set client_min_messages = error").await.unwrap();
    let calls = calls(id);

    let listed = client
        .query(
            "select p.proname::text, p.proargnames from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass
             join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
             where p.pronamespace = x.extnamespace and d.deptype = 'e' and p.proname like 'webhook\\_%'",
            &[],
        )
        .await
        .unwrap();
    assert!(listed.len() >= 20, "{}", listed.len());
    for row in &listed {
        let (name, arguments): (String, Option<Vec<String>>) = (row.get(0), row.get(1));
        let call = calls.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not called here"));
        for (argument, _) in call {
            assert!(
                arguments.as_ref().is_some_and(|all| all.iter().any(|a| a == argument)),
                "{name}: {argument}"
            );
        }
    }

    let (mut allowed, mut refused) = (0, BTreeMap::<String, u32>::new());
    for (function, arguments) in &calls {
        for (at, (argument, _)) in arguments.iter().enumerate() {
            for text in hostile() {
                let call: Vec<String> = arguments
                    .iter()
                    .enumerate()
                    .map(|(i, (name, value))| {
                        let value = if i == at { literal(&text) } else { value.clone() };
                        format!("{name} => {value}")
                    })
                    .collect();
                match outcome(&client, &format!("select * from {function}({})", call.join(", "))).await {
                    None => allowed += 1,
                    Some(code) => *refused.entry(code).or_default() += 1,
                }
                let _ = argument;
            }
        }
    }
    println!("{allowed} allowed; refused: {refused:?}");
    assert!(allowed > 100 && refused.len() > 3);
    assert_eq!(world.database.number("select count(*) from canary").await, 1);
}

/// Names of tables and columns and values of rows are untrusted texts too.
#[tokio::test(flavor = "multi_thread")]
async fn through_names_and_values() {
    // Otherwise these statements would fill the server's log.
    let world = World::with(Keep::Requests, &["log_min_error_statement=panic"]).await;
    world.database.run("create table canary (id int); insert into canary values (1)").await;
    let client = world.database.client().await;
    let identifier = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut expected = 0;
    for (at, text) in hostile().into_iter().enumerate() {
        let name: String = text.chars().filter(|c| *c != '\0').take(12).collect();
        if name.is_empty() || name.len() > 63 {
            continue;
        }
        let (schema, table) = (identifier(&format!("s{at}{name}")), identifier(&name));
        let column = identifier(&name);
        let (noun, value) = (format!("thing_{at}"), literal(&text));
        let statements = format!(
            "create schema {schema}; create table {schema}.{table} ({column} text, other text, primary key ({column}));
             select webhook_watch({relation}, noun => '{noun}', condition => {condition}, key_columns => array[{name}],
                                  columns => array[{name}, 'other']);
             insert into {schema}.{table} values ({short}, {value});
             update {schema}.{table} set other = 'changed' || {value};
             delete from {schema}.{table}",
            relation = literal(&format!("{schema}.{table}")),
            condition = "null",
            name = literal(&name),
            short = literal(&text.chars().take(500).collect::<String>()),
        );
        client.batch_execute(&statements).await.unwrap_or_else(|e| panic!("{name:?}: {}", describe(&e)));
        expected += 3;
        let told =
            format!("select count(*) = 3 from webhook.event where type like '{noun}.%' and key is not null");
        assert_eq!(world.database.text(&told).await.as_deref(), Some("t"), "{name:?}");
        client
            .batch_execute(&format!("select webhook_unwatch({})", literal(&format!("{schema}.{table}"))))
            .await
            .unwrap();
    }
    assert!(expected > 90, "{expected}");
    assert_eq!(world.database.number("select count(*) from canary").await, 1);
}

/// Postgres does not check the encoding of settings that a session passes at its start.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_setting_that_is_no_text_is_left_out() {
    let world = World::new().await;
    let options = b"-c webhook.actor=\xff\xfe -c webhook.origin=caf\xc3 -c webhook.traceparent=\xc3\xa4";
    let mut psql = world.cluster.program("psql");
    psql.env("PGOPTIONS", OsStr::from_bytes(options)).args(["-X", "-v", "ON_ERROR_STOP=1", "-d"]);
    let insert = "insert into orders values (1, 'c')";
    let done = psql.arg(world.database.url()).args(["-c", insert]).output().expect("psql can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let stored =
        "select concat_ws('|', coalesce(actor, '-'), coalesce(origin, '-'), traceparent) from webhook.event";
    assert_eq!(world.database.text(stored).await.as_deref(), Some("-|-|ä"));
}
