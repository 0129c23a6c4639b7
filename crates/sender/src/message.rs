//! Builds requests.

use crate::{Inquiry, Request, failure::Failure, pool::Target};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Version,
    header::{self, HeaderName, HeaderValue},
    http::Extensions,
};
use std::sync::Arc;

const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("pg_webhook/", env!("CARGO_PKG_VERSION")));
const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A request in hyper's form.
pub type Message = hyper::Request<Full<Bytes>>;

/// Makes a request fit for HTTP/2: the URI replaces the header `host` (RFC 9113, 8.3.1).
pub fn for_http2(mut message: Message, target: &Target) -> Message {
    *message.version_mut() = Version::HTTP_2;
    *message.uri_mut() = target.absolute.clone();
    message.headers_mut().remove(header::HOST);
    message
}

/// Builds an attempt's request, and signs it.
///
/// # Errors
/// Returns [`Failure`] of class refused.
pub fn build(
    target: &Target,
    request: &Request,
    spelling: Option<&Extensions>,
    timestamp: i64,
) -> Result<Message, Failure> {
    let more = |map: &Option<Arc<HeaderMap>>| map.as_ref().map_or(0, |map| map.len());
    let mut headers = HeaderMap::with_capacity(13 + more(&request.attributes) + more(&request.headers));
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
    accept_anything(&mut headers);
    Ok(message(Method::POST, target, headers, spelling, request.body.clone()))
}

/// Builds an inquiry's request.
pub fn build_inquiry(target: &Target, inquiry: &Inquiry, spelling: Option<&Extensions>) -> Message {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::HOST, target.host.clone());
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT_ENCODING, IDENTITY);
    add(&mut headers, Some(&inquiry.questions));
    add(&mut headers, inquiry.headers.as_deref());
    accept_anything(&mut headers);
    message(Method::OPTIONS, target, headers, spelling, Bytes::new())
}

/// Adds `accept`, unless the subscription has one. Some firewalls reject requests without it.
fn accept_anything(headers: &mut HeaderMap) {
    headers.entry(header::ACCEPT).or_insert(ANYTHING);
}

/// Adds the headers that are not present yet.
fn add(headers: &mut HeaderMap, more: Option<&HeaderMap>) {
    for (name, value) in more.into_iter().flatten() {
        headers.entry(name).or_insert_with(|| value.clone());
    }
}

fn message(
    method: Method,
    target: &Target,
    headers: HeaderMap,
    spelling: Option<&Extensions>,
    body: Bytes,
) -> Message {
    let mut message = hyper::Request::new(Full::new(body));
    *message.method_mut() = method;
    *message.uri_mut() = target.uri.clone();
    *message.headers_mut() = headers;
    if let Some(spelling) = spelling {
        *message.extensions_mut() = spelling.clone();
    }
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
