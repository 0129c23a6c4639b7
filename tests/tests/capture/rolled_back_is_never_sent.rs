//! Promise: an event exists and is sent if and only if its transaction committed. The same holds
//! for savepoints.

use e2e::{PATIENCE, daemon::Daemon, scale, traffic, world::World};
use std::collections::BTreeMap;

/// Returns the outbox's events about orders: event type and key, with their number.
async fn in_outbox(world: &World) -> traffic::Changes {
    let rows = world
        .app
        .query("select type, key from webhook.event where type like 'order.%'", &[])
        .await
        .expect("the outbox can be read");
    let mut changes = BTreeMap::new();
    for row in rows {
        *changes.entry((row.get(0), row.get(1))).or_default() += 1;
    }
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_traffic_with_rollbacks_and_savepoint_rollbacks() {
    let world = World::new().await;
    world.subscribe("/ok").await;
    let daemon = Daemon::start(&world.database).await;

    let style =
        traffic::Style { transactions: scale("PGW_TRANSACTIONS", 400, 5_000), ..traffic::Style::default() };
    let committed = traffic::write_concurrently(&world.database, 8, 42, &style).await;
    assert_eq!(in_outbox(&world).await, committed, "the outbox holds what was committed, and nothing else");

    let events = world.event_ids("order.%").await;
    world.receiver.wait_for("/ok", events.len(), PATIENCE * 4).await;
    world.settled(PATIENCE).await;
    // No event may arrive after the settled state: the daemon's clean end proves that none is left.
    assert!(daemon.sigterm(PATIENCE).await.success());

    world.receiver.look(|record| {
        assert_eq!(record.ids("/ok"), events, "delivered = committed");
        assert_eq!(record.duplicates("/ok"), 0, "nothing twice");
        assert_eq!(record.rejected, Vec::<String>::new(), "every signature holds");
        let mut delivered = traffic::Changes::new();
        for request in record.at("/ok") {
            let body = request.json();
            let (event_type, key) = (body["type"].as_str(), &body["data"]["id"]);
            assert_eq!(body["id"], request.id(), "the body and the header name the same event");
            let change = (event_type.expect("a type").to_owned(), key.to_string());
            *delivered.entry(change).or_default() += 1;
        }
        assert_eq!(delivered, committed, "the bodies have what was committed");
    });
    let attempts = "select count(*) from webhook.attempt";
    assert_eq!(world.database.number(attempts).await, events.len() as i64, "one attempt row each");
    let odd = format!("{attempts} where attempt <> 1 or outcome <> 'succeeded' or status <> 200");
    assert_eq!(world.database.number(&odd).await, 0);
    assert_eq!(world.database.number("select count(*) from webhook.queue").await, 0);
}
