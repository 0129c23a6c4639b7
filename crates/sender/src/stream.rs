//! An open connection, and the measurements of its bytes.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that meters its bytes: how many were received, when the request was written, and
/// when the response began. The meter separates a dead kept-alive connection from a bad response,
/// and the receiver's time from ours.
pub struct Stream {
    transport: Transport,
    meter: Arc<Meter>,
}

/// The measurements of a [`Stream`].
#[derive(Debug)]
pub struct Meter {
    opened: Instant,
    received: AtomicU64,
    /// When the last byte before a response was written, and when the response's first byte was
    /// received. Both are in nanoseconds since the connection was opened; 0 means not yet.
    written_ns: AtomicU64,
    answered_ns: AtomicU64,
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

    fn read(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if self.answered_ns.load(Ordering::Relaxed) == 0 {
            self.answered_ns.store(self.now_ns(), Ordering::Relaxed);
        }
    }
}

impl Stream {
    pub fn new(transport: Transport) -> Self {
        let meter = Meter {
            opened: Instant::now(),
            received: AtomicU64::new(0),
            written_ns: AtomicU64::new(0),
            answered_ns: AtomicU64::new(0),
        };
        Self { transport, meter: Arc::new(meter) }
    }

    /// Returns the meter, which stays valid after the stream is moved.
    pub fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        self.meter.read(buf.filled().len() - before);
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
