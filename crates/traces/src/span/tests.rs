//! Tests the span that a delivery exports.

use crate::span::*;
use delivery::{event::Event, outcome::Phases};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use proptest::prelude::*;
use std::sync::{Mutex, mpsc};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// Keeps the exported spans.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

fn message(id: i64, traceparent: Option<&str>) -> Arc<Message> {
    Arc::new(Message::new(
        Event { traceparent: traceparent.map(Into::into), ..Event::sample(id) },
        &Arc::default(),
    ))
}

fn outcome(class: Class, status: Option<u16>) -> Outcome {
    Outcome {
        class,
        status,
        started_at_us: 1_700_000_000_000_000,
        duration: Duration::from_millis(5),
        phases: Phases::default(),
        batch_id: None,
        error: (class != Class::Succeeded).then(|| "HTTP 503".to_owned()),
        response: None,
        retry_after: None,
        is_shortage: false,
    }
}

fn begin(traces: &Traces, messages: &[Arc<Message>], number: i16) -> Option<Box<Span>> {
    let url = Url::parse("https://user:hunter2@hooks.example:8443/a?token=hunter2").unwrap();
    let id = messages[0].id();
    traces.begin(&Attempted { messages, subscription_id: 7, url: &url, id: &id, body_bytes: 2, number })
}

fn value(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.to_string())
}

#[test]
fn attempts_are_children_of_the_writing_session() {
    let kept = Kept::default();
    let traces = Traces::over(kept.clone(), 0.0);
    let messages = [message(1, Some(SAMPLED))];
    let first = begin(&traces, &messages, 1).unwrap();
    let second = begin(&traces, &messages, 2).unwrap();
    let carried = [first.traceparent(), second.traceparent()];
    first.end(&outcome(Class::HttpError, Some(503)));
    second.end(&outcome(Class::Succeeded, Some(200)));
    traces.provider.force_flush().unwrap();

    let spans = kept.0.lock().unwrap().clone();
    assert_eq!(spans.len(), 2);
    for (span, carried) in spans.iter().zip(&carried) {
        assert_eq!(span.span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
        assert!(span.parent_span_is_remote && span.span_kind == SpanKind::Client);
        assert_eq!(
            **carried,
            format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", span.span_context.span_id())
        );
        assert_eq!(span.name, "deliver order.created");
        assert!(span.end_time >= span.start_time);
        let url = value(span, "url.full").unwrap();
        assert_eq!(url, "https://hooks.example:8443/a?REDACTED", "no secret goes to the collector");
        assert_eq!(value(span, "messaging.message.id").unwrap(), *messages[0].id());
        assert_eq!(value(span, "server.port").unwrap(), "8443");
    }
    let told = |at: usize, key| value(&spans[at], key);
    assert_eq!(spans[0].status, Status::error("HTTP 503"));
    assert_eq!(
        (told(0, "error.type").as_deref(), told(0, "webhook.attempt").as_deref()),
        (Some("503"), Some("1"))
    );
    assert_eq!((spans[1].status.clone(), told(1, "error.type")), (Status::Unset, None));
    assert_eq!(told(1, "http.request.resend_count").as_deref(), Some("1"));
    assert_eq!(told(1, "http.response.status_code").as_deref(), Some("200"));
}

#[test]
fn what_is_not_sampled_or_not_understood_stays_as_it_is() {
    let traces = Traces::over(Kept::default(), 1.0);
    for text in [UNSAMPLED, "", "nonsense", "00-1-2-01", &SAMPLED.to_uppercase()] {
        assert!(begin(&traces, &[message(1, Some(text))], 1).is_none(), "{text}");
    }
    assert!(begin(&traces, &[message(1, None)], 1).is_some(), "a trace of its own");
    let none = Traces::over(Kept::default(), 0.0);
    assert!(begin(&none, &[message(1, None)], 1).is_none());
}

#[test]
fn a_batch_is_linked_to_the_traces_of_its_events() {
    let kept = Kept::default();
    let traces = Traces::over(kept.clone(), 0.0);
    let one =
        [message(1, Some(SAMPLED)), message(2, None), message(3, Some(UNSAMPLED)), message(4, Some(OTHER))];
    begin(&traces, &one, 1).unwrap().end(&outcome(Class::Timeout, None));
    let nobody_watches = [message(1, Some(UNSAMPLED)), message(2, None)];
    assert!(begin(&traces, &nobody_watches, 1).is_none());
    traces.provider.force_flush().unwrap();

    let spans = kept.0.lock().unwrap().clone();
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    let linked: Vec<String> =
        span.links.iter().map(|link| link.span_context.trace_id().to_string()).collect();
    assert_eq!(linked, [&SAMPLED[3..35], &SAMPLED[3..35], &OTHER[3..35]]);
    assert_eq!(span.links[2].attributes[0].value.to_string(), *one[3].id());
    assert!(!linked.contains(&span.span_context.trace_id().to_string()), "a trace of its own");
    assert_eq!(value(span, "messaging.batch.message_count").as_deref(), Some("4"));
    assert_eq!(value(span, "error.type").as_deref(), Some("timeout"));
}

#[test]
fn a_batch_of_a_thousand_keeps_its_links() {
    let kept = Kept::default();
    let traces = Traces::over(kept.clone(), 0.0);
    let messages: Vec<_> = (0..1000).map(|id| message(id, Some(SAMPLED))).collect();
    begin(&traces, &messages, 1).unwrap().end(&outcome(Class::Succeeded, Some(200)));
    traces.provider.force_flush().unwrap();
    assert_eq!(kept.0.lock().unwrap()[0].links.len(), 1000);
}

/// Blocks every export until the test releases it.
#[derive(Debug)]
struct Stuck(Mutex<mpsc::Receiver<()>>);

impl SpanExporter for Stuck {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        let _ = self.0.lock().unwrap().recv();
        Ok(())
    }
}

#[test]
fn a_collector_that_hangs_costs_spans_and_no_time() {
    let (go, gate) = mpsc::channel();
    let traces = Traces::over(Stuck(Mutex::new(gate)), 0.0);
    let messages = [message(1, Some(SAMPLED))];
    for _ in 0..5000 {
        begin(&traces, &messages, 1).unwrap().end(&outcome(Class::Succeeded, Some(200)));
    }
    assert_eq!(traces.counts().by_result(), [("exported", 0), ("failed", 0), ("dropped", 5000 - 2048)]);
    drop(go);
    traces.provider.force_flush().unwrap();
    assert_eq!(traces.counts().by_result(), [("exported", 2048), ("failed", 0), ("dropped", 5000 - 2048)]);
}

proptest! {
    #[test]
    fn no_text_is_a_panic_and_every_context_is_whole(text in "\\PC{0,80}|[0-9a-f]{2}-[0-9a-f]{0,34}-[0-9a-f]{0,18}-[0-9a-f]{0,3}") {
        let traces = Traces::over(Kept::default(), 0.0);
        if let Some(span) = begin(&traces, &[message(1, Some(&text))], 1) {
            let carried = span.traceparent();
            prop_assert_eq!(carried.len(), 55);
            prop_assert!(carried.ends_with("-01"));
        }
    }

    #[test]
    fn a_share_is_a_share(ratio in 0.0_f64..=1.0) {
        let chosen = (0..2000).filter(|id| is_within(&format!("evt_{id}"), ratio)).count();
        prop_assert!((chosen as f64 / 2000.0 - ratio).abs() < 0.05);
    }
}
