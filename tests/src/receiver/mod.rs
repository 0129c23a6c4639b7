//! A receiver on a real socket that behaves as badly as it is told and remembers what it got.
//!
//! The path names the behaviour ([`Behaviour`]); every request is judged by the `standardwebhooks` crate, and a
//! receiver that is dropped with a rejected request fails the test. HTTP/1.1 by hand, just enough of it: what it does
//! wrong must be under the test's control, down to the bytes.

mod behaviour;
mod record;
pub mod wire;

pub use behaviour::Behaviour;
pub use record::{Keep, Received, Record, verify};

use crate::process::lock;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
};

/// The secret that [`Receiver`] expects unless told otherwise: 32 bytes from 0 to 31.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[derive(Debug)]
struct State {
    record: Mutex<Record>,
    arrived: watch::Sender<u64>,
    release: Notify,
    released: Mutex<bool>,
    secrets: Mutex<HashMap<String, String>>,
    overrides: Mutex<HashMap<String, Behaviour>>,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

impl Receiver {
    /// Starts one that remembers whole requests.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        Self::start_with(Keep::Requests).await
    }

    /// # Panics
    /// If it cannot listen.
    pub async fn start_with(keep: Keep) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            record: Mutex::new(Record::new(keep)),
            arrived: watch::channel(0).0,
            release: Notify::new(),
            released: Mutex::new(false),
            secrets: Mutex::default(),
            overrides: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, state.clone())).abort_handle();
        Self { address, state, accepting }
    }

    /// The address of a path, such as `/ok/a`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Judge the requests to `path` by this secret instead of [`SECRET`].
    pub fn expect_secret(&self, path: &str, secret: &str) {
        lock(&self.state.secrets).insert(path.to_owned(), secret.to_owned());
    }

    /// From now on `path` behaves so, whatever it says.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        lock(&self.state.overrides).insert(path.to_owned(), behaviour);
    }

    /// Answers everything that is held, and holds nothing any more.
    pub fn release(&self) {
        *lock(&self.state.released) = true;
        self.state.release.notify_waiters();
    }

    /// Looks at what has come so far.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.state.record))
    }

    /// The requests to `path` so far, in order of arrival.
    pub fn at(&self, path: &str) -> Vec<Received> {
        self.look(|record| record.at(path).cloned().collect())
    }

    /// Most requests that were read and not yet answered at one time.
    pub fn in_flight_max(&self) -> usize {
        self.state.in_flight_max.load(Ordering::Relaxed)
    }

    /// Waits until what has come satisfies `enough`, which is asked again after each arrival.
    ///
    /// # Panics
    /// If it does not within `deadline`; `what` says what was waited for.
    pub async fn wait(&self, what: &str, deadline: Duration, enough: impl Fn(&Record) -> bool) {
        let mut arrived = self.state.arrived.subscribe();
        let all = async {
            arrived.mark_unchanged();
            while !self.look(&enough) {
                arrived.changed().await.expect("the receiver runs");
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            let (total, rejected) = self.look(|record| (record.total, record.rejected.clone()));
            panic!(
                "not within {deadline:?}: {what}; {total} requests came, {} rejected {rejected:.500?}",
                rejected.len()
            );
        }
    }

    /// Waits for `count` different events at `path`.
    ///
    /// # Panics
    /// If they do not come within `deadline`.
    pub async fn wait_for(&self, path: &str, count: usize, deadline: Duration) {
        let mut arrived = self.state.arrived.subscribe();
        let all = async {
            arrived.mark_unchanged();
            while self.look(|record| record.distinct(path)) < count {
                arrived.changed().await.expect("the receiver runs");
            }
        };
        if tokio::time::timeout(deadline, all).await.is_err() {
            let (have, rejected) =
                self.look(|record| (record.distinct(path), record.rejected.first().cloned()));
            panic!(
                "{path}: {have} of {count} different events within {deadline:?}; first rejected: {rejected:?}"
            );
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
        let rejected = self.look(|record| record.rejected.clone());
        if !std::thread::panicking() {
            assert!(
                rejected.is_empty(),
                "{} requests did not verify, first: {}",
                rejected.len(),
                rejected[0]
            );
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    // The connections go with the set when this task is aborted.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    drop(stream.set_nodelay(true));
                    let state = state.clone();
                    connections.spawn(async move { drop(serve(stream, &state).await) });
                }
                Err(e) => eprintln!("receiver: accept: {e}"),
            },
            Some(ended) = connections.join_next() => {
                if let Err(e) = ended && e.is_panic() {
                    eprintln!("receiver: {e}");
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, state: &State) -> std::io::Result<()> {
    let mut connection = wire::Connection::new(stream);
    while let Some(request) = connection.read().await? {
        let in_flight = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        state.in_flight_max.fetch_max(in_flight, Ordering::Relaxed);
        let goes_on = answer(&mut connection, state, request).await;
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !goes_on? {
            break;
        }
    }
    Ok(())
}

/// Records a request and treats it as its path says; false: the connection is at its end.
async fn answer(
    connection: &mut wire::Connection,
    state: &State,
    request: wire::Request,
) -> std::io::Result<bool> {
    let (arrived, arrived_at) = (Instant::now(), SystemTime::now());
    let wire::Request { path, headers, body } = request;
    let secret = lock(&state.secrets).get(&path).cloned();
    let verified = verify(secret.as_deref().unwrap_or(SECRET), &headers, &body);
    let behaviour = lock(&state.overrides).get(&path).cloned().unwrap_or_else(|| Behaviour::of(&path));
    let echo = body.clone();
    let received = Received { path, arrived, arrived_at, headers, body, verified };
    let attempt = lock(&state.record).add(received);
    state.arrived.send_modify(|count| *count += 1);

    match behaviour {
        Behaviour::Ok => connection.respond(200, b"").await?,
        Behaviour::Status(status) => connection.respond(status, b"as you wish").await?,
        Behaviour::Slow(time) => {
            tokio::time::sleep(time).await;
            connection.respond(200, b"").await?;
        }
        Behaviour::Flaky(failures) if attempt <= failures => connection.respond(500, b"flaky").await?,
        Behaviour::Flaky(_) => connection.respond(200, b"").await?,
        Behaviour::Hold => {
            let release = state.release.notified();
            tokio::pin!(release);
            // Enabled before the look at the flag, so that no release falls in between.
            release.as_mut().enable();
            if !*lock(&state.released) {
                release.await;
            }
            connection.respond(200, b"").await?;
        }
        Behaviour::Gone => connection.respond(410, b"").await?,
        Behaviour::Echo => connection.respond(200, &echo).await?,
        Behaviour::Nul => connection.respond(500, b"a\0b\xff\xfe").await?,
        Behaviour::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            connection.stream.write_all(head.as_bytes()).await?;
        }
        Behaviour::Huge(bytes) => connection.respond_with_zeros(bytes).await?,
        Behaviour::Drip => {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            loop {
                connection.stream.write_all(b".").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Behaviour::Hang => {
            connection.until_closed().await;
            return Ok(false);
        }
        Behaviour::Reset => {
            connection.stream.set_zero_linger()?;
            return Ok(false);
        }
        Behaviour::Close => return Ok(false),
        Behaviour::HalfHeaders => {
            connection.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            return Ok(false);
        }
    }
    Ok(true)
}
