//! Promise: a database that is updated from pg_webhook 0.2.0 equals one with a fresh extension, and
//! keeps its rows. Between the installation of the package and `alter extension pg_webhook update`
//! the application and the deliveries continue.

use e2e::{
    PATIENCE,
    catalogue::{difference, facts},
    cluster::{Cluster, Database, describe, value},
    daemon::Daemon,
    receiver::{Receiver, SECRET},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

const UPDATE: &str = "alter extension pg_webhook update";

/// Creates a database with 0.2.0 and its rows (tests/upgrade).
async fn old_database(cluster: &Arc<Cluster>, name: &str, receiver: &Receiver) -> Database {
    let database = cluster.empty_database(name).await;
    let fixture = include_str!("../../upgrade/fixture-0.2.0.sql");
    let fixture = fixture.replace("{receiver}", &receiver.url("")).replace("{secret}", SECRET);
    database.run("create extension pg_webhook version '0.2.0'").await;
    database.run(&fixture).await;
    database
}

/// Creates a database with a fresh extension. The fixture's roles have the same parts of the work.
async fn new_database(cluster: &Arc<Cluster>) -> Database {
    let database = cluster.database("fresh").await;
    let parts = ["publisher", "subscriber", "reader", "dispatcher", "admin"];
    for part in parts {
        database.run(&format!("select webhook_grant('upgrade_{part}', '{part}')")).await;
    }
    database
}

/// Returns the rows of every table of the schema, with the columns that 0.2.0 has, by table.
async fn rows(database: &Database, columns: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let client = database.client().await;
    client.batch_execute("set search_path = pg_catalog").await.expect("it can be set");
    let mut all = BTreeMap::new();
    for (table, columns) in columns {
        let query = format!(
            "select coalesce(string_agg(translate(t::text, E'\\n', ' '), E'\\n' order by t::text), '') from (select {columns} from {table}) t"
        );
        all.insert(table.clone(), value(&client, &query).await.unwrap_or_default());
    }
    all
}

/// Returns the tables with their columns, except columns that the update changes or drops.
async fn columns(database: &Database) -> BTreeMap<String, String> {
    let query = "select a.attrelid::regclass::text,
            string_agg(case when a.atttypid = 'regproc'::regtype then format('%I::text', a.attname) else format('%I', a.attname) end, ', ' order by a.attnum)
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and not a.attisdropped
          and (c.relname, a.attname) <> ('event_type', 'description')
        group by a.attrelid";
    let client = database.client().await;
    client.batch_execute("set search_path = pg_catalog").await.expect("it can be set");
    client
        .query(query, &[])
        .await
        .expect("it can be read")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// Returns the rights in a dump: all except those that the extension's own script grants.
async fn dumped_rights(database: &Database) -> BTreeSet<String> {
    let mut dump = database.cluster.program("pg_dump");
    let done = dump.args(["--schema-only", "-d", &database.url()]).output().expect("pg_dump can be started");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8_lossy(&done.stdout);
    text.lines()
        .filter(|line| line.starts_with("GRANT") || line.starts_with("REVOKE"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn objects_and_rights_are_the_same() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let receiver = Receiver::start().await;
    let old = old_database(&cluster, "old", &receiver).await;
    let new = new_database(&cluster).await;
    assert_ne!(
        facts(&old).await,
        facts(&new).await,
        "the two versions differ, or there is nothing to compare"
    );
    old.run(UPDATE).await;
    let differing = difference(&facts(&new).await, &facts(&old).await);
    assert!(
        differing.is_empty(),
        "an updated database (+) differs from a fresh one (-). Functions, views, triggers, policies, comments: run \
         scripts/compose_update.sh. Tables, and what has to go: extension/update/, see docs/RELEASE.md.\n{differing}"
    );
    // Postgres counts rights that an extension's script grants as the extension's own. The update
    // must correct this.
    let (fresh, updated) = (dumped_rights(&new).await, dumped_rights(&old).await);
    assert!(fresh.len() > 100, "roles have been granted their parts: {fresh:#?}");
    let differing = difference(&fresh, &updated);
    assert!(
        differing.is_empty(),
        "a dump of an updated database (+) differs from one of a fresh one (-):\n{differing}"
    );
}

/// Returns the number of successful deliveries of the subscription with this name.
async fn delivered(database: &Database, name: &str) -> usize {
    let query = format!(
        "select count(*) from webhook.attempt a join webhook.subscription s on s.id = a.subscription_id
         where s.name = '{name}' and a.outcome = 'succeeded'"
    );
    usize::try_from(database.number(&query).await).expect("a count")
}

/// Waits until everything is delivered, except to the paused subscription.
async fn all_delivered(database: &Database) {
    let all = "select not exists (select from webhook.delivery d join webhook.subscription s on s.id = d.subscription_id
                                  where d.state <> 'delivered' and s.name <> 'paused')";
    database.until(all, PATIENCE).await;
}

/// Checks that the receiver got all open deliveries, once, with the options that 0.2.0 stored.
async fn judge(database: &Database, receiver: &Receiver, before: usize) {
    let twice = "select count(*) from (select from webhook.attempt where outcome = 'succeeded'
                                       group by subscription_id, event_id, event_xid having count(*) > 1) twice";
    assert_eq!(database.number(twice).await, 0, "nothing is delivered twice");
    let plain = delivered(database, "plain").await;
    receiver.look(|record| {
        assert_eq!(
            before + record.distinct("/ok"),
            plain,
            "what had been delivered before is not sent again"
        );
        for path in ["/ok", "/ok/keyed", "/ok/strict", "/ok/batched", "/ok/binary", "/ok/form", "/ok/raw"] {
            assert!(record.distinct(path) > 0, "{path} got something");
            assert_eq!(record.duplicates(path), 0, "{path}");
        }
        assert_eq!(record.distinct("/ok/paused"), 0);
        assert_eq!(record.rejected, Vec::<String>::new(), "every signature holds");
        let strict: Vec<_> =
            record.at("/ok/strict").map(|request| request.json()["sequence"].as_i64()).collect();
        // Later events may belong to concurrent transactions, which are only ordered by their
        // commits.
        assert!(
            strict.len() >= 10 && strict[..10].is_sorted(),
            "what 0.2.0 left goes out in order: {strict:?}"
        );
        let is_sent =
            record.at("/ok").any(|request| String::from_utf8_lossy(&request.body).contains("not told"));
        assert!(!is_sent, "the triggers of 0.2.0 leave out excluded columns");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_there_is_kept_and_delivered() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let receiver = Receiver::start().await;
    let database = old_database(&cluster, "app", &receiver).await;
    let columns = columns(&database).await;
    let kept = rows(&database, &columns).await;
    assert!(
        kept.values().filter(|text| !text.is_empty()).count() >= 10,
        "the fixture fills the tables: {kept:#?}"
    );
    database.run(UPDATE).await;
    let found = rows(&database, &columns).await;
    for (table, rows) in &kept {
        let found = found.get(table).unwrap_or_else(|| panic!("{table} is gone"));
        if table.ends_with("own_part") {
            // The update adds parts, and replaces some: owners are known by their OIDs, and limits
            // say how far back they see.
            let is_replaced = |row: &str| {
                [
                    "name_is_unique_for_its_owner",
                    "of_owner on webhook.subscription",
                    "of_owner on webhook.attempt",
                    "of_owner on webhook.backfill",
                ]
                .iter()
                .any(|name| row.contains(name))
            };
            let lost =
                rows.lines().find(|row| !is_replaced(row) && !found.lines().any(|other| other == *row));
            assert_eq!(lost, None, "a row of {table}");
        } else {
            assert_eq!(found, rows, "the rows of {table}");
        }
    }
    let described =
        "select string_agg(type || ': ' || description, '; ' order by type) from webhook.event_type";
    let described = database.text(described).await.expect("there are some");
    for words in [
        "order.created: A row was inserted into public.orders. What customers have ordered",
        "order.deleted: Written by somebody",
        "shop.closed: Entered by hand",
    ] {
        assert!(described.contains(words), "{described}");
    }
    // Existing subscriptions still get the events of all owners, and the check names those that
    // an owner could not have made.
    let wide = "select string_agg(detail, '; ') from webhook_check() where problem = 'subscription gets events of all owners'";
    let wide = database.text(wide).await.unwrap_or_default();
    assert!(wide.contains("tenant seven") && wide.contains("upgrade_subscriber"), "{wide}");
    // The check has not seen the payload function before. Its repair works.
    let problems = "select string_agg(distinct problem || ': ' || detail, '; ') from webhook_check()
                    where problem <> 'subscription gets events of all owners'";
    assert_eq!(
        database.text(problems).await.as_deref(),
        Some(
            "payload function follows search_path: public.\"Invoice as JSON\" finds tables and functions through the \
             search_path of each session that writes to public.invoice"
        )
    );
    database.run("do $$ declare repair text; begin for repair in select c.repair from webhook_check() c where c.problem <> 'subscription gets events of all owners' loop execute repair; end loop; end $$").await;
    assert_eq!(database.text(problems).await, None);

    let before = delivered(&database, "plain").await;
    assert!(
        before > 10
            && database.number("select count(*) from webhook.delivery where state <> 'delivered'").await > 50
    );
    let daemon = Daemon::start(&database).await;
    database.run("insert into orders select i, 'c', 10 * i from generate_series(201, 210) i").await;
    all_delivered(&database).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    judge(&database, &receiver, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_package_and_update_everything_goes_on() {
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let receiver = Receiver::start().await;
    let database = old_database(&cluster, "app", &receiver).await;
    let before = delivered(&database, "plain").await;

    // The application writes in a session that stays open during the update and keeps its plans.
    let app = database.client().await;
    let insert = app.prepare("insert into orders values ($1, 'c', 50)").await.expect("it parses");
    app.execute(&insert, &[&301_i64]).await.expect("the application goes on");
    // Calls that need the update fail and name it.
    let refused =
        app.batch_execute("select webhook_watch('invoice')").await.expect_err("the table lacks a column");
    assert!(describe(&refused).contains("ALTER EXTENSION pg_webhook UPDATE"), "{}", describe(&refused));
    app.batch_execute("select webhook_pause(id) from webhook.subscription where name = 'raw'; select webhook_resume(id) from webhook.subscription where name = 'raw'")
        .await
        .expect("other calls work");
    app.batch_execute(
        "begin;
         select webhook_redeliver(webhook.public_id(e.id, e.created_at), s.id)
         from webhook.event e, webhook.subscription s where e.type like 'order.%' and s.name = 'raw' limit 1;
         select webhook_replay(id, '-infinity') from webhook.subscription where name = 'raw';
         select webhook_ping(id), webhook_rotate_secret(id) from webhook.subscription where name = 'raw';
         select webhook_backfill(id, 'orders') from webhook.subscription where name = 'raw';
         select webhook.backfill_step(id, 10) from webhook.backfill where state = 'running';
         select webhook_backfill_cancel(id) from webhook.backfill where state = 'running';
         rollback",
    )
    .await
    .expect("so do those about deliveries");
    let emits = "select webhook_emit('went.on', '{}'), webhook_emit('went.on', '{}'::jsonb, 7)";
    app.batch_execute(emits).await.expect("so do events of the application");
    // A role that may only emit.
    database
        .run("create role emitter; grant execute on function webhook_emit(text, json, text) to emitter")
        .await;
    for call in ["webhook_subscribe('https://example.com')", "webhook_alter(1, name => 'x')"] {
        let refused = app.batch_execute(&format!("select {call}")).await.expect_err("it has new arguments");
        assert!(describe(&refused).contains("ALTER EXTENSION pg_webhook UPDATE"), "{}", describe(&refused));
    }

    // The daemon delivers from the old schema.
    let daemon = Daemon::start(&database).await;
    all_delivered(&database).await;
    assert!(
        daemon.process().log().iter().any(|line| line.contains("extension.outdated")),
        "it says what to do"
    );

    // An update that waits for a session that changes subscriptions gives up after lock_timeout and
    // changes nothing.
    let changing = database.client().await;
    changing
        .batch_execute("begin; select webhook_pause(id) from webhook.subscription where name = 'raw'")
        .await
        .expect("it can be paused");
    let impatient = database.client().await;
    let refused = impatient.batch_execute(&format!("set lock_timeout = '200ms'; {UPDATE}")).await;
    let refused = refused.expect_err("another session has the lock");
    assert!(describe(&refused).starts_with("55P03"), "{}", describe(&refused));
    app.execute(&insert, &[&302_i64]).await.expect("the application goes on");
    changing.batch_execute("rollback").await.expect("it can be undone");

    // An open transaction that has written events locks the outbox, and writers queue behind the
    // waiting update. So the update also gives up after a default time.
    let writer = database.client().await;
    writer.batch_execute("begin; insert into orders values (303, 'c', 50)").await.expect("it goes on");
    let refused = impatient.batch_execute(&format!("set lock_timeout = '200ms'; {UPDATE}")).await;
    assert!(describe(&refused.expect_err("another session writes")).starts_with("55P03"));
    let refused = impatient.batch_execute(&format!("reset lock_timeout; {UPDATE}")).await;
    assert!(describe(&refused.expect_err("another session writes")).starts_with("55P03"));
    writer
        .batch_execute("insert into orders values (305, 'c', 50); commit")
        .await
        .expect("the transaction goes on");
    // A transaction without writes does not block the update. A concurrent writer waits for the
    // update.
    writer.batch_execute("begin; select count(*) from orders").await.expect("it goes on");
    let (updated, written) = tokio::join!(database.run(UPDATE), app.execute(&insert, &[&304_i64]));
    written.expect("the application goes on");
    let () = updated;
    writer.batch_execute("commit").await.expect("the transaction goes on");
    assert_eq!(
        database.text("select extversion from pg_extension where extname = 'pg_webhook'").await.as_deref(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    app.execute(&insert, &[&306_i64]).await.expect("the session goes on");
    app.batch_execute(emits).await.expect("the session goes on");
    let may = "select string_agg(p.oid::regprocedure::text, '; ') from pg_proc p
               where p.proname = 'webhook_emit' and has_function_privilege('emitter', p.oid, 'execute')";
    assert_eq!(database.text(may).await.as_deref(), Some("webhook_emit(text,json,text,text)"));
    writer.batch_execute("insert into orders values (307, 'c', 50)").await.expect("the session goes on");
    app.batch_execute(
        "select webhook_watch('invoice', verbs => '{\"insert\":\"issued\",\"update\":\"changed\"}')",
    )
    .await
    .expect("it can be done now");

    // The daemon notices the update and uses the new schema: it records why a delivery is held.
    daemon.process().wait_for_line(|line| line.contains("was updated"), PATIENCE).await;
    // The daemon delivers from this database, so the database is armed for its instance.
    database.until("select instance is not null from webhook.cursor", PATIENCE).await;
    database.run("update webhook.secret set secret = 'file:/nowhere' where subscription_id = (select id from webhook.subscription where name = 'form')").await;
    let held = "select held_because is not null from webhook.subscription_stats where name = 'form'";
    database.until(held, PATIENCE).await;
    database
        .run(&format!("update webhook.secret set secret = '{SECRET}' where secret = 'file:/nowhere'"))
        .await;
    database.run("insert into orders values (308, 'c', 50)").await;
    all_delivered(&database).await;
    assert!(daemon.sigterm(Duration::from_secs(15)).await.success());
    judge(&database, &receiver, before).await;
    assert_eq!(database.number("select count(*) from webhook.event where key between '301' and '308' and type = 'order.created'").await, 8);
}
