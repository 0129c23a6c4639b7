//! The application, which keeps writing while the sender changes, and an independent record of its
//! writes.

use super::receiver::{Collector, Request};
use e2e::{
    PATIENCE,
    cluster::{Cluster, Database, describe},
    daemon::Daemon,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{sync::watch, task::JoinHandle};

pub const ORDERS: &str = "
    create table orders (id bigint primary key, customer text not null, total numeric not null default 0, note text);
    create role shop_app login; grant insert, update, delete, select on orders to shop_app";

/// Several writers that write without a pause, one transaction per change, until they are stopped.
pub struct Writers {
    rounds: watch::Receiver<i64>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts writers that run `statements` for each order; `$1` is its number.
    pub async fn start(database: &Database, statements: &'static [&'static str]) -> Self {
        let (counter, rounds) = watch::channel(0);
        let (counter, stop) = (Arc::new(counter), Arc::new(AtomicBool::new(false)));
        let mut tasks = Vec::new();
        for writer in 0..3_i64 {
            let client = database.try_client("shop_app").await.expect("the application can connect");
            let (counter, stop) = (Arc::clone(&counter), Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                let mut id = writer;
                while !stop.load(Ordering::Relaxed) {
                    id += 3;
                    for statement in statements {
                        let result = client.execute(*statement, &[&id]).await;
                        result
                            .unwrap_or_else(|error| panic!("the application notices: {}", describe(&error)));
                    }
                    counter.send_modify(|count| *count += 1);
                }
            }));
        }
        Self { rounds, stop, tasks }
    }

    /// Waits until `orders` more orders have been written.
    pub async fn more(&mut self, orders: i64) {
        let from = *self.rounds.borrow();
        let waited =
            tokio::time::timeout(PATIENCE, self.rounds.wait_for(|count| *count >= from + orders)).await;
        waited.expect("the writers go on").expect("they are there");
    }

    pub async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("no writer fails");
        }
    }
}

/// Checks that both senders were at work, and together sent each change exactly once.
pub fn each_once(
    requests: &[Request],
    told: impl Fn(&Request) -> (String, i64),
    written: &BTreeSet<(String, i64)>,
) {
    let mut all = BTreeSet::new();
    let mut ours = 0;
    for request in requests {
        let change = told(request);
        assert!(
            all.insert(change.clone()),
            "{change:?} has two events, now by {}",
            if request.is_ours() { "webhookd" } else { "the old sender" }
        );
        ours += usize::from(request.is_ours());
    }
    let lost: Vec<_> = written.difference(&all).take(5).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(all.len(), written.len(), "no event without a change");
    assert!(ours >= 20 && requests.len() - ours >= 20, "{ours} of {} are webhookd's", requests.len());
}

/// A table that a trigger fills with every change: the judge's own record of the writes.
pub const BOOK: &str = "
    create table book (op text not null, id bigint not null);
    grant insert on book to shop_app;
    create function note() returns trigger language plpgsql as $$
    begin
        insert into public.book values (tg_op, case when tg_op = 'DELETE' then old.id else new.id end);
        return null;
    end $$;
    create trigger note after insert or update or delete on orders for each row execute function note()";

pub async fn written(database: &Database, operations: &str) -> BTreeSet<(String, i64)> {
    let client = database.client().await;
    let query = format!("select op, id from book where op = any ('{operations}')");
    client.query(&query, &[]).await.expect("the book").iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Returns the names of an object's members.
pub fn names(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

pub const COLUMNS: [&str; 4] = ["customer", "id", "note", "total"];

/// Making a client takes longer than a request. It keeps no connection, because tests that end take
/// theirs with them.
static CLIENT: LazyLock<reqwest::Client> =
    LazyLock::new(|| e2e::http_client().pool_max_idle_per_host(0).build().expect("a client"));

/// Sends a POST, as the old senders do.
pub async fn post(url: &str, headers: &[(&str, &str)], body: String) {
    let mut request = CLIENT.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("the receiver answers");
    assert!(answer.status().is_success());
}

pub async fn started() -> (Database, Collector, Daemon) {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    database.run(ORDERS).await;
    database.run(BOOK).await;
    let daemon = Daemon::start(&database).await;
    (database, Collector::start().await, daemon)
}

pub const WRITES: &[&str] = &[
    "insert into orders values ($1, 'Zoë', 1.50, 'a')",
    "update orders set total = 2.50, note = null where id = $1",
    "delete from orders where id = $1",
];
