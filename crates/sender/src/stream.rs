//! An open connection, and the measurements of its bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::client::TlsStream;

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Maximum number of bytes of a response that are remembered, for the case that hyper cannot parse
/// its head.
const HEAD_BYTES_MAX: usize = 4096;
/// Maximum number of these bytes that the stream itself remembers, without a lock. Their memory is
/// kept between requests.
pub const START_BYTES_MAX: usize = 512;

/// Maximum number of bytes from the end of a request to the end of the response's head, interim
/// responses (1xx) included. It is more than the head itself may have, because the start of the
/// body may have arrived too.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// A connection that meters its bytes: how many were received, when the request was written, and
/// when the response began. The meter separates a dead kept-alive connection from a bad response,
/// and the receiver's time from ours.
pub struct Stream {
    transport: Transport,
    meter: Arc<Meter>,
    /// The first bytes of the response. They go to the meter when the stream is dropped.
    start: Vec<u8>,
}

/// The measurements of a [`Stream`].
#[derive(Debug)]
pub struct Meter {
    opened: Instant,
    received: AtomicU64,
    /// The value of `received` at which the connection is closed. There is a limit until the head
    /// of the response is complete.
    received_max: AtomicU64,
    /// When the last byte before a response was written, and when the response's first byte was
    /// received. Both are in nanoseconds since the connection was opened; 0 means not yet.
    written_ns: AtomicU64,
    answered_ns: AtomicU64,
    /// The remembered bytes after the start that the stream has; all of them once it is dropped.
    head: Mutex<Vec<u8>>,
    /// Is notified of the first bytes.
    first: Notify,
}

impl Meter {
    /// Returns the number of bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Resets the times for the next request.
    pub fn begin(&self) {
        self.written_ns.store(0, Ordering::Relaxed);
        self.answered_ns.store(0, Ordering::Relaxed);
        self.allow(ANSWER_BYTES_MAX);
    }

    /// Closes the connection when it receives more than this number of further bytes.
    pub fn allow(&self, bytes: u64) {
        self.received_max.store(self.received() + bytes, Ordering::Relaxed);
    }

    /// Records that the head of the response is complete.
    pub fn has_head(&self) {
        self.received_max.store(u64::MAX, Ordering::Relaxed);
    }

    /// Reports whether the receiver has sent more bytes than are allowed.
    pub fn is_flooded(&self) -> bool {
        self.received() > self.received_max.load(Ordering::Relaxed)
    }

    /// Returns the start of the last response, which hyper could not parse. It is whole after the
    /// stream was dropped.
    pub fn take_head(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock_head())
    }

    /// Frees the memory of a long response's start. It must be called between two responses.
    pub fn forget_head(&self) {
        drop(self.take_head());
    }

    fn lock_head(&self) -> MutexGuard<'_, Vec<u8>> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the first bytes.
    pub async fn begins_to_receive(&self) {
        if self.received() == 0 {
            self.first.notified().await;
        }
    }

    /// Returns the time from the end of the request to the first byte of the response. Returns
    /// `None` if no response has begun.
    pub fn first_byte(&self) -> Option<Duration> {
        let (written, answered) =
            (self.written_ns.load(Ordering::Relaxed), self.answered_ns.load(Ordering::Relaxed));
        (answered > 0).then(|| Duration::from_nanos(answered.saturating_sub(written)))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(1..))) && self.answered_ns.load(Ordering::Relaxed) == 0 {
            self.written_ns.store(self.now_ns(), Ordering::Relaxed);
        }
    }

    /// Counts received bytes. Reports whether they are the first ones of a response. Only the
    /// stream calls it, so the count needs no atomic addition.
    fn read(&self, bytes: usize) -> bool {
        let received = self.received();
        self.received.store(received + bytes as u64, Ordering::Relaxed);
        if received == 0 {
            self.first.notify_one();
        }
        let is_first = self.answered_ns.load(Ordering::Relaxed) == 0;
        if is_first {
            self.answered_ns.store(self.now_ns(), Ordering::Relaxed);
        }
        is_first
    }
}

impl Stream {
    pub fn new(transport: Transport) -> Self {
        let meter = Meter {
            opened: Instant::now(),
            received: AtomicU64::new(0),
            received_max: AtomicU64::new(u64::MAX),
            written_ns: AtomicU64::new(0),
            answered_ns: AtomicU64::new(0),
            head: Mutex::default(),
            first: Notify::new(),
        };
        Self { transport, meter: Arc::new(meter), start: Vec::new() }
    }

    /// Returns the meter, which stays valid after the stream is moved.
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    fn received(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.meter.read(bytes.len()) {
            self.start.clear();
        }
        let (start, more) = bytes.split_at(bytes.len().min(START_BYTES_MAX - self.start.len()));
        self.start.reserve_exact(start.len());
        self.start.extend_from_slice(start);
        if !more.is_empty() {
            let mut head = self.meter.lock_head();
            let rest = (HEAD_BYTES_MAX - START_BYTES_MAX).saturating_sub(head.len());
            head.extend_from_slice(&more[..more.len().min(rest)]);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.meter.lock_head().splice(..0, self.start.drain(..));
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.meter.is_flooded() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        self.received(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.meter.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.meter.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Returns a stream, and its peer.
    async fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Stream::new(Transport::Plain(near.unwrap())), far.unwrap().0)
    }

    /// Receives this response, as the next one.
    async fn receive(stream: &mut Stream, peer: &mut TcpStream, response: &[u8]) {
        stream.meter.begin();
        // In parts, as a network may deliver it.
        for part in response.chunks(300) {
            peer.write_all(part).await.unwrap();
            stream.read_exact(&mut vec![0; part.len()]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_start_of_the_last_response_is_remembered() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        for length in [1, START_BYTES_MAX, START_BYTES_MAX + 1, HEAD_BYTES_MAX, 10_000] {
            let (mut stream, mut peer) = pair().await;
            let meter = stream.meter();
            receive(&mut stream, &mut peer, &[b'x'; 2000]).await;
            meter.forget_head();
            receive(&mut stream, &mut peer, &bytes[..length]).await;
            drop(stream);
            assert_eq!(meter.take_head(), &bytes[..length.min(HEAD_BYTES_MAX)], "{length}");
        }
    }

    #[tokio::test]
    async fn little_is_remembered_between_responses() {
        let (mut stream, mut peer) = pair().await;
        receive(&mut stream, &mut peer, &[b'x'; 10_000]).await;
        stream.meter.forget_head();
        assert!(stream.start.capacity() <= START_BYTES_MAX, "{}", stream.start.capacity());
        assert_eq!(stream.meter.lock_head().capacity(), 0);
    }
}
