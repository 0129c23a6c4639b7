//! The server's side of HTTP/1.1, reduced to the requests of a webhook sender: a head, and a body
//! with `content-length`. It is lean enough for the benchmarks' receiver too.

use bytes::{Buf as _, Bytes, BytesMut};
use std::{
    fmt::Write as _,
    io::{Error, ErrorKind},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// The stream under a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes closing the stream send RST.
    ///
    /// # Errors
    /// The socket's.
    fn reset_on_close(&self) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn reset_on_close(&self) -> std::io::Result<()> {
        self.set_zero_linger()
    }
}

impl Stream for TlsStream<TcpStream> {
    fn reset_on_close(&self) -> std::io::Result<()> {
        self.get_ref().0.set_zero_linger()
    }
}

/// A whole request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

/// A connection on which requests arrive.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    pub stream: S,
    buffer: BytesMut,
}

/// The answer to an accepted request.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, what.into())
}

/// Returns the length of a request's head and of its body, once the head is complete.
fn measure(bytes: &[u8]) -> std::io::Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = request.parse(bytes).map_err(|e| invalid(e.to_string()))? else {
        return Ok(None);
    };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let Some(length) = length else {
        return if request.method == Some("POST") {
            Err(invalid("POST without content-length"))
        } else {
            Ok(Some((head, 0)))
        };
    };
    let text = std::str::from_utf8(length.value).map_err(|e| invalid(e.to_string()))?;
    Ok(Some((head, text.parse().map_err(|_| invalid("content-length"))?)))
}

impl<S: Stream> Connection<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(4096) }
    }

    /// Reads the next request. Returns its bytes, head and body, and where the body begins, or
    /// `None` if the peer has closed the connection.
    ///
    /// # Errors
    /// The socket's, or invalid HTTP.
    pub async fn read_raw(&mut self) -> std::io::Result<Option<(Bytes, usize)>> {
        loop {
            if let Some((head, body)) = measure(&self.buffer)?
                && self.buffer.len() >= head + body
            {
                return Ok(Some((self.buffer.split_to(head + body).freeze(), head)));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads the next request. Returns `None` if the peer has closed the connection.
    ///
    /// # Errors
    /// As [`Connection::read_raw`].
    pub async fn read(&mut self) -> std::io::Result<Option<Request>> {
        let Some((mut bytes, head)) = self.read_raw().await? else { return Ok(None) };
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(&bytes).map_err(|e| invalid(e.to_string()))?;
        let method = request.method.unwrap_or_default().to_owned();
        let path = request.path.unwrap_or_default().to_owned();
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = request.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect();
        bytes.advance(head);
        Ok(Some(Request { method, path, headers, body: bytes }))
    }

    /// Answers with a status and a body.
    ///
    /// # Errors
    /// The socket's.
    pub async fn respond(&mut self, status: u16, body: &[u8]) -> std::io::Result<()> {
        self.respond_with(status, &[], body).await
    }

    /// Answers with further headers.
    ///
    /// # Errors
    /// The socket's; the peer may have closed the connection.
    pub async fn respond_with(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} X\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if status != 204 {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        let mut answer = (head + "\r\n").into_bytes();
        if status != 204 {
            answer.extend_from_slice(body);
        }
        self.stream.write_all(&answer).await?;
        self.stream.flush().await
    }

    /// Answers with `bytes` bytes of `0`.
    ///
    /// # Errors
    /// The socket's; the peer may have closed the connection.
    pub async fn respond_with_zeros(&mut self, status: u16, bytes: u64) -> std::io::Result<()> {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {bytes}\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await?;
        let chunk = [b'0'; 16 * 1024];
        let mut left = bytes;
        while left > 0 {
            let now = left.min(chunk.len() as u64);
            self.stream.write_all(&chunk[..now as usize]).await?;
            left -= now;
        }
        Ok(())
    }

    /// Waits until the peer closes the connection.
    pub async fn until_closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|n| n > 0) {}
    }
}
