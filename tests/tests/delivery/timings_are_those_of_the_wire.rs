//! Promise: an attempt's times measure the network and the receiver, not the wait for its turn.
//! Each phase is measured separately.

use e2e::{
    PATIENCE,
    daemon::Daemon,
    receiver::{
        Receiver,
        tls::{Authority, Identity},
    },
    world::World,
};

/// Returns, in order of attempts, which phases were measured: dns, connect, tls, first byte (`t`
/// for each that was).
async fn phases(world: &World, subscription: i64) -> Vec<String> {
    let query = "select concat_ws(' ', dns_ms is not null, connect_ms is not null, tls_ms is not null, first_byte_ms is not null)
                 from webhook.attempt where subscription_id = $1 order by started_at";
    let rows = world.app.query(query, &[&subscription]).await.expect("attempts can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_ones_turn_is_not_measured() {
    let world = World::new().await;
    let id = world.subscribe_with("/slow/400", "max_in_flight => 1").await;
    let _daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 6) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/slow/400", 6, PATIENCE).await;
    world.settled(PATIENCE).await;
    // The last attempt waited for two seconds. If that counted, its time would overlap with the
    // earlier attempts' times.
    let odd = format!(
        "select count(*) from (
             select *, lead(started_at, 1, clock_timestamp()) over (order by started_at) as next from webhook.attempt where subscription_id = {id}
         ) a
         where (duration_ms >= 399 and first_byte_ms between 399 and duration_ms + 1) is not true
            or started_at + duration_ms * interval '1 ms' > next + interval '100 ms'"
    );
    assert_eq!(world.database.number(&odd).await, 0);
    let queued = "select max(a.started_at - e.created_at) > interval '1.9 s' from webhook.attempt a join webhook.event e on e.id = a.event_id";
    assert_eq!(world.database.text(queued).await.as_deref(), Some("t"), "started_at is when it went out");
    let phases = phases(&world, id).await;
    assert_eq!(phases[0], "f t f t", "a new connection to an address");
    assert!(phases[1..].iter().all(|phases| phases == "f f f t"), "kept alive: {phases:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn name_connection_and_handshake() {
    let (world, authority) = (World::new().await, Authority::new());
    let receiver = Receiver::start_tls(authority.acceptor(Identity::Good)).await;
    let id = world.subscribe_url(&receiver.url("/ok"), "max_in_flight => 1").await;
    let environment = [("SSL_CERT_FILE", authority.file().as_os_str())];
    let arguments = ["--allow-net", "127.0.0.0/8,::1/128"];
    let daemon = Daemon::spawn_in(&world.database.url(), &arguments, &environment);
    daemon.ready(&world.database).await;
    for order in 1..=2 {
        world.insert_orders(order, 1).await;
        receiver.wait_for("/ok", order as usize, PATIENCE).await;
    }
    world.settled(PATIENCE).await;
    assert_eq!(phases(&world, id).await, ["t t t t", "f f f t"]);
    let sum = "select bool_and(coalesce(dns_ms, 0) + coalesce(connect_ms, 0) + coalesce(tls_ms, 0) + first_byte_ms <= duration_ms + 1) from webhook.attempt";
    assert_eq!(world.database.text(sum).await.as_deref(), Some("t"), "the parts are not more than the whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_reached_has_no_time() {
    let world = World::new().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("http://{}/", listener.local_addr().expect("it is bound"))
    };
    let refused = world.subscribe_url(&closed, "retry => '{1h}'").await;
    let hanging = world.subscribe_with("/hang", "retry => '{1h}', timeout => '500 ms'").await;
    let _daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select count(*) = 2 from webhook.attempt", PATIENCE).await;
    let refused = phases(&world, refused).await;
    assert!(refused[0].ends_with("f f"), "no handshake, no answer: {refused:?}");
    assert_eq!(phases(&world, hanging).await, ["f t f f"], "connected, and no answer");
}
