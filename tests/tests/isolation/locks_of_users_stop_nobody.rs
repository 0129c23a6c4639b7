//! Promise: a user who keeps a transaction open holds up only the subscription that it has locked.
//! The others' deliveries, the checkpoint and a takeover go on, and the log and SQL name the
//! session.

use e2e::{PATIENCE, cluster::Database, daemon::Daemon, world::World};
use tokio_postgres::Client;

/// What a subscriber can do to a subscription `$` in a transaction. Each locks it.
const STATEMENTS: [&str; 9] = [
    "select webhook_pause($)",
    "select webhook_resume($, skip_backlog => true)",
    "select webhook_alter($, name => 'renamed')",
    "select webhook_alter($, ordering => 'key')",
    "select webhook_unsubscribe($)",
    "select webhook_rotate_secret($)",
    "select webhook_replay($, '-infinity')",
    "select webhook_redeliver_failed($)",
    "savepoint a; select webhook_pause($); release a",
];

/// Opens a transaction, and executes the statement in it.
async fn begin(database: &Database, statement: &str, id: i64) -> Client {
    let client = database.client().await;
    let statement =
        format!("begin; set application_name = 'forgetful'; {}", statement.replace('$', &id.to_string()));
    client.batch_execute(&statement).await.expect("the statement works");
    client
}

fn is_locked(id: i64) -> String {
    format!(
        "select exists (select from webhook.locked_subscription l join pg_stat_activity a on a.pid = l.pid
         where l.subscription_id = {id} and l.application = 'forgetful' and l.role = 'postgres')"
    )
}

/// Everything that the other subscription must get has a final entry, and the checkpoint has passed
/// it.
const IS_QUIET: &str = "select pending = 0 from webhook.health";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_statement_has_locked_it() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let mut orders = 0;
    for statement in STATEMENTS {
        let id = world.subscribe_with("/status/503", "retry => array_fill(interval '300 ms', '{20}')").await;
        world.insert_orders(orders + 1, 5).await;
        orders += 5;
        world
            .database
            .until(&format!("select count(*) = 5 from webhook.queue where subscription_id = {id}"), PATIENCE)
            .await;
        let holder = begin(&world.database, statement, id).await;
        // Its retries fail meanwhile, and their results wait.
        world.database.until(&is_locked(id), PATIENCE).await;
        world.insert_orders(orders + 1, 50).await;
        orders += 50;
        world.receiver.wait_for("/ok", usize::try_from(orders).expect("a few"), PATIENCE).await;
        world.database.until(IS_QUIET, PATIENCE).await;
        let health = format!(
            "select state = 'blocked' and reason like '%forgetful%' from webhook.subscription_health where id = {id}"
        );
        world.database.until(&health, PATIENCE).await;
        let check = "select problem || repair from webhook_check() where problem = 'subscription is locked'";
        let found = world.database.text(check).await.expect(statement);
        assert!(found.contains("pg_terminate_backend("), "{found}");
        holder.batch_execute("rollback").await.expect("it ends");
        world
            .database
            .until(
                "select not exists (select from webhook.locked_subscription) from pg_class limit 1",
                PATIENCE,
            )
            .await;
        // Each retry counts once, those that had to wait too.
        world
            .database
            .until(
                &format!(
                    "select count(*) > 5 and count(*) = count(distinct (event_id, attempt)) from webhook.attempt where subscription_id = {id}"
                ),
                PATIENCE,
            )
            .await;
        world.database.run(&format!("select webhook_unsubscribe({id})")).await;
    }
    daemon
        .process()
        .wait_for_line(|line| line.contains("subscriptions.locked") && line.contains("forgetful"), PATIENCE)
        .await;
    daemon.process().wait_for_line(|line| line.contains("subscriptions.unlocked"), PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// The receiver is gone, and the daemon cannot write that the subscription is disabled.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_receiver_is_gone() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let id = world.subscribe("/status/410").await;
    let daemon = Daemon::start(&world.database).await;
    let holder = begin(&world.database, "select webhook_pause($)", id).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.receiver.wait_for("/status/410", 1, PATIENCE).await;
    world.database.until(&is_locked(id), PATIENCE).await;
    world.insert_orders(21, 20).await;
    world.receiver.wait_for("/ok", 40, PATIENCE).await;
    holder.batch_execute("rollback").await.expect("it ends");
    let disabled =
        format!("select not enabled and disabled_at is not null from webhook.subscription where id = {id}");
    world.database.until(&disabled, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// A daemon that starts while a subscription is locked delivers the others' events, once.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_daemon_is_killed_meanwhile() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let id = world.subscribe_with("/status/503", "retry => array_fill(interval '300 ms', '{50}')").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 100).await;
    world
        .database
        .until(&format!("select count(*) = 100 from webhook.queue where subscription_id = {id}"), PATIENCE)
        .await;
    let holder = begin(&world.database, "select webhook_resume($, skip_backlog => true)", id).await;
    world.database.until(&is_locked(id), PATIENCE).await;
    world.insert_orders(101, 100).await;
    world.receiver.wait_for("/ok", 200, PATIENCE).await;
    world.database.until(IS_QUIET, PATIENCE).await;
    let passed = "select not exists (select from webhook.beyond_checkpoint)";
    world.database.until(passed, PATIENCE).await;
    daemon.kill9().await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(201, 100).await;
    world.receiver.wait_for("/ok", 300, PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
    holder.batch_execute("commit").await.expect("it ends");
    world.database.until(passed, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}
