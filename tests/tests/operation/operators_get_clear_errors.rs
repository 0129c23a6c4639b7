//! Promise: a daemon that cannot work logs one line that says what to do, and exits with a non-zero
//! code.

use e2e::{cluster::Cluster, daemon::Daemon, pooler::Pooler};
use std::{process::Command, time::Duration};

/// Runs the daemon until it exits by itself. Returns the one line that it logs.
async fn refusal(url: &str, arguments: &[&str]) -> String {
    let daemon = Daemon::spawn_with(url, arguments);
    let status = daemon.ended(Duration::from_secs(30)).await;
    let said: Vec<_> = daemon.process().log().into_iter().filter(|line| !line.trim().is_empty()).collect();
    assert!(!status.success() && status.code().is_some(), "{url}: {status}; {said:#?}");
    assert_eq!(said.len(), 1, "{url}: one line, not {said:#?}");
    assert!(!said[0].contains("panicked"), "{said:?}");
    said[0].clone()
}

/// Checks that the daemon's line contains all of the words.
async fn refuses(url: &str, words: &[&str]) {
    refuses_with(url, &[], words).await;
}

async fn refuses_with(url: &str, arguments: &[&str], words: &[&str]) {
    let said = refusal(url, arguments).await;
    println!("{said}");
    for word in words {
        assert!(said.to_lowercase().contains(word), "{url}: {said:?} does not say {word:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_url_and_no_server() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound")
    };
    refuses(&format!("postgresql://postgres@{closed}/app"), &["postgres", "--database-url"]).await;
    refuses("postgresql://postgres@host.invalid/app", &["--database-url"]).await;
    refuses("nonsense", &["database url", "postgres://"]).await;
    refuses("mysql://root@127.0.0.1/app", &["database url", "postgres://"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn database_role_extension_version_and_copy() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let app = cluster.database("app").await;
    let bare = cluster.empty_database("bare").await;
    refuses(&bare.url(), &["pg_webhook", "create extension"]).await;
    refuses(&app.url().replace("/app", "/absent"), &["absent", "--database-url"]).await;
    refuses(&app.url_as("stranger"), &["stranger"]).await;

    app.run("create role clerk login").await;
    refuses(&app.url_as("clerk"), &["clerk", "webhook_grant"]).await;

    let other = cluster.database("other").await;
    other
        .run("set allow_system_table_mods = on; update pg_extension set extversion = '99.0' where extname = 'pg_webhook'")
        .await;
    refuses(&other.url(), &["99.0", env!("CARGO_PKG_VERSION"), "update"]).await;

    // The checkpoint is from a daemon that ran in another database, by its system identifier.
    let copy = cluster.database("copy").await;
    let daemon = Daemon::start(&copy).await;
    copy.until("select exists (select from webhook.cursor)", Duration::from_secs(15)).await;
    assert!(daemon.sigterm(Duration::from_secs(15)).await.success());
    copy.run("update webhook.cursor set system_identifier = 1").await;
    refuses(&copy.url(), &["copy"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_role_is_enough() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let app = cluster.database("app").await;
    app.run("create role courier login; select webhook_grant('courier', 'dispatcher')").await;
    let daemon = Daemon::spawn_with(&app.url_as("courier"), &[]);
    daemon.ready(&app).await;
    assert!(daemon.sigterm(Duration::from_secs(15)).await.success());
    // A grant from before the function existed.
    app.run("revoke execute on function webhook.backfill_step(bigint, integer) from courier").await;
    refuses(&app.url_as("courier"), &["courier", "backfill_step", "webhook_grant"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_admin_server_lacks_is_named() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let app = cluster.database("app").await;
    app.run(
        "create role courier login; select webhook_grant('courier', 'dispatcher');
         create role support; select webhook_grant('support', 'subscriber')",
    )
    .await;
    let url = app.url_as("courier");
    let admin = ["--admin", "127.0.0.1:0", "--admin-open-as", "support"];
    let check = |arguments: &[&str]| {
        let arguments = [&["check", "--database-url", &url], arguments].concat();
        let output = Command::new(e2e::daemon::binary()).args(arguments).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // Callers act as a role of which the daemon is not a member.
    let (code, said) = check(&admin);
    assert!(
        code == Some(3) && said.contains("✗ admin") && said.contains("grant support to courier"),
        "{said}"
    );
    // A GRANT of a powerful role would give the daemon its rights: of a superuser, the extension's
    // owner, a member of one, or a role that passes row security.
    app.run("create role dba; grant postgres to dba; create role seer bypassrls").await;
    for powerful in ["postgres", "dba", "seer", "pg_read_all_data"] {
        let admin = ["--admin", "127.0.0.1:0", "--admin-open-as", powerful];
        let (code, said) = check(&admin);
        assert_eq!(code, Some(3), "{said}");
        let daemon = Daemon::spawn_with(&url, &admin);
        let missing = |line: &str| line.contains("admin.roles_missing");
        let logged = daemon.process().wait_for_line(missing, e2e::PATIENCE).await;
        for told in [&said, &logged] {
            assert!(told.contains(powerful) && !told.contains(&format!("grant {powerful}")), "{told}");
            assert!(told.contains("select webhook_grant('operator', 'admin')"), "{told}");
        }
    }
    let (_, said) = check(&["--admin", "127.0.0.1:0", "--admin-open-as", "ghost"]);
    assert!(said.contains("no role ghost") && !said.contains("grant ghost"), "{said}");
    app.run("grant support to courier").await;
    let (code, said) = check(&admin);
    assert!(code == Some(0) && said.contains("✓ admin"), "{said}");
    let (code, said) = check(&[]);
    assert!(code == Some(0) && said.contains("- admin      not checked"), "{said}");
    // A grant from before the admin server existed.
    for (revoked, named) in [
        ("revoke select on webhook.token from courier", "webhook.token"),
        ("revoke delete on webhook.idempotency from courier", "delete on webhook.idempotency"),
        ("revoke execute on function webhook.act_for(text, oid) from courier", "webhook.act_for"),
        // `support` has the other two functions, so the daemon has them as its member.
        (
            "revoke execute on function webhook.delivery_number(bigint, text, bigint) from courier",
            "webhook.delivery_number",
        ),
    ] {
        app.run(revoked).await;
        refuses_with(&url, &admin, &["courier", named, "webhook_grant('courier', 'dispatcher')"]).await;
        let (code, said) = check(&admin);
        assert!(code == Some(3) && said.contains("✗ admin") && said.contains(named), "{said}");
        app.run("select webhook_grant('courier', 'dispatcher')").await;
    }
    assert_eq!(check(&admin).0, Some(0), "the grant that it names has repaired it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby() {
    let cluster = Cluster::start().await;
    let app = cluster.database("app").await;
    app.run("select 1").await;
    let standby = cluster.standby().await;
    let copy = standby.existing("app");
    copy.until("select exists (select from pg_extension where extname = 'pg_webhook')", e2e::PATIENCE).await;
    refuses(&copy.url(), &["standby", "primary"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let app = cluster.database("app").await;
    let pooler = Pooler::start(&app, 4).await;
    refuses(&pooler.url(), &["pooler"]).await;
}
