//! The health of receivers: `webhook.subscription_health`, for REST, the page and
//! `webhookd status`.
//!
//! The view decides the state of each receiver. This module reads it with the caller's rights, and
//! [`words`] and [`headline`] say it in words. So all three places say the same.

pub mod headline;
pub mod words;

use crate::{
    answers::{Page, Problems},
    cursor::Cursor,
    extract::{Query, number},
    guard::Api,
    problem::Problem,
    sessions::Work,
    subscriptions::page_rows,
};
use axum::{Json, http::StatusCode};
use headline::Group;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema, openapi::ObjectBuilder};
use words::STATES;

/// Returns the groups by state and one page of receivers as JSON. Its parameters are a state, a
/// text to search for, the severity and the id of the last row before the page, and the number of
/// rows.
pub const OVERVIEW: &str = include_str!("../sql/receivers_overview.sql");

/// The receiver of one subscription. The most urgent state has severity 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receiver {
    pub id: i64,
    pub name: Option<String>,
    pub owner: String,
    pub url: String,
    #[schema(schema_with = states)]
    pub state: String,
    pub severity: i64,
    /// Since when it is in this state, if that is known.
    pub since: Option<String>,
    /// The reason of a pause, or why nothing is sent.
    pub reason: Option<String>,
    pub last_failure_at: Option<String>,
    pub last_outcome: Option<String>,
    pub last_status: Option<i16>,
    pub last_error: Option<String>,
    pub next_attempt_at: Option<String>,
    pub oldest_waiting_at: Option<String>,
    /// Deliveries that wait, counted up to 100000.
    pub waiting: i64,
    /// Those of them that have failed and are retried.
    pub retrying: i64,
    /// Deliveries that were given up because the receiver failed.
    pub given_up: i64,
    pub given_up_since: Option<String>,
    pub given_up_at: Option<String>,
    /// Deliveries whose content the receiver rejects (400, 409, 413, 414, 415, 422, 431, or
    /// a response that is not the expected one).
    pub rejected: i64,
    /// Deliveries that were given up for either reason, and can be redelivered.
    pub redeliverable: i64,
    /// Ages in seconds, by the clock of the database.
    #[serde(skip_serializing, default)]
    #[schema(ignore)]
    pub ages: Ages,
}

/// Times relative to now, in seconds. A negative age is in the future.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Ages {
    pub since: Option<f64>,
    pub last_failure: Option<f64>,
    pub next_attempt: Option<f64>,
    pub oldest_waiting: Option<f64>,
}

fn states() -> utoipa::openapi::schema::Object {
    ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some(STATES.map(|state| state.word)))
        .build()
}

/// The receivers that a caller sees: all of them by state, and one page, the most urgent first.
#[derive(Debug, Default, Deserialize)]
pub struct Overview {
    pub groups: Vec<Group>,
    pub receivers: Vec<Receiver>,
}

/// The filter of the list, and the position in it.
#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReceiverFilter {
    /// `next` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of rows, 1 to 200 [default: 50].
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    #[param(schema_with = states)]
    pub state: Option<String>,
    /// Text in the name or the URL.
    pub q: Option<String>,
}

/// List receivers
///
/// The health of each subscription's receiver, the most urgent first.
#[utoipa::path(get, operation_id = "list_receivers", path = "/v1/receivers", tag = "subscriptions", params(ReceiverFilter),
    responses((status = 200, description = "A page", body = Page<Receiver>), Problems))]
pub async fn list(
    Api(mut work): Api,
    Query(filter): Query<ReceiverFilter>,
) -> Result<Json<Page<Receiver>>, Problem> {
    let (overview, next) = page(&mut work, &filter).await?;
    Ok(Json(Page { items: overview.receivers, next }))
}

/// Returns the groups and a page of receivers, and the cursor of the next page.
///
/// # Errors
/// Returns a problem if the filter is not valid, and the errors of the statement.
pub async fn page(work: &mut Work, filter: &ReceiverFilter) -> Result<(Overview, Option<String>), Problem> {
    if filter.state.as_deref().is_some_and(|state| STATES.iter().all(|known| known.word != state)) {
        let known = STATES.map(|state| state.word).join(", ");
        let problem = Problem::new(StatusCode::BAD_REQUEST, "state is not valid").field("state");
        return Err(problem.hint(format!("Use one of {known}.")));
    }
    let rows = page_rows(filter.limit)?;
    let from = filter.cursor.as_deref().map(Cursor::parse).transpose()?.unwrap_or(Cursor(0, 0));
    let wanted = rows + 1;
    let found = work.json(OVERVIEW, &[&filter.state, &filter.q, &from.0, &from.1, &wanted]).await?;
    let mut overview: Overview = found.into_iter().next().unwrap_or_default();
    let full = usize::try_from(rows).unwrap_or(usize::MAX);
    let has_more = overview.receivers.len() > full;
    overview.receivers.truncate(full);
    let last = overview.receivers.last().filter(|_| has_more);
    let next = last.map(|last| Cursor(last.severity, last.id).to_string());
    Ok((overview, next))
}

/// Returns the health of one receiver.
///
/// # Errors
/// 404 if the subscription does not exist, or belongs to another owner.
pub async fn find(work: &mut Work, id: i64) -> Result<Receiver, Problem> {
    let found = work.json(include_str!("../sql/receivers_one.sql"), &[&id]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("subscription"))
}
