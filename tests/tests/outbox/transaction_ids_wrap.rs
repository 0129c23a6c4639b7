//! Promise: transaction ids continue beyond 2^32, while the ids on disk start over. No event is
//! lost or repeated there.

use e2e::{
    PATIENCE,
    cluster::Cluster,
    daemon::Daemon,
    receiver::{Keep, Receiver, SECRET},
    traffic::{Style, write_concurrently},
    world::ORDERS,
};
use std::{collections::HashSet, time::Duration};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn crossed_under_traffic_with_a_transaction_open_across() {
    let cluster = Cluster::start_at_xid(u32::MAX - 1_000).await;
    let database = cluster.database("app").await;
    let receiver = Receiver::start_with(Keep::Ids).await;
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order')")).await;
    for path in ["/ok", "/ok/key"] {
        let ordering = if path == "/ok" { "none" } else { "key" };
        database
            .run(&format!(
                "select webhook_subscribe('{}', '{{order.*}}', secret => '{SECRET}', ordering => '{ordering}')",
                receiver.url(path)
            ))
            .await;
    }
    let before = database.number("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await;
    assert!((u32::MAX as i64 - 1_001..u32::MAX as i64).contains(&before), "{before}");

    let daemon = Daemon::start(&database).await;
    // A transaction that begins before the wrap and ends after it: its events come late.
    let long = database.client().await;
    long.batch_execute("begin; insert into orders values (-1, 'long')").await.expect("an open transaction");
    let style = Style {
        transactions: 300,
        savepoint_percent: 60,
        pause: Duration::from_millis(1),
        ..Style::default()
    };
    let first = write_concurrently(&database, 4, 1, &style).await;
    let wrapped = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint > 4294967296";
    assert_eq!(database.text(wrapped).await.as_deref(), Some("t"), "the traffic has crossed");
    // The next daemon's checkpoint contains a transaction that runs since before the wrap.
    assert!(daemon.sigterm(PATIENCE).await.success());
    let second = database.client().await;
    second.batch_execute("insert into orders values (-2, 'beyond')").await.expect("it can be inserted");
    long.batch_execute("insert into orders values (-3, 'long'); commit").await.expect("it can be committed");
    let daemon = Daemon::start(&database).await;
    second
        .batch_execute("insert into orders select -10 - i, 'c' from generate_series(1, 3000) i")
        .await
        .expect("a large window");

    let expected = first.values().sum::<u32>() as usize + 3 + 3_000;
    for path in ["/ok", "/ok/key"] {
        receiver.wait_for(path, expected, PATIENCE).await;
    }
    database
        .until("select not exists (select from webhook.delivery where state <> 'delivered')", PATIENCE)
        .await;
    assert_eq!(database.text("select xmax > 4294967296 from (select pg_snapshot_xmax(snapshot)::text::bigint as xmax from webhook.cursor) c").await.as_deref(), Some("t"));
    assert!(daemon.sigterm(PATIENCE).await.success());
    let client = database.client().await;
    let rows = client
        .query("select webhook.public_id(id, created_at) from webhook.event where type like 'order.%'", &[])
        .await
        .expect("the outbox can be read");
    let events: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    receiver.look(|record| {
        for path in ["/ok", "/ok/key"] {
            assert_eq!(record.ids(path), events);
            assert_eq!(record.duplicates(path), 0, "{path}");
        }
    });
}
