//! Sends signed POST requests over HTTP/1.1 and reports their outcomes.
//!
//! The module uses hyper's connections and a pool of its own. It follows no redirects, keeps no
//! cookies, and decompresses nothing. One deadline covers the whole attempt, including the
//! response's body.
//!
//! Each attempt is made once, with one exception. If the receiver had already closed a kept-alive
//! connection, a new connection replaces it before the attempt counts (see [`is_stale`]).

pub use crate::pool::AGE_MAX;

use crate::{
    Head, Inquiry, Request, Sender,
    address_policy::AddressPolicy,
    dial::{Dialer, native_roots, tls_config},
    failure::{Failure, is_disconnect},
    pool::{Connection, Pool, SWEEP_EVERY, Target},
    resolve::{Resolve, SystemResolver},
};
use bytes::Bytes;
use delivery::{
    outcome::{Class, Outcome, Phases, class_of_status, retry_after},
    response::ResponseRule,
};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Response,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout, timeout_at};

/// Maximum number of bytes of a response's body that are read. The connection of a longer body is
/// closed.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of bytes of a response's body that are stored.
pub const STORED_BYTES_MAX: usize = 4 * 1024;
/// Timeout for the rest of a successful response. After it the connection is closed, because the
/// status has already decided the outcome.
const REST_OF_SUCCESS: Duration = Duration::from_secs(1);
/// Timeout for a connection to become ready after a complete response. Its task needs one turn.
const READY_WITHIN: Duration = Duration::from_millis(500);
/// A connection that the receiver closed while it was idle fails within a round trip. After this
/// time, the receiver may have worked on the request, and a second request would be another
/// attempt.
const STALE_WITHIN: Duration = Duration::from_secs(1);

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("pg_webhook/", env!("CARGO_PKG_VERSION")));
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request in hyper's form.
type Message = hyper::Request<Full<Bytes>>;

/// Sends requests over its own connections.
pub struct HttpSender {
    dialer: Dialer,
    pool: Arc<Pool>,
}

impl HttpSender {
    /// Returns a sender with the system's resolver and certificate authorities. Call it within a
    /// tokio runtime.
    ///
    /// # Errors
    /// Returns an error only if the cryptography provider lacks TLS 1.2 and 1.3.
    pub fn new(policy: AddressPolicy) -> Result<Self, rustls::Error> {
        Ok(Self::with(policy, Arc::new(SystemResolver::default()), tls_config(native_roots())?))
    }

    /// Returns a sender with another resolver and other TLS settings. Call it within a tokio
    /// runtime.
    pub fn with(policy: AddressPolicy, resolver: Arc<dyn Resolve>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self::over(Dialer::new(policy, resolver, tls))
    }

    /// Returns a sender that uses connections of this dialer. Call it within a tokio runtime.
    pub fn over(dialer: Dialer) -> Self {
        let pool = Arc::<Pool>::default();
        let swept = Arc::downgrade(&pool);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                let Some(pool) = swept.upgrade() else { return };
                pool.sweep();
            }
        });
        Self { dialer, pool }
    }

    /// Sends a request and waits for the head of the response. `make` is called again if a stale
    /// connection has consumed the request.
    async fn exchange(
        &self,
        target: &Target,
        make: impl Fn() -> Result<Message, Failure>,
        phases: &mut Phases,
    ) -> Result<(Connection, Response<Incoming>), Failure> {
        let mut message = Some(make()?);
        if let Some(mut connection) = target.origin.take(&self.dialer).await {
            let (sent_at, received) = (Instant::now(), connection.meter.received());
            let outgoing = match message.take() {
                Some(message) => message,
                None => make()?,
            };
            connection.meter.begin();
            match connection.send.try_send_request(outgoing).await {
                Ok(response) => {
                    phases.first_byte = connection.meter.first_byte();
                    return Ok((connection, response));
                }
                Err(mut failed) => {
                    // hyper returns the message if it has written none of it.
                    message = failed.take_message();
                    let error = failed.into_error();
                    if message.is_none() && !is_stale(&error, connection.meter.received() - received, sent_at)
                    {
                        phases.first_byte = connection.meter.first_byte();
                        return Err(Failure::of_exchange(&error));
                    }
                    tracing::debug!(
                        host = %target.origin.endpoint.host,
                        "connection.replaced; the receiver closed it while it was idle"
                    );
                }
            }
        }
        let dialed = self.dialer.dial(&target.origin.endpoint, phases).await?;
        let mut connection = Connection::over(dialed).await.map_err(|error| Failure::of_exchange(&error))?;
        let message = match message {
            Some(message) => message,
            None => make()?,
        };
        connection.meter.begin();
        let sent = connection.send.send_request(message).await;
        phases.first_byte = connection.meter.first_byte();
        Ok((connection, sent.map_err(|error| Failure::of_exchange(&error))?))
    }
}

impl Sender for HttpSender {
    async fn send(&self, request: Request) -> Outcome {
        let (begun, now) = (Instant::now(), SystemTime::now());
        let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let started_at_us = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
        let deadline = begun + request.timeout;
        let mut phases = Phases::default();
        let result = match self.pool.target(&request.url, request.tls.as_ref()) {
            Ok(target) => {
                let make = || build(&target, &request, started_at_us / 1_000_000);
                match timeout_at(deadline, self.exchange(&target, make, &mut phases)).await {
                    Ok(Ok((connection, response))) => Ok((target, connection, response)),
                    Ok(Err(failure)) => Err(failure),
                    Err(_) => Err(Failure::Deadline(request.timeout)),
                }
            }
            Err(refusal) => Err(refusal.into()),
        };
        let mut outcome = Outcome {
            class: Class::Succeeded,
            status: None,
            started_at_us,
            duration: begun.elapsed(),
            phases,
            batch_id: None,
            error: None,
            response: None,
            retry_after: None,
        };
        match result {
            Ok((target, connection, response)) => {
                judge(&mut outcome, &response);
                finish(&mut outcome, &target, connection, response, &request.response, deadline).await;
                if outcome.class != Class::Succeeded {
                    outcome.duration = begun.elapsed();
                }
            }
            Err(failure) => {
                outcome.class = failure.class();
                outcome.error = Some(failure.to_string());
            }
        }
        outcome
    }

    async fn inquire(&self, inquiry: Inquiry) -> Result<Head, String> {
        let target =
            self.pool.target(&inquiry.url, inquiry.tls.as_ref()).map_err(|refusal| refusal.to_string())?;
        let make = || Ok(build_inquiry(&target, &inquiry));
        let answered = timeout(inquiry.timeout, self.exchange(&target, make, &mut Phases::default())).await;
        let answered = answered.unwrap_or(Err(Failure::Deadline(inquiry.timeout)));
        // Dropping the connection discards the rest of the response, which is not read.
        let (_connection, response) = answered.map_err(|failure| failure.to_string())?;
        let (head, _body) = response.into_parts();
        Ok(Head { status: head.status, headers: head.headers })
    }
}

/// Reports whether the receiver had already closed the kept-alive connection: it ended at once and
/// without a byte. The receiver cannot have answered the request. If it accepted the request
/// nevertheless, it recognizes the duplicate by the id.
fn is_stale(error: &hyper::Error, received: u64, sent_at: Instant) -> bool {
    received == 0 && is_disconnect(error) && sent_at.elapsed() < STALE_WITHIN
}

fn build(target: &Target, request: &Request, timestamp: i64) -> Result<Message, Failure> {
    let more = |map: &Option<Arc<HeaderMap>>| map.as_ref().map_or(0, |map| map.len());
    let mut headers = HeaderMap::with_capacity(12 + more(&request.attributes) + more(&request.headers));
    headers.insert(header::HOST, target.host.clone());
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::CONTENT_TYPE, request.content_type.clone());
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(request.body.len()));
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    let bad_header = |_| Failure::Ours("the event's id is not a valid header value");
    headers.insert(WEBHOOK_ID, HeaderValue::from_str(&request.id).map_err(bad_header)?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    sign(&mut headers, request, timestamp)?;
    if let Some(origin) = &request.origin {
        headers.insert(WEBHOOK_REQUEST_ORIGIN, origin.clone());
    }
    // Other software wrote the value. An invalid one is left out; it must not fail the delivery.
    if let Some(Ok(traceparent)) = request.traceparent.as_deref().map(HeaderValue::from_str) {
        headers.insert(TRACEPARENT, traceparent);
    }
    add(&mut headers, request.attributes.as_deref());
    add(&mut headers, request.headers.as_deref());
    Ok(message(Method::POST, target, headers, request.body.clone()))
}

fn build_inquiry(target: &Target, inquiry: &Inquiry) -> Message {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::HOST, target.host.clone());
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    add(&mut headers, Some(&inquiry.questions));
    add(&mut headers, inquiry.headers.as_deref());
    message(Method::OPTIONS, target, headers, Bytes::new())
}

/// Adds the headers that are not present yet.
fn add(headers: &mut HeaderMap, more: Option<&HeaderMap>) {
    for (name, value) in more.into_iter().flatten() {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

fn message(method: Method, target: &Target, headers: HeaderMap, body: Bytes) -> Message {
    let mut message = hyper::Request::new(Full::new(body));
    *message.method_mut() = method;
    *message.uri_mut() = target.uri.clone();
    *message.headers_mut() = headers;
    message
}

/// Adds the headers of the signature profiles.
fn sign(headers: &mut HeaderMap, request: &Request, timestamp: i64) -> Result<(), Failure> {
    let message = signature::Message { id: &request.id, timestamp, body: &request.body };
    let mut unfit = None;
    request.profiles.headers(&request.signers, &message, |name, value| {
        match HeaderValue::from_maybe_shared(Bytes::from(value)) {
            Ok(value) => drop(headers.insert(HeaderName::from_static(name), value)),
            // Fails instead of omitting the header: a signed delivery must not be sent unsigned.
            Err(_) => unfit = Some(Failure::Ours("a signature is not a valid header value")),
        }
    })?;
    unfit.map_or(Ok(()), Err)
}

/// Sets the class, the status, the error, and the requested delay from the head of a response.
fn judge(outcome: &mut Outcome, response: &Response<Incoming>) {
    let status = response.status();
    outcome.class = class_of_status(status.as_u16());
    outcome.status = Some(status.as_u16());
    outcome.retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| retry_after(v.as_bytes(), SystemTime::now()));
    if outcome.class == Class::Succeeded {
        return;
    }
    let mut error = match status.canonical_reason() {
        Some(reason) => format!("HTTP {} {reason}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    };
    if status.is_redirection() {
        error.push_str("; redirects are not followed");
        if let Some(location) = response.headers().get(header::LOCATION) {
            error.push_str(", Location: ");
            error.push_str(&text(location.as_bytes(), 200));
        }
    }
    outcome.error = Some(error);
}

/// Reads the part of the body that is of use, and keeps the connection if the body is complete.
async fn finish(
    outcome: &mut Outcome,
    target: &Target,
    mut connection: Connection,
    response: Response<Incoming>,
    rule: &ResponseRule,
    deadline: Instant,
) {
    let is_success = outcome.class == Class::Succeeded;
    let is_checked = is_success && rule.expected.is_some();
    let until =
        if is_success && !is_checked { deadline.min(Instant::now() + REST_OF_SUCCESS) } else { deadline };
    let kept = if is_checked { RESPONSE_BYTES_MAX } else { STORED_BYTES_MAX };
    let (start, end) = read_body(response.into_body(), until, kept).await;
    let checked = match (is_checked, &end) {
        (false, _) => Ok(()),
        (true, End::TooLong) => {
            Err("the body is too long to be checked (expected_response): more than 64 KiB")
        }
        (true, _) => rule.check(&start),
    };
    if let Err(why) = checked {
        outcome.class = Class::HttpError;
        outcome.error = Some(format!("HTTP {}; {why}", outcome.status.unwrap_or_default()));
    }
    let note = match end {
        End::Complete => {
            // The connection is ready when its task has seen the end of the response too. It does
            // not become ready if the receiver closes it or has not read the whole request.
            if let Ok(Ok(())) = timeout(READY_WITHIN, connection.send.ready()).await {
                target.origin.keep(connection);
            }
            None
        }
        End::TooLong => None,
        End::Late => Some("the rest of the answer did not arrive in time"),
        End::Broken => Some("the connection was closed before the answer ended"),
    };
    if let Some(note) = note {
        match &mut outcome.error {
            Some(error) => {
                error.push_str("; ");
                error.push_str(note);
            }
            none => *none = Some(note.to_owned()),
        }
    }
    if (outcome.class != Class::Succeeded || rule.is_kept) && !start.is_empty() {
        outcome.response = Some(text(&start, STORED_BYTES_MAX));
    }
}

/// How the reading of a body ended.
enum End {
    Complete,
    TooLong,
    Late,
    Broken,
}

/// Returns the start of a body: at most this many bytes, so memory use is bounded.
async fn read_body(mut body: Incoming, until: Instant, bytes_max: usize) -> (Vec<u8>, End) {
    let (mut start, mut read) = (Vec::new(), 0);
    loop {
        let data = match timeout_at(until, body.frame()).await {
            Ok(None) => return (start, End::Complete),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => continue,
            },
            Ok(Some(Err(_))) => return (start, End::Broken),
            Err(_) => return (start, End::Late),
        };
        let room = bytes_max - start.len();
        start.extend_from_slice(&data[..data.len().min(room)]);
        read += data.len();
        if read > RESPONSE_BYTES_MAX {
            return (start, End::TooLong);
        }
    }
}

/// Converts bytes of the receiver to text that Postgres accepts: UTF-8 without NUL, at most
/// `bytes_max` bytes.
fn text(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
