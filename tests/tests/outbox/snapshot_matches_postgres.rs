//! Compares the daemon's snapshot algebra with the server's own `pg_visible_in_snapshot`, over
//! random pairs of snapshots.

use delivery::snapshot::{Snapshot, Window};
use e2e::cluster::Cluster;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::index::sample};
use tokio_postgres::Client;

/// Returns which of the ids 1 to 60 the server calls visible.
async fn visible(client: &Client, snapshot: &str) -> Vec<bool> {
    let query = "select pg_visible_in_snapshot(x::text::xid8, $1::text::pg_snapshot) from generate_series(1, 60) x order by x";
    client.query(query, &[&snapshot]).await.expect("a snapshot").iter().map(|row| row.get(0)).collect()
}

fn some_snapshot(random: &mut StdRng) -> String {
    let xmin: usize = random.random_range(1..40);
    let span: usize = random.random_range(0..20);
    let running = random.random_range(0..=span.min(6));
    let mut running: Vec<usize> = sample(random, span, running).into_iter().map(|x| xmin + x).collect();
    running.sort_unstable();
    let running: Vec<String> = running.iter().map(usize::to_string).collect();
    format!("{xmin}:{}:{}", xmin + span, running.join(","))
}

#[tokio::test]
async fn what_it_sees_and_what_lies_between_two() {
    let cluster = Cluster::start().await;
    let client = cluster.existing("postgres").client().await;
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..400 {
        let (a, b) = (some_snapshot(&mut random), some_snapshot(&mut random));
        let (seen_a, seen_b) = (visible(&client, &a).await, visible(&client, &b).await);
        let (one, other): (Snapshot, Snapshot) = (a.parse().expect(&a), b.parse().expect(&b));
        let window = Window::new(one.clone(), other);
        for xid in 1..=60_u64 {
            let at = xid as usize - 1;
            assert_eq!(one.sees(xid), seen_a[at], "{xid} in {a}");
            assert_eq!(window.contains(xid), seen_b[at] && !seen_a[at], "{xid} between {a} and {b}");
        }
        let printed: String =
            client.query_one("select $1::text::pg_snapshot::text", &[&a]).await.expect("it parses").get(0);
        assert_eq!(one.to_string(), printed);
    }
}
