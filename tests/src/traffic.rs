//! Writers that know what they committed: random transactions with rollbacks, savepoints and savepoint rollbacks.
//!
//! Each writer owns its range of keys, so its model needs no lock; the models add up to what the outbox must hold.

use crate::cluster::{Database, describe};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::Client;

/// What a committed change shows in the outbox: event type and key, with their number.
pub type Changes = BTreeMap<(String, String), u32>;

/// How a writer writes.
#[derive(Debug, Clone)]
pub struct Style {
    pub transactions: u32,
    /// Of 100 transactions, how many are rolled back as a whole.
    pub rollback_percent: u32,
    /// Of 100 operations, how many are done in a savepoint, half of which are rolled back.
    pub savepoint_percent: u32,
    /// Pause after each transaction.
    pub pause: Duration,
}

impl Default for Style {
    fn default() -> Self {
        Self { transactions: 200, rollback_percent: 20, savepoint_percent: 30, pause: Duration::ZERO }
    }
}

/// The rows of one writer and what it has done; cloned at a savepoint, put back at its rollback.
#[derive(Debug, Clone, Default)]
struct Model {
    alive: Vec<i64>,
    next: i64,
    changes: Changes,
}

impl Model {
    /// Makes a random change: the statement, with the model changed as if it had been run.
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
                // A new note every time: an update that changes nothing emits nothing.
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

/// Runs one writer to its end; returns what it committed. `number` gives it its keys and, with `seed`, its course.
///
/// # Panics
/// If a statement fails.
pub async fn write(database: &Database, number: u32, seed: u64, style: &Style) -> Changes {
    let client = database.client().await;
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(u64::from(number)));
    // Ids of rolled-back inserts are not used again: `next` is kept.
    let mut model = Model { next: i64::from(number) * 1_000_000_000 + 1, ..Model::default() };
    for _ in 0..style.transactions {
        let mut tried = model.clone();
        run(&client, "begin").await;
        for _ in 0..random.random_range(1..=4) {
            if random.random_range(0..100) < style.savepoint_percent {
                let before = tried.clone();
                run(&client, "savepoint s").await;
                run(&client, &tried.change(&mut random)).await;
                if random.random_bool(0.5) {
                    run(&client, "rollback to savepoint s").await;
                    tried = Model { next: tried.next, ..before };
                }
                run(&client, "release savepoint s").await;
            } else {
                run(&client, &tried.change(&mut random)).await;
            }
        }
        if random.random_range(0..100) < style.rollback_percent {
            run(&client, "rollback").await;
            model.next = tried.next;
        } else {
            run(&client, "commit").await;
            model = tried;
        }
        if !style.pause.is_zero() {
            tokio::time::sleep(style.pause).await;
        }
    }
    model.changes
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
