//! Promise: two systems that sync in both directions do not send each other their own changes back.

use e2e::{PATIENCE, daemon::Daemon, receiver::Receiver, world::World};
use serde_json::Value;
use std::{collections::HashMap, time::Duration};

#[tokio::test(flavor = "multi_thread")]
async fn by_origin() {
    let world = World::new().await;
    world.subscribe_with("/ok/crm", "exclude_origin => '{crm,legacy}'").await;
    world.subscribe("/ok/all").await;
    let _daemon = Daemon::start(&world.database).await;
    for (id, origin) in [(1, "crm"), (2, "shop"), (3, ""), (4, "legacy"), (5, "CRM")] {
        let set =
            if origin.is_empty() { String::new() } else { format!("set local webhook.origin = '{origin}';") };
        world.database.run(&format!("begin; {set} insert into orders values ({id}, 'c'); commit")).await;
    }
    world.receiver.wait_for("/ok/all", 5, PATIENCE).await;
    world.receiver.wait_for("/ok/crm", 3, PATIENCE).await;
    world.settled(PATIENCE).await;
    let mut came: Vec<_> =
        world.receiver.at("/ok/crm").iter().filter_map(|r| r.json()["data"]["id"].as_i64()).collect();
    came.sort_unstable();
    assert_eq!(came, [2, 3, 5], "from other origins, and without an origin");
    // The views agree: no delivery, none pending.
    let matched = world.database.number("select count(*) from webhook.delivery").await;
    assert_eq!(matched, 8);
}

/// Applies the requests of one side of the sync to the other, marked with their origin.
async fn apply(from: &Receiver, path: &str, to: &World, origin: &str, applied: &mut usize) {
    let requests = from.at(path);
    for request in &requests[*applied..] {
        let body: Value = request.json();
        let (id, note) =
            (body["data"]["id"].as_i64().expect("an id"), body["data"]["note"].as_str().unwrap_or(""));
        let upsert = format!(
            "begin; set local webhook.origin = '{origin}';
             insert into orders values ({id}, 'c', 0, '{note}') on conflict (id) do update set note = excluded.note;
             commit"
        );
        to.app.batch_execute(&upsert).await.expect("it can be applied");
    }
    *applied = requests.len();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_systems_in_sync_come_to_rest() {
    let (shop, crm) = (World::new().await, World::new().await);
    shop.subscribe_with("/ok/to-crm", "exclude_origin => '{crm}'").await;
    crm.subscribe_with("/ok/to-shop", "exclude_origin => '{shop}'").await;
    let _daemons = (Daemon::start(&shop.database).await, Daemon::start(&crm.database).await);
    shop.insert_orders(1, 10).await;
    crm.insert_orders(11, 10).await;
    let (mut to_crm, mut to_shop) = (0, 0);
    let same = async || -> bool {
        let query = "select md5(string_agg(id || ':' || coalesce(note, ''), ',' order by id)) from orders";
        let both = (shop.database.text(query).await, crm.database.text(query).await);
        both.0 == both.1
    };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !(to_crm == 10 && to_shop == 10 && same().await) {
        assert!(tokio::time::Instant::now() < deadline, "{to_crm} to the CRM, {to_shop} to the shop");
        apply(&shop.receiver, "/ok/to-crm", &crm, "shop", &mut to_crm).await;
        apply(&crm.receiver, "/ok/to-shop", &shop, "crm", &mut to_shop).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // All events that the applied changes caused are routed, and none of them was sent back.
    for world in [&shop, &crm] {
        let routed = "select pending = 0 and queued = 0 from webhook.health";
        world.database.until(routed, PATIENCE).await;
        let events =
            world.database.number("select count(*) from webhook.event where type like 'order.%'").await;
        assert_eq!(events, 20, "ten of its own, ten applied");
    }
    let counts: HashMap<_, _> =
        [("shop", &shop), ("crm", &crm)].map(|(name, w)| (name, w.receiver.look(|r| r.total))).into();
    assert_eq!(counts, HashMap::from([("shop", 10), ("crm", 10)]));
}
