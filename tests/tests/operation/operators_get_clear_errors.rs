//! Promise: a daemon that cannot work logs one line that says what to do, and exits with a non-zero
//! code.

use e2e::{
    cluster::{Cluster, Database},
    daemon::Daemon,
};
use std::{path::Path, process::Command, time::Duration};

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

/// Starts a pgbouncer in transaction mode in front of the database. Returns it and the URL through
/// it.
async fn pooled(database: &Database, program: &Path) -> (e2e::process::Process, String) {
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").port()
    };
    let settings = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
         [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pool_mode = transaction\ndefault_pool_size = 4\n",
        database.cluster.port()
    );
    let file = database.cluster.dir().join("pgbouncer.ini");
    std::fs::write(&file, settings).expect("the cluster's directory is ours");
    let mut command = Command::new(program);
    command.arg(file);
    let pooler = database.cluster.spawn("pgbouncer", command);
    pooler.wait_for_line(|line| line.contains("process up"), e2e::PATIENCE).await;
    (pooler, format!("postgresql://postgres@127.0.0.1:{port}/{}", database.name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_pooler() {
    let candidates = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].map(Path::new);
    let Some(program) = candidates.into_iter().find(|program| program.exists()) else {
        println!("SKIPPED: no pgbouncer on this machine (apt-get install pgbouncer)");
        return;
    };
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let app = cluster.database("app").await;
    let (_pooler, url) = pooled(&app, program).await;
    refuses(&url, &["pooler"]).await;
}
