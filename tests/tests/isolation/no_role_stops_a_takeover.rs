//! Promise: a role that can connect, and has no other right, can neither keep a daemon from
//! becoming the leader, nor hide that the leader is frozen.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread")]
async fn with_locks_that_sql_can_take() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.database.run("create role anyone login").await;
    let anyone = world.database.try_client("anyone").await.expect("it may connect");
    let locks = "select pg_advisory_lock(1885820776, n) from generate_series(0, 9) n";
    anyone.batch_execute(locks).await.expect("any role can take these");
    let refused = anyone.batch_execute("select webhook.try_daemon_lock('leader')").await;
    assert!(refused.is_err(), "only a dispatcher may");
    assert_eq!(
        world.database.text("select dispatcher_running::text from webhook.health").await.as_deref(),
        Some("false")
    );
    let first = Daemon::start(&world.database).await;
    world.insert_orders(1, 10).await;
    world.receiver.wait_for("/ok", 10, PATIENCE).await;
    first.kill9().await;
    let second = Daemon::start(&world.database).await;
    world.insert_orders(11, 10).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    assert!(second.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_name_of_a_frozen_leader() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.database.run("create role anyone login").await;
    let first = Daemon::start(&world.database).await;
    let name = "select a.application_name from webhook.daemon_lock l join pg_stat_activity a on a.pid = l.pid where l.name = 'leader'";
    let name = world.database.text(name).await.expect("a leader");
    let second = Daemon::spawn(&world.database);
    second.process().wait_for_line(|line| line.contains("daemon.stands_by"), PATIENCE).await;
    let anyone = world.database.try_client("anyone").await.expect("it may connect");
    anyone.batch_execute(&format!("set application_name = '{name}'")).await.expect("any session can");
    let alive = tokio::spawn(async move {
        while anyone.batch_execute("select 1").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    first.process().signal(libc::SIGSTOP);
    second.process().wait_for_line(|line| line.contains("daemon.active"), PATIENCE).await;
    assert!(!alive.is_finished(), "the session of another role is not ours to end");
    world.insert_orders(1, 10).await;
    world.receiver.wait_for("/ok", 10, PATIENCE).await;
    first.process().signal(libc::SIGCONT);
    first.process().signal(libc::SIGKILL);
    assert!(second.sigterm(PATIENCE).await.success());
}
