//! `make chaos SECONDS=120 SEED=7`: random faults under random traffic, and the question afterwards whether every promise held.
//!
//! The seed decides on faults and traffic, what comes of them the machine. Prints the seed first, a line per fault, and in the
//! end what was delivered, lost, invented, doubled and out of order; ends with 1 if a promise was broken.
//! Steps of the server's clock are not among the faults: they are those of `old_events_are_retired`.

mod faults;
mod judge;

use e2e::{
    cluster::Cluster,
    daemon::Daemon,
    link::Link,
    receiver::{Behaviour, Receiver, SECRET},
    traffic::{COMMITTED, Changes, Style, write_through_faults},
    world::ORDERS,
};
use faults::{Fault, Scene};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
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

/// Each subscription's paths, and what it asks for beside the retries of all.
pub const SUBSCRIPTIONS: [(&str, &str); 3] = [
    ("/ok/plain", "ordering => 'none'"),
    ("/ok/key", "ordering => 'key'"),
    ("/ok/flaky", "ordering => 'none'"),
];

/// What each of them may have under way at once.
pub const IN_FLIGHT_MAX: u64 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(seconds)), seed, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: chaos SECONDS [SEED]");
        return ExitCode::from(2);
    };
    let seed = seed.and_then(Result::ok).unwrap_or_else(|| rand::random_range(0..1_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let kept = runtime.expect("a runtime").block_on(run(Duration::from_secs(seconds), seed));
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(duration: Duration, seed: u64) -> bool {
    println!(
        "chaos: seed {seed}, {} s; the same again: make chaos SECONDS={} SEED={seed}",
        duration.as_secs(),
        duration.as_secs()
    );
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    let resets = Arc::new(AtomicU64::new(0));
    let receiver = receiver(seed, &resets).await;
    database.run(&format!("{ORDERS}; {COMMITTED}; select webhook_watch('orders', noun => 'order')")).await;
    for (path, options) in SUBSCRIPTIONS {
        let url = receiver.url(path);
        database
            .run(&format!(
                "select webhook_subscribe('{url}', '{{order.*}}', name => '{path}', secret => '{SECRET}', {options},
                     max_in_flight => {IN_FLIGHT_MAX}, retry => array_fill(interval '300 milliseconds', array[50]))"
            ))
            .await;
    }
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
    let mut random = StdRng::seed_from_u64(seed);
    let mut faults = Vec::new();
    while began.elapsed() < duration {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
        let fault = Fault::pick(&mut random);
        println!("{:>8.2} s  {fault}", began.elapsed().as_secs_f64());
        scene.perform(fault).await;
        faults.push(fault);
        scene.keep_daemons();
    }
    stop.store(true, Ordering::Relaxed);
    let mut committed = Changes::new();
    for writer in writers {
        for (change, count) in writer.await.expect("the writer has ended well") {
            *committed.entry(change).or_default() += count;
        }
    }
    let rate =
        committed.values().map(|count| u64::from(*count)).sum::<u64>() as f64 / began.elapsed().as_secs_f64();
    let is_settled = scene.settle(Duration::from_secs(60)).await;
    let report = judge::judge(&database, &receiver, &committed, &faults, rate).await;
    println!("seed {seed}: {report}");
    if !is_settled {
        println!("seed {seed}: not everything was delivered within a minute after the last fault");
    }
    scene.end().await;
    is_settled && report.is_kept()
}

/// One that takes everything, but for its third path: of ten attempts three get 500 and one a reset, by the seed; and while
/// `resets` are to be given, every path gives them.
async fn receiver(seed: u64, resets: &Arc<AtomicU64>) -> Receiver {
    let receiver = Receiver::start().await;
    for (path, _) in SUBSCRIPTIONS {
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

/// A daemon that reaches the server through the link.
fn daemon(link: &Link) -> Daemon {
    let url = format!("postgresql://postgres@127.0.0.1:{}/app", link.port());
    Daemon::spawn_with(&url, &["--allow-net", "127.0.0.0/8", "--probe-interval-ms", "300"])
}
