//! Promise: a filter is a SQL/JSON path that Postgres itself evaluates on the event. Events that do
//! not match, or whose filter cannot be evaluated, are not delivered, queued or counted.

use e2e::{PATIENCE, daemon::Daemon, world::World};

/// Path at the receiver, filter, and the orders (by id) whose `created` events match.
const FILTERS: [(&str, &str, &[i64]); 12] = [
    ("/ok/0", "$.data.total > 50", &[3, 4]),
    ("/ok/1", "$.data.total ? (@ > 50)", &[3, 4]),
    ("/ok/2", "$.data ? (@.customer == \"acme\" && @.total < 50)", &[1]),
    ("/ok/3", "$.data.note", &[1, 2, 3, 4, 5]), // a null member is present too: @? asks for an item
    ("/ok/4", "$.data.note == null", &[1, 2, 3, 4]),
    ("/ok/5", "$.actor == \"user:7\"", &[3]),
    ("/ok/6", "$.origin", &[4]), // absent members are absent
    ("/ok/7", "$.type == \"order.created\" && $.table == \"public.orders\"", &[1, 2, 3, 4, 5]),
    ("/ok/8", "$.key == \"2\"", &[2]),
    ("/ok/9", "$.nothing == 1", &[]),
    ("/ok/10", "strict $.data.nothing.at.all == 1", &[]), // an error in strict mode does not match
    ("/ok/11", "$.data.customer like_regex \"^AC\" flag \"i\"", &[1, 3]),
];

#[tokio::test(flavor = "multi_thread")]
async fn as_postgres_evaluates_them() {
    let world = World::new().await;
    for (path, filter, _) in FILTERS {
        world.subscribe_with(path, &format!("events => '{{order.created}}', filter => '{filter}'")).await;
    }
    world.subscribe("/ok/all").await;
    let _daemon = Daemon::start(&world.database).await;
    world.database.run("insert into orders values (1, 'acme', 10), (2, 'zeta', 20)").await;
    world
        .database
        .run("begin; set local webhook.actor = 'user:7'; insert into orders values (3, 'acme', 99); commit")
        .await;
    world
        .database
        .run("begin; set local webhook.origin = 'crm'; insert into orders values (4, 'zeta', 51); commit")
        .await;
    world.database.run("insert into orders values (5, 'zeta', 50, 'n')").await;
    world.receiver.wait_for("/ok/all", 5, PATIENCE).await;
    world.settled(PATIENCE).await;
    let mut wrong = Vec::new();
    let mut expected = 5;
    for (path, filter, want) in FILTERS {
        let mut came: Vec<_> =
            world.receiver.at(path).iter().filter_map(|r| r.json()["data"]["id"].as_i64()).collect();
        came.sort_unstable();
        expected += want.len() as i64;
        if came != want {
            wrong.push(format!("{filter}: {came:?}, not {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let counted = world.database.number("select count(*) from webhook.delivery").await;
    assert_eq!(counted, expected, "the views know of matches only");
    let attempts = world.database.number("select count(*) from webhook.attempt").await;
    assert_eq!(attempts, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_former_values_and_on_what_jsonb_cannot_hold() {
    let world = World::new().await;
    world.subscribe_with("/ok/risen", "filter => '$.previous.total < $.data.total'").await;
    world.subscribe_with("/ok/any", "filter => '$.data.id > 0'").await;
    world.subscribe("/ok/all").await;
    let daemon = Daemon::start(&world.database).await;
    world.database.run("insert into orders values (1, 'a', 10), (2, 'b', 10)").await;
    world.database.run("update orders set total = 20 where id = 1").await;
    world.database.run("update orders set total = 5 where id = 2").await;
    // json accepts `\u0000`; jsonb rejects it.
    world.database.run(r#"select webhook_emit('order.noted', '{"id": 1, "note": "\u0000"}')"#).await;
    world.database.run("insert into orders values (3, 'c', 30)").await;
    world.receiver.wait_for("/ok/all", 6, PATIENCE).await;
    world.settled(PATIENCE).await;
    world.receiver.look(|record| {
        assert_eq!(record.distinct("/ok/risen"), 1);
        assert_eq!(record.distinct("/ok/any"), 5, "all except the event that jsonb cannot hold");
    });
    let said = daemon.process().log();
    assert!(!said.iter().any(|line| line.contains("session.lost")), "{said:#?}");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Checks that a filter also applies to events read in pages and to the backlog of a paused
/// subscription, and that a change of the filter takes effect in commit order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_large_windows_in_backlogs_and_after_a_change() {
    let world = World::new().await;
    let id = world.subscribe_with("/ok/even", "filter => '$.data.id >= 5000'").await;
    let paused = world.subscribe_with("/ok/paused", "filter => '$.data.id < 100', enabled => false").await;
    let daemon = Daemon::start(&world.database).await;
    world
        .app
        .batch_execute("insert into orders select i, 'c' from generate_series(1, 10000) i")
        .await
        .expect("rows");
    world.receiver.wait_for("/ok/even", 5001, PATIENCE).await;
    let kept = format!("select count(*) = 99 from webhook.queue where subscription_id = {paused}");
    world.database.until(&kept, PATIENCE).await;
    world.database.run(&format!("insert into orders values (20001, 'c'); select webhook_alter({id}, filter => '$.data.id == 20003'); insert into orders values (20002, 'c'), (20003, 'c')")).await;
    world.database.run(&format!("select webhook_resume({paused})")).await;
    world.receiver.wait_for("/ok/paused", 99, PATIENCE).await;
    world.settled(PATIENCE).await;
    let mut came: Vec<_> = world
        .receiver
        .at("/ok/even")
        .iter()
        .filter_map(|r| r.json()["data"]["id"].as_i64())
        .filter(|id| *id > 20_000)
        .collect();
    came.sort_unstable();
    // All three statements are one transaction, so the table shows only its end state.
    assert!(came.contains(&20_003) && !came.contains(&20_002), "{came:?}");
    assert!(daemon.sigterm(PATIENCE).await.success());
}

/// Returns a filter that nests every column within every column: 4^20 comparisons on an order.
fn endless() -> String {
    (0..20).fold("@ == \"none\"".to_owned(), |inner, _| format!("exists($.data.* ? ({inner}))"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_takes_too_long_holds_its_own_subscription_and_no_other() {
    let world = World::new().await;
    let slow = world.subscribe_with("/ok/slow", &format!("filter => '{}'", endless())).await;
    world.subscribe_with("/ok/other", "filter => '$.data.id > 0'").await;
    world.subscribe("/ok/all").await;
    let held = format!(
        "select held_because from webhook.subscription_stats where id = {slow} and held_because like '%filter%too long'"
    );
    let held = format!("select exists ({held})");
    let kept = |orders: i64| {
        format!(
            "select count(*) = {orders} and bool_and(state = 'backlog') from webhook.queue where subscription_id = {slow}"
        )
    };
    let mut daemon = Daemon::start(&world.database).await;
    for (first, orders, ends) in [(1, 10, "sigterm"), (11, 20, "kill"), (21, 30, "no")] {
        world.insert_orders(first, 10).await;
        for path in ["/ok/all", "/ok/other"] {
            world.receiver.wait(path, PATIENCE, |record| record.distinct(path) as i64 == orders).await;
        }
        world.database.until(&held, PATIENCE).await;
        world.database.until(&kept(orders), PATIENCE).await;
        let said = daemon.process().log();
        assert!(said.iter().any(|line| line.contains("subscription.filter_too_slow")), "{said:#?}");
        match ends {
            "sigterm" => assert!(daemon.sigterm(PATIENCE).await.success()),
            "kill" => daemon.kill9().await,
            _ => break,
        }
        daemon = Daemon::start(&world.database).await;
    }
    assert_eq!(world.receiver.look(|record| record.distinct("/ok/slow")), 0);
    world.database.run(&format!("select webhook_alter({slow}, filter => '$.data.id > 5')")).await;
    world.receiver.wait_for("/ok/slow", 25, PATIENCE).await;
    world.settled(PATIENCE).await;
    let mut came: Vec<_> =
        world.receiver.at("/ok/slow").iter().filter_map(|r| r.json()["data"]["id"].as_i64()).collect();
    came.sort_unstable();
    assert_eq!(came, (6..=30).collect::<Vec<_>>(), "what the new filter lets through, and each once");
    world.database.until(&format!("select not ({held})"), PATIENCE).await;
}
