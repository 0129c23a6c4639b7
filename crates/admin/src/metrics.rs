//! `/metrics`: Prometheus's text format, from counters in memory and the last sample of the
//! database.
//!
//! `docs/monitoring/METRICS.md` documents names and labels. The only label that grows is
//! `subscription`: up to 500 values, `other` and `gone`.

use crate::{
    State,
    counters::{GONE, OTHERS},
    guard::Api,
    problem::Problem,
};
use axum::{
    extract::State as Shared,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use database::Phase;
use delivery::outcome::Class;
use prometheus::{
    Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
    process_collector::ProcessCollector,
};
use tokio::time::Instant;

/// Creates metrics in a registry that lives for one answer.
struct MetricsPage(Registry);

impl MetricsPage {
    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<(), prometheus::Error> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> Result<(), prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        let gauges = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }
}

fn label(id: i64) -> String {
    match id {
        OTHERS => "other".to_owned(),
        GONE => "gone".to_owned(),
        id => id.to_string(),
    }
}

/// Metrics
///
/// Requires the right to see the deliveries of all owners.
#[utoipa::path(get, operation_id = "metrics", path = "/metrics", tag = "health",
    responses((status = 200, description = "Prometheus text format 0.0.4", body = String, content_type = "text/plain"), super::answers::Problems))]
pub async fn metrics(Shared(state): Shared<State>, Api(mut work): Api) -> Result<Response, Problem> {
    if !work.row("select webhook.may_see_all()", &[]).await?.try_get::<_, bool>(0)? {
        return Err(Problem::new(StatusCode::FORBIDDEN, "metrics cover the subscriptions of all owners")
            .hint("Use a token of a role with webhook_grant('…', 'reader')."));
    }
    drop(work);
    let text = text(&state).map_err(|error| {
        tracing::error!(%error, "metrics.failed");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the metrics")
    })?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// Returns the text of the answer.
///
/// # Errors
/// A metric that is defined twice, which is a defect.
pub fn text(state: &State) -> Result<String, prometheus::Error> {
    let page = MetricsPage(Registry::new());
    daemon(&page, state)?;
    attempts(&page, state)?;
    database(&page, state)?;
    page.0.register(Box::new(ProcessCollector::for_self()))?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

fn daemon(page: &MetricsPage, state: &State) -> Result<(), prometheus::Error> {
    let build = page.gauges("webhookd_build_info", "Version of webhookd; always 1.", &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
    let is_active = matches!(*state.phase.borrow(), Phase::Active { .. });
    page.gauge(
        "webhookd_active",
        "1 if this daemon is the leader, 0 if it is a standby or has no session.",
        f64::from(u8::from(is_active)),
    )?;
    let is_ready = state.obstacles().is_empty();
    page.gauge("webhookd_ready", "1 if the daemon delivers, as in /readyz.", f64::from(u8::from(is_ready)))?;
    let standing = state.history.stands_for(Instant::now()).as_secs_f64();
    page.gauge(
        "webhookd_stalled_seconds",
        "How long events have waited while the checkpoint did not move.",
        standing,
    )?;
    let requests = page.counters(
        "webhookd_admin_requests_total",
        "Requests to the admin server.",
        &["route", "status"],
    )?;
    for ((route, status), count) in state.requests() {
        requests.with_label_values(&[&route, &status.to_string()]).inc_by(count);
    }
    let spans = page.counters(
        "webhookd_spans_total",
        "Spans of attempts: accepted by the collector, not accepted, or dropped because too many were waiting.",
        &["result"],
    )?;
    for (result, count) in state.spans.by_result() {
        spans.with_label_values(&[result]).inc_by(count);
    }
    Ok(())
}

fn attempts(page: &MetricsPage, state: &State) -> Result<(), prometheus::Error> {
    let labels = ["subscription", "outcome"];
    let attempts = page.counters("webhookd_attempts_total", "Attempts written, by outcome.", &labels)?;
    let exhausted = page.counters(
        "webhookd_deliveries_exhausted_total",
        "Deliveries whose last attempt has failed.",
        &["subscription"],
    )?;
    // Counters begin at 0, so that the first value is an increase.
    for id in state.history.latest().iter().flat_map(|look| look.subscriptions.keys()) {
        exhausted.with_label_values(&[label(*id)]);
    }
    for (id, counts) in state.counters.snapshot() {
        let id = label(id);
        for (class, count) in Class::ALL.iter().zip(counts.outcomes).filter(|(_, count)| *count > 0) {
            attempts.with_label_values(&[id.as_str(), class.as_str()]).inc_by(count);
        }
        exhausted.with_label_values(&[&id]).inc_by(counts.exhausted);
    }
    page.0.register(Box::new(state.counters.durations.clone()))
}

fn database(page: &MetricsPage, state: &State) -> Result<(), prometheus::Error> {
    let Some(look) = state.history.latest() else {
        return page.gauge("webhookd_look_age_seconds", "Age of the sample of the database.", f64::INFINITY);
    };
    page.gauge(
        "webhookd_look_age_seconds",
        "Age of the sample of the database.",
        look.at.elapsed().as_secs_f64(),
    )?;
    page.gauge(
        "webhookd_armed",
        "1 if the checkpoint belongs to this cluster and database.",
        f64::from(u8::from(look.disarmed.is_none())),
    )?;
    page.gauge(
        "webhookd_lock_held",
        "1 if a daemon holds the leader's lock.",
        f64::from(u8::from(look.dispatcher_running)),
    )?;
    page.gauge("webhookd_pending", "Events after the checkpoint, counted to 10000.", look.pending as f64)?;
    page.gauge("webhookd_lag_seconds", "Age of the oldest event after the checkpoint.", look.lag_s)?;
    if let Some(at) = look.checkpoint_at {
        page.gauge("webhookd_checkpoint_timestamp_seconds", "Time of the last checkpoint.", at)?;
    }
    page.counter(
        "webhookd_event_numbers_total",
        "Numbers assigned to events since the daemon started, including rolled-back events.",
        look.captured,
    )?;
    page.gauge("webhookd_ring_bytes", "Events and attempts on disk.", look.ring_bytes as f64)?;
    if let Some(limit) = look.ring_bytes_max {
        page.gauge("webhookd_ring_limit_bytes", "ring_bytes_max of webhook.setting.", limit as f64)?;
    }
    page.gauge(
        "webhookd_ring_held_bytes",
        "Part of webhookd_ring_bytes in slots with undelivered events.",
        look.ring_held_bytes as f64,
    )?;
    let backlog = page.gauges("webhookd_backlog", "Rows in the queue.", &["subscription"])?;
    let circuits = page.gauges(
        "webhookd_circuit_open",
        "1 if the receiver fails and is probed once a minute.",
        &["subscription"],
    )?;
    let enabled = page.gauges(
        "webhookd_subscription_enabled",
        "0 if the subscription is paused or disabled.",
        &["subscription"],
    )?;
    for (id, standing) in look.subscriptions.iter().filter(|(id, _)| **id != GONE) {
        let id = label(*id);
        backlog.with_label_values(&[&id]).set(standing.backlog as f64);
        circuits.with_label_values(&[&id]).set(f64::from(u8::from(standing.circuit_open)));
        enabled.with_label_values(&[&id]).set(f64::from(u8::from(standing.enabled)));
    }
    Ok(())
}
