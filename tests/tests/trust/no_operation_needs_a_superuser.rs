//! Promise: after the extension is installed, no operation needs a superuser. Each role has its own
//! rights and nothing else.

use e2e::{
    PATIENCE,
    cluster::{Database, describe},
    daemon::{Daemon, binary},
    receiver::SECRET,
    world::World,
};
use std::process::Stdio;
use tokio::process::Command;
use tokio_postgres::Client;

/// The administrator's one-time setup.
const SET_UP: &str = "
    create role shop_owner login; create role shop_app login; create role partner login; create role other_partner login;
    create role webhookd login; create role support login; create role boss login;
    select webhook_grant('shop_owner', 'publisher'), webhook_grant('partner', 'subscriber'),
           webhook_grant('other_partner', 'subscriber'), webhook_grant('webhookd', 'dispatcher'),
           webhook_grant('support', 'reader'), webhook_grant('boss', 'admin');
    create schema shop authorization shop_owner";

async fn session(database: &Database, role: &str) -> Client {
    database.try_client(role).await.unwrap_or_else(|e| panic!("{role}: {}", describe(&e)))
}

/// Runs a statement as a role. Returns `allowed`, or the SQLSTATE of the error.
async fn tried(client: &Client, statement: &str) -> String {
    match client.batch_execute(&format!("begin; {statement}; rollback")).await {
        Ok(()) => "allowed".to_owned(),
        Err(e) => {
            client.batch_execute("rollback").await.expect("the session goes on");
            e.code().map_or_else(|| e.to_string(), |code| code.code().to_owned())
        }
    }
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap_or_else(|e| panic!("{query}\n{}", describe(&e))).get(0)
}

async fn webhookd(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binary());
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_first_table_to_the_last_delivery() {
    let world = World::new().await;
    let database = &world.database;
    database.run(SET_UP).await;

    // The tables' owner watches them, the application writes them, a partner subscribes.
    let owner = session(database, "shop_owner").await;
    owner
        .batch_execute(
            "create table shop.sale (id int primary key, total numeric, seller text not null default 'partner');
             select webhook_watch('shop.sale', noun => 'sale', owner_column => 'seller');
             grant usage on schema shop to shop_app;
             grant insert, update on shop.sale to shop_app",
        )
        .await
        .unwrap_or_else(|e| panic!("{}", describe(&e)));
    let (partner, other) = (session(database, "partner").await, session(database, "other_partner").await);
    for (client, path) in [(&partner, "/ok/partner"), (&other, "/status/500/other")] {
        let subscribe = format!(
            "select id from webhook_subscribe('{}', events => '{{sale.*}}', secret => '{SECRET}', retry => '{{1h}}')",
            world.receiver.url(path)
        );
        number(client, &subscribe).await;
    }

    // The daemon's role is no superuser and owns nothing, and `check` does not complain about that.
    let url = database.url_as("webhookd");
    let (ok, told) = webhookd(&["check", "--database-url", &url]).await;
    assert!(ok, "{told}");
    let daemon = Daemon::spawn_with(&url, &["--allow-net", "127.0.0.0/8"]);
    daemon.ready(database).await;
    assert_eq!(
        database
            .text(
                "select not rolsuper and not rolcreaterole and not rolcreatedb and not rolbypassrls
                        and not exists (select from pg_shdepend d where d.refobjid = r.oid and d.deptype = 'o')
                 from pg_roles r where rolname = 'webhookd'"
            )
            .await
            .as_deref(),
        Some("t")
    );
    let app = session(database, "shop_app").await;
    for id in 1..=20 {
        app.execute("insert into shop.sale values ($1, 1.5)", &[&id])
            .await
            .expect("the application may write");
    }
    let others = "insert into shop.sale select i, 1.5, 'other_partner' from generate_series(201, 210) i";
    app.batch_execute("update shop.sale set total = 2").await.unwrap_or_else(|e| panic!("{}", describe(&e)));
    app.batch_execute(others).await.unwrap_or_else(|e| panic!("{}", describe(&e)));
    world.receiver.wait_for("/ok/partner", 40, PATIENCE).await;
    world.receiver.wait_for("/status/500/other", 10, PATIENCE).await;

    // The daemon sleeps, wakes, and hears of subscription changes as it does under a superuser.
    Daemon::asleep(database).await;
    app.batch_execute("insert into shop.sale values (100, 1)").await.unwrap();
    world.receiver.wait_for("/ok/partner", 41, PATIENCE).await;
    let mine = number(&partner, "select id from webhook.subscription").await;
    partner.batch_execute(&format!("select webhook_pause({mine})")).await.unwrap();
    app.batch_execute("insert into shop.sale values (101, 1)").await.unwrap();
    let kept = format!("select count(*) = 1 from webhook.queue where subscription_id = {mine}");
    database.until(&kept, PATIENCE).await;
    partner.batch_execute(&format!("select webhook_resume({mine}), webhook_ping({mine})")).await.unwrap();
    world.receiver.wait_for("/ok/partner", 43, PATIENCE).await;

    // "Did they get it?": a partner sees its own deliveries, support sees all.
    let delivered = format!(
        "select count(*) = 43 from webhook.delivery where subscription_id = {mine} and state = 'delivered'"
    );
    database.until(&delivered, PATIENCE).await;
    let support = session(database, "support").await;
    let deliveries = "select count(distinct subscription_id) from webhook.delivery";
    let attempts = "select count(*) from webhook.attempt where status = 500";
    assert_eq!((number(&partner, deliveries).await, number(&partner, attempts).await), (1, 0));
    assert_eq!((number(&other, deliveries).await, number(&support, deliveries).await), (1, 2));
    assert!(number(&other, attempts).await >= 10);
    let (ok, told) = webhookd(&["status", "--database-url", &database.url_as("support")]).await;
    assert!(ok, "{told}");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_has_its_part_and_nothing_else() {
    let world = World::new().await;
    let database = &world.database;
    database.run(SET_UP).await;
    database.run("create table shop.sale (id int primary key); alter table shop.sale owner to shop_owner; insert into orders values (1, 'c', 1, null)").await;
    let id = world.subscribe("/ok").await;
    let subscribe = "select webhook_subscribe('https://example.com')".to_owned();
    let pause = format!("select webhook_pause({id})");
    let roles = ["shop_owner", "shop_app", "partner", "webhookd", "support", "boss"];
    // 42501: insufficient_privilege; 42704: the object does not exist for this role.
    let no = "42501";
    let table = [
        ("select webhook_watch('shop.sale')", ["allowed", no, no, no, no, no]),
        ("select webhook_watch('orders')", [no, no, no, no, no, no]),
        ("select webhook_emit('a.b', '{}')", ["allowed", no, no, no, no, "allowed"]),
        (&subscribe, [no, no, "allowed", no, no, "allowed"]),
        (&pause, [no, no, "42704", no, no, "allowed"]),
        ("select from webhook.subscription", [no, no, "allowed", "allowed", "allowed", "allowed"]),
        ("select from webhook.event", [no, no, no, "allowed", "allowed", "allowed"]),
        ("select from webhook.attempt", [no, no, "allowed", "allowed", "allowed", "allowed"]),
        ("select from webhook.queue", [no, no, no, "allowed", "allowed", "allowed"]),
        ("select from webhook.health", [no, no, no, "allowed", "allowed", "allowed"]),
        ("select from webhook.secret", [no, no, no, "allowed", no, no]),
        ("delete from webhook.secret", [no, no, no, no, no, no]),
        ("insert into webhook.event (type, payload) values ('a.b', '{}')", [no, no, no, no, no, no]),
        ("update webhook.event set payload = '{}'", [no, no, no, no, no, no]),
        ("delete from webhook.attempt", [no, no, no, no, no, no]),
        ("truncate webhook.event", [no, no, no, no, no, no]),
        ("delete from webhook.queue", [no, no, no, "allowed", no, no]),
        ("update webhook.subscription set url = 'http://evil'", [no, no, no, no, no, no]),
        ("select webhook_arm()", [no, no, no, no, no, "allowed"]),
        ("select webhook_seal('x')", [no, no, no, no, no, "22023"]),
        ("select webhook_erase('orders', '1')", [no, no, no, no, no, "allowed"]),
        ("select webhook_grant('shop_app', 'admin')", [no, no, no, no, no, no]),
        ("select webhook.gate_ring()", [no, no, no, "allowed", no, no]),
        ("select webhook.tell('webhook.delivery.exhausted', 1, '{}')", [no, no, no, "allowed", no, no]),
        // The setting has no meaning in a session that has not yet called one of our functions: see
        // the next test.
        ("set local webhook.mute = on", [no, "allowed", no, no, no, no]),
        ("set local webhook.actor = 'me'", ["allowed"; 6]),
        ("set local webhook.payload_bytes_max = 1024", [no, "allowed", no, no, no, no]),
    ];
    let mut wrong = Vec::new();
    for (at, role) in roles.into_iter().enumerate() {
        let client = session(database, role).await;
        for (statement, expected) in &table {
            let verdict = tried(&client, statement).await;
            if verdict != expected[at] {
                wrong.push(format!("{role}: {statement}: {verdict}, not {}", expected[at]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A setting that is made before the extension is loaded is checked when it loads.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_right_cannot_mute_early() {
    let world = World::new().await;
    let database = &world.database;
    database.run(SET_UP).await;
    database.run("grant insert on orders to shop_app").await;
    let count = "select count(*) from webhook.event where type = 'order.created'";
    for (at, set) in [
        "set webhook.mute = on",
        "set local webhook.mute = on",
        "select set_config('webhook.mute', 'on', false)",
    ]
    .into_iter()
    .enumerate()
    {
        let app = session(database, "shop_app").await;
        let insert = format!("begin; {set}; insert into orders values ({at}, 'c', 1, null); commit");
        app.batch_execute(&insert).await.unwrap_or_else(|e| panic!("{set}: {}", describe(&e)));
        assert_eq!(database.number(count).await, at as i64 + 1, "{set}");
    }
    // The options of a connection or of the role itself do not work either.
    let app = session(database, "shop_app").await;
    app.batch_execute("alter role shop_app set webhook.mute = on").await.ok();
    let app = session(database, "shop_app").await;
    app.batch_execute("insert into orders values (10, 'c', 1, null)").await.unwrap();
    assert_eq!(database.number(count).await, 4);
    // A role with the grant may set it.
    database.run("load 'pg_webhook'; grant set on parameter webhook.mute to shop_app").await;
    let app = session(database, "shop_app").await;
    app.batch_execute("set webhook.mute = on; insert into orders values (11, 'c', 1, null)").await.unwrap();
    assert_eq!(database.number(count).await, 4);
}

/// A writer's own objects, in schemas that come first in its search path, must not affect a
/// trigger.
#[tokio::test(flavor = "multi_thread")]
async fn search_paths_redirect_no_call() {
    let world = World::new().await;
    let database = &world.database;
    database.run(SET_UP).await;
    database.run("grant select, insert, update, delete, truncate on orders to shop_app; create schema trap authorization shop_app").await;
    let app = session(database, "shop_app").await;
    app.batch_execute(
        "create table trap.event (like public.orders);
         create function trap.nope() returns int language plpgsql as $$ begin raise exception 'caught'; end $$;
         create function trap.clock_timestamp() returns timestamptz language sql as 'select trap.nope(), null::timestamptz; select null::timestamptz';
         create function trap.nextval(regclass) returns bigint language sql as 'select trap.nope()::bigint';
         create function trap.row_to_json(record) returns json language plpgsql as 'begin return trap.nope(); end';
         create function trap.to_json(anyelement) returns json language sql as 'select trap.nope(); select null::json';
         create function trap.eq(numeric, numeric) returns boolean language sql as 'select trap.nope() = 1';
         create operator trap.= (leftarg = numeric, rightarg = numeric, function = trap.eq);
         create function trap.eq(text, text) returns boolean language sql as 'select trap.nope() = 1';
         create operator trap.= (leftarg = text, rightarg = text, function = trap.eq);
         set search_path = trap, pg_catalog, public, webhook;
         insert into public.orders values (1, 'c', 1, null), (2, 'c', 1, null);
         update public.orders set total = 2 where public.orders.id operator(pg_catalog.=) 1::bigint;
         delete from public.orders where public.orders.id operator(pg_catalog.=) 2::bigint",
    )
    .await
    .unwrap_or_else(|e| panic!("{}", describe(&e)));
    assert_eq!(database.number("select count(*) from webhook.event where type like 'order.%'").await, 4);
    // They do not affect callers of the SQL API either.
    let partner = session(database, "partner").await;
    database
        .run(
            "grant usage on schema trap to partner; grant execute on all functions in schema trap to partner",
        )
        .await;
    partner
        .batch_execute(
            "set search_path = trap, pg_catalog, public, webhook;
             select public.webhook_pause(id) from public.webhook_subscribe('https://example.com', name => 'p');
             select public.webhook_alter(id, events => '{order.*}', signature => '{standard,standard-v1a}') from webhook.subscription;
             select public.webhook_rotate_secret(id), public.webhook_resume(id), public.webhook_ping(id) from webhook.subscription;
             select count(*) from webhook.delivery; select count(*) from webhook.subscription_stats",
        )
        .await
        .unwrap_or_else(|e| panic!("{}", describe(&e)));
}
