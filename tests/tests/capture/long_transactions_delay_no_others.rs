//! Promise: a transaction that stays open delays its own events and no others.

use e2e::{PATIENCE, cluster::value, daemon::Daemon, world::World};
use std::time::Duration;

/// The limit for the other events to arrive while the transaction is open.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_another_database() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let other = world.cluster.empty_database("other").await.client().await;
    other.batch_execute("create table t (i int); begin; insert into t values (1)").await.expect("it is open");
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;
    other.batch_execute("commit").await.expect("it was open throughout");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_with_events_of_their_own() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let mut daemon = Daemon::start(&world.database).await;
    let (commits, aborts) = (world.database.client().await, world.database.client().await);
    commits.batch_execute("begin; insert into orders values (-1, 'commits')").await.expect("it is open");
    aborts.batch_execute("begin; insert into orders values (-2, 'aborts')").await.expect("it is open");
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;

    // The checkpoint records the open transactions, so a restart neither forgets nor repeats them.
    assert!(daemon.sigterm(PATIENCE).await.success());
    daemon = Daemon::start(&world.database).await;
    world.insert_orders(201, 200).await;
    world.receiver.wait_for("/ok", 400, SOON).await;
    world.receiver.look(|record| {
        assert!(record.at("/ok").all(|r| r.json()["data"]["id"].as_i64() > Some(0)), "nothing uncommitted");
    });

    aborts.batch_execute("rollback").await.expect("it was open throughout");
    commits.batch_execute("commit").await.expect("it was open throughout");
    world.receiver.wait_for("/ok", 401, SOON).await;
    world.settled(SOON).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| {
        assert_eq!(record.distinct("/ok"), 401);
        assert_eq!(record.duplicates("/ok"), 0);
        assert!(record.at("/ok").any(|r| r.json()["data"]["id"] == -1), "the committed one");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    let prepare = "begin; insert into orders values (-1, 'prepared'); prepare transaction 'long'";
    world.app.batch_execute(prepare).await.expect("it is prepared");
    world.insert_orders(1, 200).await;
    world.receiver.wait_for("/ok", 200, SOON).await;
    world.app.batch_execute("commit prepared 'long'").await.expect("it was prepared throughout");
    world.receiver.wait_for("/ok", 201, SOON).await;
}

/// The events beyond the checkpoint, by their definition.
const BEYOND: &str = "select e.id from webhook.cursor c join webhook.event e
    on e.xid >= pg_snapshot_xmin(c.snapshot)::text::bigint and not pg_visible_in_snapshot(e.xid::text::xid8, c.snapshot)";

#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_written_since_is_not_read_again() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let [commits, aborts, stays] =
        [world.database.client().await, world.database.client().await, world.database.client().await];
    for (session, id) in [(&commits, -1), (&aborts, -2), (&stays, -3), (&world.app, -4)] {
        session
            .batch_execute(&format!("begin; insert into orders values ({id}, 'open')"))
            .await
            .expect("it is open");
    }
    world.app.batch_execute("prepare transaction 'forgotten'").await.expect("it is prepared");
    for first in (1..60_000).step_by(1500) {
        let insert = format!(
            "insert into orders select n, repeat('c', 200) from generate_series({first}, {first} + 1499) n"
        );
        world.app.batch_execute(&insert).await.expect("they are inserted");
    }
    world
        .app
        .batch_execute("update webhook.cursor set snapshot = pg_current_snapshot(); analyze")
        .await
        .unwrap();
    world.insert_orders(60_001, 5).await;
    commits.batch_execute("commit").await.expect("it was open throughout");
    aborts.batch_execute("rollback").await.expect("it was open throughout");
    assert_eq!(world.database.number("select count(*) from webhook.beyond_checkpoint").await, 6);
    assert_eq!(world.database.number("select count(*) from webhook.pending").await, 6);

    for look in [
        "select * from webhook.pending",
        "select count(*), min(b.created_at) from (select created_at from webhook.beyond_checkpoint limit 10000) b",
        "select webhook.delivery_number(9223372036854775807, 'queued', null)",
    ] {
        world.app.batch_execute(look).await.expect("results from the system catalog are kept");
        let plan = format!("explain (analyze, buffers, format json) {look}");
        let plan: serde_json::Value =
            serde_json::from_str(&value(&world.app, &plan).await.expect("a plan")).expect("JSON");
        let pages = |name: &str| plan[0]["Plan"][name].as_i64().expect("a number");
        let pages = pages("Shared Hit Blocks") + pages("Shared Read Blocks");
        // Each slot and each pair costs a few pages.
        assert!(pages < 600, "{look}: {pages} pages of more than 3000");
    }

    // Both queries agree for every snapshot.
    let compare = format!(
        "do $$
        begin
            perform setseed(0.5);
            for round in 1..100 loop
                update webhook.cursor set snapshot = (
                    select format('%s:%s:%s', b.low, b.high, (select string_agg(x::text, ',' order by x)
                                  from generate_series(b.low, b.high - 1) x where x = b.low or random() < 0.3))::pg_snapshot
                    from (select least(a.one, a.other) as low, greatest(a.one, a.other) as high
                          from (select min(e.xid) + floor(random() * (max(e.xid) - min(e.xid) + 3))::bigint as one,
                                       min(e.xid) + floor(random() * (max(e.xid) - min(e.xid) + 3))::bigint as other
                                from webhook.event e) a) b);
                if exists ({BEYOND} except all select b.id from webhook.beyond_checkpoint b)
                   or exists (select b.id from webhook.beyond_checkpoint b except all {BEYOND}) then
                    raise exception 'with snapshot %', (select c.snapshot from webhook.cursor c);
                end if;
            end loop;
        end
        $$"
    );
    world.database.run(&compare).await;
    world.database.run("delete from webhook.cursor").await;
    assert_eq!(world.database.number("select count(*) from webhook.beyond_checkpoint").await, 0);
}
