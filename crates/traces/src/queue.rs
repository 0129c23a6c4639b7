//! A bounded queue between attempts and the collector. It counts the result of each span.
//!
//! The SDK forms the batches and runs the thread that sends them. The SDK's queue drops spans that
//! exceed its size without a count. This module therefore counts the spans in flight, and drops
//! spans before they would overflow the SDK's queue.

use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The environment variable that limits the queue, and OpenTelemetry's default for it.
const QUEUE_MAX_VARIABLE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const QUEUE_MAX: usize = 2048;

/// Counters of spans since the daemon started.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Returns the counters by result: accepted by the collector, rejected by it, or dropped
    /// because the queue was full.
    pub fn by_result(&self) -> [(&'static str, u64); 3] {
        [("exported", &self.exported), ("failed", &self.failed), ("dropped", &self.dropped)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }
}

/// The SDK's processor, behind a counter.
#[derive(Debug)]
pub struct Queue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    waiting_max: usize,
    counts: Arc<Counts>,
}

impl Queue {
    pub fn new(exporter: impl SpanExporter + 'static, counts: Arc<Counts>) -> Self {
        let given = env::var(QUEUE_MAX_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
        let waiting_max = given.filter(|max| *max > 0).unwrap_or(QUEUE_MAX);
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Counted { exporter, waiting: Arc::clone(&waiting), counts: Arc::clone(&counts) };
        let config = BatchConfigBuilder::default().with_max_queue_size(waiting_max).build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { batches, waiting, waiting_max, counts }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.waiting_max {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// An exporter that counts.
#[derive(Debug)]
struct Counted<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let ended = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let count = if ended.is_ok() { &self.counts.exported } else { &self.counts.failed };
        count.fetch_add(spans as u64, Ordering::Relaxed);
        ended
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
