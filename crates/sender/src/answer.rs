//! Turns a response into an outcome.

use crate::{origin::Lease, pool::Target};
use delivery::{
    outcome::{Class, Outcome, class_of_status, retry_after},
    response::ResponseRule,
};
use http_body_util::BodyExt;
use hyper::{
    Response, StatusCode,
    body::{Body, Incoming},
    header,
};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, timeout_at};

/// Maximum number of bytes of a response's body that are read. The connection of a longer body is
/// closed.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Maximum number of bytes of a response's body that are stored.
pub const STORED_BYTES_MAX: usize = 4 * 1024;
/// Timeout for the rest of a successful response. After it the connection is closed, because the
/// status has already decided the outcome.
const REST_OF_SUCCESS: Duration = Duration::from_secs(1);

/// Adds a sentence to the error of an outcome.
pub fn note(outcome: &mut Outcome, note: &str) {
    match &mut outcome.error {
        Some(error) => {
            error.push_str("; ");
            error.push_str(note);
        }
        none => *none = Some(note.to_owned()),
    }
}

/// Sets the class, the status, the error, and the requested delay from the head of a response.
pub fn judge<B>(outcome: &mut Outcome, response: &Response<B>) {
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

/// Checks the body of a 2xx response, of which the first 64 KiB are known.
pub fn check(outcome: &mut Outcome, rule: &ResponseRule, body: &[u8]) {
    if outcome.class == Class::Succeeded
        && let Err(why) = rule.check(body)
    {
        outcome.class = Class::HttpError;
        outcome.error = Some(format!("HTTP {}; {why}", outcome.status.unwrap_or_default()));
    }
}

/// The times of an exchange.
pub struct Times {
    /// When the head of the response was complete.
    pub answered: Instant,
    /// When the attempt ends at the latest.
    pub deadline: Instant,
}

/// Reads the part of the body that is of use, and keeps the connection if the body is complete.
pub async fn finish(
    outcome: &mut Outcome,
    target: &Target,
    lease: Lease,
    response: Response<Incoming>,
    rule: &ResponseRule,
    times: Times,
) {
    let is_success = outcome.class == Class::Succeeded;
    let is_checked = is_success && rule.expected.is_some();
    let is_short = is_success && !is_checked;
    let Times { answered, deadline } = times;
    let until = if is_short { deadline.min(answered + REST_OF_SUCCESS) } else { deadline };
    let bytes_max = if is_checked { RESPONSE_BYTES_MAX } else { STORED_BYTES_MAX };
    let is_clean = !has_forbidden_body(&response);
    let (start, end) = read_body(response.into_body(), &lease, until, bytes_max).await;
    check(outcome, rule, &start);
    match end {
        End::Complete if is_clean => keep(target, lease).await,
        End::Complete | End::TooLong => {}
        End::Late => note(outcome, "the rest of the answer did not arrive in time"),
        End::Broken => note(outcome, "the connection was closed before the answer ended"),
    }
    if (outcome.class != Class::Succeeded || rule.is_kept) && !start.is_empty() {
        outcome.response = Some(text(&start, STORED_BYTES_MAX));
    }
}

/// Keeps a connection with HTTP/1.1. Those with HTTP/2 stay in their origin.
async fn keep(target: &Target, lease: Lease) {
    if let Lease::Http1(mut connection) = lease
        && connection.is_ready_again().await
    {
        target.origin.keep(connection);
    }
}

/// Reports whether a response that cannot have a body announces one (RFC 9110, 15.3.5 and 15.4.5;
/// RFC 9112, 6.3). The next response would begin with it.
fn has_forbidden_body<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    let has_length = || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    response.status() == StatusCode::NO_CONTENT
        && (has_length() || headers.contains_key(header::TRANSFER_ENCODING))
}

/// How the reading of a body ended.
enum End {
    Complete,
    TooLong,
    Late,
    Broken,
}

/// Returns the start of a body, at most this many bytes.
async fn read_body(body: Incoming, lease: &Lease, until: Instant, bytes_max: usize) -> (Vec<u8>, End) {
    let mut start = Vec::new();
    if body.is_end_stream() {
        return (start, End::Complete);
    }
    let end = timeout_at(until, read_start(body, lease, &mut start, bytes_max)).await;
    (start, end.unwrap_or(End::Late))
}

/// Reads a body, and keeps its start.
async fn read_start(mut body: Incoming, lease: &Lease, start: &mut Vec<u8>, bytes_max: usize) -> End {
    let mut read = 0;
    loop {
        let data = match body.frame().await {
            None => return End::Complete,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => data,
                Err(_trailers) => continue,
            },
            Some(Err(_)) => return End::Broken,
        };
        if let Lease::Http2(stream) = lease {
            stream.is_read();
        }
        let rest = bytes_max - start.len();
        start.extend_from_slice(&data[..data.len().min(rest)]);
        read += data.len();
        if read > RESPONSE_BYTES_MAX {
            return End::TooLong;
        }
    }
}

/// Converts bytes of the receiver to text that Postgres accepts: UTF-8 without NUL, at most
/// `bytes_max` bytes.
pub fn text(bytes: &[u8], bytes_max: usize) -> String {
    let mut text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
