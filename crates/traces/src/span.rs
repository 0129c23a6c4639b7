//! The span of one attempt: whether it exists, its name, and its attributes.
//!
//! Names follow OpenTelemetry's semantic conventions for messaging and for HTTP clients. Attributes
//! without a name there are called `webhook.…`.

use crate::{Traces, redacted};
use delivery::{
    message::Message,
    outcome::{Class, Outcome},
};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer},
};
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use url::Url;

/// An attempt that is about to start.
#[derive(Debug, Clone, Copy)]
pub struct Attempted<'a> {
    /// The messages of the request, at least one.
    pub messages: &'a [Arc<Message>],
    pub subscription_id: i64,
    pub url: &'a Url,
    /// `webhook-id` of the request.
    pub id: &'a str,
    pub body_bytes: usize,
    /// The attempt's number, 1 for the first.
    pub number: i16,
}

/// An attempt in progress.
#[derive(Debug)]
pub struct Span {
    span: opentelemetry_sdk::trace::Span,
    began: SystemTime,
}

/// The place of a span in a trace.
#[derive(Debug, PartialEq)]
enum Place {
    Child(SpanContext),
    /// A trace of its own, with links to the traces of its events.
    Root(Vec<(SpanContext, Arc<str>)>),
}

impl Traces {
    /// Begins the span of an attempt. Returns `None` if it has none; the request then carries the
    /// event's `traceparent`.
    pub fn begin(&self, attempted: &Attempted<'_>) -> Option<Box<Span>> {
        let place = self.place(attempted.messages, attempted.id)?;
        let began = SystemTime::now();
        let mut builder = SpanBuilder::from_name(name(attempted.messages))
            .with_kind(SpanKind::Client)
            .with_start_time(began)
            .with_attributes(attributes(attempted));
        let context = match place {
            Place::Child(parent) => Context::new().with_remote_span_context(parent),
            Place::Root(links) => {
                let link = |(context, id): (SpanContext, Arc<str>)| {
                    Link::new(context, vec![KeyValue::new("messaging.message.id", id)], 0)
                };
                builder = builder.with_links(links.into_iter().map(link).collect());
                Context::new()
            }
        };
        Some(Box::new(Span { span: self.tracer.build_with_context(builder, &context), began }))
    }

    /// Decides whether an attempt has a span, and where it belongs.
    ///
    /// An event with a trace belongs to it if the trace is sampled. A share of the events without a
    /// trace gets traces of their own, and every attempt for such an event gets one. A request for
    /// several events links to all of their traces.
    fn place(&self, messages: &[Arc<Message>], id: &str) -> Option<Place> {
        let of =
            |message: &Message| message.event().traceparent.as_deref().and_then(|text| self.context(text));
        let is_chosen = || self.ratio > 0.0 && is_within(id, self.ratio);
        if let [message] = messages {
            return match (of(message), &message.event().traceparent) {
                (Some(parent), _) => parent.is_sampled().then_some(Place::Child(parent)),
                (None, None) => is_chosen().then(|| Place::Root(Vec::new())),
                // Another program wrote the value, and it is not valid.
                (None, Some(_)) => None,
            };
        }
        let links: Vec<_> =
            messages.iter().filter_map(|message| Some((of(message)?, message.id()))).collect();
        let is_sampled = links.iter().any(|(context, _)| context.is_sampled());
        (is_sampled || (links.is_empty() && is_chosen())).then_some(Place::Root(links))
    }
}

/// Reports whether an id is in the share. The result for an id is always the same.
fn is_within(id: &str, ratio: f64) -> bool {
    let digest = Sha256::digest(id.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // Compares 53 bits, which a float represents exactly.
    ((number >> 11) as f64) < ratio * (1_u64 << 53) as f64
}

/// Returns the type of the events if all have the same one.
fn event_type(messages: &[Arc<Message>]) -> Option<&str> {
    let (first, rest) = messages.split_first()?;
    let of = |message: &Message| message.event().event_type == first.event().event_type;
    rest.iter().all(|message| of(message)).then(|| &*first.event().event_type)
}

fn name(messages: &[Arc<Message>]) -> String {
    event_type(messages).map_or_else(|| "deliver".to_owned(), |event_type| format!("deliver {event_type}"))
}

fn attributes(attempted: &Attempted<'_>) -> Vec<KeyValue> {
    let Attempted { messages, subscription_id, url, id, body_bytes, number } = *attempted;
    let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let mut attributes = Vec::with_capacity(20);
    attributes.extend([
        KeyValue::new("messaging.system", "pg_webhook"),
        KeyValue::new("messaging.operation.name", "deliver"),
        KeyValue::new("messaging.operation.type", "send"),
        KeyValue::new("messaging.destination.subscription.name", subscription_id.to_string()),
        KeyValue::new("messaging.message.body.size", count(body_bytes)),
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("url.full", redacted(url).to_string()),
        KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        KeyValue::new("webhook.subscription.id", subscription_id),
        KeyValue::new("webhook.attempt", i64::from(number)),
    ]);
    if let Some(port) = url.port_or_known_default() {
        attributes.push(KeyValue::new("server.port", i64::from(port)));
    }
    if let Some(event_type) = event_type(messages) {
        attributes.push(KeyValue::new("messaging.destination.name", event_type.to_owned()));
    }
    if number > 1 {
        attributes.push(KeyValue::new("http.request.resend_count", i64::from(number) - 1));
    }
    match messages {
        [message] => {
            attributes.push(KeyValue::new("messaging.message.id", message.id()));
            let changes = message.changes();
            if changes > 1 {
                attributes.push(KeyValue::new("webhook.changes", i64::from(changes)));
            }
        }
        _ => attributes.extend([
            KeyValue::new("webhook.batch.id", id.to_owned()),
            KeyValue::new("messaging.batch.message_count", count(messages.len())),
        ]),
    }
    attributes
}

impl Span {
    /// Returns the `traceparent` of the request. The receiver's work becomes a child of this
    /// attempt.
    pub fn traceparent(&self) -> Arc<str> {
        let context = self.span.span_context();
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags()).into()
    }

    /// Ends the span with the outcome.
    pub fn end(self, outcome: &Outcome) {
        let Self { mut span, began } = self;
        span.set_attribute(KeyValue::new("webhook.outcome", outcome.class.as_str()));
        if let Some(status) = outcome.status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if outcome.class != Class::Succeeded {
            let kind = match (outcome.class, outcome.status) {
                (Class::HttpError, Some(status)) => KeyValue::new("error.type", status.to_string()),
                (class, _) => KeyValue::new("error.type", class.as_str()),
            };
            span.set_attribute(kind);
            span.set_status(Status::error(outcome.error.clone().unwrap_or_default()));
        }
        let started = u64::try_from(outcome.started_at_us).map(Duration::from_micros).unwrap_or_default();
        let ended = SystemTime::UNIX_EPOCH + started + outcome.duration;
        // The outcome's start is rounded down to microseconds, so its end may precede the span's
        // start.
        span.end_with_timestamp(ended.max(began));
    }
}

#[cfg(test)]
mod tests;
