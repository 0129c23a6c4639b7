//! Promise: a clock may choose the slot that an event goes to, but never whether the event is read.
//! The tests set the clocks of server and daemon forward and back, with transactions open or
//! prepared, ring turns and daemon crashes: every committed event is delivered.

use e2e::{
    PATIENCE,
    clock::Clock,
    cluster::{Cluster, Database},
    daemon::Daemon,
    receiver::{Keep, Receiver, SECRET},
    scale,
    world::ORDERS,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_postgres::Client;

/// The length of a slot's turn where the clock chooses the slot.
const TURN_SECONDS: u64 = 216_000;

async fn database(cluster: &Arc<Cluster>, receiver: &Receiver) -> Database {
    let database = cluster.database("app").await;
    let url = receiver.url("/ok");
    database
        .run(&format!(
            "{ORDERS}; select webhook_watch('orders', noun => 'order');
             select webhook_subscribe('{url}', '{{order.*}}', secret => '{SECRET}')"
        ))
        .await;
    database
}

/// Waits until the server's clock is about `offset` seconds from ours.
async fn is_set(database: &Database, offset: i64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let moved = format!("select abs(extract(epoch from clock_timestamp()) - {now} - ({offset})) < 60");
    database.until(&moved, PATIENCE).await;
}

async fn insert(client: &Client, first: i64, count: i64) {
    let rows = format!(
        "insert into orders select i, 'c', 1, null from generate_series({first}, {first} + {count} - 1) i"
    );
    client.batch_execute(&rows).await.expect("an insert never fails");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn transactions_that_are_open_while_the_clock_is_set_back_are_delivered() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // The server's clock starts half an hour into a turn: an hour back is still in the turn before.
    let offset = (TURN_SECONDS - now % TURN_SECONDS + 1_800) as i64;
    let cluster = Cluster::start_with_clock(&format!("+{offset}")).await;
    let receiver = Receiver::start_with(Keep::Ids).await;
    let database = database(&cluster, &receiver).await;
    let daemon = Daemon::start(&database).await;
    let (app, open) = (database.client().await, database.client().await);
    insert(&app, 1, 40).await;
    receiver.wait_for("/ok", 40, PATIENCE).await;
    open.batch_execute("begin").await.expect("a transaction");
    insert(&open, 1_000, 100).await;
    app.batch_execute("begin").await.expect("a transaction");
    insert(&app, 2_000, 100).await;
    app.batch_execute("prepare transaction 'prepared'").await.expect("it can be prepared");

    cluster.set_clock(&format!("+{}", offset - 3_600));
    is_set(&database, offset - 3_600).await;
    insert(&app, 50, 3).await;
    receiver.wait_for("/ok", 43, PATIENCE).await;
    open.batch_execute("commit").await.expect("it commits");
    app.batch_execute("commit prepared 'prepared'").await.expect("it was prepared");
    insert(&app, 60, 3).await;
    receiver.wait_for("/ok", 246, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (246, 0)));
}

/// The inserted orders, and the session or prepared transaction that will commit each of them.
struct Writers {
    clients: Vec<(Client, Vec<i64>)>,
    prepared: Vec<(String, Vec<i64>)>,
    next: i64,
    committed: BTreeSet<i64>,
}

impl Writers {
    /// Takes one step with one writer. Most transactions are short; some stay open over many steps.
    async fn step(&mut self, random: &mut StdRng, number: usize) {
        let next = self.next;
        let (client, open) = &mut self.clients[number];
        if open.is_empty() {
            client.batch_execute("begin").await.expect("a transaction");
        }
        insert(client, next, 3).await;
        open.extend(next..next + 3);
        self.next += 3;
        match random.random_range(0..10) {
            0..4 => {
                client.batch_execute("commit").await.expect("it commits");
                self.committed.extend(open.drain(..));
            }
            4 => {
                client.batch_execute("rollback").await.expect("it ends");
                open.clear();
            }
            5 | 6 => {
                let name = format!("p{next}");
                client.batch_execute(&format!("prepare transaction '{name}'")).await.expect("it is prepared");
                self.prepared.push((name, std::mem::take(open)));
            }
            _ => {}
        }
        if !self.prepared.is_empty() && random.random_range(0..4) == 0 {
            let (name, ids) = self.prepared.swap_remove(random.random_range(0..self.prepared.len()));
            let (client, open) = self.clients.last().expect("one that has nothing open");
            assert!(open.is_empty());
            client.batch_execute(&format!("commit prepared '{name}'")).await.expect("it was prepared");
            self.committed.extend(ids);
        }
    }

    async fn end(&mut self) {
        for (client, open) in &mut self.clients {
            if !open.is_empty() {
                client.batch_execute("commit").await.expect("it commits");
                self.committed.extend(open.drain(..));
            }
        }
        let (client, _) = self.clients.last().expect("one that has nothing open");
        for (name, ids) in self.prepared.drain(..) {
            client.batch_execute(&format!("commit prepared '{name}'")).await.expect("it was prepared");
            self.committed.extend(ids);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_the_clocks_do() {
    let steps = scale("PGW_CLOCK_STEPS", 250, 2_000);
    let seed = std::env::var("PGW_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("PGW_SEED={seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let cluster = Cluster::start_with_clock("+0").await;
    let receiver = Receiver::start_with(Keep::Ids).await;
    let database = database(&cluster, &receiver).await;
    database.run("update webhook.setting set retention_period = '10 days'").await;
    // Signatures carry the time of the daemon's clock, so the receiver does not check it.
    receiver.trust();
    let daemon_clock = Clock::new(cluster.dir(), "daemon-clock", "+0");
    let start = || {
        let environment = daemon_clock.environment();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        let arguments = ["--allow-net", "127.0.0.0/8", "--retire-interval-ms", "50"];
        Daemon::spawn_in(&database.url(), &arguments, &environment)
    };
    let mut writers =
        Writers { clients: Vec::new(), prepared: Vec::new(), next: 1, committed: BTreeSet::new() };
    for _ in 0..5 {
        writers.clients.push((database.client().await, Vec::new()));
    }
    let mut daemon = start();
    let mut is_stopped = false;
    for _ in 0..steps {
        match random.random_range(0..20) {
            0 | 1 => {
                let far = [600, 3_600, 86_400, 216_000, 3_000_000].choose(random).expect("one");
                let offset = random.random_range(-far..=*far);
                cluster.set_clock(&format!("{offset:+}"));
                if random.random_range(0..2) == 0 {
                    daemon_clock.set(&format!("{:+}", random.random_range(-far..=*far)));
                }
                is_set(&database, offset).await;
            }
            2 => database.run("select webhook.turn_ring(true)").await,
            3 => {
                let signal = if is_stopped { libc::SIGCONT } else { libc::SIGSTOP };
                daemon.process().signal(signal);
                is_stopped = !is_stopped;
            }
            4 if random.random_range(0..3) == 0 => {
                daemon.kill9().await;
                daemon = start();
                is_stopped = false;
            }
            _ => {
                // The last session never has an open transaction: COMMIT PREPARED cannot run in
                // one.
                let number = random.random_range(0..writers.clients.len() - 1);
                writers.step(random, number).await;
            }
        }
    }
    if is_stopped {
        daemon.process().signal(libc::SIGCONT);
    }
    writers.end().await;
    let wanted = writers.committed.len();
    println!("{wanted} events of {} were committed", writers.next - 1);
    receiver.wait_for("/ok", wanted, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| assert_eq!(record.distinct("/ok"), wanted, "and no other"));
}

/// Commits transactions of one, two or many rows, with savepoints that are rolled back, until
/// `stop` is set.
async fn write(client: Client, number: i64, last: Arc<AtomicI64>, stop: Arc<AtomicBool>) -> usize {
    let (mut committed, mut round) = (0, number);
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let count = [1, 2, 140][(round % 3) as usize];
        let first = last.fetch_add(count + 1, Ordering::Relaxed);
        client.batch_execute("begin; savepoint a").await.expect("a transaction");
        insert(&client, first + count, 1).await;
        client.batch_execute("rollback to a").await.expect("it was there");
        insert(&client, first, count).await;
        client.batch_execute("commit").await.expect("an insert never fails");
        committed += count as usize;
    }
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_ring_that_turns_all_the_time_under_writers_loses_nothing() {
    let length = Duration::from_secs(scale("PGW_TURN_SECONDS", 8, 60));
    let cluster = Cluster::start().await;
    let receiver = Receiver::start_with(Keep::Ids).await;
    let database = database(&cluster, &receiver).await;
    database.run("update webhook.setting set retention_period = '0'").await;
    let daemon = Daemon::start_with(&database, &["--retire-interval-ms", "20"]).await;
    let (last, stop) = <(Arc<AtomicI64>, Arc<AtomicBool>)>::default();
    let mut writers = Vec::new();
    for number in 0..4 {
        writers.push(tokio::spawn(write(database.client().await, number, last.clone(), stop.clone())));
    }
    let app = database.client().await;
    let (mut turns, mut by_hand) = (0, 0);
    let began = std::time::Instant::now();
    while began.elapsed() < length {
        let turned = app.query_one("select webhook.turn_ring(true)", &[]).await.expect("it turns");
        turns += usize::from(turned.get::<_, Option<i16>>(0).is_some());
        // The slot's turn may or may not be over when the insert runs.
        let slot = turns % 16;
        let insert =
            format!("insert into webhook.event (type, payload, slot) values ('order.noted', '{{}}', {slot})");
        app.batch_execute(&insert).await.expect("an insert by hand");
        by_hand += 1;
        // A slot with events that the daemon has not read stays in use, which stops the ring from
        // turning.
        receiver.wait_for("/ok", by_hand, PATIENCE).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut wanted = by_hand;
    for writer in writers {
        wanted += writer.await.expect("no insert has failed");
    }
    println!("{wanted} events, {turns} turns");
    receiver.wait_for("/ok", wanted, 4 * PATIENCE).await;
    assert!(turns > 10, "{turns} turns");
    // Closed slots are emptied, so the ring goes round.
    database.run("select webhook.turn_ring(true)").await;
    let closed = "select count(*) <= 2 from webhook.ring where state <> 'empty'";
    database.until(closed, PATIENCE).await;
    assert!(daemon.sigterm(PATIENCE).await.success());
    receiver.look(|record| assert_eq!((record.distinct("/ok"), record.duplicates("/ok")), (wanted, 0)));
}
