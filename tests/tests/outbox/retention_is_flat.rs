//! Promise: an outbox that keeps one hour holds less than two hours of events, and takes the same
//! disk space after twenty minutes as after one. The application's inserts notice neither the
//! emptying nor a concurrent reader.

use e2e::{
    PATIENCE,
    clock::Clock,
    cluster::{Cluster, Database, value},
    daemon::Daemon,
    receiver::{Keep, Receiver, SECRET},
    scale,
    world::ORDERS,
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::Client;

const WRITERS: u64 = 4;
const EVENTS_PER_INSERT: u64 = 2;

/// The length of a slot's turn in this test. Each turn sets the clocks forward by `TURN_MINUTES`,
/// its usual length.
const TURN: Duration = Duration::from_secs(1);
const TURN_MINUTES: u64 = 5;

/// A slot is emptied this many turns after its own: an hour later.
const KEPT_TURNS: u64 = 13;

/// The number of turns in two hours.
const TWO_HOURS: u64 = 24;

/// Insert latencies in milliseconds, beside a reader and without one.
#[derive(Debug, Default)]
struct Latencies {
    beside: Vec<f64>,
    alone: Vec<f64>,
}

/// Inserts one writer's share until `stop` is set.
async fn write(
    client: Client,
    number: u64,
    is_read: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Latencies {
    let insert = client
        .prepare("insert into orders values ($1::bigint * 2, 'customer', 1, null), ($1::bigint * 2 + 1, 'customer', 1, null)")
        .await
        .expect("it parses");
    let mut latencies = Latencies::default();
    let rate: u64 = scale("PGW_RETENTION_RATE", 2_000, 2_000);
    let gap = Duration::from_micros(1_000_000 * WRITERS * EVENTS_PER_INSERT / rate);
    let mut due = tokio::time::Instant::now();
    for id in (number..).step_by(WRITERS as usize) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        due += gap;
        tokio::time::sleep_until(due).await;
        let (is_beside, began) = (is_read.load(Ordering::Relaxed), Instant::now());
        client.execute(&insert, &[&(id as i64)]).await.expect("an insert never fails");
        let ms = began.elapsed().as_secs_f64() * 1e3;
        if is_beside && is_read.load(Ordering::Relaxed) {
            latencies.beside.push(ms);
        } else if !is_beside {
            latencies.alone.push(ms);
        }
        written.fetch_add(EVENTS_PER_INSERT, Ordering::Relaxed);
    }
    latencies
}

fn share(values: &mut [f64], of: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * of) as usize).min(values.len() - 1)]
}

/// Returns the bytes of all files in a folder, without the write-ahead log, whose files Postgres
/// keeps for reuse.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name() != "pg_wal")
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_below(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A database with a short retention and movable clocks, and its measurements.
struct Scene {
    cluster: Arc<Cluster>,
    database: Database,
    daemon_clock: Clock,
    turn: u64,
}

impl Scene {
    async fn start(receiver: &Receiver) -> Self {
        let cluster = Cluster::start_with_clock("+0h").await;
        let database = cluster.database("app").await;
        let url = receiver.url("/ok");
        database
            .run(&format!(
                "{ORDERS}; select webhook_watch('orders', noun => 'order');
                 select webhook_subscribe('{url}', '{{order.*}}', secret => '{SECRET}');
                 update webhook.setting set retention_period = '1 hour'"
            ))
            .await;
        let daemon_clock = Clock::new(cluster.dir(), "daemon-clock", "+0h");
        Self { cluster, database, daemon_clock, turn: 0 }
    }

    fn next_turn(&mut self) {
        self.turn += 1;
        let offset = format!("+{}m", self.turn * TURN_MINUTES);
        self.cluster.set_clock(&offset);
        self.daemon_clock.set(&offset);
    }

    fn daemon(&self) -> Daemon {
        let environment = self.daemon_clock.environment();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        let arguments = ["--allow-net", "127.0.0.0/8", "--retire-interval-ms", "100"];
        Daemon::spawn_in(&self.database.url(), &arguments, &environment)
    }

    /// Returns the number of events in the ring.
    async fn events(&self) -> i64 {
        self.database.number("select count(*) from webhook.event").await
    }

    /// Returns the bytes of the ring, and the bytes of the cluster without `orders`, which the
    /// application would empty.
    async fn bytes(&self) -> (u64, u64) {
        let ring =
            self.database.number("select sum(event_bytes + attempt_bytes)::bigint from webhook.ring").await;
        let orders = self.database.number("select pg_total_relation_size('orders')").await;
        (
            ring.unsigned_abs(),
            bytes_below(&self.cluster.dir().join("data")).saturating_sub(orders.unsigned_abs()),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_steady_traffic_with_and_without_a_reader() {
    let length = Duration::from_secs(scale("PGW_RETENTION_SECONDS", 45, 1_200));
    let receiver = Receiver::start_with(Keep::Ids).await;
    receiver.trust();
    let mut scene = Scene::start(&receiver).await;
    let daemon = scene.daemon();
    daemon.ready(&scene.database).await;
    let (is_read, stop, written) = <(Arc<AtomicBool>, Arc<AtomicBool>, Arc<AtomicU64>)>::default();
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let client = scene.database.client().await;
        writers.push(tokio::spawn(write(client, number, is_read.clone(), written.clone(), stop.clone())));
    }
    let reader = scene.database.client().await;
    let mut sizes = Vec::new();
    let began = Instant::now();
    while began.elapsed() < length {
        tokio::time::sleep(TURN).await;
        // Two turns with a reader of everything, which delays the emptying as pg_dump would; four
        // turns without.
        match scene.turn % 6 {
            4 => {
                is_read.store(true, Ordering::Relaxed);
                reader.batch_execute("begin isolation level repeatable read").await.expect("a transaction");
                value(
                    &reader,
                    "select count(*) from webhook.event, (select count(*) from webhook.attempt) a",
                )
                .await;
            }
            0 if is_read.load(Ordering::Relaxed) => {
                reader.batch_execute("commit").await.expect("it was open");
                is_read.store(false, Ordering::Relaxed);
            }
            _ => {}
        }
        if scene.turn % 6 == 3 && scene.turn > KEPT_TURNS {
            let (events, rate) = (
                scene.events().await,
                written.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64(),
            );
            let two_hours = rate * TURN.as_secs_f64() * TWO_HOURS as f64;
            assert!((events as f64) < two_hours, "{events} events are kept, {two_hours} come in two hours");
            sizes.push(scene.bytes().await);
            let (ring, cluster) = sizes[sizes.len() - 1];
            println!(
                "{:>6.1} s: {} written, ring {} KiB, cluster {} KiB",
                began.elapsed().as_secs_f64(),
                written.load(Ordering::Relaxed),
                ring / 1024,
                cluster / 1024
            );
        }
        scene.next_turn();
    }
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Latencies::default();
    for writer in writers {
        let own = writer.await.expect("no insert has failed");
        latencies.beside.extend(own.beside);
        latencies.alone.extend(own.alone);
    }
    drop(reader);
    let written = written.load(Ordering::Relaxed) as usize;
    receiver.wait_for("/ok", written, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    judge(latencies, &sizes, written, length);
    receiver
        .look(|record| assert_eq!(record.duplicates("/ok"), 0, "what is emptied has been delivered once"));
}

fn judge(mut latencies: Latencies, sizes: &[(u64, u64)], written: usize, length: Duration) {
    let of =
        |values: &mut Vec<f64>| (values.len(), share(values, 0.5), share(values, 0.999), share(values, 1.0));
    let (beside, alone) = (of(&mut latencies.beside), of(&mut latencies.alone));
    println!(
        "{written} events; inserts beside a reader: {} of p50 {:.2}, p99.9 {:.1}, max {:.1} ms",
        beside.0, beside.1, beside.2, beside.3
    );
    println!(
        "                 without one: {} of p50 {:.2}, p99.9 {:.1}, max {:.1} ms",
        alone.0, alone.1, alone.2, alone.3
    );
    let kept = written as f64 / length.as_secs_f64() * TURN.as_secs_f64() * TWO_HOURS as f64;
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    // An event and its attempt take less than 1 KiB, so this bounds the ring by the number of
    // events that may be in it.
    for (ring, _) in sizes {
        assert!(
            *ring < (kept * 1024.0) as u64 + (4 << 20),
            "the ring has {ring} bytes, for at most {kept} events"
        );
    }
    let flat = |first: u64, last: u64| last < first + first / 4 + (8 << 20);
    assert!(flat(first.0, last.0) && flat(first.1, last.1), "it grows: {sizes:?}");
    // An insert that waited for a lock would wait as long as the reader reads: for seconds.
    assert!(
        beside.3 < alone.3.max(200.0) * 2.0,
        "slowest insert {} ms beside a reader, {} ms without",
        beside.3,
        alone.3
    );
    assert!(
        beside.2 < alone.2.max(20.0) * 2.0,
        "p99.9 {} ms beside a reader, {} ms without",
        beside.2,
        alone.2
    );
}
