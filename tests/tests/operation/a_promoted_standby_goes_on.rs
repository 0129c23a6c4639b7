//! Promise: after a failover the daemon on the new primary delivers all committed events that are
//! undelivered, and continues. Events that only the former primary had hide no new event, although
//! the new primary assigns their transaction ids again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{
    PATIENCE,
    admin::Admin,
    cluster::{Cluster, Database},
    daemon::Daemon,
    link::Link,
    receiver::{Behaviour, Receiver, SECRET},
    world::{ORDERS, World},
};
use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt as _, sync::Arc};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn promoted_after_the_primary_was_lost() {
    let world = World::new().await;
    let standby = world.cluster.standby().await;
    let copy = standby.existing("app");
    world.receiver.behave("/ok/held", Behaviour::Status(503));
    world.subscribe("/ok").await;
    world.subscribe_with("/ok/held", "retry => '{2s,2s,2s,2s,2s,2s,2s,2s,2s,2s}'").await;
    // The servers share one instance name; the next test uses two addresses.
    let named = ["--instance", "shop", "--probe-interval-ms", "500"];
    let first = Daemon::start_with(&world.database, &named).await;
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, PATIENCE).await;
    world.receiver.wait_for("/ok/held", 10, PATIENCE).await;
    // The last orders reach the standby, but no daemon.
    assert!(first.sigterm(PATIENCE).await.success());
    world.insert_orders(51, 50).await;
    copy.until("select count(*) = 100 from webhook.event where type = 'order.created'", PATIENCE).await;
    world.cluster.kill9().await;
    let orphan = Daemon::spawn(&world.database);
    assert!(!orphan.ended(PATIENCE).await.success(), "there is no old primary to deliver from");
    copy.run("select pg_promote()").await;
    copy.until("select not pg_is_in_recovery()", PATIENCE).await;

    let second = Daemon::start_with(&copy, &named).await;
    world.receiver.wait_for("/ok", 100, PATIENCE).await;
    copy.run("insert into orders select i, 'c' from generate_series(101, 150) i").await;
    world.receiver.wait_for("/ok", 150, PATIENCE).await;
    // Deliveries that waited for a retry before the failover keep their schedule.
    world.receiver.behave("/ok/held", Behaviour::Ok);
    world.receiver.wait_for("/ok/held", 150, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.duplicates("/ok"), 0, "none was in flight"));
    assert!(second.sigterm(PATIENCE).await.success());
}

/// Ends the daemon, then kills the primary, so no daemon takes over while another is active.
async fn lose_the_primary(daemon: Daemon, world: &World, copy: &Database) {
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.insert_orders(51, 50).await;
    copy.until("select count(*) = 100 from webhook.event where type = 'order.created'", PATIENCE).await;
    // The checkpoint reaches the standby too, because the test counts duplicates.
    let checkpoint = "select snapshot::text from webhook.cursor";
    let checkpoint = world.database.text(checkpoint).await.expect("there is one");
    let arrived = format!("select snapshot::text = '{checkpoint}' from webhook.cursor");
    copy.until(&arrived, PATIENCE).await;
    fail_over(world, copy).await;
}

/// A daemon that starts after the promotion recognizes the instance only by its own settings: the
/// list of servers, in any order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_daemon_that_knows_both_servers_goes_on_and_one_that_knows_only_the_new_is_refused() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let standby = world.cluster.standby().await;
    let copy = standby.existing("app");
    let url =
        |one, other| format!("postgresql://postgres@127.0.0.1:{one},127.0.0.1:{other}/app?connect_timeout=3");
    let arguments = ["--allow-net", "127.0.0.0/8"];
    let (primary, standby) = (world.cluster.port(), standby.port());
    let first = Daemon::spawn_with(&url(primary, standby), &arguments);
    first.ready(&world.database).await;
    world.insert_orders(1, 50).await;
    world.receiver.wait_for("/ok", 50, PATIENCE).await;
    lose_the_primary(first, &world, &copy).await;

    // For this daemon, the server could also be a standby that was detached as a copy.
    let alone = Daemon::spawn(&copy);
    assert_eq!(alone.ended(PATIENCE).await.code(), Some(3));
    let said = alone.process().log().join(" ");
    assert!(said.contains("select webhook_arm()") && said.contains("--instance"), "{said}");
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 50, "nothing of the other half"));

    let second = Daemon::spawn_with(&url(standby, primary), &arguments);
    second.ready(&copy).await;
    copy.run("insert into orders select i, 'c' from generate_series(101, 150) i").await;
    world.receiver.wait_for("/ok", 150, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    assert!(second.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (150, 0)));
}

/// Every session finds the server that accepts writes, including the admin server's sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_standby_that_is_named_first_is_skipped() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    Admin::roles(&world.database).await;
    let standby = world.cluster.standby().await;
    let url = format!(
        "postgresql://daemon@127.0.0.1:{},127.0.0.1:{}/app?connect_timeout=3",
        standby.port(),
        world.cluster.port()
    );
    let arguments = ["--allow-net", "127.0.0.0/8", "--admin", "127.0.0.1:0", "--admin-open-as", "alice"];
    let daemon = Daemon::spawn_with(&url, &arguments);
    let listens = |line: &str| line.contains("admin.listens");
    let line = daemon.process().wait_for_line(listens, PATIENCE).await;
    let (_, page) = line.split_once("url=").expect("the log line has the URL");
    daemon.ready(&world.database).await;
    let api = format!("{}/v1/subscriptions", page.trim_end_matches('/'));
    let body = serde_json::json!({ "url": world.receiver.url("/ok/api"), "name": "by REST" });
    let answer = e2e::http_client()
        .build()
        .expect("a client")
        .post(&api)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 201);
    let made: serde_json::Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
    world.receiver.expect_secret("/ok/api", made["secret"].as_str().expect("a secret, shown once"));
    world.insert_orders(1, 5).await;
    world.receiver.wait_for("/ok", 5, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// The name in the connection string stays the same and leads to another server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn through_one_name_a_daemon_that_runs_and_a_new_one_go_on() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let standby = world.cluster.standby().await;
    let copy = standby.existing("app");
    let name = Link::to(world.cluster.port()).await;
    let url = format!("postgresql://postgres@127.0.0.1:{}/app", name.port());
    let arguments = ["--allow-net", "127.0.0.0/8"];
    let running = Daemon::spawn_with(&url, &arguments);
    running.ready(&world.database).await;
    deliver_some(&world, &copy).await;
    fail_over(&world, &copy).await;
    name.lead_to(standby.port());
    copy.run("insert into orders values (21, 'c')").await;
    world.receiver.wait_for("/ok", 21, PATIENCE).await;
    assert!(running.sigterm(PATIENCE).await.success());

    copy.run("insert into orders values (22, 'c')").await;
    let new = Daemon::spawn_with(&url, &arguments);
    new.ready(&copy).await;
    world.receiver.wait_for("/ok", 22, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    assert!(new.sigterm(PATIENCE).await.success());
}

/// Returns public id, number and transaction of each event of an order.
async fn events(database: &Database) -> Vec<(String, i64, i64)> {
    let client = database.client().await;
    let query = "select webhook.public_id(id, created_at), id, xid from webhook.event where type like 'order.%' order by id";
    let rows = client.query(query, &[]).await.expect("the outbox can be read");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// Turns on TLS, with a self-signed certificate.
async fn encrypt(database: &Database) {
    let folder = database.cluster.dir();
    let owner = fs::metadata(folder).expect("it is there");
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    };
    for (name, text) in [
        ("server.crt", pem("CERTIFICATE", made.cert.der())),
        ("server.key", pem("PRIVATE KEY", &made.signing_key.serialize_der())),
    ] {
        let path = folder.join(name);
        fs::write(&path, text).expect("it can be written");
        std::os::unix::fs::chown(&path, Some(uid(&owner)), None)
            .expect("its owner may keep it, and root may give it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        let setting = if name == "server.crt" { "ssl_cert_file" } else { "ssl_key_file" };
        database.run(&format!("alter system set {setting} = '{}'", path.display())).await;
    }
    database.run("alter system set ssl = on").await;
    database.run("select pg_reload_conf()").await;
    database.until("select setting = 'on' from pg_settings where name = 'ssl'", PATIENCE).await;
}

fn uid(owner: &fs::Metadata) -> u32 {
    std::os::unix::fs::MetadataExt::uid(owner)
}

/// A primary under load dies with events that its standby has never received. The daemon has read
/// them. It has both servers in its `connection` and follows.
async fn fails_over_with_events_past_the_standbys_position(
    connection: impl Fn(u16, u16) -> String,
    is_encrypted: bool,
) {
    const BEFORE: i64 = 100;
    /// More than the 32 numbers that a sequence writes to the log ahead of itself.
    const PAST: i64 = 300;
    const AFTER: i64 = 500;
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    if is_encrypted {
        encrypt(&database).await;
    }
    let receiver = Receiver::start().await;
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order')")).await;
    for path in ["/ok", "/hold"] {
        let url = receiver.url(path);
        database
            .run(&format!(
                "select webhook_subscribe('{url}', '{{order.*}}', secret => '{SECRET}', max_in_flight => 64)"
            ))
            .await;
    }
    let link = Link::to(cluster.port()).await;
    let standby = cluster.standby_through(link.port()).await;
    let copy = standby.existing("app");
    let daemon =
        Daemon::spawn_with(&connection(cluster.port(), standby.port()), &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(&database).await;
    let app = database.client().await;
    let insert = |first: i64, count: i64| {
        format!(
            "do $$ begin for i in {first}..{} loop insert into orders values (i, 'c'); commit; end loop; end $$",
            first + count - 1
        )
    };
    app.batch_execute(&insert(1, BEFORE)).await.expect("the primary is up");
    receiver.wait_for("/ok", BEFORE as usize, PATIENCE).await;
    let arrived = format!("select count(*) = {BEFORE} from webhook.attempt where outcome = 'succeeded'");
    copy.until(&arrived, PATIENCE).await;

    link.hold();
    app.batch_execute(&insert(1_001, PAST)).await.expect("the standby is asynchronous");
    receiver.wait_for("/ok", (BEFORE + PAST) as usize, PATIENCE).await;
    let past: Vec<_> = events(&database).await.split_off(BEFORE as usize);
    cluster.kill9().await;
    drop(link);
    copy.run("select pg_promote()").await;
    copy.until("select not pg_is_in_recovery()", PATIENCE).await;
    copy.run(&insert(2_001, AFTER)).await;
    // The requests in flight from the former primary get their answers now, without effect.
    receiver.release();

    let after: Vec<_> = events(&copy).await.split_off(BEFORE as usize);
    assert_eq!(after.len() as i64, AFTER, "nothing of what was past its position");
    let (numbers, transactions): (HashSet<i64>, HashSet<i64>) =
        past.iter().map(|(_, id, xid)| (*id, *xid)).unzip();
    let again = |of: &HashSet<i64>, is_xid: bool| {
        after.iter().filter(|(_, id, xid)| of.contains(if is_xid { xid } else { id })).count()
    };
    println!("{} transactions of {AFTER} are given out again", again(&transactions, true));
    assert!(again(&transactions, true) > 50, "that is what this is about");
    assert_eq!(again(&numbers, false), 0, "a new timeline skips the numbers that were used");
    let (past, after): (HashSet<String>, HashSet<String>) =
        (past.into_iter().map(|event| event.0).collect(), after.into_iter().map(|event| event.0).collect());
    assert!(past.is_disjoint(&after), "their names differ nevertheless");

    let has_all = |record: &e2e::receiver::Record, path: &str| after.is_subset(&record.ids(path));
    receiver
        .wait("all of the new primary's", PATIENCE, |record| {
            has_all(record, "/ok") && has_all(record, "/hold")
        })
        .await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    let strange = "select count(*) from webhook.attempt a where not exists (select from webhook.event e where e.xid = a.event_xid and e.id = a.event_id)";
    assert_eq!(copy.number(strange).await, 0, "no attempt is about an event of the other history");
    assert!(daemon.sigterm(PATIENCE).await.success(), "one and the same daemon");
    let known: HashSet<String> = events(&copy).await.into_iter().map(|event| event.0).chain(past).collect();
    receiver.look(|record| {
        assert_eq!(record.ids("/ok"), known, "nothing but what one of them had committed");
        // The last writes of the former primary's ledger may not have reached the standby.
        println!("{} twice at /ok, {} at /hold", record.duplicates("/ok"), record.duplicates("/hold"));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_events_past_its_position_and_a_url_of_both_servers() {
    let connection = |one, other| {
        format!(
            "postgresql://postgres@127.0.0.1:{one},127.0.0.1:{other}/app?target_session_attrs=read-write&connect_timeout=3"
        )
    };
    fails_over_with_events_past_the_standbys_position(connection, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_events_past_its_position_over_tls_and_the_standby_named_first() {
    // Without target_session_attrs, the daemon itself skips servers that accept no writes.
    let connection = |one, other| {
        format!(
            "host=127.0.0.1,127.0.0.1 port={other},{one} user=postgres dbname=app sslmode=require connect_timeout=3"
        )
    };
    fails_over_with_events_past_the_standbys_position(connection, true).await;
}

/// A primary with a subscription, its standby server, and a URL that names both, the primary first.
struct Servers {
    world: World,
    standby: Arc<Cluster>,
    copy: Database,
    url: String,
}

impl Servers {
    async fn start() -> Self {
        let world = World::new().await;
        world.subscribe("/ok").await;
        let standby = world.cluster.standby().await;
        let copy = standby.existing("app");
        let (one, other) = (world.cluster.port(), standby.port());
        let url = format!("postgresql://postgres@127.0.0.1:{one},127.0.0.1:{other}/app");
        Self { world, standby, copy, url }
    }
}

/// Delivers 20 orders, and waits until their attempts are replicated.
async fn deliver_some(world: &World, copy: &Database) {
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    copy.until("select count(*) = 20 from webhook.attempt", PATIENCE).await;
}

/// Ends the primary and promotes the standby server.
async fn fail_over(world: &World, copy: &Database) {
    world.cluster.kill9().await;
    copy.run("select pg_promote()").await;
    copy.until("select not pg_is_in_recovery()", PATIENCE).await;
}

/// Returns the ids of the orders that were delivered.
fn keys(world: &World) -> HashSet<String> {
    world.receiver.at("/ok").iter().map(|request| request.json()["data"]["id"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn and_a_former_primary_that_comes_back_is_not_believed() {
    let Servers { world, standby: _standby, copy, url } = Servers::start().await;
    let daemon = Daemon::spawn_with(&url, &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(&world.database).await;
    deliver_some(&world, &copy).await;
    fail_over(&world, &copy).await;
    copy.run("insert into orders values (21, 'c')").await;
    world.receiver.wait_for("/ok", 21, PATIENCE).await;

    // The former primary is named first and accepts writes.
    world.cluster.boot().await;
    world.database.run("insert into orders values (1001, 'not replicated')").await;
    copy.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'webhookd%'",
    )
    .await;
    copy.run("insert into orders values (22, 'c')").await;
    world.receiver.wait_for("/ok", 22, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let keys = keys(&world);
    assert!(!keys.contains("1001"), "{keys:?}");
}

/// A starting daemon knows only the answers of its servers. The server that is named first accepts
/// writes, and is a former primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn and_a_new_daemon_does_not_believe_it_either() {
    let Servers { world, standby, copy, url } = Servers::start().await;
    let arguments = ["--allow-net", "127.0.0.0/8"];
    let first = Daemon::spawn_with(&url, &arguments);
    first.ready(&world.database).await;
    deliver_some(&world, &copy).await;
    assert!(first.sigterm(PATIENCE).await.success());
    fail_over(&world, &copy).await;
    copy.run("insert into orders values (21, 'c')").await;
    world.cluster.boot().await;
    world.database.run("insert into orders values (1001, 'not replicated')").await;

    let second = Daemon::spawn_with(&url, &arguments);
    second.ready(&copy).await;
    world.receiver.wait_for("/ok", 21, PATIENCE).await;
    let status = |url: &str| {
        let mut command = std::process::Command::new(e2e::daemon::binary());
        command.args(["subscription", "list", "--json", "--database-url", url]).output().expect("it runs")
    };
    copy.run("select webhook_pause(id) from webhook.subscription").await;
    let listed = status(&url);
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.status.success() && text.contains("paused"), "a command asks the same server: {listed:?}");
    copy.run("select webhook_resume(id) from webhook.subscription").await;
    // While the new primary is down, the daemon still rejects the former one: this process knows
    // the timelines.
    copy.cluster.stop().await;
    second.process().wait_for_line(|line| line.contains("session.lost"), PATIENCE).await;
    world.database.run("insert into orders values (1002, 'not replicated either')").await;
    standby.boot().await;
    copy.run("insert into orders values (22, 'c')").await;
    world.receiver.wait_for("/ok", 22, PATIENCE).await;
    assert!(second.sigterm(PATIENCE).await.success());
    let keys = keys(&world);
    assert!(!keys.contains("1001") && !keys.contains("1002"), "{keys:?}");
}

/// The daemon skips a server that accepts connections and does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn and_a_silent_server_is_skipped() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let url = format!(
        "postgresql://postgres@127.0.0.1:{port},127.0.0.1:{}/app?connect_timeout=1",
        world.cluster.port()
    );
    let daemon = Daemon::spawn_with(&url, &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(&world.database).await;
    world.insert_orders(1, 5).await;
    world.receiver.wait_for("/ok", 5, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    drop(silent);
}
