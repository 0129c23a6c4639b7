//! Promise: a role without an admin's rights can hold every lock that its rights allow, and the
//! deliveries of other owners, a takeover, retention and the calls of other owners go on.
//!
//! The transaction executes every function that changes something and that the role may execute,
//! and locks every table of the extension in every mode that it may. A new function without a
//! statement here fails the test.

use e2e::{
    PATIENCE,
    cluster::{Database, describe},
    daemon::Daemon,
    receiver::{Keep, SECRET},
    world::World,
};
use std::collections::BTreeSet;
use tokio_postgres::Client;

const MODES: [&str; 8] = [
    "access share",
    "row share",
    "row exclusive",
    "share update exclusive",
    "share",
    "share row exclusive",
    "exclusive",
    "access exclusive",
];

/// Rejects every event.
const REJECTS: &str = "/status/422";

/// A statement for each volatile function. `$` is a subscription of the role, one for each
/// statement. `@` is an event.
const CALLS: [(&str, &str); 27] = [
    ("webhook_subscribe", "select webhook_subscribe('https://example.com/')"),
    ("webhook_alter", "select webhook_alter($, ordering => 'key', name => 'renamed')"),
    ("webhook_unsubscribe", "select webhook_unsubscribe($)"),
    ("webhook_pause", "select webhook_pause($)"),
    ("webhook_resume", "select webhook_resume($, skip_backlog => true)"),
    ("webhook_rotate_secret", "select webhook_rotate_secret($)"),
    ("webhook_ping", "select webhook_ping($)"),
    ("webhook_try_now", "select webhook_try_now($)"),
    ("webhook_redeliver", "select webhook_redeliver('@', $)"),
    ("webhook_redeliver_failed", "select webhook_redeliver_failed($)"),
    ("webhook_replay", "select webhook_replay($, '-infinity')"),
    ("webhook_backfill", "select webhook_backfill($, 'orders')"),
    ("webhook_backfill_cancel", "select webhook_backfill_cancel(webhook_backfill($, 'orders'))"),
    ("webhook_deliveries", "select webhook_deliveries($)"),
    ("webhook_dry_run", "select webhook_dry_run($, '-infinity')"),
    ("webhook_check", "select webhook_check()"),
    ("webhook_emit", "select webhook_emit('note.made', '{}'::jsonb)"),
    ("webhook_watch", "select webhook_watch('notes')"),
    ("webhook_unwatch", "select webhook_watch('drafts'), webhook_unwatch('drafts')"),
    ("webhook_migrate", "select webhook_migrate('notes', 'alter table notes add column more text')"),
    ("event_stretch", "select webhook.event_stretch(0, 0, 10)"),
    ("event_place", "select webhook.event_place('@')"),
    ("find_event", "select webhook.find_event('@')"),
    ("last_number", "select webhook.last_number()"),
    ("number_at", "select webhook.number_at(now())"),
    ("replace_untranslatable", "select webhook.replace_untranslatable()"),
    ("capture", "insert into notes values (1)"),
];

/// The volatile functions of the extension that a role may execute, by name.
const MAY_EXECUTE: &str = "select string_agg(distinct p.proname, ' ')
    from pg_depend d join pg_extension x on x.oid = d.refobjid and x.extname = 'pg_webhook'
    join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass
    where d.deptype = 'e' and p.provolatile = 'v' and has_function_privilege('$', p.oid, 'execute')";

/// Returns the functions that a role may execute. Each has a statement.
async fn allowed(database: &Database, role: &str) -> BTreeSet<String> {
    let names = database.text(&MAY_EXECUTE.replace('$', role)).await.unwrap_or_default();
    let allowed: BTreeSet<String> = names.split_whitespace().map(str::to_owned).collect();
    let known: BTreeSet<String> = CALLS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let missing: Vec<_> = allowed.difference(&known).collect();
    assert!(missing.is_empty(), "no statement for {missing:?}");
    allowed
}

/// Begins a transaction as a role, and takes every lock that it may.
async fn hold_everything(world: &World, role: &str) -> Client {
    let database = &world.database;
    let allowed = allowed(database, role).await;
    let mut own = 0;
    let mut statements = vec!["begin; set local application_name = 'hoarder'".to_owned()];
    for (_, statement) in CALLS.iter().filter(|(name, _)| allowed.contains(*name)) {
        let mut statement = (*statement).to_owned();
        if statement.contains('$') {
            statement = statement.replace('$', &own_subscription(world, role).await.to_string());
            own += 1;
        }
        statements.push(statement);
    }
    // Each of them has deliveries that fail, and are tried again while the locks are held. The
    // results are about rows that are locked.
    database.run("insert into orders select -n, 'fails' from generate_series(1, 3) n").await;
    let fails = format!(
        "select count(distinct q.subscription_id) = {own} from webhook.queue q join webhook.subscription s on s.id = q.subscription_id where s.owner = '{role}'"
    );
    database.until(&fails, PATIENCE).await;
    database.run("delete from orders where id < 0").await;
    // One that they have, if there are any.
    let event = "select event_id from webhook.delivery order by key = '-1' desc limit 1";
    let event = database.text(event).await.expect("an event");
    let client = database.try_client(role).await.expect("it may connect");
    for statement in statements.iter().map(|statement| statement.replace('@', &event)) {
        let done = client.batch_execute(&statement).await;
        done.unwrap_or_else(|e| panic!("{role}: {statement}: {}", describe(&e)));
    }
    lock_tables(database, &client).await;
    // Each of them is locked, and the result of an attempt waits for it.
    let waits = format!(
        "select count(*) = {own} from webhook.locked_subscription k join webhook.subscription s on s.id = k.subscription_id where s.owner = '{role}'"
    );
    database.until(&waits, PATIENCE).await;
    client
}

/// Locks each table in every mode that the role may.
async fn lock_tables(database: &Database, client: &Client) {
    let tables = "select string_agg(c.oid::regclass::text, ' ') from pg_class c
        where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p', 'v')";
    let tables = database.text(tables).await.expect("tables");
    for table in tables.split(' ') {
        for mode in MODES {
            client.batch_execute("savepoint one").await.expect("a savepoint");
            if client.batch_execute(&format!("lock table {table} in {mode} mode nowait")).await.is_err() {
                client.batch_execute("rollback to one").await.expect("the savepoint");
            }
        }
    }
}

/// Makes a subscription of a role whose deliveries fail. Rejections do not open the circuit.
async fn own_subscription(world: &World, role: &str) -> i64 {
    let owner = world.database.try_client(role).await.expect("it may connect");
    let url = world.receiver.url(REJECTS);
    let statement = format!(
        "select id from webhook_subscribe('{url}', '{{order.created}}', secret => '{SECRET}', retry => array_fill(interval '300 ms', '{{50}}'))"
    );
    let id = owner.query_one(&statement, &[]).await.unwrap_or_else(|e| panic!("{}", describe(&e))).get(0);
    world.widen_scopes().await;
    id
}

/// Waits until these orders have been received, and the results are written.
async fn delivered(world: &World, ok: i64, orders: i64) {
    world.receiver.wait_for("/ok", usize::try_from(orders).expect("a few"), PATIENCE).await;
    let written = format!(
        "select count(*) = {orders} from webhook.attempt where subscription_id = {ok} and outcome = 'succeeded'"
    );
    world.database.until(&written, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_nobody_else() {
    let world = World::with(Keep::Requests, &[]).await;
    let database = &world.database;
    database
        .run(
            "create table notes (id int primary key); create table drafts (id int primary key);
             create role other login; select webhook_grant('other', 'subscriber');
             create role guest login; create role sub login; select webhook_grant('sub', 'subscriber');
             create role rea login; select webhook_grant('rea', 'reader');
             create role pub login; select webhook_grant('pub', 'publisher');
             grant create on schema public to pub;
             alter table notes owner to pub; alter table drafts owner to pub;
             grant select on orders, notes to sub, rea",
        )
        .await;
    let ok = world.subscribe_with("/ok", "filter => '$.data.id > 0', events => '{order.created}'").await;
    let mut daemon = Daemon::start(database).await;
    let mut orders = 0;
    for role in ["sub", "rea", "pub", "guest"] {
        // The role's own subscriptions have something to deliver.
        world.insert_orders(orders + 1, 10).await;
        orders += 10;
        delivered(&world, ok, orders).await;
        let hoarder = hold_everything(&world, role).await;
        world.insert_orders(orders + 1, 10).await;
        orders += 10;
        delivered(&world, ok, orders).await;

        daemon.kill9().await;
        daemon = Daemon::start(database).await;
        world.insert_orders(orders + 1, 10).await;
        orders += 10;
        delivered(&world, ok, orders).await;

        database.run("set lock_timeout = '5s'; select webhook.turn_ring(true)").await;
        let other = database.try_client("other").await.expect("it may connect");
        other
            .batch_execute(
                "set lock_timeout = '5s';
                 select webhook_pause(id), webhook_resume(id) from webhook_subscribe('https://example.com/other');
                 select webhook_unsubscribe(id) from webhook.subscription",
            )
            .await
            .unwrap_or_else(|e| panic!("beside {role}: {}", describe(&e)));
        hoarder.batch_execute("rollback").await.expect("it is open");
        database.run("select webhook_unsubscribe(id) from webhook.subscription where owner = 'sub'").await;
    }
    world.receiver.look(|record| assert_eq!(record.distinct("/ok"), usize::try_from(orders).expect("a few")));
    assert!(daemon.sigterm(PATIENCE).await.success());
}
