//! Measures the space of an event and its delivery: bytes of tables with their indexes, and of WAL.
//! The WAL is counted without full-page images, which depend on how often there is a checkpoint.

use crate::{
    drain::{drain, prepare},
    report::{Goal, Report},
    sink::Sink,
};
use e2e::{
    cluster::{Cluster, Database},
    scale,
    world::ORDERS,
};

/// Returns the end of the WAL, in bytes.
async fn wal(database: &Database) -> i64 {
    database.number("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").await
}

/// Inserts rows, each in a transaction of its own; returns the bytes of WAL.
async fn insert(database: &Database, table: &str, count: u64) -> i64 {
    let client = database.client().await;
    let insert = format!(
        "insert into {table} select i, 'customer ' || i, (i % 99999) / 100.0, md5(i::text) from (select $1::bigint as i) x"
    );
    let insert = client.prepare(&insert).await.expect("it parses");
    client.batch_execute("set synchronous_commit = off").await.expect("it can be set");
    let before = wal(database).await;
    for id in 1..=count.cast_signed() {
        client.execute(&insert, &[&id]).await.expect("it can be inserted");
    }
    wal(database).await - before
}

pub async fn run(report: &mut Report) {
    let count: u64 = scale("PGW_BENCH_DISK_EVENTS", 20_000, 200_000);
    let sink = Sink::start().await;
    let cluster = Cluster::start_with(&["full_page_writes=off", "autovacuum=off"]).await;
    let database = prepare(&cluster, &sink).await;
    database.run(&ORDERS.replace("orders", "unwatched")).await;
    let unwatched = insert(&database, "unwatched", count).await;
    let watched = insert(&database, "orders", count).await;
    let sizes = "select sum(event_bytes)::bigint, sum(attempt_bytes)::bigint from webhook.ring";
    let empty = "select sum(attempt_bytes)::bigint from webhook.ring";
    let empty = database.number(empty).await;
    let before = wal(&database).await;
    drain(&database, &sink, count).await;
    let delivered = wal(&database).await - before;
    let row = database.client().await.query_one(sizes, &[]).await.expect("sizes");
    let (events, attempts): (i64, i64) = (row.get(0), row.get::<_, i64>(1) - empty);
    let payload = database
        .number("select avg(length(payload::text))::bigint from webhook.event where type = 'order.created'")
        .await;
    let each = |bytes: i64| bytes as f64 / count as f64;
    let note = format!("with its index; {payload} bytes of it are data");
    report.add("disk: an event", each(events), "bytes", Goal::None, note);
    report.add(
        "disk: an attempt",
        each(attempts),
        "bytes",
        Goal::None,
        "with its indexes; a success at once",
    );
    report.add(
        "log: an event",
        each(watched - unwatched),
        "bytes",
        Goal::None,
        "single-row transactions, watched less unwatched",
    );
    report.add("log: an attempt", each(delivered), "bytes", Goal::None, "with the checkpoints of a drain");
}
