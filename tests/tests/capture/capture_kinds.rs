//! Promise: every way in which a row can change is captured, and the body describes the change as
//! it was. The tests judge the requests that a receiver got.

use e2e::{PATIENCE, daemon::Daemon, world::World};
use serde_json::{Value, json};

/// Returns the bodies that arrived at `/ok`, ordered by sequence.
fn bodies(world: &World) -> Vec<Value> {
    let mut bodies: Vec<_> = world.receiver.at("/ok").iter().map(e2e::receiver::Received::json).collect();
    bodies.sort_by_key(|body| body["sequence"].as_i64());
    bodies
}

/// Runs statements in a world with one subscription and one daemon. Returns the bodies of the
/// `count` events that they cause; a fence at the end proves that there are no others.
async fn caused(setup: &str, statements: &[&str], count: usize) -> Vec<Value> {
    let world = World::with(e2e::receiver::Keep::Requests, &["fsync=off"]).await;
    world.subscribe("/ok").await;
    world.database.run(setup).await;
    let daemon = Daemon::start(&world.database).await;
    for statement in statements {
        world.database.run(statement).await;
    }
    world.database.run("select webhook_emit('fence.reached', '{}')").await;
    world
        .receiver
        .wait("the fence", PATIENCE, |record| {
            record.at("/ok").any(|request| request.json()["type"] == "fence.reached")
        })
        .await;
    world.settled(PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    let mut bodies = bodies(&world);
    assert_eq!(bodies.pop().expect("the fence")["type"], "fence.reached");
    let types: Vec<_> = bodies.iter().map(|body| body["type"].clone()).collect();
    assert_eq!(bodies.len(), count, "{types:?}");
    bodies
}

/// Returns the type, data and previous of each body.
fn told(bodies: &[Value]) -> Vec<Value> {
    bodies.iter().map(|body| json!([body["type"], body["data"], body["previous"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_update_delete_truncate() {
    let came = caused(
        "",
        &[
            "insert into orders values (1, 'Zoë', 10.50, null)",
            "update orders set total = 11 where id = 1",
            "update orders set total = 11.00, note = note where id = 2",
            "update orders set note = note where id = 1",
            "delete from orders where id = 1",
            "truncate orders",
        ],
        4,
    )
    .await;
    let row = |total: Value| json!({ "id": 1, "customer": "Zoë", "total": total, "note": null });
    assert_eq!(
        told(&came[..3]),
        [
            json!(["order.created", row(json!(10.5)), null]),
            json!(["order.updated", row(json!(11)), { "total": 10.5 }]),
            json!(["order.deleted", row(json!(11)), null]),
        ]
    );
    assert_eq!(came[3]["type"], "order.truncated");
    for body in &came {
        assert_eq!(body["table"], "public.orders");
        let timestamp = body["timestamp"].as_str().expect("a timestamp");
        assert!(timestamp.len() == 27 && timestamp.ends_with('Z'), "{timestamp}");
        assert!(body["id"].as_str().expect("an id").starts_with("evt_"));
    }
    assert_eq!(came[0]["data"].to_string().matches("10.5").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn copy_merge_upsert_and_select_into() {
    let came = caused(
        "insert into orders values (1, 'there', 1)",
        &[
            "copy orders (id, customer) from program 'printf \"2\\ttwo\\n3\\tthree\\n\"'",
            "merge into orders o using (values (1, 'merged'), (4, 'new')) as v (id, customer) on o.id = v.id
             when matched then update set customer = v.customer
             when not matched then insert (id, customer) values (v.id, v.customer)",
            "insert into orders values (4, 'upserted'), (5, 'five')
             on conflict (id) do update set customer = excluded.customer",
            "insert into orders values (5, 'again') on conflict do nothing",
            "insert into orders select i, 'many' from generate_series(6, 305) i",
        ],
        // The row of the setup counts too: it was written after the subscription and before the
        // daemon's first start.
        1 + 2 + 2 + 2 + 300,
    )
    .await;
    let heads: Vec<_> = came[..7]
        .iter()
        .map(|body| json!([body["type"], body["data"]["id"], body["data"]["customer"]]))
        .collect();
    assert_eq!(
        heads,
        [
            json!(["order.created", 1, "there"]),
            json!(["order.created", 2, "two"]),
            json!(["order.created", 3, "three"]),
            json!(["order.updated", 1, "merged"]),
            json!(["order.created", 4, "new"]),
            json!(["order.updated", 4, "upserted"]),
            json!(["order.created", 5, "five"]),
        ]
    );
    let many: Vec<_> = came[7..].iter().filter_map(|body| body["data"]["id"].as_i64()).collect();
    assert_eq!(many, (6..=305).collect::<Vec<_>>(), "in the order of the rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn cascades_and_rows_that_move_between_partitions() {
    let came = caused(
        "create table item (id int primary key, order_id bigint references orders on delete cascade);
         select webhook_watch('item');
         create table reading (id int, day date, value int, primary key (id, day)) partition by range (day);
         create table reading_1 partition of reading for values from ('2026-01-01') to ('2026-02-01');
         create table reading_2 partition of reading for values from ('2026-02-01') to ('2026-03-01');
         select webhook_watch('reading')",
        &[
            "insert into orders values (1, 'c'); insert into item values (10, 1), (11, 1)",
            "delete from orders where id = 1",
            "insert into reading values (1, '2026-01-05', 7)",
            "update reading set value = 8 where id = 1",
            "update reading set day = '2026-02-05' where id = 1",
        ],
        1 + 2 + 3 + 3,
    )
    .await;
    let of = |noun: &str| -> Vec<Value> {
        let of_noun = came.iter().filter(|b| b["type"].as_str().is_some_and(|t| t.starts_with(noun)));
        of_noun.map(|b| json!([b["type"], b["data"]["id"], b["table"]])).collect()
    };
    let mut items = of("item.");
    items.sort_by_key(Value::to_string);
    assert_eq!(
        items,
        [
            json!(["item.created", 10, "public.item"]),
            json!(["item.created", 11, "public.item"]),
            json!(["item.deleted", 10, "public.item"]),
            json!(["item.deleted", 11, "public.item"]),
        ]
    );
    let readings: Vec<_> = came.iter().filter(|b| b["data"].get("day").is_some()).cloned().collect();
    let told: Vec<_> =
        readings.iter().map(|b| json!([b["type"], b["data"]["day"], b["data"]["value"]])).collect();
    assert_eq!(
        told,
        [
            json!(["reading.created", "2026-01-05", 7]),
            json!(["reading.updated", "2026-01-05", 8]),
            json!(["reading.updated", "2026-02-05", 8]),
        ],
        "a row that moves is updated, not deleted and created"
    );
    assert!(
        readings.iter().all(|b| b["table"] == "public.reading"),
        "partitions are not the receivers' matter"
    );
    assert_eq!(readings[2]["previous"], json!({ "day": "2026-01-05" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_rights_on_its_own_table_alone() {
    let came = caused(
        "create role clerk login; grant select, insert, update, delete on orders to clerk",
        &[
            "set role clerk; insert into orders values (1, 'by clerk')",
            "set role clerk; set webhook.actor = 'user:7'; update orders set customer = 'x' where id = 1",
            "set role clerk; delete from orders where id = 1",
        ],
        3,
    )
    .await;
    let told: Vec<_> = came.iter().map(|b| json!([b["type"], b.get("actor")])).collect();
    assert_eq!(
        told,
        [json!(["order.created", null]), json!(["order.updated", "user:7"]), json!(["order.deleted", null])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_changes_after_the_watch() {
    let came = caused(
        "",
        &[
            "alter table orders add column extra int default 3; insert into orders values (1, 'a')",
            "alter table orders drop column note; insert into orders values (2, 'b')",
            "alter table orders rename column customer to buyer; insert into orders values (3, 'c')",
            "alter table orders alter column total type text; insert into orders values (4, 'd', 'much')",
        ],
        4,
    )
    .await;
    let data: Vec<_> = came.iter().map(|body| body["data"].clone()).collect();
    assert_eq!(
        data,
        [
            json!({ "id": 1, "customer": "a", "total": 0, "note": null, "extra": 3 }),
            json!({ "id": 2, "customer": "b", "total": 0, "extra": 3 }),
            json!({ "id": 3, "buyer": "c", "total": 0, "extra": 3 }),
            json!({ "id": 4, "buyer": "d", "total": "much", "extra": 3 }),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shaped_by_the_watch() {
    let came = caused(
        "create table person (id int primary key, name text, password text, seen timestamptz, age int);
         select webhook_watch('person', noun => 'crm.person', exclude => '{password}', on_columns => '{name,password}',
                              condition => 'new.age >= 18', verbs => '{\"insert\":\"joined\",\"update\":\"changed\"}')",
        &[
            "insert into person values (1, 'Ann', 'secret', null, 30), (2, 'Ben', 'secret', null, 10)",
            "update person set seen = now()",
            "update person set name = 'Anna' where id = 1",
            "delete from person",
        ],
        2,
    )
    .await;
    assert_eq!(
        told(&came),
        [
            json!(["crm.person.joined", { "id": 1, "name": "Ann", "seen": null, "age": 30 }, null]),
            json!(["crm.person.changed", came[1]["data"], { "name": "Ann" }]),
        ]
    );
    assert!(came.iter().all(|body| !body.to_string().contains("secret")), "what is excluded stays inside");
}
