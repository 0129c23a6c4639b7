//! Promise: a subscription with verification gets no event before its receiver has confirmed. It
//! loses none of them, and the daemon does not pester the receiver meanwhile.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{Behaviour, Handshake},
    world::World,
};

fn verified(id: i64) -> String {
    format!("select verified_at is not null from webhook.subscription where id = {id}")
}

#[tokio::test(flavor = "multi_thread")]
async fn by_handshake() {
    let world = World::new().await;
    let mut subscriptions = Vec::new();
    for kind in ["ok", "any", "wrong", "absent", "refused"] {
        let id = world
            .subscribe_with(
                &format!("/handshake/{kind}"),
                "verification => 'handshake', events => '{order.*}'",
            )
            .await;
        subscriptions.push((kind, id));
    }
    world.subscribe("/ok/other").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 5).await;
    world.receiver.wait_for("/ok/other", 5, PATIENCE).await;
    for (kind, id) in &subscriptions {
        let path = format!("/handshake/{kind}");
        world
            .receiver
            .wait("the OPTIONS request", PATIENCE, |record| record.others.iter().any(|r| r.path == path))
            .await;
        if ["ok", "any"].contains(kind) {
            world.receiver.wait_for(&path, 5, PATIENCE).await;
            world.database.until(&verified(*id), PATIENCE).await;
        } else {
            let kept = format!(
                "select count(*) = 5 and bool_and(state = 'backlog') from webhook.queue where subscription_id = {id}"
            );
            world.database.until(&kept, PATIENCE).await;
            let told = format!(
                "select held_because like 'not confirmed: %' from webhook.subscription_stats where id = {id}"
            );
            world.database.until(&told, PATIENCE).await;
            assert_eq!(world.database.text(&verified(*id)).await.as_deref(), Some("f"), "{kind}");
            world.receiver.look(|record| {
                assert_eq!(record.distinct(&path), 0, "{kind}: no event before it has confirmed")
            });
        }
    }
    world.receiver.look(|record| {
        for request in &record.others {
            assert_eq!(request.method, "OPTIONS");
            let origin = request.header("webhook-request-origin").unwrap_or_default();
            assert!(!origin.is_empty(), "{:?}", request.headers);
            // Every later POST has the same header.
            for post in record.at(&request.path) {
                assert_eq!(post.header("webhook-request-origin"), Some(origin));
            }
        }
    });
    // The receiver allows 120 requests per minute.
    let any = subscriptions[1].1;
    let rate = format!("select allowed_rate = 2 from webhook.receiver where subscription_id = {any}");
    assert_eq!(world.database.text(&rate).await.as_deref(), Some("t"));

    // The receiver now confirms. A change of the subscription makes the daemon ask again.
    let (_, wrong) = subscriptions[2];
    world.receiver.behave("/handshake/wrong", Behaviour::Handshake(Handshake::Echo));
    world.database.run(&format!("select webhook_alter({wrong}, verification => 'handshake')")).await;
    world.receiver.wait_for("/handshake/wrong", 5, PATIENCE).await;
    world.database.until(&verified(wrong), PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_ping() {
    let world = World::new().await;
    let deaf = world.subscribe_with("/status/500", "verification => 'ping'").await;
    let good = world.subscribe_with("/ok/good", "verification => 'ping'").await;
    world.subscribe("/ok/other").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 5).await;
    world.receiver.wait_for("/ok/other", 5, PATIENCE).await;
    world.receiver.wait_for("/ok/good", 6, PATIENCE).await;
    let came = world.receiver.at("/ok/good");
    assert_eq!(came[0].json()["type"], "webhook.ping", "first of all");
    assert!(came[1..].iter().all(|request| request.json()["type"] == "order.created"));
    assert_eq!(world.database.text(&verified(good)).await.as_deref(), Some("t"));

    world.receiver.wait("the ping", PATIENCE, |record| record.at("/status/500").count() > 0).await;
    let kept = format!(
        "select count(*) = 5 from webhook.queue q join webhook.event e on e.id = q.event_id where q.subscription_id = {deaf} and e.type = 'order.created' and q.state = 'backlog'"
    );
    world.database.until(&kept, PATIENCE).await;
    let pings =
        |record: &e2e::receiver::Record| record.at("/status/500").all(|r| r.json()["type"] == "webhook.ping");
    world.receiver.look(|record| assert!(pings(record), "pings and nothing else"));
    assert_eq!(world.database.text(&verified(deaf)).await.as_deref(), Some("f"));
    world.receiver.behave("/status/500", Behaviour::Ok);
    world.database.run(&format!("select webhook_ping({deaf})")).await;
    world
        .receiver
        .wait("its orders", PATIENCE, |record| {
            record.at("/status/500").filter(|r| r.json()["type"] == "order.created").count() == 5
        })
        .await;
    world.settled(PATIENCE).await;
}

/// A confirmation is for an address, not for a subscription.
#[tokio::test(flavor = "multi_thread")]
async fn another_address_must_confirm_again() {
    let world = World::new().await;
    let id = world.subscribe_with("/handshake/ok", "verification => 'handshake'").await;
    world.subscribe("/ok/other").await;
    let _daemon = Daemon::start(&world.database).await;
    world.database.until(&verified(id), PATIENCE).await;
    let elsewhere = world.receiver.url("/handshake/refused");
    world.database.run(&format!("select webhook_alter({id}, url => '{elsewhere}')")).await;
    world.insert_orders(1, 3).await;
    world.receiver.wait_for("/ok/other", 3, PATIENCE).await;
    world
        .receiver
        .wait("it is asked", PATIENCE, |record| record.others.iter().any(|r| r.path == "/handshake/refused"))
        .await;
    let kept = format!("select count(*) = 3 from webhook.queue where subscription_id = {id}");
    world.database.until(&kept, PATIENCE).await;
    world.receiver.look(|record| assert_eq!(record.distinct("/handshake/refused"), 0));
}
