//! Sends one request, and waits for the head of the response.
//!
//! A request is sent again only if the receiver cannot have processed it, or has told so:
//!
//! * A kept-alive connection had been closed by the receiver: it ended at once and without a byte.
//!   If the receiver accepted the request nevertheless, it recognizes the duplicate by the id.
//! * HTTP/2: the stream was refused, or is above the last one that GOAWAY names (RFC 9113, 8.7), or
//!   the receiver asks for HTTP/1.1.

use crate::{
    failure::{Failure, is_disconnect},
    http1::Http1,
    http2::Http2Stream,
    message::{Message, for_http2},
    origin::{Caller, Lease},
    pool::Target,
};
use delivery::outcome::Phases;
use h2::Reason;
use hyper::{Response, body::Incoming};
use std::time::Duration;
use tokio::time::Instant;

/// Maximum number of times that a request is sent.
const SENT_MAX: usize = 3;
/// A connection that the receiver closed while it was idle fails within a round trip. After this
/// time, the receiver may have worked on the request, and a second request would be another
/// attempt.
const STALE_WITHIN: Duration = Duration::from_secs(1);

/// The reason why there is no response, and the bytes that came instead.
pub struct Broken {
    pub failure: Failure,
    /// Empty, unless hyper could not parse a response.
    pub head: Vec<u8>,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, head: Vec::new() }
    }
}

/// What happened to a request that got no response.
enum Lost {
    /// Nothing of it was written. The message may be there.
    Unsent(Option<Box<Message>>),
    /// The receiver has not processed it.
    Unprocessed,
    /// The receiver asks for HTTP/1.1.
    Http1Required,
    Failed(Broken),
}

/// One exchange of an attempt.
pub struct Exchange<'a> {
    pub caller: Caller<'a>,
    target: &'a Target,
    pub phases: Phases,
    /// A request may have reached the receiver before the last one.
    pub was_sent_again: bool,
}

impl<'a> Exchange<'a> {
    pub fn new(caller: Caller<'a>, target: &'a Target) -> Self {
        Self { caller, target, phases: Phases::default(), was_sent_again: false }
    }

    /// Sends a request and waits for the head of the response. `make` is called again if the
    /// request must be sent again.
    ///
    /// # Errors
    /// Returns [`Broken`] with the reason.
    pub async fn run(
        &mut self,
        make: impl Fn(&Target) -> Result<Message, Failure>,
    ) -> Result<(Lease, Response<Incoming>), Broken> {
        let mut unsent: Option<Box<Message>> = None;
        let mut is_resent = false;
        let origin = &self.target.origin;
        let mut may_reuse = true;
        let mut sent = 0;
        loop {
            sent += 1;
            let message = match unsent.take() {
                Some(message) => *message,
                None => make(self.target)?,
            };
            let kept = if may_reuse { origin.take(&self.caller).await } else { None };
            let mut lease = match kept {
                Some(lease) => lease,
                None => Box::pin(origin.open(&self.caller, &mut self.phases)).await?,
            };
            self.was_sent_again = is_resent;
            let lost = match &mut lease {
                Lease::Http1(connection) => self.over_http1(connection, message).await,
                Lease::Http2(stream) => self.over_http2(stream, message).await,
            };
            let lost = match lost {
                Ok(response) => return Ok((lease, response)),
                Err(lost) => lost,
            };
            let is_last = sent >= SENT_MAX;
            match lost {
                Lost::Failed(broken) => return Err(broken),
                Lost::Unsent(_) | Lost::Unprocessed | Lost::Http1Required if is_last => {
                    return Err(
                        Failure::Protocol("the receiver closes each connection without an answer").into()
                    );
                }
                Lost::Unsent(again) => unsent = again,
                Lost::Unprocessed => is_resent = true,
                Lost::Http1Required => {
                    origin.require_http1();
                    is_resent = true;
                }
            }
            tracing::debug!(host = %origin.endpoint.host, is_resent, "connection.replaced; the receiver had closed it or refused the request");
            may_reuse = matches!(lease, Lease::Http2(_));
        }
    }

    async fn over_http1(
        &mut self,
        connection: &mut Http1,
        message: Message,
    ) -> Result<Response<Incoming>, Lost> {
        let (sent_at, received) = (Instant::now(), connection.meter.received());
        connection.meter.begin();
        let sent = connection.send.try_send_request(message).await;
        self.phases.first_byte = connection.meter.first_byte();
        let is_flooded = connection.meter.is_flooded();
        connection.meter.has_head();
        let mut failed = match sent {
            Ok(response) => return Ok(response),
            Err(_) if is_flooded => {
                return Err(Lost::Failed(
                    Failure::Protocol("the receiver sends interim responses without end").into(),
                ));
            }
            Err(failed) => failed,
        };
        // hyper returns the message if it has written none of it.
        let unsent = failed.take_message();
        let error = failed.into_error();
        if connection.is_used && unsent.is_some() {
            return Err(Lost::Unsent(unsent.map(Box::new)));
        }
        if connection.is_used && is_stale(&error, connection.meter.received() - received, sent_at) {
            return Err(Lost::Unprocessed);
        }
        let head = if error.is_parse() { connection.last_head().await } else { Vec::new() };
        Err(Lost::Failed(Broken { failure: Failure::of_exchange(&error), head }))
    }

    async fn over_http2(
        &mut self,
        stream: &mut Http2Stream,
        message: Message,
    ) -> Result<Response<Incoming>, Lost> {
        let sent_at = Instant::now();
        stream.begin();
        let sent = stream.send.try_send_request(for_http2(message, self.target)).await;
        let is_silent = stream.is_silent();
        let is_flooded = stream.connection.meter.is_flooded();
        stream.is_answered();
        let mut failed = match sent {
            Ok(response) => {
                self.phases.first_byte = Some(sent_at.elapsed());
                return Ok(response);
            }
            Err(failed) => failed,
        };
        let is_unsent = failed.take_message().is_some();
        let error = failed.into_error();
        let reason = Failure::http2_reason(&error);
        if reason != Some(Reason::REFUSED_STREAM) {
            stream.connection.retire();
        }
        Err(if is_flooded {
            Lost::Failed(
                Failure::Protocol("the receiver sends interim responses or control frames without end")
                    .into(),
            )
        } else if is_unsent {
            // It was made for HTTP/2, and the next connection may speak HTTP/1.1.
            Lost::Unsent(None)
        } else if reason == Some(Reason::HTTP_1_1_REQUIRED) {
            Lost::Http1Required
        } else if Failure::is_unprocessed(&error) || is_silent && is_stale(&error, 0, sent_at) {
            Lost::Unprocessed
        } else {
            Lost::Failed(Failure::of_exchange(&error).into())
        })
    }
}

/// Reports whether the receiver had already closed the kept-alive connection: it ended at once and
/// without a byte. The receiver cannot have answered the request.
fn is_stale(error: &hyper::Error, received: u64, sent_at: Instant) -> bool {
    received == 0 && is_disconnect(error) && sent_at.elapsed() < STALE_WITHIN
}
