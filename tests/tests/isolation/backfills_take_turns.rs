//! Promise: the condition of a backfill runs without locks and for a short time. It delays neither
//! the application nor the backfills of other roles, and leaves nothing in the daemon's session.

use e2e::{PATIENCE, daemon::Daemon, receiver::SECRET, world::World};

/// A role that may subscribe, and may read orders.
async fn subscriber(world: &World, role: &str) {
    let statement = format!(
        "create role {role} login; select webhook_grant('{role}', 'subscriber'); grant select on orders to {role}"
    );
    world.database.run(&statement).await;
}

/// Subscribes a path for the role, and starts a backfill with this condition.
async fn backfill(world: &World, role: &str, path: &str, condition: &str) -> i64 {
    let client = world.database.try_client(role).await.expect("it may connect");
    let url = world.receiver.url(path);
    let subscribe =
        format!("select id from webhook_subscribe('{url}', '{{order.snapshot}}', secret => '{SECRET}')");
    let id: i64 = client.query_one(&subscribe, &[]).await.expect("a subscription").get(0);
    world.widen_scopes().await;
    let statement = format!("select webhook_backfill({id}, 'orders', $c${condition}$c$)");
    client.query_one(&statement, &[]).await.expect("a backfill").get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_condition_that_sleeps() {
    let world = World::new().await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 1000) i")
        .await
        .expect("rows");
    for role in ["slow", "quick"] {
        subscriber(&world, role).await;
    }
    let asleep: Vec<i64> = {
        let mut all = Vec::new();
        for n in 0..3 {
            all.push(backfill(&world, "slow", &format!("/ok/slow/{n}"), "pg_sleep(50) is not null").await);
        }
        all
    };
    let daemon = Daemon::start(&world.database).await;
    let sleeps = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')";
    world.database.until(sleeps, PATIENCE).await;
    // The application changes the rows of the step.
    world
        .app
        .batch_execute("set lock_timeout = '1s'; update orders set note = 'x'")
        .await
        .expect("no lock is held");
    backfill(&world, "quick", "/ok/quick", "id % 2 = 0").await;
    world.receiver.wait_for("/ok/quick", 500, PATIENCE).await;
    world.database.until(&format!("select count(*) = 3 from webhook.backfill where id = any ('{{{}}}') and state = 'failed' and error like '%longer than 2 s%'",
        asleep.iter().map(i64::to_string).collect::<Vec<_>>().join(",")), PATIENCE * 3).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_condition_that_leaves_locks() {
    let world = World::new().await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 10) i")
        .await
        .expect("rows");
    subscriber(&world, "untidy").await;
    let daemon = Daemon::start(&world.database).await;
    let id = backfill(&world, "untidy", "/ok/untidy", "pg_advisory_lock(4711) is not null").await;
    world
        .database
        .until(&format!("select state = 'done' from webhook.backfill where id = {id}"), PATIENCE)
        .await;
    world.receiver.wait_for("/ok/untidy", 10, PATIENCE).await;
    let free = "select not exists (select from pg_locks where locktype = 'advisory' and objid = 4711)";
    world.database.until(free, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Rows that change between the evaluation of the condition and the lock are evaluated again.
#[tokio::test(flavor = "multi_thread")]
async fn and_every_row_that_meets_the_condition_is_sent() {
    let world = World::new().await;
    world
        .app
        .batch_execute("insert into orders select i, 'c', i % 2 from generate_series(1, 2000) i")
        .await
        .expect("rows");
    subscriber(&world, "reader").await;
    let daemon = Daemon::start(&world.database).await;
    let writer = world.database.client().await;
    let id = backfill(&world, "reader", "/ok/reader", "total >= 0").await;
    let running = format!("select state = 'running' from webhook.backfill where id = {id}");
    while world.database.text(&running).await.as_deref() == Some("t") {
        writer.batch_execute("update orders set total = total + 2 where id in (select (random() * 1999)::int + 1 from generate_series(1, 20))").await.expect("it changes");
    }
    world.receiver.wait_for("/ok/reader", 2000, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
