//! Promise: if a database runs out of disk, connections or patience, deliveries are late and none
//! is lost: the daemon waits for it to pass. The application's transactions fail only where they
//! would have failed without us.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, describe, value},
    daemon::Daemon,
    receiver::{Behaviour, Receiver, SECRET},
    traffic::{COMMITTED, Style, committed, write_through_faults},
    world::{ORDERS, World},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_postgres::Client;

/// The number of events in flight, unanswered, when the trouble begins.
const HELD: i64 = 300;

async fn subscribe(database: &Database, receiver: &Receiver, path: &str, more: &str) {
    let url = receiver.url(path);
    database
        .run(&format!("select webhook_subscribe('{url}', '{{order.*}}', secret => '{SECRET}'{more})"))
        .await;
}

/// Waits until the daemon's log contains a word.
async fn said(daemon: &Daemon, word: &str) {
    daemon.process().wait_for_line(|line| line.contains(word), PATIENCE).await;
}

/// Inserts orders one by one until `stop` is set. Returns how many were committed and rejected.
/// Panics on any error that is not in `allowed`.
async fn insert_until(client: &Client, first: i64, allowed: &[&str], stop: &AtomicBool) -> (i64, i64) {
    let (mut committed, mut refused) = (0, 0);
    for id in first.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match client.batch_execute(&format!("insert into orders values ({id}, 'c')")).await {
            Ok(()) => committed += 1,
            Err(error) if error.code().is_some_and(|code| allowed.contains(&code.code())) => refused += 1,
            Err(error) => panic!("the application was refused: {}", describe(&error)),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (committed, refused)
}

/// Fills the database's disk until no page fits.
async fn fill_the_disk(client: &Client) {
    client.batch_execute("create table filler (bytes text)").await.expect("there is room for a table");
    let more = "alter table filler alter bytes set storage plain;
        insert into filler select repeat('x', 7000) from generate_series(1, 100)";
    let last = "insert into filler values (repeat('x', 7000))";
    for statement in [more, last] {
        let error = loop {
            if let Err(error) = client.batch_execute(statement).await {
                break error;
            }
        };
        assert_eq!(error.code().map(|code| code.code()), Some("53100"), "{}", describe(&error));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_disk_is_full() {
    let cluster = Cluster::start_with_small_disk(96).await;
    cluster.existing("postgres").run("create database app tablespace small").await;
    let database = cluster.existing("app");
    database
        .run(&format!(
            "create extension pg_webhook; {ORDERS}; select webhook_watch('orders', noun => 'order')"
        ))
        .await;
    let receiver = Receiver::start().await;
    subscribe(&database, &receiver, "/hold", ", max_in_flight => 64").await;
    receiver.behave("/ok/failing", Behaviour::Status(503));
    subscribe(&database, &receiver, "/ok/failing", ", retry => array_fill(interval '1 second', array[50])")
        .await;
    let daemon = Daemon::start_with(&database, &["--probe-interval-ms", "300"]).await;
    let app = database.client().await;
    app.batch_execute(&format!("insert into orders select i, 'c' from generate_series(1, {HELD}) i"))
        .await
        .expect("there is room");
    receiver.wait("a request is under way", PATIENCE, |record| record.at("/hold").count() > 0).await;

    fill_the_disk(&app).await;
    // The ledger cannot write the results of these answers.
    receiver.release();
    said(&daemon, "session.lost").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (database, stop) = (database.clone(), stop.clone());
        tokio::spawn(async move {
            // The application's own table has no room either. That error is its own, as it would be
            // without us.
            insert_until(&database.client().await, HELD + 1, &["53100"], &stop).await
        })
    };
    // Several sessions of the daemon begin and end meanwhile.
    let epoch = database.number("select epoch from webhook.cursor").await;
    database.until(&format!("select epoch >= {} from webhook.cursor", epoch + 3), PATIENCE).await;
    assert!(!daemon.process().has_ended());
    app.batch_execute("drop table filler").await.expect("that needs no room");
    database.until("select count(*) > 0 from webhook.attempt", PATIENCE).await;
    stop.store(true, Ordering::Relaxed);
    let (committed, refused) = writer.await.expect("no other error");
    println!("{committed} inserts beside the full disk and after it, {refused} refused");
    assert!(refused > 0, "the disk was full");

    let orders = database.number("select count(*) from orders").await;
    assert_eq!(orders, HELD + committed, "what was not refused is there");
    receiver.behave("/ok/failing", Behaviour::Ok);
    receiver.wait_for("/hold", orders as usize, PATIENCE).await;
    receiver.wait_for("/ok/failing", orders as usize, PATIENCE).await;
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    let attempts = "select count(*) from webhook.attempt a join webhook.subscription s on s.id = a.subscription_id where s.url like '%/hold'";
    assert_eq!(
        database.number(attempts).await,
        orders,
        "each answer was kept until it could be written down"
    );
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| {
        assert_eq!(record.duplicates("/hold"), 0, "nothing was sent again for want of a row");
        assert_eq!(
            (record.distinct("/hold"), record.distinct("/ok/failing")),
            (orders as usize, orders as usize)
        );
    });
}

/// Opens application sessions until the server rejects the next one.
async fn take_all_connections(database: &Database) -> Vec<Client> {
    let mut clients = Vec::new();
    loop {
        match database.try_client("application").await {
            Ok(client) => clients.push(client),
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("53300"), "{}", describe(&error));
                return clients;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn too_many_connections() {
    let world = World::with(e2e::receiver::Keep::Requests, &["max_connections=25"]).await;
    world
        .database
        .run("create role application login; create role webhookd login; select webhook_grant('webhookd', 'dispatcher')")
        .await;
    world.subscribe("/ok").await;
    let daemon = Daemon::spawn_with(&world.database.url_as("webhookd"), &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(&world.database).await;
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, PATIENCE).await;

    world.database.run("alter role webhookd connection limit 0").await;
    world
        .app
        .batch_execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'webhookd'")
        .await
        .expect("it may");
    said(&daemon, "session.lost").await;
    world.insert_orders(51, 50).await;
    let all = take_all_connections(&world.database).await;
    // From here on the server's limit applies. The daemon is no superuser, so it may not use the
    // reserved connections.
    world.app.batch_execute("alter role webhookd connection limit -1").await.expect("it may");
    let refused =
        |log: &[String]| log.iter().filter(|line| line.contains("remaining connection slots")).count();
    let before = refused(&world.cluster.log());
    let tried = async {
        while refused(&world.cluster.log()) < before + 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("the daemon tries again and again");
    world.insert_orders(101, 50).await;
    assert!(!daemon.process().has_ended());
    drop(all);
    world.receiver.wait_for("/ok", 150, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 150));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_database_has_no_patience() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.receiver.behave("/ok/failing", Behaviour::Status(503));
    world.subscribe_with("/ok/failing", "retry => array_fill(interval '300 milliseconds', array[50])").await;
    world
        .database
        .run(
            "alter database app set statement_timeout = '300ms'; alter database app set lock_timeout = '100ms';
             alter database app set idle_in_transaction_session_timeout = '300ms';
             alter database app set idle_session_timeout = '500ms';
             alter role postgres in database app set default_transaction_read_only = on;
             alter role postgres in database app set default_transaction_isolation = 'serializable';
             do $$ begin if current_setting('server_version_num')::integer >= 170000 then
                 execute 'alter database app set transaction_timeout = ''300ms'''; end if; end $$",
        )
        .await;
    let daemon = Daemon::start_with(&world.database, &["--probe-interval-ms", "300"]).await;
    let locks = "from pg_locks where locktype = 'advisory' and granted and classid = 1885820776 and objid in (1, 3) and objsubid = 7";
    let sessions = format!("select string_agg(pid::text, ',' order by objid) {locks}");
    world.insert_orders(1, 100).await;
    world.receiver.wait_for("/ok", 100, PATIENCE).await;
    // The ledger's session takes its lock after the leader's.
    world.database.until(&format!("select count(*) = 2 {locks}"), PATIENCE).await;
    // The world's own session is older than the settings. A new session would end too early.
    let before = value(&world.app, &sessions).await;
    // The daemon's ledger waits for a lock longer than any of the limits, and its other sessions
    // are idle.
    let lock = "begin; lock table webhook.attempt, webhook.queue in share mode";
    world.app.batch_execute(lock).await.expect("the ledger is held up");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let waits = "select exists (select from pg_stat_activity a where application_name like 'webhookd%' and wait_event_type = 'Lock' and query_start < clock_timestamp() - interval '500 milliseconds')";
    let waited = value(&world.app, waits).await;
    world.app.batch_execute("commit").await.expect("it was open");
    assert_eq!(waited.as_deref(), Some("t"), "a retry's result has waited for it");
    world.insert_orders(101, 100).await;
    world.receiver.wait_for("/ok", 200, PATIENCE).await;
    world.receiver.behave("/ok/failing", Behaviour::Ok);
    world.receiver.wait_for("/ok/failing", 200, PATIENCE).await;
    assert_eq!(
        value(&world.app, &sessions).await,
        before,
        "neither of the sessions with its locks was ended"
    );
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_sessions_are_terminated_and_statements_cancelled_every_second() {
    const SECONDS: u64 = 8;
    let world = World::new().await;
    world.database.run(COMMITTED).await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    let stop = Arc::new(AtomicBool::new(false));
    let style = Style { pause: Duration::from_millis(5), ..Style::default() };
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let (database, style, stop) = (world.database.clone(), style.clone(), stop.clone());
            tokio::spawn(async move { write_through_faults(&database, number, 7, &style, &stop).await })
        })
        .collect();
    let (mut ended, mut cancelled) = (0, 0);
    let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'app' and pid <> pg_backend_pid()";
    // Only the daemon's statements are cancelled: a cancelled statement of the application fails,
    // as it should.
    let cancel = "select count(*) from pg_stat_activity where application_name like 'webhookd%' and state = 'active' and pg_cancel_backend(pid)";
    let executioner = world.cluster.existing("postgres").client().await;
    for round in 0..SECONDS * 20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let count = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok()).expect("a number");
        if round % 20 == 19 {
            ended += count(value(&executioner, end).await);
        } else {
            cancelled += count(value(&executioner, cancel).await);
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut tried = Vec::new();
    for writer in writers {
        tried.push(writer.await.expect("the writer has ended well"));
    }
    let committed = committed(&world.database, &tried).await;
    let expected = committed.values().map(|count| *count as usize).sum::<usize>();
    world.receiver.wait_for("/ok", expected, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success(), "the daemon that has survived all of it");
    println!("{expected} events; {ended} sessions ended, {cancelled} statements cancelled");
    assert!(ended >= SECONDS && cancelled > 0);
    let client = world.database.client().await;
    let rows = client
        .query("select webhook.public_id(id, created_at) from webhook.event where type like 'order.%'", &[])
        .await
        .expect("the outbox can be read");
    let events: std::collections::HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(events.len(), expected, "one for each committed change");
    world.receiver.look(|record| assert_eq!(record.ids("/ok"), events));
}
