//! Promise: at SIGHUP the daemon reads keys, secrets and certificates again, without a pause. If a
//! file cannot be used, it says which one and goes on with the former ones.

use e2e::{
    PATIENCE,
    daemon::{Daemon, binary},
    receiver::{SECRET, tls::Authority},
    world::World,
};
use std::{cell::Cell, fs, path::Path, process::Command};

const RENEWED: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Sends SIGHUP and waits for one more line of this name than before.
async fn reload(daemon: &Daemon, name: &str) {
    let left = Cell::new(daemon.process().log().iter().filter(|line| line.contains(name)).count() + 1);
    daemon.process().signal(libc::SIGHUP);
    let is_new = |line: &str| {
        left.set(left.get() - usize::from(line.contains(name)));
        left.get() == 0
    };
    daemon.process().wait_for_line(is_new, PATIENCE).await;
}

fn keygen(path: &Path) -> String {
    let output = Command::new(binary()).arg("keygen").arg(path).output().expect("webhookd can be started");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_secret_signs_the_next_delivery_and_a_broken_file_changes_nothing() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_owned();
    fs::write(path("orders"), SECRET).unwrap();
    fs::write(path("keys"), "").unwrap();
    fs::copy(Authority::new().file(), path("ca.pem")).unwrap();
    keygen(&path("first"));
    fs::copy(path("first"), path("keys")).unwrap();
    let id = world.subscribe("/ok").await;
    world.database.run(&format!("select webhook_alter({id}, secret => 'file:orders')")).await;
    let flags = ["--secrets-dir", &text(""), "--key-file", &text("keys"), "--ca-file", &text("ca.pem")]
        .map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let daemon = Daemon::start_with(&world.database, &flags).await;
    world.insert_orders(1, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;

    // The receiver of the tests rejects a request that this secret does not sign.
    fs::write(path("orders"), RENEWED).unwrap();
    world.receiver.expect_secret("/ok", RENEWED);
    reload(&daemon, "settings.reloaded").await;
    world.insert_orders(2, 1).await;
    world.settled(PATIENCE).await;

    // A secret that is sealed for a key that the daemon gets only now.
    let public = keygen(&path("second"));
    let keys = fs::read_to_string(path("second")).unwrap() + &fs::read_to_string(path("first")).unwrap();
    fs::write(path("keys"), keys).unwrap();
    reload(&daemon, "settings.reloaded").await;
    world.database.run(&format!("select webhook_alter({id}, secret => '{RENEWED}')")).await;
    world.database.run(&format!("select webhook_seal('{public}')")).await;
    world.insert_orders(3, 1).await;
    world.settled(PATIENCE).await;

    fs::write(path("ca.pem"), "no certificate").unwrap();
    reload(&daemon, "settings.unusable").await;
    let told =
        |line: &str| line.contains("settings.unusable") && line.contains("ca.pem contains no certificate");
    daemon.process().wait_for_line(told, PATIENCE).await;
    world.insert_orders(4, 1).await;
    world.settled(PATIENCE).await;
    let succeeded = "select count(*) from webhook.attempt where outcome = 'succeeded' and attempt = 1";
    assert_eq!(world.database.number(succeeded).await, 4, "each at the first attempt");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A poll waits for a lock while the files are read again. What it finds is newer than the secrets
/// that it began with.
#[tokio::test(flavor = "multi_thread")]
async fn no_event_after_a_reload_is_signed_with_the_former_secret() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("orders");
    fs::write(&secret, SECRET).unwrap();
    let id = world.subscribe("/ok").await;
    world.database.run(&format!("select webhook_alter({id}, secret => 'file:orders')")).await;
    let folder = dir.path().to_str().unwrap();
    let daemon = Daemon::start_with(&world.database, &["--secrets-dir", folder]).await;
    world.insert_orders(1, 1).await;
    world.settled(PATIENCE).await;
    let writer = world.database.client().await;
    writer.batch_execute("begin; lock table webhook.event in access exclusive mode").await.expect("a lock");
    world.database.run("select webhook.gate_ring()").await;
    // A poll names the partitions that it reads.
    let polls = "select exists (select from pg_locks l join pg_stat_activity a using (pid)
        join pg_inherits i on i.inhrelid = l.relation and i.inhparent = 'webhook.event'::regclass
        where not l.granted and a.query like 'select pg_current_snapshot()%')";
    world.database.until(polls, PATIENCE).await;
    fs::write(&secret, RENEWED).unwrap();
    world.receiver.expect_secret("/ok", RENEWED);
    reload(&daemon, "settings.reloaded").await;
    let order = "insert into orders values (2, 'c', 1, null); commit";
    writer.batch_execute(order).await.expect("an order");
    world.settled(PATIENCE).await;
    world.receiver.look(|record| assert_eq!((record.total, record.rejected.len()), (2, 0)));
    assert!(daemon.sigterm(PATIENCE).await.success());
}
