//! Promise: a link to Postgres that acknowledges every byte and answers nothing is noticed, logged
//! and replaced. Nothing is lost.

use e2e::{PATIENCE, admin::Admin, link::Link, world::World};

/// A world whose daemon reaches the server through a link.
async fn start() -> (World, Link, Admin) {
    let world = World::new().await;
    Admin::roles(&world.database).await;
    world.subscribe("/ok").await;
    let link = Link::to(world.cluster.port()).await;
    let url = format!("postgresql://daemon@127.0.0.1:{}/app", link.port());
    let admin = Admin::start_at(&world.database, &url, &["--admin-open-as", "ops"], &[]).await;
    admin.until("/readyz", 200, "active").await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    (world, link, admin)
}

async fn delivers_again(world: World, admin: Admin) {
    admin.until("/readyz", 200, "active").await;
    admin.until("/healthz", 200, r#""status":"ok""#).await;
    world.insert_orders(41, 20).await;
    world.receiver.wait_for("/ok", 60, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(admin.daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_nothing_passes_any_more() {
    let (world, link, admin) = start().await;
    link.hold();
    world.insert_orders(21, 20).await;
    let log = admin.daemon.process();
    let silent =
        |line: &str| line.contains("postgres.silent") && line.contains("does not answer on a new connection");
    log.wait_for_line(silent, PATIENCE).await;
    log.wait_for_line(|line| line.contains("session.lost"), PATIENCE).await;
    admin.until("/readyz", 503, "connecting").await;
    admin.until("/healthz", 200, r#""status":"degraded""#).await;
    link.release();
    delivers_again(world, admin).await;
}

/// As with a firewall that has forgotten the connections it knew.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_only_new_connections_work() {
    let (world, link, admin) = start().await;
    link.hold_present();
    world.insert_orders(21, 20).await;
    let log = admin.daemon.process();
    let silent = |line: &str| line.contains("postgres.silent") && line.contains("the backend is idle");
    log.wait_for_line(silent, PATIENCE).await;
    log.wait_for_line(|line| line.contains("daemon.ends_own_former_sessions"), PATIENCE).await;
    world.receiver.wait_for("/ok", 40, PATIENCE).await;
    delivers_again(world, admin).await;
}

/// A statement that waits for a lock is no dead link.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn but_a_slow_statement_is_waited_for() {
    let (world, _link, admin) = start().await;
    world.settled(PATIENCE).await;
    let mut blocker = world.database.client().await;
    blocker.batch_execute("set application_name = 'forgetful'").await.expect("a name");
    let lock = blocker.transaction().await.expect("a transaction");
    lock.batch_execute("lock table webhook.attempt in exclusive mode").await.expect("a lock");
    world.insert_orders(21, 20).await;
    let log = admin.daemon.process();
    let line = log.wait_for_line(|line| line.contains("postgres.slow"), PATIENCE).await;
    assert!(line.contains("Lock:relation") && line.contains("Ledger"), "{line}");
    assert!(line.contains("forgetful"), "it names the session: {line}");
    lock.rollback().await.expect("it lets go");
    world.receiver.wait_for("/ok", 40, PATIENCE).await;
    world.settled(PATIENCE).await;
    let log = log.log().join("\n");
    assert!(!log.contains("session.lost") && !log.contains("postgres.silent"), "{log}");
    delivers_again(world, admin).await;
}
