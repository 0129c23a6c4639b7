//! Connections with HTTP/1.1. Each carries one request at a time, so a receiver that stalls one
//! response stalls no other.

use crate::{
    age::Age,
    dial::Dialed,
    stream::{Meter, START_BYTES_MAX},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

/// Maximum size of a response's head, in bytes. hyper accepts at most 100 header lines.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Timeout for a connection to become ready after a complete response. Its task needs one turn.
const READY_WITHIN: Duration = Duration::from_millis(500);

/// One HTTP/1.1 connection. Dropping it closes it, even during a request.
pub struct Http1 {
    pub send: SendRequest<Full<Bytes>>,
    pub meter: Arc<Meter>,
    pub age: Age,
    task: JoinHandle<()>,
    /// Has carried a request before.
    pub is_used: bool,
    /// Number of bytes received when the connection became idle.
    received: u64,
}

impl Http1 {
    /// Starts HTTP/1.1 on a new connection.
    ///
    /// # Errors
    /// None, because nothing is exchanged yet.
    pub async fn over(dialed: Dialed) -> hyper::Result<Self> {
        let Dialed { stream, peer, .. } = dialed;
        let meter = stream.meter();
        let mut builder = http1::Builder::new();
        // Receivers that break the rules for headers have taken the event nevertheless.
        builder
            .max_buf_size(HEAD_BYTES_MAX)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true);
        let (send, connection) = builder.handshake(TokioIo::new(stream)).await?;
        // The request in progress receives the connection's errors too. Between requests they are
        // not needed.
        let task = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { send, meter, age: Age::new(peer), task, is_used: false, received: 0 })
    }

    /// Waits until the connection's task has seen the end of the response too. It does not become
    /// ready if the receiver closes it, has not read the whole request, or has sent more than a
    /// response.
    pub async fn is_ready_again(&mut self) -> bool {
        self.send.is_ready() || matches!(timeout(READY_WITHIN, self.send.ready()).await, Ok(Ok(())))
    }

    /// Ends a connection that failed, and returns the start of its last response.
    pub async fn last_head(&mut self) -> Vec<u8> {
        // Otherwise, the task may wait until the receiver has read the rest of the request.
        self.task.abort();
        let _ = (&mut self.task).await;
        self.meter.take_head()
    }

    /// Notes that the connection is idle from now on.
    pub fn rest(&mut self, now: Instant) {
        self.is_used = true;
        self.age.rest(now);
        let received = self.meter.received();
        if received - self.received > START_BYTES_MAX as u64 {
            self.meter.forget_head();
        }
        self.received = received;
    }

    /// Reports whether an idle connection can take a request. Unsolicited bytes would be taken for
    /// its response.
    pub fn is_usable(&self, now: Instant) -> bool {
        self.send.is_ready() && !self.age.is_over(now) && self.received == self.meter.received()
    }

    /// Reports whether an idle connection can stay open.
    pub fn can_stay(&self, now: Instant) -> bool {
        !self.send.is_closed() && !self.age.is_idle_too_long(now) && !self.age.is_over(now)
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        // hyper also ends the task when it notices that the response is not awaited. The abort
        // works at every await point of the task.
        self.task.abort();
    }
}
