//! Promise: either all parts of a batch of results are written, or none is, although the ledger
//! sends them without waiting for an answer.

use database::{Client, Purpose, Watch};
use e2e::cluster::{Cluster, Database};
use tokio_postgres::types::ToSql;

async fn session(database: &Database) -> Client {
    let target = database.url().parse().expect("a connection string");
    database::connect(&target, Purpose::Ledger, Watch::default()).await.expect("it connects")
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_sent_together_have_all_an_effect_or_none() {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    database.run("create table results (id bigint primary key)").await;
    let client = session(&database).await;
    let insert =
        client.prepare("insert into public.results values ($1) returning id").await.expect("it parses");
    let [one, two, three, text]: [[&(dyn ToSql + Sync); 1]; 4] = [[&1_i64], [&2_i64], [&3_i64], [&"three"]];

    let rows = client.query_together(&[(&insert, &one), (&insert, &two)]).await.expect("both");
    let ids: Vec<Vec<i64>> = rows.iter().map(|rows| rows.iter().map(|row| row.get(0)).collect()).collect();
    assert_eq!(ids, [[1], [2]], "the rows of each, in order");
    assert!(client.query_together(&[]).await.expect("none").is_empty());

    // The server rejects the first or the second one, and the client cannot encode the third one.
    for (what, statements) in [
        ("a duplicate, then a row", [(&insert, &one[..]), (&insert, &three)]),
        ("a row, then a duplicate", [(&insert, &three[..]), (&insert, &one)]),
        ("a row, then a wrong type", [(&insert, &three[..]), (&insert, &text)]),
        ("a wrong type, then a row", [(&insert, &text[..]), (&insert, &three)]),
    ] {
        let error = client.query_together(&statements).await.expect_err(what);
        let is_duplicate = error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION);
        assert_eq!(is_duplicate, what.contains("duplicate"), "{what}: the cause, not what follows: {error}");
        assert_eq!(database.number("select count(*) from results").await, 2, "{what}");
    }
    client.query_together(&[(&insert, &three)]).await.expect("the session goes on");
    assert_eq!(database.number("select count(*) from results").await, 3);
}
