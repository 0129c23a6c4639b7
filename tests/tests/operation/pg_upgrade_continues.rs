//! Promise: after `pg_upgrade` and `webhook_arm()` the daemon continues. No undelivered event is
//! lost, none is sent twice, and watched tables stay watched.
//!
//! The test needs a second, older Postgres in `PGW_BIN_FROM`: `make test PG=17` runs it, where the
//! system's own is older.

use e2e::{
    PATIENCE,
    cluster::Cluster,
    daemon::Daemon,
    receiver::{Behaviour, Receiver, SECRET},
    world::ORDERS,
};
use std::path::PathBuf;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs an older Postgres beside the one under test: make test PG=17"]
async fn of_a_cluster_with_undelivered_events() {
    let from = std::env::var_os("PGW_BIN_FROM").map(PathBuf::from);
    let old = Cluster::start_of(&from.expect("PGW_BIN_FROM names the older Postgres")).await;
    let database = old.database("app").await;
    let receiver = Receiver::start().await;
    receiver.behave("/ok/failing", Behaviour::Status(503));
    let subscribe = |path: &str, more: &str| {
        format!(
            "select webhook_subscribe('{}', '{{order.*,invoice.*}}', secret => '{SECRET}'{more});",
            receiver.url(path)
        )
    };
    database
        .run(&format!(
            "{ORDERS}; create table invoice (id int primary key);
             create function as_json(invoice) returns json language sql stable as 'select json_build_object(''no'', ($1).id)';
             create role clerk login; select webhook_grant('clerk', 'subscriber'), webhook_grant('clerk', 'reader');
             select webhook_watch('orders', noun => 'order', condition => 'new.total >= 0', verbs => '{{\"insert\":\"created\"}}');
             select webhook_watch('invoice', payload => 'as_json');
             {}{}{}{}",
            subscribe("/ok", ""),
            subscribe("/ok/keyed", ", ordering => 'key'"),
            subscribe("/ok/paused", ", enabled => false, owner => 'clerk', scope => 'all'"),
            subscribe("/ok/failing", ", retry => array_fill(interval '1 second', array[50])"),
        ))
        .await;
    let daemon = Daemon::start(&database).await;
    database.run("insert into orders select i, 'c', i from generate_series(1, 100) i").await;
    receiver.wait_for("/ok", 100, PATIENCE).await;
    receiver.wait_for("/ok/keyed", 100, PATIENCE).await;
    database.until("select count(*) = 200 from webhook.queue", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    // No daemon has read these; some of their transactions were rolled back.
    database.run("insert into orders select i, 'c', i from generate_series(101, 130) i; insert into invoice values (1)").await;
    database.run("begin; insert into orders values (900, 'c', 1); rollback").await;
    let version = database.number("show server_version_num").await;

    let new = old.upgraded().await;
    let database = new.existing("app");
    assert!(database.number("show server_version_num").await > version);
    // The upgraded cluster has a new identity. It stays silent until an operator calls
    // `webhook_arm()`.
    let refused = Daemon::spawn(&database);
    assert!(!refused.ended(PATIENCE).await.success());
    assert_eq!(database.text("select armed from webhook.health").await.as_deref(), Some("f"));
    database.run("insert into orders select i, 'c', i from generate_series(131, 140) i").await;
    database.run("select webhook_arm()").await;
    assert_eq!(database.text("select string_agg(c::text, '; ') from webhook_check() c").await, None);

    let daemon = Daemon::start_with(&database, &["--probe-interval-ms", "200"]).await;
    database.run("insert into orders select i, 'c', i from generate_series(141, 150) i; insert into invoice values (2)").await;
    database.run("select webhook_resume(id) from webhook.subscription where not enabled").await;
    receiver.behave("/ok/failing", Behaviour::Ok);
    for path in ["/ok", "/ok/keyed", "/ok/paused", "/ok/failing"] {
        receiver.wait_for(path, 152, PATIENCE).await;
    }
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| {
        for path in ["/ok", "/ok/keyed", "/ok/paused", "/ok/failing"] {
            assert_eq!(record.distinct(path), 152, "{path}");
        }
        assert_eq!(
            record.duplicates("/ok") + record.duplicates("/ok/keyed") + record.duplicates("/ok/paused"),
            0
        );
        assert_eq!(record.rejected, Vec::<String>::new());
        let numbers = record.at("/ok").filter(|request| request.json()["data"].get("no").is_some()).count();
        assert_eq!(numbers, 2, "the payload function came along");
    });
    let clerk = database.try_client("clerk").await.expect("the role came along");
    let seen = e2e::cluster::value(&clerk, "select count(*) from webhook.subscription").await;
    assert_eq!(seen.as_deref(), Some("1"), "and so did rights and owners");
}
