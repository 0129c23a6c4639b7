//! Promise: a subscription with scope `own` gets only events of its present owner, and
//! announcements. A delivery that waits when the owner changes is not sent.

use e2e::{PATIENCE, daemon::Daemon, receiver::Behaviour, world::World};

/// The numbers in the bodies that arrived on a path, in order.
fn numbers(world: &World, path: &str) -> Vec<i64> {
    let number = |body: &serde_json::Value| body["data"]["n"].as_i64();
    let mut came = Vec::new();
    for request in world.receiver.at(path) {
        match request.json() {
            serde_json::Value::Array(bodies) => came.extend(bodies.iter().filter_map(number)),
            body => came.extend(number(&body)),
        }
    }
    came.sort_unstable();
    came
}

/// Subscribes a path to `thing.*` for an owner, with scope `own`.
async fn subscribe(world: &World, path: &str, owner: &str, arguments: &str) -> i64 {
    let id = world.subscribe_with(path, &format!("events => '{{thing.*}}'{arguments}")).await;
    give(world, id, owner).await;
    id
}

/// Gives a subscription to another owner.
async fn give(world: &World, id: i64, owner: &str) {
    let update = format!("update webhook.subscription set owner = '{owner}', scope = 'own' where id = {id}");
    world.database.run(&update).await;
}

/// Emits events `first..=last` of an owner, in one transaction.
async fn emit(world: &World, event_type: &str, owner: &str, (first, last): (i64, i64)) {
    let statement = format!(
        "insert into webhook.event (type, key, payload, owner)
         select '{event_type}', 'k', json_build_object('n', i), {owner} from generate_series({first}, {last}) i;
         select webhook.gate_ring()"
    );
    world.database.run(&statement).await;
}

/// Waits until nothing is queued, and the checkpoint has passed every event.
async fn resolved(world: &World) {
    world.database.until("select count(*) = 0 from webhook.queue", PATIENCE).await;
    let all = "select bool_and(pg_visible_in_snapshot(e.xid::text::xid8, c.snapshot))
               from webhook.event e, webhook.cursor c";
    world.database.until(all, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_reach_only_their_owner() {
    let world = World::new().await;
    for owner in ["a", "b"] {
        subscribe(&world, &format!("/ok/{owner}"), owner, "").await;
    }
    let id = world.subscribe_with("/ok/all", "events => '{thing.*}'").await;
    world.database.run(&format!("update webhook.subscription set scope = 'all' where id = {id}")).await;
    world.database.run("insert into webhook.event_type (type, internal) values ('thing.hidden', true)").await;
    let daemon = Daemon::start(&world.database).await;
    for (event_type, owner, n) in [
        ("thing.made", "'a'", 1),
        ("thing.made", "'b'", 2),
        ("thing.made", "'*'", 3),
        ("thing.made", "null", 4),
        ("thing.hidden", "'a'", 5),
    ] {
        emit(&world, event_type, owner, (n, n)).await;
    }
    world.receiver.wait_for("/ok/all", 5, PATIENCE).await;
    let turn =
        "update webhook.event_type set internal = not internal where type in ('thing.hidden', 'thing.made');
        insert into webhook.event_type (type, internal) values ('thing.made', true);
        insert into webhook.event (type, key, payload) select 'webhook.event_type.updated', type,
            json_build_object('type', type, 'internal', internal) from webhook.event_type;
        select webhook.gate_ring()";
    world.database.run(turn).await;
    // Within the window of the change, both types count as internal.
    emit(&world, "thing.made", "null", (6, 6)).await;
    world.receiver.wait_for("/ok/all", 6, PATIENCE).await;
    emit(&world, "thing.made", "'a'", (7, 7)).await;
    emit(&world, "thing.hidden", "'a'", (8, 8)).await;
    world.receiver.wait_for("/ok/all", 8, PATIENCE).await;
    world.receiver.wait_for("/ok/a", 3, PATIENCE).await;
    resolved(&world).await;
    assert_eq!(numbers(&world, "/ok/a"), [1, 3, 8]);
    assert_eq!(numbers(&world, "/ok/b"), [2, 3]);
    assert_eq!(numbers(&world, "/ok/all"), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_in_memory_are_not_sent_to_another_owner() {
    for arguments in ["", ", ordering => 'key'", ", batch_size => 3, ordering => 'key'", ", compact => true"]
    {
        let world = World::new().await;
        let arguments = format!(", max_in_flight => 1{arguments}");
        let id = subscribe(&world, "/hold/x", "a", &arguments).await;
        subscribe(&world, "/ok/b", "b", "").await;
        let daemon = Daemon::start(&world.database).await;
        emit(&world, "thing.made", "'a'", (1, 1)).await;
        world.receiver.wait_for("/hold/x", 1, PATIENCE).await;
        emit(&world, "thing.made", "'a'", (2, 50)).await;
        emit(&world, "thing.made", "'*'", (51, 51)).await;
        give(&world, id, "b").await;
        emit(&world, "thing.made", "'b'", (52, 52)).await;
        // The daemon has read the change if it has delivered what committed after it.
        world.receiver.wait_for("/ok/b", 2, PATIENCE).await;
        world.receiver.release();
        resolved(&world).await;
        let came = numbers(&world, "/hold/x");
        // With compaction, the announcement may be merged into the next event.
        let wanted: &[i64] =
            if came.len() == 2 && arguments.contains("compact") { &[1, 52] } else { &[1, 51, 52] };
        assert_eq!(came, wanted, "{arguments}");
        assert!(daemon.sigterm(PATIENCE).await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_deliveries_are_not_sent_to_another_owner() {
    let world = World::new().await;
    let id = subscribe(&world, "/ok/x", "a", "").await;
    let daemon = Daemon::start(&world.database).await;
    world.database.run(&format!("select webhook_pause({id})")).await;
    emit(&world, "thing.made", "'a'", (1, 20)).await;
    world.database.until("select count(*) = 20 from webhook.queue", PATIENCE).await;
    give(&world, id, "b").await;
    let queued = "select count(*) from webhook.queue";
    assert_eq!(world.database.number(queued).await, 0, "they go with their owner");
    emit(&world, "thing.made", "'b'", (21, 22)).await;
    world.database.until("select count(*) = 2 from webhook.queue", PATIENCE).await;
    world.database.run(&format!("select webhook_resume({id})")).await;
    world.receiver.wait_for("/ok/x", 2, PATIENCE).await;
    resolved(&world).await;
    assert_eq!(numbers(&world, "/ok/x"), [21, 22]);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_are_not_sent_to_another_owner() {
    let world = World::new().await;
    let id = subscribe(&world, "/status/503/x", "a", ", retry => '{3 s}'").await;
    let daemon = Daemon::start(&world.database).await;
    emit(&world, "thing.made", "'a'", (1, 5)).await;
    world.database.until("select count(*) = 5 from webhook.queue where state = 'waiting'", PATIENCE).await;
    give(&world, id, "b").await;
    emit(&world, "thing.made", "'b'", (6, 6)).await;
    let tried = "select count(*) = 2 from webhook.attempt a join webhook.event e on e.id = a.event_id where e.owner = 'b'";
    world.database.until(tried, PATIENCE).await;
    resolved(&world).await;
    assert_eq!(numbers(&world, "/status/503/x"), [1, 2, 3, 4, 5, 6, 6]);
    let reported = "select count(*) from webhook.event where type = 'webhook.delivery.exhausted'";
    assert_eq!(world.database.number(reported).await, 1, "only for the new owner");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_in_flight_is_not_retried_for_another_owner() {
    let world = World::new().await;
    let id = subscribe(&world, "/hold/x", "a", ", retry => '{100 ms}', timeout => '3 s'").await;
    let daemon = Daemon::start(&world.database).await;
    emit(&world, "thing.made", "'a'", (1, 1)).await;
    world.receiver.wait_for("/hold/x", 1, PATIENCE).await;
    world.receiver.behave("/hold/x", Behaviour::Status(500));
    give(&world, id, "b").await;
    emit(&world, "thing.made", "'b'", (2, 2)).await;
    world.receiver.wait("both attempts of the second", PATIENCE, |record| record.total == 3).await;
    // The daemon has the change. The first attempt ends only now.
    let ended = "select count(*) = 1 from webhook.attempt a join webhook.event e on e.id = a.event_id
                 where e.owner = 'a' and a.outcome = 'timeout' and a.next_at is null";
    world.database.until(ended, PATIENCE).await;
    resolved(&world).await;
    assert_eq!(numbers(&world, "/hold/x"), [1, 2, 2]);
    assert!(daemon.sigterm(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_sends_nothing_to_another_owner() {
    let world = World::new().await;
    let id = subscribe(&world, "/hold/x", "a", ", max_in_flight => 2").await;
    let daemon = Daemon::start(&world.database).await;
    emit(&world, "thing.made", "'a'", (1, 10)).await;
    world.receiver.wait_for("/hold/x", 2, PATIENCE).await;
    daemon.kill9().await;
    give(&world, id, "b").await;
    emit(&world, "thing.made", "'b'", (11, 11)).await;
    world.receiver.behave("/hold/x", Behaviour::Ok);
    let daemon = Daemon::start(&world.database).await;
    world.receiver.wait("the new owner's event", PATIENCE, |record| record.total == 3).await;
    resolved(&world).await;
    assert_eq!(numbers(&world, "/hold/x"), [1, 2, 11]);
    assert!(daemon.sigterm(PATIENCE).await.success());
}
