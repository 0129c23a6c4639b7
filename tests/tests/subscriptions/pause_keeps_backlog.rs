//! Promise: a paused subscription gets nothing and loses nothing. On resume the backlog is
//! delivered, or skipped by choice.

use e2e::{PATIENCE, daemon::Daemon, receiver::Keep, scale, world::World};

/// Returns the orders in the bodies that arrived on a path, in order of arrival.
fn orders(world: &World, path: &str) -> Vec<i64> {
    world.receiver.at(path).iter().filter_map(|request| request.json()["data"]["id"].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_while_paused_everything_after() {
    let world = World::new().await;
    let paused = world.subscribe("/ok/paused").await;
    world.subscribe("/ok/other").await;
    let mut daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 10).await;
    world.receiver.wait_for("/ok/paused", 10, PATIENCE).await;

    world.database.run(&format!("select webhook_pause({paused}, 'maintenance')")).await;
    world.insert_orders(11, 100).await;
    world.receiver.wait_for("/ok/other", 110, PATIENCE).await;
    let kept = format!(
        "select count(*) = 100 and bool_and(state = 'backlog') from webhook.queue where subscription_id = {paused}"
    );
    world.database.until(&kept, PATIENCE).await;
    assert_eq!(orders(&world, "/ok/paused").len(), 10, "nothing came while paused");

    // The backlog survives a restart of the daemon.
    assert!(daemon.sigterm(PATIENCE).await.success());
    daemon = Daemon::start(&world.database).await;
    world.insert_orders(111, 10).await;
    world.receiver.wait_for("/ok/other", 120, PATIENCE).await;
    world.database.run(&format!("select webhook_resume({paused})")).await;
    world.receiver.wait_for("/ok/paused", 120, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let mut came = orders(&world, "/ok/paused");
    came.sort_unstable();
    assert_eq!(came, (1..=120).collect::<Vec<_>>(), "all, and each once");
    assert_eq!(world.database.number("select count(*) from webhook.queue").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_skipped_by_choice() {
    let world = World::new().await;
    let paused = world.subscribe("/ok/paused").await;
    let _daemon = Daemon::start(&world.database).await;
    world.database.run(&format!("select webhook_pause({paused}, 'maintenance')")).await;
    world.insert_orders(1, 50).await;
    world.database.until("select count(*) = 50 from webhook.queue", PATIENCE).await;
    world.database.run(&format!("select webhook_resume({paused}, skip_backlog => true)")).await;
    world.insert_orders(51, 5).await;
    world.receiver.wait_for("/ok/paused", 5, PATIENCE).await;
    world.database.until("select count(*) = 0 from webhook.queue", PATIENCE).await;
    let mut came = orders(&world, "/ok/paused");
    came.sort_unstable();
    assert_eq!(came, [51, 52, 53, 54, 55]);
}

/// Checks that each page of a backlog costs the same wherever it is, also after the planner knows
/// the size of the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_page_of_a_large_backlog_costs_the_same() {
    let count: usize = scale("PGW_BACKLOG", 200_000, 1_000_000);
    let world = World::with(Keep::Ids, &["fsync=off"]).await;
    let paused = world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.database.run(&format!("select webhook_pause({paused}, 'maintenance')")).await;
    let rows = format!("insert into orders select i, 'c' from generate_series(1, {count}) i");
    world.database.run(&rows).await;
    world.database.until(&format!("select count(*) = {count} from webhook.queue"), PATIENCE * 2).await;
    world.database.run("vacuum analyze webhook.event, webhook.queue").await;

    // Sessions report their read statistics at their end at the latest.
    let reads =
        "select (select sum(idx_tup_read) from pg_stat_user_indexes where schemaname = 'webhook')::bigint
        + (select sum(seq_tup_read) from pg_stat_user_tables where schemaname = 'webhook')::bigint";
    assert!(daemon.sigterm(PATIENCE).await.success());
    let before = world.database.number(reads).await;
    let daemon = Daemon::start(&world.database).await;
    world.database.run(&format!("select webhook_resume({paused})")).await;
    world.receiver.wait_for("/ok", count, PATIENCE * 10).await;
    let all_written = format!("select count(*) >= {count} from webhook.attempt");
    world.database.until(&all_written, PATIENCE * 2).await;
    world.database.until("select count(*) = 0 from webhook.queue", PATIENCE * 2).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let read = world.database.number(reads).await - before;
    println!("{read} rows and index entries were read for a backlog of {count}");
    assert!(read < 30 * count as i64, "{read} rows and index entries were read for a backlog of {count}");
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
}
