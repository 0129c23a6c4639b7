//! The receiver of the drains: a separate process, the same for the daemon and the bare loops, and
//! as lean as possible.
//!
//! It counts POSTs and answers 200. GETs are for the bench: `/reset/<goal>`, `/wait` (answers when
//! the goal is reached), `/last` (the last request, whole), any other path (the counters).

use bytes::Bytes;
use e2e::{
    process::{Process, lock},
    receiver::wire::{Connection, OK},
};
use serde_json::{Value, json};
use std::{
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Debug)]
struct Counters {
    start: Instant,
    count: AtomicU64,
    /// Nanoseconds since `start`.
    first: AtomicU64,
    last: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
    goal: AtomicU64,
    reached: watch::Sender<u64>,
    sample: Mutex<Bytes>,
}

/// Runs the sink: prints its address, then serves until it is killed.
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("listening {}", listener.local_addr().expect("it is bound"));
        let zero = AtomicU64::default;
        let counters = Arc::new(Counters {
            start: Instant::now(),
            count: zero(),
            first: zero(),
            last: zero(),
            open: zero(),
            open_max: zero(),
            goal: AtomicU64::new(u64::MAX),
            reached: watch::channel(0).0,
            sample: Mutex::default(),
        });
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream.set_nodelay(true));
            let counters = counters.clone();
            tokio::spawn(async move { drop(serve(stream, &counters).await) });
        }
    });
    ExitCode::FAILURE
}

async fn serve(stream: TcpStream, counters: &Counters) -> std::io::Result<()> {
    let mut connection = Connection::new(stream);
    let mut counted = false;
    while let Some((request, _)) = connection.read_raw().await? {
        if request.starts_with(b"GET ") {
            let answer = control(&request, counters).await;
            connection.respond(200, &answer).await?;
            continue;
        }
        if !counted {
            counted = true;
            let open = counters.open.fetch_add(1, Ordering::Relaxed) + 1;
            counters.open_max.fetch_max(open, Ordering::Relaxed);
        }
        let count = counters.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == 1 {
            counters.first.store(elapsed(counters), Ordering::Relaxed);
        }
        if count >= counters.goal.load(Ordering::Relaxed) {
            counters.last.store(elapsed(counters), Ordering::Relaxed);
            *lock(&counters.sample) = request;
            counters.reached.send_replace(count);
        }
        connection.stream.write_all(OK).await?;
    }
    if counted {
        counters.open.fetch_sub(1, Ordering::Relaxed);
    }
    Ok(())
}

fn elapsed(counters: &Counters) -> u64 {
    counters.start.elapsed().as_nanos() as u64
}

async fn control(request: &[u8], counters: &Counters) -> Vec<u8> {
    let line =
        String::from_utf8_lossy(request.split(|&b| b == b'\r').next().unwrap_or_default()).into_owned();
    let path = line.split(' ').nth(1).unwrap_or_default();
    if let Some(goal) = path.strip_prefix("/reset/").and_then(|text| text.parse().ok()) {
        for counter in [&counters.count, &counters.first, &counters.last] {
            counter.store(0, Ordering::Relaxed);
        }
        counters.open_max.store(counters.open.load(Ordering::Relaxed), Ordering::Relaxed);
        counters.reached.send_replace(0);
        counters.goal.store(goal, Ordering::Relaxed);
    }
    if path == "/wait" {
        let goal = counters.goal.load(Ordering::Relaxed);
        let mut reached = counters.reached.subscribe();
        drop(reached.wait_for(|&count| count >= goal).await);
    }
    if path == "/last" {
        return lock(&counters.sample).to_vec();
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let seconds = read(&counters.last).saturating_sub(read(&counters.first)) as f64 / 1e9;
    json!({ "count": read(&counters.count), "seconds": seconds, "connections": read(&counters.open_max) })
        .to_string()
        .into_bytes()
}

/// The result of a drain.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    pub count: u64,
    /// From the first arrival to the last.
    pub seconds: f64,
    /// The most connections that were open at once.
    pub connections: u64,
}

impl Drained {
    pub fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds
    }
}

/// The bench's handle of the sink.
#[derive(Debug)]
pub struct Sink {
    _process: Process,
    address: String,
    client: reqwest::Client,
}

impl Sink {
    pub async fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("we are a file"));
        command.arg("sink");
        let process = Process::spawn("sink", command, libc::SIGKILL);
        let line = process.wait_for_line(|line| line.starts_with("listening "), e2e::PATIENCE).await;
        let address = line.trim_start_matches("listening ").to_owned();
        // Each query uses a new connection: an idle one must not count in a drain.
        let client = e2e::http_client().no_proxy().pool_max_idle_per_host(0).build().expect("a client");
        Self { _process: process, address, client }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn ask(&self, path: &str) -> Bytes {
        let answer = self.client.get(self.url(path)).send().await.expect("the sink answers");
        answer.bytes().await.expect("with a body")
    }

    /// Resets the counters and sets the goal.
    pub async fn reset(&self, goal: u64) {
        self.ask(&format!("/reset/{goal}")).await;
    }

    /// Waits until the goal is reached.
    pub async fn drained(&self, deadline: Duration) -> Drained {
        if tokio::time::timeout(deadline, self.ask("/wait")).await.is_err() {
            let so_far = self.ask("/").await;
            panic!("not drained within {deadline:?}: {}", String::from_utf8_lossy(&so_far));
        }
        self.now().await
    }

    /// Returns the current counters.
    pub async fn now(&self) -> Drained {
        let stats: Value = serde_json::from_slice(&self.ask("/").await).expect("it is JSON");
        let number = |name: &str| stats[name].as_f64().expect("a number");
        Drained {
            count: number("count") as u64,
            seconds: number("seconds"),
            connections: number("connections") as u64,
        }
    }

    /// Returns the last request of the drain, unchanged.
    pub async fn last(&self) -> Bytes {
        self.ask("/last").await
    }
}
