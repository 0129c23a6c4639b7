//! Writers that know what they committed: random transactions with rollbacks, savepoints and
//! savepoint rollbacks.
//!
//! Each writer owns its range of keys, so its model needs no lock. The models add up to the
//! expected content of the outbox.

use crate::cluster::{Database, describe};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio_postgres::Client;

/// The committed changes as the outbox shows them: event type and key, with their number.
pub type Changes = BTreeMap<(String, String), u32>;

/// How a writer writes.
#[derive(Debug, Clone)]
pub struct Style {
    pub transactions: u32,
    /// How many of 100 transactions are rolled back as a whole.
    pub rollback_percent: u32,
    /// How many of 100 operations are done in a savepoint; half of these are rolled back.
    pub savepoint_percent: u32,
    /// The pause after each transaction.
    pub pause: Duration,
}

impl Default for Style {
    fn default() -> Self {
        Self { transactions: 200, rollback_percent: 20, savepoint_percent: 30, pause: Duration::ZERO }
    }
}

/// The rows of one writer and its changes. It is cloned at a savepoint and restored at its
/// rollback.
#[derive(Debug, Clone, Default)]
struct Model {
    alive: Vec<i64>,
    next: i64,
    changes: Changes,
}

impl Model {
    /// Returns the statement of a random change, and changes the model as if it had run.
    fn change(&mut self, random: &mut StdRng) -> String {
        let verb = if self.alive.is_empty() { 0 } else { random.random_range(0..10) };
        let (verb, id, statement) = match verb {
            0..5 => {
                let id = self.next;
                self.next += 1;
                self.alive.push(id);
                let total = random.random_range(0..100_000);
                ("created", id, format!("insert into orders values ({id}, 'customer {id}', {total}, null)"))
            }
            5..8 => {
                let id = self.alive[random.random_range(0..self.alive.len())];
                // Each update writes a new note, because an update that changes nothing emits
                // nothing.
                let note = random.next_u64();
                ("updated", id, format!("update orders set note = '{note:x}' where id = {id}"))
            }
            _ => {
                let id = self.alive.swap_remove(random.random_range(0..self.alive.len()));
                ("deleted", id, format!("delete from orders where id = {id}"))
            }
        };
        *self.changes.entry((format!("order.{verb}"), id.to_string())).or_default() += 1;
        statement
    }
}

/// Returns the statements of a transaction, without its begin and end, and whether to commit it.
fn transaction(tried: &mut Model, random: &mut StdRng, style: &Style) -> (Vec<String>, bool) {
    let mut statements = Vec::new();
    for _ in 0..random.random_range(1..=4) {
        if random.random_range(0..100) < style.savepoint_percent {
            let before = tried.clone();
            statements.push("savepoint s".to_owned());
            statements.push(tried.change(random));
            if random.random_bool(0.5) {
                statements.push("rollback to savepoint s".to_owned());
                // Ids of rolled-back inserts are not used again.
                *tried = Model { next: tried.next, ..before };
            }
            statements.push("release savepoint s".to_owned());
        } else {
            statements.push(tried.change(random));
        }
    }
    (statements, random.random_range(0..100) >= style.rollback_percent)
}

fn begin(number: u32, seed: u64) -> (StdRng, Model) {
    let random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
    (random, Model { next: i64::from(number) * 1_000_000_000 + 1, ..Model::default() })
}

/// Runs one writer to its end; returns its committed changes. `number` determines its keys and,
/// with `seed`, its random choices.
///
/// # Panics
/// If a statement fails.
pub async fn write(database: &Database, number: u32, seed: u64, style: &Style) -> Changes {
    let client = database.client().await;
    let (mut random, mut model) = begin(number, seed);
    for _ in 0..style.transactions {
        let mut tried = model.clone();
        let (statements, is_committed) = transaction(&mut tried, &mut random, style);
        run(&client, "begin").await;
        for statement in &statements {
            run(&client, statement).await;
        }
        run(&client, if is_committed { "commit" } else { "rollback" }).await;
        model = if is_committed { tried } else { Model { next: tried.next, ..model } };
        if !style.pause.is_zero() {
            tokio::time::sleep(style.pause).await;
        }
    }
    model.changes
}

/// The table that [`write_through_faults`] needs in addition to its own: it shows whether a commit
/// succeeded.
pub const COMMITTED: &str =
    "create table committed (writer bigint, transaction bigint, primary key (writer, transaction))";

/// Writes as [`write`] does until `stop` is set, and survives lost connections and recoveries to a
/// point in time. Returns the changes of each transaction that may have been committed; the table
/// of [`COMMITTED`] shows which were, and which of these a recovery has not undone.
///
/// # Panics
/// If a statement fails for another reason than a connection that ends.
pub async fn write_through_faults(
    database: &Database,
    number: u32,
    seed: u64,
    style: &Style,
    stop: &AtomicBool,
) -> BTreeMap<i64, Changes> {
    let (mut random, mut model) = begin(number, seed);
    let mut session = Session::open(database).await;
    let mut tried_all = BTreeMap::new();
    for transaction_number in 0i64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        model.changes.clear();
        let mut tried = model.clone();
        let (statements, is_committed) = transaction(&mut tried, &mut random, style);
        if is_committed {
            tried_all.insert(transaction_number, tried.changes.clone());
        }
        let mark = format!("insert into committed values ({number}, {transaction_number})");
        let end = if is_committed { "commit" } else { "rollback" };
        let all = ["begin", &mark].into_iter().chain(statements.iter().map(String::as_str)).chain([end]);
        let mut is_whole = true;
        let mut has_ended = false;
        for statement in all {
            has_ended = statement == end;
            if let Err(error) = session.client.batch_execute(statement).await {
                let is_connection = session.client.is_closed()
                    || error
                        .code()
                        .is_none_or(|code| code.code().starts_with("57P") || code.code().starts_with("08"));
                assert!(is_connection, "{statement}: {}", describe(&error));
                is_whole = false;
                break;
            }
        }
        if is_whole {
            model = if is_committed { tried } else { Model { next: tried.next, ..model } };
        } else {
            let former = std::mem::replace(&mut session, Session::open(database).await);
            // A commit without an answer may still come.
            if has_ended {
                former.gone(database).await;
            }
            model = Model { alive: alive(database, number).await, next: tried.next, ..model };
        }
        tokio::time::sleep(style.pause).await;
    }
    tried_all
}

/// Returns what the writers of [`write_through_faults`] have committed and no recovery has undone,
/// together. `tried` is what each of them returned, in the order of their numbers.
///
/// # Panics
/// If the table of [`COMMITTED`] cannot be read.
pub async fn committed(database: &Database, tried: &[BTreeMap<i64, Changes>]) -> Changes {
    let rows = database.client().await.query("select writer, transaction from committed", &[]).await;
    let mut all = Changes::new();
    for row in rows.expect("the table can be read") {
        let (writer, transaction): (i64, i64) = (row.get(0), row.get(1));
        let changes = usize::try_from(writer).ok().and_then(|writer| tried.get(writer)?.get(&transaction));
        for (change, count) in changes.into_iter().flatten() {
            *all.entry(change.clone()).or_default() += count;
        }
    }
    all
}

/// Returns the rows of a writer as they are, without those that were undone.
async fn alive(database: &Database, number: u32) -> Vec<i64> {
    let first = begin(number, 0).1.next;
    let query = "select id from orders where id between $1 and $1 + 999999998 order by id";
    loop {
        let session = Session::open(database).await;
        if let Ok(rows) = session.client.query(query, &[&first]).await {
            return rows.iter().map(|row| row.get(0)).collect();
        }
    }
}

/// A connection, and its backend.
struct Session {
    client: Client,
    backend: String,
}

impl Session {
    /// Connects, and retries until it succeeds.
    async fn open(database: &Database) -> Self {
        loop {
            if let Ok(client) = database.try_client("postgres").await {
                let query =
                    "select pid || ' ' || backend_start from pg_stat_activity where pid = pg_backend_pid()";
                if let Ok(row) = client.query_one(query, &[]).await {
                    return Self { backend: row.get(0), client };
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the backend of this session has gone.
    async fn gone(self, database: &Database) {
        let gone = "select not exists (select from pg_stat_activity where pid || ' ' || backend_start = $1)";
        loop {
            let session = Self::open(database).await;
            let is_gone = session.client.query_one(gone, &[&self.backend]).await;
            if is_gone.is_ok_and(|row| row.get(0)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs `writers` at once; returns what they committed together.
///
/// # Panics
/// If a writer fails.
pub async fn write_concurrently(database: &Database, writers: u32, seed: u64, style: &Style) -> Changes {
    let tasks: Vec<_> = (0..writers)
        .map(|number| {
            let (database, style) = (database.clone(), style.clone());
            tokio::spawn(async move { write(&database, number, seed, &style).await })
        })
        .collect();
    let mut all = Changes::new();
    for task in tasks {
        for (change, count) in task.await.expect("the writer has ended well") {
            *all.entry(change).or_default() += count;
        }
    }
    all
}

async fn run(client: &Client, statement: &str) {
    if let Err(e) = client.batch_execute(statement).await {
        panic!("{statement}: {}", describe(&e));
    }
}
