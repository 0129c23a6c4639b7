//! Promise: behind a pooler in transaction mode, `set local webhook.actor`, as the documents show
//! it, marks only the transaction's own events. A plain `set` stays in the session, and marks the
//! events of the next client: the documents warn of it.

use e2e::{PATIENCE, daemon::Daemon, pooler::Pooler, world::World};

const SETTINGS: [&str; 3] = ["webhook.actor", "webhook.origin", "webhook.traceparent"];
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn value(setting: &str) -> &str {
    if setting == "webhook.traceparent" { TRACE } else { "user:7" }
}

/// Returns whether the events of two clients have the first client's setting.
async fn marked(world: &World, pooler: &Pooler, set: &str, setting: &str, first_id: i64) -> (bool, bool) {
    let column = setting.trim_start_matches("webhook.");
    let (one, other) = (pooler.client().await, pooler.client().await);
    let insert = |id: i64| format!("insert into orders values ({id}, 'c', 1, null)");
    let statements = format!("begin; {set} {setting} = '{}'; {}; commit", value(setting), insert(first_id));
    one.batch_execute(&statements).await.expect("it inserts");
    other.batch_execute(&insert(first_id + 1)).await.expect("it inserts");
    // So that the next case begins with a clean session.
    other.batch_execute(&format!("reset {setting}")).await.expect("it resets");
    let mut found = Vec::new();
    for id in [first_id, first_id + 1] {
        let query = format!(
            "select coalesce({column} = '{}', false)::text from webhook.event where key = '{id}' and type = 'order.created'",
            value(setting)
        );
        found.push(world.database.text(&query).await.as_deref() == Some("true"));
    }
    (found[0], found[1])
}

#[tokio::test(flavor = "multi_thread")]
async fn set_local_ends_with_the_transaction() {
    let world = World::new().await;
    // One session for all clients: each gets the session of the one before.
    let pooler = Pooler::start(&world.database, 1).await;
    let mut id = 1;
    for setting in SETTINGS {
        assert_eq!(marked(&world, &pooler, "set local", setting, id).await, (true, false), "{setting}");
        assert_eq!(
            marked(&world, &pooler, "set", setting, id + 2).await,
            (true, true),
            "{setting}: this is why the documents do not show a plain SET"
        );
        id += 4;
    }
    world.subscribe("/ok").await;
    let _daemon = Daemon::start(&world.database).await;
    let one = pooler.client().await;
    one.batch_execute(
        "begin; set local webhook.actor = 'user:7'; insert into orders values (100, 'c', 1, null); commit",
    )
    .await
    .expect("it inserts");
    pooler
        .client()
        .await
        .batch_execute("insert into orders values (101, 'c', 1, null)")
        .await
        .expect("it inserts");
    world.receiver.wait_for("/ok", 2, PATIENCE).await;
    let mut actors: Vec<_> = world
        .receiver
        .at("/ok")
        .iter()
        .map(|request| {
            let event = request.json();
            (
                event["data"]["id"].as_i64(),
                event.get("actor").and_then(|actor| actor.as_str().map(str::to_owned)),
            )
        })
        .collect();
    actors.sort();
    assert_eq!(actors, [(Some(100), Some("user:7".to_owned())), (Some(101), None)]);
}

/// No page shows a plain `set` of these settings in a statement.
#[test]
fn no_page_shows_a_plain_set() {
    let pages = [
        include_str!("../../../README.md"),
        include_str!("../../../docs/SQL.md"),
        include_str!("../../../docs/OPERATIONS.md"),
        include_str!("../../../docs/RECEIVING.md"),
        include_str!("../../../docs/MIGRATING.md"),
        include_str!("../../../docs/EVENTS.md"),
    ];
    for page in pages {
        for setting in SETTINGS {
            let plain = page.lines().find(|line| line.trim_start().starts_with(&format!("set {setting}")));
            assert_eq!(plain, None);
        }
    }
}
