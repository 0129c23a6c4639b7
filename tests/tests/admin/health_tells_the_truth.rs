//! Promise: `/readyz` says whether this daemon delivers, and if not, why. `/metrics` has
//! Prometheus' format, with a bounded number of labels, and lets no caller in by accident.

use e2e::{
    PATIENCE,
    admin::{Admin, token},
    daemon::{Daemon, binary},
    foreign::Language,
    world::World,
};
use serde_json::json;
use std::{collections::BTreeSet, process::Command, time::Duration};
use tokio::time::{Instant, interval};

#[tokio::test(flavor = "multi_thread")]
async fn active_standby_and_copy() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let one = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    one.until("/readyz", 200, "active").await;
    let other = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    other.until("/readyz", 503, "standby").await;
    assert_eq!(other.ask("GET", "/healthz", None, &[], None).await.status, 200, "a standby is healthy");
    one.daemon.kill9().await;
    // The standby has taken over.
    other.until("/readyz", 200, r#""phase":"active""#).await;

    let ours = world.database.text("select instance from webhook.cursor").await.expect("it has adopted it");
    // A checkpoint of another cluster, and one that a dump restored.
    for copied in ["system_identifier = 1", "restored_at = now()"] {
        world.database.run(&format!("update webhook.cursor set {copied}")).await;
        other.until("/readyz", 503, "webhook_arm").await;
        world.database.run("select webhook_arm()").await;
        other.until("/readyz", 200, "active").await;
    }
    // The database is armed for another instance while the daemon runs.
    let arm_for = |instance: &str| format!("update webhook.cursor set instance = '{instance}'");
    world.database.run(&arm_for("elsewhere")).await;
    other.until("/readyz", 503, "--instance 'elsewhere'").await;
    world.database.run(&arm_for(&ours)).await;
    other.until("/readyz", 200, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_daemon_is_reported() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.subscribe("/ok").await;
    let admin = Admin::start(&world.database, &["--admin-open-as", "ops"]).await;
    admin.until("/readyz", 200, "active").await;
    // The events about the subscription are behind the checkpoint.
    world.database.until("select not exists (select from webhook.beyond_checkpoint)", PATIENCE).await;
    // The ledger cannot write, so the checkpoint cannot move.
    let mut blocker = world.database.client().await;
    let lock = blocker.transaction().await.expect("a transaction");
    lock.batch_execute("lock table webhook.attempt in exclusive mode").await.expect("a lock");
    world.insert_orders(1, 10).await;
    admin.until("/readyz", 503, "stalled: 10 events are pending").await;
    lock.rollback().await.expect("it lets go");
    admin.until("/readyz", 200, "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_prometheus_reads() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let (ops, alice) =
        (token(&world.database, &["--role", "ops"]), token(&world.database, &["--role", "alice"]));
    world.subscribe("/ok").await;
    world.subscribe_with("/status/500", "retry => '{}'").await;
    let many = "select webhook_subscribe('http://127.0.0.1:9/' || n, events => '{x.y}') from generate_series(1, 600) n";
    world.database.run(many).await;
    // The newest subscription has no label of its own.
    let newest = world.subscribe_with("/paused", "enabled => false").await;
    world
        .database
        .run(&format!("insert into webhook.receiver (subscription_id, circuit, failing_since) values ({newest}, 'open', now())"))
        .await;
    let admin = Admin::start(&world.database, &[]).await;
    // Fewer failures than it takes to open the circuit.
    world.insert_orders(1, 8).await;
    world.receiver.wait_for("/ok", 8, PATIENCE).await;
    world
        .database
        .until("select count(*) = 8 from webhook.delivery where state = 'exhausted'", PATIENCE)
        .await;
    assert_eq!(admin.get("/metrics", &alice).await.status, 403);
    let kept = format!("select count(*) = 8 from webhook.queue where subscription_id = {newest}");
    world.database.until(&kept, PATIENCE).await;
    admin.until("/readyz", 200, "active").await;
    let text = scrape(&admin, &ops, r#"webhookd_backlog{subscription="other"} 8"#).await;
    for line in [
        r#"webhookd_circuit_open{subscription="other"} 1"#,
        r#"webhookd_subscription_enabled{subscription="other"} 0"#,
        r#"webhookd_subscription_enabled{subscription="500"} 1"#,
        r#"webhookd_deliveries_exhausted_total{subscription="1"} 0"#,
        r#"webhookd_attempts_total{outcome="succeeded",subscription="1"} 8"#,
        r#"webhookd_attempts_total{outcome="http_error",subscription="2"} 8"#,
        r#"webhookd_deliveries_exhausted_total{subscription="2"} 8"#,
        "webhookd_attempt_duration_seconds_count 16",
        "webhookd_active 1",
        "webhookd_armed 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
    }
    let parsed = Language::Python.judge("parse_metrics", &[json!({ "text": text })]);
    let families: serde_json::Value = serde_json::from_str(&parsed[0]).expect("families");
    let manual =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/monitoring/METRICS.md"))
            .expect("the manual");
    // The manual lists exactly the metrics that are served.
    let served: BTreeSet<String> = families
        .as_object()
        .expect("an object")
        .iter()
        .filter(|(name, _)| name.starts_with("webhookd_"))
        .map(
            |(name, family)| if family["type"] == "counter" { format!("{name}_total") } else { name.clone() },
        )
        .collect();
    let documented: BTreeSet<String> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `webhookd_")?.split('`').next())
        .map(|name| format!("webhookd_{name}"))
        .collect();
    assert_eq!(served, documented);
    for (name, family) in families.as_object().expect("an object") {
        assert_eq!(family["help"], true, "{name}");
        assert!(family["samples"].as_i64().is_some_and(|count| count <= 1000), "{name}: {family}");
    }
    // The metrics in the dashboard and the alerts exist.
    for file in ["dashboard.json", "alerts.yml"] {
        let path = format!("{}/../docs/monitoring/{file}", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read_to_string(path).expect("it is there");
        for part in file.split("webhookd_").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let full = format!("webhookd_{name}");
            assert!(text.contains(&format!("\n# TYPE {}", full.trim_end_matches("_bucket"))), "{full}");
        }
    }
    // Unsubscribing frees a label. The counts of the deleted subscription stay in the totals.
    world.database.run("select webhook_unsubscribe(2)").await;
    let gone = r#"webhookd_attempts_total{outcome="http_error",subscription="gone"} 8"#;
    let text = scrape(&admin, &ops, gone).await;
    assert!(
        text.contains(r#"webhookd_backlog{subscription="501"} 0"#) && !text.contains(r#"subscription="2"}"#),
        "{text}"
    );
}

/// Polls `/metrics` until it contains this line, and returns the text.
async fn scrape(admin: &Admin, token: &str, line: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut pace = interval(Duration::from_millis(100));
    loop {
        pace.tick().await;
        let text = admin.get("/metrics", token).await.text;
        if text.lines().any(|have| have == line) {
            return text;
        }
        assert!(Instant::now() < deadline, "{line} is not in\n{text}");
    }
}

/// Checks that no scrape is truncated or goes backwards while the counters change.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_under_load_is_whole() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let ops = token(&world.database, &["--role", "ops"]);
    for path in ["/ok/a", "/ok/b", "/status/500"] {
        world.subscribe_with(path, "retry => '{10 ms}'").await;
    }
    let admin = Admin::start(&world.database, &[]).await;
    let scrapes = async {
        let mut texts = Vec::new();
        for _ in 0..30 {
            let answer = admin.get("/metrics", &ops).await;
            assert_eq!(answer.status, 200);
            texts.push(json!({ "text": answer.text }));
        }
        texts
    };
    let (texts, ()) = tokio::join!(scrapes, world.insert_orders(1, 500));
    world.receiver.wait_for("/ok/a", 500, PATIENCE).await;
    let last = json!({ "text": admin.get("/metrics", &ops).await.text });
    let parsed = Language::Python.judge("parse_metrics", &[texts, vec![last]].concat());
    let mut before = 0.0;
    for families in parsed {
        let families: serde_json::Value = serde_json::from_str(&families).expect("families");
        let attempts = families["webhookd_attempts"]["sum"].as_f64().unwrap_or_default();
        assert!(attempts >= before, "{attempts} after {before}");
        assert!(families["webhookd_attempt_duration_seconds"]["samples"].as_i64() > Some(10), "{families}");
        before = attempts;
    }
    assert!(before >= 1.0, "something was counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_caller_is_let_in_by_accident() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    let url = world.database.url_as("daemon");
    let refusal = |arguments: &[&str]| {
        let arguments = [&["run", "--database-url", &url], arguments].concat();
        let output = Command::new(binary()).args(arguments).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (arguments, words) in [
        (["--admin", "0.0.0.0:0", "--admin-open-as", "ops"].as_slice(), "requires a loopback address"),
        (&["--admin-open-as", "ops"], "requires --admin"),
    ] {
        let (code, said) = refusal(arguments);
        assert!(code == Some(2) && said.contains(words), "{arguments:?}: {code:?} {said}");
    }
    for (arguments, words) in [
        (["--role", "absent"].as_slice(), "does not exist"),
        (&["--role", "ops", "--owner", "t1"], "can see other owners"),
    ] {
        let output = Command::new(binary())
            .args(["token", "create", "--database-url", &world.database.url(), "--name", "x"])
            .args(arguments)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(words) && output.stdout.is_empty(),
            "{said}"
        );
    }
    let _ = token(&world.database, &["--role", "alice"]);
    let daemon = Daemon::spawn_with(&url, &["--admin", "0.0.0.0:0"]);
    daemon.process().wait_for_line(|line| line.contains("admin.listens"), PATIENCE).await;
}

/// After the last token is revoked, the next start of the daemon must still deliver.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_it_delivers_and_rejects_every_caller() {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.subscribe("/ok").await;
    let check = || {
        let output = Command::new(binary())
            .args(["check", "--admin", "127.0.0.1:1", "--database-url", &world.database.url_as("daemon")])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines().find(|line| line.contains("admin")).unwrap_or_default().to_owned()
    };
    let hint = check();
    assert!(hint.starts_with('✓') && hint.contains("webhookd token create"), "{hint}");
    // An expired token does not count.
    world.database.run("insert into webhook.token (role, name, token_sha256, expires_at) values ('ops', 'old', sha256('x'), now())").await;
    let admin = Admin::start(&world.database, &[]).await;
    let process = admin.daemon.process();
    process.wait_for_line(|line| line.contains("WARN") && line.contains("admin.no_tokens"), PATIENCE).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    admin.until("/readyz", 200, "active").await;
    assert_eq!(admin.ask("GET", "/healthz", None, &[], None).await.status, 200);
    for path in ["/metrics", "/v1/subscriptions"] {
        assert_eq!(admin.ask("GET", path, None, &[], None).await.status, 401, "{path}");
    }
    assert_eq!(admin.ask("GET", "/", None, &[], None).await.header("location"), "/login");
    let made = token(&world.database, &["--role", "ops"]);
    assert_eq!(admin.get("/v1/subscriptions", &made).await.status, 200, "at once");
    assert!(!check().contains("token create"));
}
