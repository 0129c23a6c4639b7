//! Promise: host names that never resolve delay their owner's deliveries alone. A lookup that has
//! not begun is a shortage of the daemon: the receiver is not charged, and no retry is used up.

use e2e::{PATIENCE, daemon::Daemon, name_server::NameServer, receiver::SECRET, world::World};

/// More than the daemon has threads for lookups, and more than the runtime has.
const NAMES: usize = 700;
/// One owner's share of them.
const PLACES: usize = 128;

async fn subscribe_silent(world: &World) {
    let many = format!(
        "select count(s.id) from generate_series(1, {NAMES}) i, lateral webhook_subscribe(
             'https://' || i || '.silent.example/', '{{order.*}}', secret => '{SECRET}', owner => 'mallory', scope => 'all',
             retry => '{{}}') s"
    );
    assert_eq!(world.database.number(&many).await, NAMES as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn and_the_names_of_other_owners_do() {
    let names = NameServer::start().await;
    let world = World::new().await;
    subscribe_silent(&world).await;
    let daemon = Daemon::start_with_names(&world.database, &names).await;
    world.insert_orders(1, 1).await;
    names.wait_for(".silent.example", PLACES).await;

    let url = world.receiver.url("/ok").replace("127.0.0.1", "bob.known.example");
    let bob = world.subscribe_url(&url, "owner => 'bob', scope => 'all'").await;
    world.insert_orders(2, 1).await;
    world.receiver.wait_for("/ok", 1, PATIENCE).await;
    let of_bob =
        format!("select string_agg(outcome, ' ') from webhook.attempt where subscription_id = {bob}");
    world.database.until(&format!("select ({of_bob}) is not null"), PATIENCE).await;
    assert_eq!(world.database.text(&of_bob).await.as_deref(), Some("succeeded"));
    assert_eq!(names.asked("bob.known.example").into_values().collect::<Vec<_>>(), [1]);

    let refused = "webhook.attempt a join webhook.subscription s on s.id = a.subscription_id
        where s.owner = 'mallory' and a.outcome = 'refused' and a.error like '%too many lookups%'";
    world.database.until(&format!("select exists (select from {refused})"), PATIENCE).await;
    let silent = names.asked(".silent.example");
    assert_eq!((silent.len(), silent.values().max()), (PLACES, Some(&1)), "each name once");
    let charged = format!(
        "select count(*) from {refused} and exists (select from webhook.receiver r
             where r.subscription_id = s.id and r.consecutive_failures > 0)"
    );
    assert_eq!(world.database.number(&charged).await, 0, "the receiver is not at fault");
    let given_up = format!("select count(*) from {refused} and a.next_at is null");
    assert_eq!(world.database.number(&given_up).await, 0, "there is no retry, and none is used up");
    assert!(daemon.sigterm(PATIENCE).await.success());
}
