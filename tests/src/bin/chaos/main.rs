//! `make chaos FAULTS=100 SEED=7`: random faults under random traffic, then a check that every
//! promise held.
//!
//! The seed determines the schedule of faults, the traffic and the answers; their effects depend on
//! the machine. The program prints the seed, a line per fault, and the counts of delivered, lost,
//! invented, doubled and unordered events. It exits with 1 if a promise was broken. A run ends with
//! its schedule or at the time limit, and then takes at most two minutes more.

mod evidence;
mod faults;
mod judge;
mod scene;

use e2e::{
    cluster::Cluster,
    link::Link,
    receiver::{Behaviour, Receiver, SECRET},
    traffic::{COMMITTED, Style, committed, write_through_faults},
    world::ORDERS,
};
use scene::Scene;
use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const WRITERS: u32 = 4;

/// Each subscription's path, its options in addition to the common retries, and whether it is
/// ordered.
pub const SUBSCRIPTIONS: [(&str, &str, bool); 3] =
    [("/ok/plain", "", false), ("/ok/key", ", ordering => 'key'", true), ("/ok/flaky", "", false)];

/// The encoding of the database, by the seed.
const ENCODINGS: [&str; 5] = ["UTF8", "SQL_ASCII", "WIN1252", "LATIN1", "EUC_JP"];

/// How often an event is retried.
pub const RETRIES: usize = 50;

/// The limits for the deliveries after the last fault, and for everything else outside the
/// schedule.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const REST_TIMEOUT: Duration = Duration::from_secs(120);

const USAGE: &str = "usage: chaos FAULTS SECONDS [SEED]";

fn main() -> ExitCode {
    let arguments: Result<Vec<u64>, _> = std::env::args().skip(1).map(|argument| argument.parse()).collect();
    let (count, seconds, seed) = match arguments.as_deref() {
        Ok([count, seconds]) => (*count, *seconds, rand::random_range(0..1_000_000)),
        Ok([count, seconds, seed]) => (*count, *seconds, *seed),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("chaos: seed {seed}; the same again: make chaos FAULTS={count} SECONDS={seconds} SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let limit = Duration::from_secs(seconds);
    let run = async { tokio::time::timeout(limit + REST_TIMEOUT, run(count as usize, limit, seed)).await };
    match runtime.expect("a runtime").block_on(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            println!("seed {seed}: the run did not come to its end");
            ExitCode::FAILURE
        }
    }
}

async fn run(count: usize, limit: Duration, seed: u64) -> bool {
    // The log since the base backup is kept, for recoveries.
    let cluster = Cluster::start_with_clock_and("+0", &["wal_keep_size=8GB"]).await;
    let encoding = ENCODINGS[(seed % 5) as usize];
    println!("chaos: the database is in {encoding}");
    let database = cluster.database_in("app", encoding).await;
    database.run("create extension pg_webhook").await;
    let resets = Arc::new(AtomicU64::new(0));
    let receiver = receiver(seed, &resets).await;
    database.run(&format!("{ORDERS}; {COMMITTED}; select webhook_watch('orders', noun => 'order')")).await;
    for (path, options, _) in SUBSCRIPTIONS {
        let url = receiver.url(path);
        database
            .run(&format!(
                "select webhook_subscribe('{url}', '{{order.*}}', name => '{path}', secret => '{SECRET}'{options},
                     max_in_flight => 64, retry => array_fill(interval '300 milliseconds', array[{RETRIES}]))"
            ))
            .await;
    }
    database.run("create role webhookd login; select webhook_grant('webhookd', 'dispatcher')").await;
    cluster.back_up();
    let link = Link::to(cluster.port()).await;
    let mut scene = Scene::new(database.clone(), link, resets);
    scene.keep_daemons();

    let stop = Arc::new(AtomicBool::new(false));
    let style = Style { pause: Duration::from_millis(15), ..Style::default() };
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (database, style, stop) = (database.clone(), style.clone(), stop.clone());
            tokio::spawn(async move { write_through_faults(&database, number, seed, &style, &stop).await })
        })
        .collect();

    let began = Instant::now();
    let mut happened = Vec::new();
    for (wait, fault) in faults::schedule(seed, count) {
        if began.elapsed() >= limit {
            break;
        }
        tokio::time::sleep(wait).await;
        let came = receiver.look(|record| record.total);
        println!("{:>8.2} s  {came:>7} requests  {fault}", began.elapsed().as_secs_f64());
        happened.push(scene.perform(fault).await);
        scene.keep_daemons();
    }
    stop.store(true, Ordering::Relaxed);
    let mut tried = Vec::new();
    for writer in writers {
        tried.push(writer.await.expect("the writer has ended well"));
    }
    let is_settled = scene.settle(SETTLE_TIMEOUT).await;
    let mut committed = committed(&database, &tried).await;
    committed.extend(scene.written().await);
    let evidence = evidence::collect(&database, &receiver, committed, happened).await;
    let report = judge::judge(&evidence);
    println!("seed {seed}: {report}");
    if !is_settled {
        println!(
            "seed {seed}: not everything was delivered within {} s after the last fault",
            SETTLE_TIMEOUT.as_secs()
        );
    }
    scene.end().await;
    is_settled && report.is_kept()
}

/// Starts the receiver. It accepts everything, except on `/ok/flaky`: there, of ten attempts three
/// get 500 and one a reset, by the seed. While `resets` is positive, every path resets.
async fn receiver(seed: u64, resets: &Arc<AtomicU64>) -> Receiver {
    let receiver = Receiver::start().await;
    for (path, ..) in SUBSCRIPTIONS {
        let resets = resets.clone();
        receiver.behave_by(path, move |request, count| {
            let take = |left: u64| left.checked_sub(1);
            if resets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                return Behaviour::Reset;
            }
            let mut hasher = DefaultHasher::new();
            (seed, request.id(), count).hash(&mut hasher);
            match (path, hasher.finish() % 10) {
                ("/ok/flaky", 0) => Behaviour::Reset,
                ("/ok/flaky", 1..4) => Behaviour::Status(500),
                _ => Behaviour::Ok,
            }
        });
    }
    receiver
}
