//! Promise: between two polls of the outbox the daemon reads exactly the events that were committed
//! in between. That holds with long and rolled-back transactions, savepoints, bulk loads, heavy
//! rows and turns of the ring.

use database::{Purpose, Watch, connect, schema::Schema};
use delivery::snapshot::Snapshot;
use e2e::cluster::{Cluster, Database};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use source::outbox::{
    BATCH_ROWS_MAX,
    extent::Order,
    pages::{Frozen, Pages, freeze},
    poll::{Cursor, Poll},
};
use tokio_postgres::Client;

/// Sessions that begin, write, roll back and commit in any order.
struct Writers {
    sessions: Vec<(Client, bool)>,
    random: StdRng,
}

impl Writers {
    async fn new(database: &Database, seed: u64) -> Self {
        let mut sessions = Vec::new();
        for _ in 0..6 {
            sessions.push((database.client().await, false));
        }
        Self { sessions, random: StdRng::seed_from_u64(seed) }
    }

    /// Takes one step with one session. With `bulk`, the step sometimes writes very many rows.
    async fn step(&mut self, bulk: bool) {
        let at = self.random.random_range(0..self.sessions.len());
        let (rows, payload_bytes) = match self.random.random_range(0..40) {
            0 if bulk => (BATCH_ROWS_MAX + 500, 10),
            1 if bulk => (60, 150_000),
            2 if bulk => (300, 10),
            _ => (self.random.random_range(1..6), 10),
        };
        let insert = format!(
            "insert into webhook.event (type, payload) select 'thing.made', to_json(repeat('x', {payload_bytes})) from generate_series(1, {rows})"
        );
        let (client, is_open) = &mut self.sessions[at];
        let statement = match (*is_open, self.random.random_range(0..10)) {
            (false, 0..4) => insert,
            (false, _) => {
                *is_open = true;
                format!("begin; {insert}")
            }
            (true, 0..4) => insert,
            (true, 4) => format!("savepoint s; {insert}; rollback to s"),
            (true, 5) => format!("savepoint s; {insert}; release s"),
            (true, 6) => {
                *is_open = false;
                "rollback".into()
            }
            (true, _) => {
                *is_open = false;
                "commit".into()
            }
        };
        client.batch_execute(&statement).await.expect("it can be written");
    }
}

/// Returns the events that lie between two snapshots according to the server.
async fn between(client: &Client, after: &Snapshot, upto: &Snapshot) -> Vec<i64> {
    let query =
        "select id from webhook.event where pg_visible_in_snapshot(xid::text::xid8, $2::text::pg_snapshot)
                 and not pg_visible_in_snapshot(xid::text::xid8, $1::text::pg_snapshot) order by id";
    let rows = client.query(query, &[&after.to_string(), &upto.to_string()]).await.expect("it can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_pages() {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    let witness = database.client().await;
    let config = database.url().parse().expect("a URL");
    let mut reader = connect(&config, Purpose::Reader, Watch::default()).await.expect("a session");
    let mut writers = Writers::new(&database, 5).await;
    let mut cursor = Snapshot::beginning();
    let (mut total, mut pages_most) = (0, 0);
    for round in 0..60 {
        for _ in 0..10 {
            writers.step(true).await;
        }
        let order = if round % 2 == 0 { Order::Strict } else { Order::BulkLast };
        let (mut pages, upto) = {
            let frozen = freeze(&mut reader, Schema::V0_3).await.expect("a snapshot");
            let pages = Pages::open(&frozen, cursor.clone(), order).await.expect("a window");
            let Frozen { transaction, snapshot, .. } = frozen;
            transaction.commit().await.expect("it was open");
            (pages, snapshot)
        };
        // Commits during the reading of a window are not part of it.
        writers.step(false).await;
        let (mut read, mut count) = (Vec::new(), 0);
        loop {
            let page = pages.next(&reader).await.expect("a page");
            if page.is_empty() {
                break;
            }
            assert!(page.len() <= BATCH_ROWS_MAX && page.is_sorted_by_key(|event| event.id));
            read.extend(page.iter().map(|event| event.id));
            count += 1;
        }
        assert_eq!(pages.rows(), read.len() as i64);
        if order == Order::BulkLast {
            read.sort_unstable();
        }
        assert_eq!(read, between(&witness, &cursor, &upto).await, "round {round}, {cursor} to {upto}");
        total += read.len();
        pages_most = pages_most.max(count);
        cursor = upto;
    }
    assert!(
        total > 20_000 && pages_most > 3,
        "{total} events, at most {pages_most} pages: that tests little"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_poll() {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    let witness = database.client().await;
    let config = database.url().parse().expect("a URL");
    let mut reader = connect(&config, Purpose::Reader, Watch::default()).await.expect("a session");
    let Frozen { transaction, snapshot, ring, .. } =
        freeze(&mut reader, Schema::V0_3).await.expect("a snapshot");
    let mut cursor = Cursor::new(snapshot, ring);
    transaction.commit().await.expect("it was open");
    let mut writers = Writers::new(&database, 6).await;
    let mut poll = Poll::new(Schema::V0_3);
    let (mut total, mut stragglers, mut turns) = (0, 0, 0);
    for _ in 0..300 {
        for _ in 0..writers.random.random_range(0..6) {
            writers.step(false).await;
        }
        // The ring turns meanwhile. A slot is closed when no session can write to it; without a
        // checkpoint none is emptied.
        if writers.random.random_range(0..3) == 0 {
            let turned = witness.query_one("select webhook.turn_ring(true)", &[]).await.expect("it turns");
            turns += usize::from(turned.get::<_, Option<i16>>(0).is_some());
        }
        if writers.random.random_range(0..2) == 0 {
            let close = "select count(webhook.retire_slot(n)) from generate_series(0, 15) n";
            witness.query_one(close, &[]).await.expect("they are looked at");
        }
        let result = poll.run(&reader, &cursor, false).await.expect("a poll");
        let Some(upto) = result.snapshot else {
            assert!(result.events.is_empty());
            continue;
        };
        let read: Vec<i64> = result.events.iter().map(|event| event.id).collect();
        assert_eq!(read, between(&witness, &cursor.snapshot, &upto).await, "{} to {upto}", cursor.snapshot);
        total += read.len();
        stragglers += result.events.iter().filter(|event| event.xid < cursor.snapshot.xmax()).count();
        cursor.advance(upto, result.ring);
    }
    assert!(total > 500 && stragglers > 50, "{total} events, {stragglers} of stragglers: that tests little");
    assert!(turns >= 10, "{turns} turns: that tests little");
}
