//! A steady writer, and how long its events take to their receiver.

use e2e::world::World;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

pub const PER_SECOND: f64 = 200.0;

/// Writes to `orders`. The receiver's path `/ok` gets all of its events.
#[derive(Debug)]
pub struct Steady {
    random: StdRng,
    next: i64,
}

impl Steady {
    pub fn new() -> Self {
        Self { random: StdRng::seed_from_u64(1), next: 1 }
    }

    /// Writes while `goes_on` says so of the number written, [`PER_SECOND`] on average. Returns the
    /// times from the acknowledged COMMIT to the receiver, in milliseconds. Gaps are exponential,
    /// so that no timer of the daemon synchronizes with the writer.
    pub async fn latencies(&mut self, world: &World, goes_on: impl Fn(i64) -> bool) -> Vec<f64> {
        let insert = "insert into orders values ($1, 'customer', 1, null)";
        let insert = world.app.prepare(insert).await.expect("it parses");
        let first = self.next;
        let mut stamps = HashMap::new();
        let mut due = Instant::now();
        while goes_on(self.next - first) {
            due += Duration::from_secs_f64(-self.random.random::<f64>().max(1e-9).ln() / PER_SECOND);
            tokio::time::sleep_until(due.into()).await;
            world.app.execute(&insert, &[&self.next]).await.expect("insert");
            stamps.insert(self.next, Instant::now());
            self.next += 1;
        }
        let all = usize::try_from(self.next - 1).expect("a count");
        world.receiver.wait_for("/ok", all, e2e::PATIENCE).await;
        let arrived = world.receiver.at("/ok");
        let ids = arrived
            .iter()
            .map(|request| (request.json()["data"]["id"].as_i64().expect("an id"), request.arrived));
        ids.filter_map(|(id, at)| {
            stamps.get(&id).map(|from| at.saturating_duration_since(*from).as_secs_f64() * 1e3)
        })
        .collect()
    }
}
