//! Connections with HTTP/2, which requests share.
//!
//! The receiver limits the number of streams of a connection. If all are in use, the origin opens
//! another connection: a request must not wait for the response to another one.

use crate::{age::Age, dial::Dialed, stream::Meter};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

/// Maximum number of streams of a connection, if the receiver allows more.
const STREAMS_MAX: usize = 256;
/// What hyper reports as long as the receiver has not sent its settings. No receiver chooses it.
const SETTINGS_UNKNOWN: usize = 0x5eed;
/// Timeout for the settings. They follow the handshake at once (RFC 9113, 3.4).
const SETTINGS_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two checks whether the settings have been read.
const SETTINGS_POLL: Duration = Duration::from_millis(1);
/// Maximum size of a response's header fields, in bytes.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Maximum number of unread bytes of bodies: of a stream, and of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Maximum number of bytes between two events that are of use: a request begins, its response
/// begins, a part of its body is read, or its stream ends. It bounds interim responses (1xx), PING
/// and other control frames, also of a connection without requests. It is more than the
/// connection's window.
const USELESS_BYTES_MAX: u64 = 1024 * 1024;
/// After a request that has had no byte in answer for this time, and no other request of the
/// connection either, the connection is retired. The path may be dead.
const SILENT_AFTER: Duration = Duration::from_secs(1);

type Task = Connection<TokioIo<crate::stream::Stream>, Full<Bytes>, TokioExecutor>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One HTTP/2 connection.
pub struct Http2 {
    send: SendRequest<Full<Bytes>>,
    pub meter: Arc<Meter>,
    pub age: Mutex<Age>,
    streams: AtomicUsize,
    /// Gets no further requests.
    retired: AtomicBool,
    task: Arc<Mutex<Task>>,
    running: AbortHandle,
    /// Wakes requests that wait for a stream.
    freed: Arc<Notify>,
}

impl Http2 {
    /// Starts HTTP/2 on a new connection, and waits for the receiver's settings.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn over(dialed: Dialed, freed: Arc<Notify>) -> hyper::Result<Self> {
        let Dialed { stream, peer, .. } = dialed;
        let meter = stream.meter();
        meter.allow(USELESS_BYTES_MAX);
        let (send, task) = http2::Builder::new(TokioExecutor::new())
            .initial_max_send_streams(SETTINGS_UNKNOWN)
            .max_header_list_size(HEADER_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        let task = Arc::new(Mutex::new(task));
        let polled = Arc::clone(&task);
        let running = tokio::spawn(async move {
            // Each request receives its errors too.
            let _ = poll_fn(|cx| Pin::new(&mut *lock(&polled)).poll(cx)).await;
        });
        let new = Self {
            send,
            meter,
            age: Mutex::new(Age::new(peer)),
            streams: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            task,
            running: running.abort_handle(),
            freed,
        };
        // Without settings after this time, the connection is used with one stream.
        let _ = timeout(SETTINGS_TIMEOUT, new.settings()).await;
        Ok(new)
    }

    /// Waits for the receiver's settings, or for the end of the connection.
    async fn settings(&self) {
        self.meter.begins_to_receive().await;
        while self.streams_allowed() == SETTINGS_UNKNOWN && !self.send.is_closed() {
            // The bytes are here, and the connection's task is about to read them. hyper does not
            // tell when it has.
            sleep(SETTINGS_POLL).await;
        }
    }

    fn streams_allowed(&self) -> usize {
        lock(&self.task).current_max_send_streams()
    }

    fn streams_max(&self) -> usize {
        match self.streams_allowed() {
            SETTINGS_UNKNOWN => 1,
            allowed => allowed.min(STREAMS_MAX),
        }
    }

    /// Reports whether the connection takes further requests, now or later.
    pub fn is_open(&self, now: Instant) -> bool {
        !self.send.is_closed() && !self.retired.load(Ordering::Relaxed) && !lock(&self.age).is_over(now)
    }

    /// Reports whether an unused connection can stay open.
    pub fn can_stay(&self, now: Instant) -> bool {
        let is_used = self.streams.load(Ordering::Relaxed) > 0;
        self.is_open(now) && (is_used || !lock(&self.age).is_idle_too_long(now))
    }

    /// Gives the connection no further requests. It ends with the last of the present ones.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Returns a stream, unless all are in use. Only one caller at a time may ask.
    pub fn stream(self: &Arc<Self>) -> Option<Http2Stream> {
        if self.streams.load(Ordering::Relaxed) >= self.streams_max() {
            return None;
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        Some(Http2Stream {
            send: self.send.clone(),
            received: self.meter.received(),
            sent: None,
            connection: Arc::clone(self),
        })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The right to one stream of a connection. Dropping it resets a stream that is still open.
pub struct Http2Stream {
    pub send: SendRequest<Full<Bytes>>,
    pub connection: Arc<Http2>,
    /// Number of bytes received when the request was sent.
    received: u64,
    /// When the request was sent. `None`: not yet, or there is a response.
    sent: Option<Instant>,
}

impl Http2Stream {
    pub fn begin(&mut self) {
        (self.received, self.sent) = (self.connection.meter.received(), Some(Instant::now()));
        self.connection.meter.allow(USELESS_BYTES_MAX);
    }

    pub fn is_answered(&mut self) {
        self.sent = None;
        self.is_read();
    }

    /// Records that a part of a response was read.
    pub fn is_read(&self) {
        self.connection.meter.allow(USELESS_BYTES_MAX);
    }

    /// Reports whether the connection has received nothing since the request was sent.
    pub fn is_silent(&self) -> bool {
        self.received == self.connection.meter.received()
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if self.sent.is_some_and(|at| at.elapsed() >= SILENT_AFTER) && self.is_silent() {
            self.connection.retire();
        }
        lock(&self.connection.age).rest(Instant::now());
        self.connection.meter.allow(USELESS_BYTES_MAX);
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        self.connection.freed.notify_one();
    }
}
