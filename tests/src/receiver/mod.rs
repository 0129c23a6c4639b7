//! A receiver on a real socket that behaves as badly as a test asks, and remembers its requests.
//!
//! The path names the behaviour ([`Behaviour`]). The `standardwebhooks` crate judges every request,
//! and a receiver that is dropped with a rejected request fails the test. The receiver implements
//! the needed part of HTTP/1.1 itself, so a test controls its mistakes down to the bytes.

mod answer;
mod behaviour;
mod record;
pub mod tls;
pub mod wire;

pub use behaviour::{Behaviour, Handshake};
pub use record::{Keep, Received, Record, verify};

use crate::process::lock;
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use wire::Stream;

/// The secret that [`Receiver`] expects by default: 32 bytes from 0 to 31.
pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Decides on each request separately, by the request and the number of requests with its id.
type Judge = Arc<dyn Fn(&Received, u32) -> Behaviour + Send + Sync>;

/// The behaviour for the requests to a path. It replaces the behaviour that the path names.
#[derive(Clone)]
enum Override {
    Always(Behaviour),
    Judged(Judge),
}

impl fmt::Debug for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always(behaviour) => behaviour.fmt(f),
            Self::Judged(_) => f.write_str("Judged"),
        }
    }
}

#[derive(Debug)]
struct State {
    record: Mutex<Record>,
    arrived: watch::Sender<u64>,
    release: Notify,
    released: Mutex<bool>,
    secrets: Mutex<HashMap<String, String>>,
    is_trusting: AtomicBool,
    overrides: Mutex<HashMap<String, Override>>,
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

/// A running receiver.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    is_tls: bool,
    state: Arc<State>,
    accepting: AbortHandle,
}

impl Receiver {
    /// Starts a receiver that keeps whole requests.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        Self::start_with(Keep::Requests).await
    }

    /// Starts a receiver that keeps this much of the requests.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_with(keep: Keep) -> Self {
        Self::serving(keep, None).await
    }

    /// Starts a receiver that speaks TLS, as `localhost`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::serving(Keep::Requests, Some(acceptor)).await
    }

    async fn serving(keep: Keep, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            record: Mutex::new(Record::new(keep)),
            arrived: watch::channel(0).0,
            release: Notify::new(),
            released: Mutex::new(false),
            secrets: Mutex::default(),
            is_trusting: AtomicBool::new(false),
            overrides: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            max_in_flight: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, tls.clone(), state.clone())).abort_handle();
        Self { address, is_tls: tls.is_some(), state, accepting }
    }

    /// Returns the URL of a path, such as `/ok/a`.
    pub fn url(&self, path: &str) -> String {
        if self.is_tls {
            return format!("https://localhost:{}{path}", self.address.port());
        }
        format!("http://{}{path}", self.address)
    }

    /// Judges the requests to `path` by this secret instead of [`SECRET`].
    pub fn expect_secret(&self, path: &str, secret: &str) {
        lock(&self.state.secrets).insert(path.to_owned(), secret.to_owned());
    }

    /// Checks no signatures, for senders with another clock, whose timestamps are too old or too
    /// new.
    pub fn trust(&self) {
        self.state.is_trusting.store(true, Ordering::Relaxed);
    }

    /// Sets the behaviour of `path`, instead of the behaviour that the path names.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        lock(&self.state.overrides).insert(path.to_owned(), Override::Always(behaviour));
    }

    /// Lets `judge` decide on each request to `path`. It gets the request and the number of
    /// requests with its id.
    pub fn behave_by(&self, path: &str, judge: impl Fn(&Received, u32) -> Behaviour + Send + Sync + 'static) {
        lock(&self.state.overrides).insert(path.to_owned(), Override::Judged(Arc::new(judge)));
    }

    /// Answers all held requests, and holds no later ones.
    pub fn release(&self) {
        *lock(&self.state.released) = true;
        self.state.release.notify_waiters();
    }

    /// Reads the record of the requests so far.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&lock(&self.state.record))
    }

    /// Returns the requests to `path` so far, in order of arrival.
    pub fn at(&self, path: &str) -> Vec<Received> {
        self.look(|record| record.at(path).cloned().collect())
    }

    /// Returns the most requests that were unanswered at one time.
    pub fn max_in_flight(&self) -> usize {
        self.state.max_in_flight.load(Ordering::Relaxed)
    }

    /// Waits until the record satisfies `enough`, which is checked after each arrival and each
    /// answer.
    ///
    /// # Panics
    /// If it does not within `deadline`. `what` describes the condition in the message.
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

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // Aborting this task drops the set, and with it the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    drop(stream.set_nodelay(true));
                    let (tls, state) = (tls.clone(), state.clone());
                    connections.spawn(async move {
                        match tls {
                            None => drop(serve(stream, &state).await),
                            // The sender reports a failed handshake.
                            Some(tls) => if let Ok(stream) = tls.accept(stream).await {
                                drop(serve(stream, &state).await);
                            },
                        }
                    });
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

async fn serve<S: Stream>(stream: S, state: &State) -> std::io::Result<()> {
    let mut connection = wire::Connection::new(stream);
    while let Some(request) = connection.read().await? {
        let in_flight = state.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        state.max_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let goes_on = treat(&mut connection, state, request).await;
        state.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !goes_on? {
            break;
        }
    }
    Ok(())
}

/// Records a request and answers it by its behaviour. Returns false if the connection ends.
async fn treat<S: Stream>(
    connection: &mut wire::Connection<S>,
    state: &State,
    request: wire::Request,
) -> std::io::Result<bool> {
    let wire::Request { method, path, headers, body } = request;
    let handling = lock(&state.overrides).get(&path).cloned();
    let handling = handling.unwrap_or_else(|| Override::Always(Behaviour::of(&path)));
    let secret = lock(&state.secrets).get(&path).cloned();
    // Only a POST has an event and a signature.
    let verified = match method.as_str() {
        "POST" if !state.is_trusting.load(Ordering::Relaxed) => {
            verify(secret.as_deref().unwrap_or(SECRET), &headers, &body)
        }
        _ => Ok(()),
    };
    let (arrived, arrived_at) = (Instant::now(), SystemTime::now());
    let echo = body.clone();
    let received = Received { method, path, arrived, arrived_at, headers, body, verified, answered: None };
    if received.method != "POST" {
        let origin = received.header("webhook-request-origin").unwrap_or_default().to_owned();
        lock(&state.record).others.push(received);
        state.arrived.send_modify(|count| *count += 1);
        let Override::Always(behaviour) = handling else { return Ok(false) };
        answer::handshake(connection, &behaviour, &origin).await?;
        return Ok(true);
    }
    let kept = match &handling {
        Override::Judged(_) => Some(received.clone()),
        Override::Always(_) => None,
    };
    let (at, attempt) = lock(&state.record).add(received);
    state.arrived.send_modify(|count| *count += 1);
    let behaviour = match (handling, kept) {
        (Override::Judged(judge), Some(request)) => judge(&request, attempt),
        (Override::Always(behaviour), _) => behaviour,
        (Override::Judged(_), None) => unreachable!("a judged request was kept"),
    };
    match behaviour {
        Behaviour::Slow(time) => tokio::time::sleep(time).await,
        Behaviour::Hold => released(state).await,
        _ => {}
    }
    let status = behaviour.status(attempt, &echo);
    // Recorded before the answer is visible, so a test that reacts to it does so later.
    lock(&state.record).answered(at, status);
    state.arrived.send_modify(|count| *count += 1);
    answer::write(connection, &behaviour, status, &echo).await
}

/// Waits until the held requests are released.
async fn released(state: &State) {
    let release = state.release.notified();
    tokio::pin!(release);
    // Enabled before the flag is read, so that no release is missed in between.
    release.as_mut().enable();
    if !*lock(&state.released) {
        release.await;
    }
}
