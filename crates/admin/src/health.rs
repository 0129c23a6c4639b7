//! `/healthz` and `/readyz`: whether this process should be restarted, and whether it delivers.
//!
//! Both answer from the last sample (`sampler.rs`), so a request costs nothing. If the sample is
//! too old, the database is not available. The process is alive unless it is the leader and has
//! made no progress for a minute, which a restart may repair. It is ready if it is the leader of an
//! armed database and makes progress.

use crate::{
    State,
    answers::Refusals,
    sampler::{INTERVAL, Sample},
};
use axum::{
    Json,
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use database::Phase;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// The paths of this module.
pub const PATHS: [&str; 2] = ["/healthz", "/readyz"];

/// After this long without progress, the daemon is not ready. After the second time, it is not
/// alive.
const STALLED_AFTER: Duration = Duration::from_secs(20);
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// An older sample does not describe the present.
const LOOK_AGE_MAX: Duration = Duration::from_secs(4 * INTERVAL.as_secs());

/// The health of this daemon.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, `degraded` (alive, with problems) or `failing`.
    pub status: String,
    /// `connecting`, `standby` or `active`.
    pub phase: String,
    /// The problems.
    pub reasons: Vec<String>,
}

/// Returns the reasons why this daemon is not ready. Empty if it is.
pub fn obstacles(phase: &Phase, look: Option<&Sample>, stands_for: Duration, now: Instant) -> Vec<String> {
    let mut reasons = Vec::new();
    match phase {
        Phase::Connecting => reasons.push("connecting: no session with Postgres".to_owned()),
        Phase::Standby => reasons.push("standby: another daemon is the leader".to_owned()),
        Phase::Active { .. } => {}
    }
    match look.filter(|look| now.duration_since(look.at) <= LOOK_AGE_MAX) {
        None => reasons.push("database: no recent answer".to_owned()),
        Some(look) => {
            reasons.extend(look.disarmed.iter().map(|why| format!("disarmed: {why}")));
            if !look.dispatcher_running {
                reasons.push("lock: no daemon holds the leader's lock".to_owned());
            }
            if stands_for >= STALLED_AFTER {
                reasons.push(format!(
                    "stalled: {} events are pending, the oldest for {:.0} s, and the checkpoint has not moved for {} s",
                    look.pending,
                    look.lag_s,
                    stands_for.as_secs()
                ));
            }
        }
    }
    reasons
}

/// Reports whether a restart may help.
pub fn is_dead(phase: &Phase, stands_for: Duration) -> bool {
    matches!(phase, Phase::Active { .. }) && stands_for >= DEAD_AFTER
}

impl State {
    /// Returns the reasons why this daemon is not ready.
    pub fn obstacles(&self) -> Vec<String> {
        let now = Instant::now();
        let look = self.history.latest();
        obstacles(&self.phase.borrow(), look.as_ref(), self.history.stands_for(now), now)
    }
}

fn answer(phase: &Phase, failing: bool, reasons: Vec<String>) -> Response {
    let status = if failing { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let word = match (failing, phase) {
        (true, _) => "failing",
        (false, Phase::Standby) => "ok",
        (false, _) if reasons.is_empty() => "ok",
        (false, _) => "degraded",
    };
    (status, Json(Health { status: word.to_owned(), phase: phase.word().to_owned(), reasons }))
        .into_response()
}

/// Liveness
///
/// Fails only if a restart may help. Without a connection to Postgres, for example, the daemon is
/// alive, and its status is `degraded`.
#[utoipa::path(get, operation_id = "healthz", path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "Alive", body = Health), (status = 503, description = "Stalled", body = Health), Refusals))]
pub async fn healthz(Shared(state): Shared<State>) -> Response {
    let phase = state.phase.borrow().clone();
    let failing = is_dead(&phase, state.history.stands_for(Instant::now()));
    answer(&phase, failing, state.obstacles())
}

/// Readiness
#[utoipa::path(get, operation_id = "readyz", path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "The daemon delivers", body = Health), (status = 503, description = "The daemon does not deliver, with the reasons", body = Health), Refusals))]
pub async fn readyz(Shared(state): Shared<State>) -> Response {
    let phase = state.phase.borrow().clone();
    let reasons = state.obstacles();
    answer(&phase, !reasons.is_empty(), reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_is_named() {
        let now = Instant::now();
        let good = Sample { pending: 3, lag_s: 70.0, ..Sample::idle(now) };
        let active = Phase::Active { epoch: 1 };
        let words = |phase: &Phase, look: Option<&Sample>, seconds, later| -> Vec<String> {
            let reasons =
                obstacles(phase, look, Duration::from_secs(seconds), now + Duration::from_secs(later));
            reasons.iter().map(|reason| reason.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        assert!(words(&active, Some(&good), 19, 0).is_empty());
        assert_eq!(words(&active, Some(&good), 20, 0), ["stalled"]);
        assert_eq!(words(&active, Some(&good), 0, 21), ["database"]);
        assert_eq!(words(&active, None, 0, 0), ["database"]);
        assert_eq!(words(&Phase::Standby, Some(&good), 0, 0), ["standby"]);
        let copy = Sample { disarmed: Some("a copy".to_owned()), dispatcher_running: false, ..good };
        assert_eq!(words(&Phase::Connecting, Some(&copy), 0, 0), ["connecting", "disarmed", "lock"]);
        assert!(is_dead(&active, Duration::from_secs(60)) && !is_dead(&active, Duration::from_secs(59)));
        assert!(!is_dead(&Phase::Standby, Duration::from_secs(600)), "a restart does not help");
    }
}
