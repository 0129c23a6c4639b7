//! Promise: a copy of the database delivers nothing until `webhook_arm()`. After that no
//! undelivered event is lost and none is sent twice, in any cluster and with any transaction ids.

use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, value},
    daemon::{Daemon, binary},
    link::Link,
    receiver::{Behaviour, Receiver, SECRET},
    world::{ORDERS, World},
};
use std::{path::PathBuf, process::Command, sync::Arc};

/// Consumes transaction ids.
async fn burn_xids(database: &Database, count: u32) {
    database
        .run(&format!(
            "do $$ begin for i in 1..{count} loop perform pg_current_xact_id(); commit; end loop; end $$"
        ))
        .await;
}

fn succeed(mut command: Command) {
    let done = command.output().expect("it can be started");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Dumps a database, restores the dump into a new one, and returns the new one.
async fn restored(from: &Database, cluster: &Arc<Cluster>, name: &str) -> Database {
    let file = from.cluster.dir().join(format!("{name}.dump"));
    let mut dump = from.cluster.program("pg_dump");
    succeed({
        dump.args(["-Fc", "-d", &from.url(), "-f"]).arg(&file);
        dump
    });
    let copy = cluster.empty_database(name).await;
    let mut restore = cluster.program("pg_restore");
    succeed({
        restore.args(["--exit-on-error", "-d", &copy.url()]).arg(&file);
        restore
    });
    copy
}

/// The source: 100 orders delivered to `/ok`, 30 that no daemon has read, a paused subscription and
/// a failing one.
struct Source {
    database: Database,
    receiver: Receiver,
    key_file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Source {
    async fn new(cluster: &Arc<Cluster>) -> Self {
        let database = cluster.database("app").await;
        let receiver = Receiver::start().await;
        let dir = tempfile::tempdir().expect("a temporary directory");
        let key_file = dir.path().join("key");
        let made =
            Command::new(binary()).arg("keygen").arg(&key_file).output().expect("keygen can be started");
        let public = String::from_utf8(made.stdout).expect("text");
        receiver.behave("/ok/failing", Behaviour::Status(503));
        let subscribe = |path: &str, more: &str| {
            format!(
                "select webhook_subscribe('{}', '{{order.*}}', secret => '{SECRET}'{more});",
                receiver.url(path)
            )
        };
        database
            .run(&format!(
                "{ORDERS}; create schema \"Über\"; create table \"Über\".\"Ding\" (id int primary key);
                 create function as_json(orders) returns json language sql stable as 'select json_build_object(''id'', ($1).id)';
                 create role clone_owner login;
                 select webhook_grant('clone_owner', 'subscriber'), webhook_grant('clone_owner', 'reader');
                 update webhook.setting set dump_events = true;
                 select webhook_seal('{}');
                 select webhook_watch('orders', noun => 'order', payload => 'as_json', condition => 'new.total >= 0',
                     verbs => '{{\"insert\":\"created\",\"update\":\"updated\"}}');
                 select webhook_watch('\"Über\".\"Ding\"', noun => 'thing');
                 {}{}{}",
                public.trim(),
                subscribe("/ok", ""),
                subscribe("/ok/paused", ", enabled => false, owner => 'clone_owner', scope => 'all'"),
                subscribe("/ok/failing", ", retry => array_fill(interval '2 seconds', array[50])"),
            ))
            .await;
        let source = Self { database, receiver, key_file, _dir: dir };
        let daemon = source.daemon(&source.database).await;
        source.database.run("insert into orders select i, 'c', i from generate_series(1, 100) i").await;
        source.receiver.wait_for("/ok", 100, PATIENCE).await;
        source.receiver.wait_for("/ok/failing", 10, PATIENCE).await;
        let queued = "select count(*) = 200 from webhook.queue";
        source.database.until(queued, PATIENCE).await;
        assert!(daemon.sigterm(PATIENCE).await.success());
        source.database.run("insert into orders select i, 'c', i from generate_series(101, 130) i").await;
        source
    }

    async fn daemon(&self, database: &Database) -> Daemon {
        let key_file = self.key_file.to_str().expect("text");
        Daemon::start_with(database, &["--key-file", key_file, "--probe-interval-ms", "200"]).await
    }

    /// Checks that the copy is silent, then armed, then complete.
    async fn judge(&self, copy: &Database) {
        let delivered = self.receiver.look(|record| record.distinct("/ok"));
        let refused = Daemon::spawn(copy);
        assert!(!refused.ended(PATIENCE).await.success(), "it must be armed first");
        assert_eq!(copy.text("select armed from webhook.health").await.as_deref(), Some("f"));
        // The copy's application writes on meanwhile. No subscription matches the event that is not
        // about an order.
        copy.run("insert into orders select i, 'c', i from generate_series(1001, 1020) i; insert into \"Über\".\"Ding\" values (1)").await;
        copy.run("select webhook_arm()").await;
        let undone = "select count(*) from webhook.event where xid < 0";
        assert_eq!(copy.number(undone).await, 0);

        let daemon = self.daemon(copy).await;
        copy.run("insert into orders select i, 'c', i from generate_series(1021, 1030) i").await;
        self.receiver.wait_for("/ok", delivered + 30 + 30, PATIENCE).await;
        copy.run("select webhook_resume(id) from webhook.subscription where not enabled").await;
        self.receiver.behave("/ok/failing", Behaviour::Ok);
        self.receiver.wait_for("/ok/paused", 160, PATIENCE).await;
        self.receiver.wait_for("/ok/failing", 160, PATIENCE).await;
        copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
            .await;
        // Events with later transaction ids than the dump's are not repetitions of events in the
        // dump.
        burn_xids(copy, 3_000).await;
        copy.run("insert into orders select i, 'c', i from generate_series(1031, 1040) i").await;
        self.receiver.wait_for("/ok", delivered + 70, PATIENCE).await;
        copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
            .await;
        assert!(daemon.sigterm(PATIENCE).await.success());
        self.receiver.look(|record| {
            assert_eq!(record.distinct("/ok"), delivered + 70, "nothing else came");
            assert_eq!(record.duplicates("/ok") + record.duplicates("/ok/paused"), 0, "nothing came twice");
            let bad: Vec<_> = record.at("/ok").filter(|request| request.verified.is_err()).collect();
            assert!(bad.is_empty(), "signed with the sealed secret: {bad:?}");
            let kinds = record
                .at("/ok")
                .filter(|request| !request.json()["type"].as_str().unwrap().starts_with("order."));
            assert_eq!(kinds.count(), 0);
        });
        // The dump carried the rights and owners.
        let owner = copy.try_client("clone_owner").await.expect("the role is there");
        assert_eq!(
            value(&owner, "select count(*) from webhook.subscription where owner = current_user")
                .await
                .as_deref(),
            Some("1")
        );
        assert_eq!(copy.number("select count(*) from webhook.watch w where exists (select from pg_trigger t where t.tgrelid = w.relation)").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restored_into_the_same_cluster() {
    let cluster = Cluster::start().await;
    let source = Source::new(&cluster).await;
    let copy = restored(&source.database, &cluster, "copy").await;
    source.judge(&copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restored_into_a_cluster_with_higher_transaction_ids() {
    let (cluster, other) = (Cluster::start().await, Cluster::start().await);
    let source = Source::new(&cluster).await;
    other.existing("postgres").run("create role clone_owner login").await;
    burn_xids(&other.existing("postgres"), 5_000).await;
    let copy = restored(&source.database, &other, "copy").await;
    source.judge(&copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restored_into_a_cluster_with_lower_transaction_ids() {
    let (cluster, other) = (Cluster::start().await, Cluster::start().await);
    burn_xids(&cluster.existing("postgres"), 2_000).await;
    let source = Source::new(&cluster).await;
    other.existing("postgres").run("create role clone_owner login").await;
    let copy = restored(&source.database, &other, "copy").await;
    source.judge(&copy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_dump_events_the_copy_begins_with_what_it_does_itself() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    world.subscribe_with("/ok/paused", "enabled => false").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.database.until("select count(*) = 20 from webhook.queue", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.insert_orders(21, 5).await;
    let other = Cluster::start().await;
    let copy = restored(&world.database, &other, "copy").await;
    assert_eq!(copy.number("select count(*) from webhook.event").await, 0);
    assert_eq!(copy.number("select count(*) from webhook.queue").await, 0);
    copy.run("insert into orders values (1001, 'c')").await;
    copy.run("select webhook_arm()").await;
    let daemon = Daemon::start(&copy).await;
    world.receiver.wait_for("/ok", 21, PATIENCE).await;
    copy.run("select webhook_resume(id) from webhook.subscription where not enabled").await;
    world.receiver.wait_for("/ok/paused", 1, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| {
        assert_eq!((record.distinct("/ok"), record.distinct("/ok/paused")), (21, 1));
        assert_eq!(record.duplicates("/ok"), 0);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_physical_copy_goes_on_from_the_checkpoint() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.insert_orders(21, 5).await;
    let World { app, database, cluster, receiver } = world;
    drop(app);
    let alone = "select count(*) = 0 from pg_stat_activity where datname = 'app' and pid <> pg_backend_pid()";
    cluster.existing("postgres").until(alone, PATIENCE).await;
    cluster.existing("postgres").run(&format!("create database copy template {}", database.name)).await;
    let copy = cluster.existing("copy");
    assert!(!Daemon::spawn(&copy).ended(PATIENCE).await.success(), "it is another database");
    copy.run("select webhook_arm()").await;
    let daemon = Daemon::start(&copy).await;
    copy.run("insert into orders values (1001, 'c')").await;
    receiver.wait_for("/ok", 26, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (26, 0)));
}

/// Runs a command. Returns its exit code and output.
async fn webhookd(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("DATABASE_URL");
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("it ends");
    let done = done.expect("it can be started");
    (done.status.code(), String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Checks that the daemon exits, because the instance is the wrong one, and logs what to do.
async fn is_refused(url: &str, arguments: &[&str], armed: &str) {
    let daemon = Daemon::spawn_with(url, &[&["--allow-net", "127.0.0.0/8"], arguments].concat());
    let code = daemon.ended(PATIENCE).await.code();
    let said = daemon.process().log().join(" ");
    assert_eq!(code, Some(3), "{said}");
    for words in ["select webhook_arm()", &format!("--instance '{armed}'")] {
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
}

const ARMED_FOR: &str = "select instance from webhook.cursor";

/// A token and a link, and the number of both.
const ACCESS: &str = "
    create role tenants; select webhook_grant('tenants', 'subscriber');
    select webhook.create_token('one', sha256('1'), 'tenants', 't1', null);
    select webhook.create_portal_link(sha256('2'), 'tenants', 't1', 60)";
const ACCESSES: &str = "select format('%s %s', (select count(*) from webhook.token), (select count(*) from webhook.portal_link))";

/// A dump has the tokens, for the restore of production itself, and no links.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokens_of_production_do_not_work_on_an_armed_copy() {
    let world = World::new().await;
    // Without a subscription, there is nothing to arm.
    world.subscribe("/ok").await;
    world.database.run(ACCESS).await;
    let (cluster, kept) = (&world.cluster, "select webhook_arm(keep_tokens => true)");
    for (name, arm, left) in [("copy", "select webhook_arm()", "0 0"), ("same", kept, "1 0")] {
        let copy = restored(&world.database, cluster, name).await;
        assert_eq!(copy.text(ACCESSES).await.as_deref(), Some("1 0"));
        copy.run(arm).await;
        assert_eq!(copy.text(ACCESSES).await.as_deref(), Some(left), "{arm}");
    }
}

/// Snapshots, base backups and clones keep the system identifier and all OIDs, like a promoted
/// standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_physical_copy_of_the_cluster_stays_silent_until_it_is_armed() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 20).await;
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.insert_orders(21, 50).await;
    world.database.run(ACCESS).await;
    let armed = world.database.text(ARMED_FOR).await.expect("the first daemon has adopted it");
    let clone = world.cluster.physical_copy().await;
    let copy = clone.existing("app");
    let same = "select format('%s %s', system_identifier, (select oid from pg_database where datname = 'app')) from pg_control_system()";
    assert_eq!(
        copy.text(same).await,
        world.database.text(same).await,
        "nothing in the data tells them apart"
    );

    assert_eq!(
        copy.text("select armed from webhook.health").await.as_deref(),
        Some("t"),
        "no daemon has come yet"
    );
    let (code, said) = webhookd(&["check", "--database-url", &copy.url()]).await;
    assert!(code == Some(3) && said.contains("✗ armed") && said.contains("webhook_arm()"), "{said}");
    assert_eq!(
        copy.text("select refused_instance from webhook.cursor").await,
        None,
        "a check changes nothing"
    );
    is_refused(&copy.url(), &[], &armed).await;
    let health = "select format('%s %s %s', armed, instance, disarmed_because) from webhook.health";
    let health = copy.text(health).await.expect("one row");
    assert!(health.starts_with(&format!("f {armed} ")), "{health}");
    for words in ["select webhook_arm()", &format!("--instance '{armed}'")] {
        assert!(health.contains(words), "{health:?} does not say {words:?}");
    }
    let (_, said) = webhookd(&["status", "--database-url", &copy.url()]).await;
    assert!(said.contains("delivering   no: ") && said.contains("--instance"), "{said}");
    // The refusal does not depend on the name of the other instance.
    is_refused(&copy.url(), &["--instance", "staging"], &armed).await;
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 20, "nothing is sent"));

    assert_eq!(copy.text(ACCESSES).await.as_deref(), Some("1 1"));
    copy.run("select webhook_arm()").await;
    assert_eq!(copy.text(ACCESSES).await.as_deref(), Some("0 0"), "those of production end");
    assert_eq!(world.database.text(ACCESSES).await.as_deref(), Some("1 1"));
    assert_eq!(copy.text("select armed from webhook.health").await.as_deref(), Some("t"));
    let (code, said) = webhookd(&["check", "--database-url", &copy.url()]).await;
    assert!(code == Some(0) && said.contains("✓ armed"), "{said}");
    let daemon = Daemon::start(&copy).await;
    copy.run("insert into orders values (1001, 'c')").await;
    world.receiver.wait_for("/ok", 71, PATIENCE).await;
    copy.until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE).await;
    let adopted = copy.text(ARMED_FOR).await.expect("it is this daemon's");
    let port = |cluster: &Cluster| format!(":{}/", cluster.port());
    assert_eq!(adopted, armed.replace(&port(&world.cluster), &port(&clone)));
    // During delivery, the call takes nothing from the daemon, and a daemon of another instance
    // leaves no mark.
    copy.run("select webhook_arm()").await;
    is_refused(&copy.url(), &["--instance", &armed], &adopted).await;
    let unchanged = "select instance || coalesce(refused_instance, '') from webhook.cursor";
    assert_eq!(copy.text(unchanged).await, Some(adopted));
    assert!(daemon.sigterm(PATIENCE).await.success());
    world.receiver.look(|record| assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (71, 0)));

    // The original continues without a call. So does a daemon at a new address, under the name that
    // the database was armed for.
    let daemon = Daemon::start(&world.database).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let address = Link::to(world.cluster.port()).await;
    let url = format!("postgresql://postgres@127.0.0.1:{}/app", address.port());
    is_refused(&url, &[], &armed).await;
    let moved = Daemon::spawn_with(&url, &["--allow-net", "127.0.0.0/8", "--instance", &armed]);
    moved.ready(&world.database).await;
    assert!(moved.sigterm(PATIENCE).await.success());
}

/// Production's daemon is pointed at the copy by mistake, and meets the copy's own daemon. The
/// first one after `webhook_arm()` adopts the database. The other one never delivers, not even
/// after a time as a standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_instances_that_meet_exactly_one_adopts_the_database() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let start = |name: &'static str| {
        (name, Daemon::spawn_with(&world.database.url(), &["--allow-net", "127.0.0.0/8", "--instance", name]))
    };
    let (one, other) = (start("production"), start("staging"));
    world.database.until("select instance is not null from webhook.cursor", PATIENCE).await;
    let adopted = world.database.text(ARMED_FOR).await.expect("one has");
    let (winner, loser) = if one.0 == adopted { (one, other) } else { (other, one) };
    world.insert_orders(1, 10).await;
    world.receiver.wait_for("/ok", 10, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(winner.1.sigterm(PATIENCE).await.success());
    world.insert_orders(11, 10).await;
    assert_eq!(loser.1.ended(PATIENCE).await.code(), Some(3), "its turn never comes");
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), 10));
    assert_eq!(world.database.text(ARMED_FOR).await, Some(adopted));
    let (_, daemon) = start(winner.0);
    world.receiver.wait_for("/ok", 20, PATIENCE).await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let clean = "select refused_instance is null and armed from webhook.cursor, webhook.health";
    assert_eq!(world.database.text(clean).await.as_deref(), Some("t"), "the right one is back");
}

/// A restore renumbers columns. A watch must not send another column in place of one that was
/// dropped or renamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restored_watch_sends_no_other_column() {
    let cluster = Cluster::start().await;
    let source = cluster.database("app").await;
    source
        .run(
            "create table listed (id int primary key, nick text, ssn text);
             select webhook_watch('listed', columns => '{id,nick}');
             alter table listed drop column nick;
             create table barred (id int primary key, junk text, ssn text, email text);
             select webhook_watch('barred', exclude => '{ssn}');
             alter table barred drop column junk;
             alter table barred rename column ssn to social",
        )
        .await;
    // In a cluster of its own, the tables may get the same OIDs as before.
    let copy = restored(&source, &Cluster::start().await, "copy").await;
    let told = "select string_agg(payload::text, ' ' order by id) from webhook.event where type ~ '^(listed|barred)'";
    copy.run("insert into listed values (1, 'secret'); insert into barred values (2, 'secret', 'e@x')").await;
    assert_eq!(copy.text(told).await.as_deref(), Some(r#"{"id":1} {"id":2}"#));
    let problems = "select string_agg(problem, ', ' order by relation::text) from webhook_check()";
    assert_eq!(copy.text(problems).await.as_deref(), Some("excluded column is not found, trigger is stale"));
    copy.run("select webhook_watch('listed', columns => '{id}'); select webhook_watch('barred', exclude => '{social}'); truncate webhook.event").await;
    copy.run("insert into listed values (2, 'secret'); insert into barred values (3, 'secret', 'e@x')").await;
    assert_eq!(copy.text(told).await.as_deref(), Some(r#"{"id":2} {"id":3,"email":"e@x"}"#));
    assert_eq!(copy.text(problems).await, None);
}
