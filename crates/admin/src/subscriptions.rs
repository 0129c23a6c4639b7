//! `/v1/subscriptions`: subscriptions as a REST resource. Every change is a call of the SQL API.

mod calls;
mod conditions;
mod creation;
mod shape;

pub use calls::{REDELIVER_FAILED, ROTATE, alter, call, check_moment, find, names, subscribe};
pub use conditions::{etag, expect_tag, met};
pub use creation::{__path_create, create};
pub use shape::{Listing, Subscription};

use crate::{
    answers::{Page, Problems},
    cursor::Cursor,
    extract::{Body, Id, Query},
    guard::Api,
    problem::Problem,
    sessions::Work,
};
use axum::{
    Json,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use calls::{after, in_field};
use conditions::{conditional, expect, with_etag};
use shape::{Draft, Pause, Queued, RedeliverFailed, Replay, Replayed, Resume, Rotate, Rotated, Try};

/// Returns the number of rows of a page: `limit`, or the default.
///
/// # Errors
/// The limit is out of range.
pub fn page_rows(limit: Option<u16>) -> Result<i64, Problem> {
    match limit.unwrap_or(50) {
        limit @ 1..=200 => Ok(i64::from(limit)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "limit must be between 1 and 200").field("limit")),
    }
}

/// List subscriptions
///
/// Those that the token may see, by number.
#[utoipa::path(get, operation_id = "list_subscriptions", path = "/v1/subscriptions", params(Listing), tag = "subscriptions",
    responses((status = 200, description = "A page", body = Page<Subscription>), Problems))]
pub async fn list(
    Api(mut work): Api,
    Query(listing): Query<Listing>,
) -> Result<Json<Page<Subscription>>, Problem> {
    let rows = page_rows(listing.limit)?;
    let from = listing.cursor.as_deref().map(Cursor::parse).transpose()?.map_or(0, |cursor| cursor.0);
    let mut items = after(&mut work, from, rows + 1).await?;
    let more = items.len() > usize::try_from(rows).unwrap_or(usize::MAX);
    if more {
        items.pop();
    }
    let next = items.last().filter(|_| more).map(|last| Cursor(last.id, 0).to_string());
    Ok(Json(Page { items, next }))
}

/// Show a subscription
#[utoipa::path(get, operation_id = "read_subscription", path = "/v1/subscriptions/{id}", tag = "subscriptions", params(("id" = i64, Path)),
    responses((status = 200, description = "The subscription", body = Subscription, headers(("ETag" = String))), Problems))]
pub async fn read(Api(mut work): Api, Id(id): Id) -> Result<Response, Problem> {
    let subscription = find(&mut work, id).await?;
    Ok(with_etag(&subscription, Json(&subscription).into_response()))
}

/// Change a subscription
///
/// A merge patch (RFC 7396): members that are left out stay. Null clears `name`, `filter`,
/// `rate_limit` and `tls`. A `secret` replaces all other secrets at once.
#[utoipa::path(patch, operation_id = "change_subscription", path = "/v1/subscriptions/{id}", tag = "subscriptions",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the expected state")),
    request_body(content((Draft = "application/merge-patch+json"), (Draft = "application/json"))),
    responses((status = 200, description = "The subscription after the change", body = Subscription, headers(("ETag" = String))), Problems))]
pub async fn change(
    Api(mut work): Api,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let condition = expect(&mut work, id, &headers).await?;
    alter(&mut work, id, &body).await.map_err(|problem| conditional(&headers, problem))?;
    condition.holds()?;
    let subscription = find(&mut work, id).await?;
    work.commit().await.map_err(|problem| conditional(&headers, problem))?;
    Ok(with_etag(&subscription, Json(&subscription).into_response()))
}

/// Delete a subscription
///
/// Deletes its secrets and its queued deliveries too. Past attempts stay.
#[utoipa::path(delete, operation_id = "delete_subscription", path = "/v1/subscriptions/{id}", tag = "subscriptions",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the expected state")),
    responses((status = 204, description = "Deleted"), Problems))]
pub async fn delete(Api(mut work): Api, Id(id): Id, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let condition = expect(&mut work, id, &headers).await?;
    let ended = call(&mut work, "webhook_unsubscribe($1)", &[&id]).await;
    ended.map_err(|problem| conditional(&headers, problem))?;
    condition.holds()?;
    work.commit().await.map_err(|problem| conditional(&headers, problem))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a subscription
#[utoipa::path(post, operation_id = "pause_subscription", path = "/v1/subscriptions/{id}/pause", tag = "subscriptions", 
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the expected state")), request_body = Pause,
    responses((status = 200, description = "The subscription after the change", body = Subscription), Problems))]
pub async fn pause(
    Api(mut work): Api,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Pause { reason } = body.read()?;
    let condition = expect(&mut work, id, &headers).await?;
    let paused = call(&mut work, "webhook_pause($1, $2)", &[&id, &reason]).await;
    paused.map_err(|problem| conditional(&headers, problem))?;
    condition.holds()?;
    done(work, id).await
}

/// Resume a subscription
#[utoipa::path(post, operation_id = "resume_subscription", path = "/v1/subscriptions/{id}/resume", tag = "subscriptions", 
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the expected state")), request_body = Resume,
    responses((status = 200, description = "The subscription after the change", body = Subscription), Problems))]
pub async fn resume(
    Api(mut work): Api,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Resume { skip_backlog } = body.read()?;
    let condition = expect(&mut work, id, &headers).await?;
    let resumed = call(&mut work, "webhook_resume($1, $2)", &[&id, &skip_backlog]).await;
    resumed.map_err(|problem| conditional(&headers, problem))?;
    condition.holds()?;
    done(work, id).await
}

/// Rotate the secret
#[utoipa::path(post, operation_id = "rotate_secret", path = "/v1/subscriptions/{id}/rotate", tag = "subscriptions", 
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the expected state")), request_body = Rotate,
    responses((status = 200, description = "The new secret, which is shown only here", body = Rotated), Problems))]
pub async fn rotate(
    Api(mut work): Api,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Rotate { overlap } = body.read()?;
    let condition = expect(&mut work, id, &headers).await?;
    let rotated = call(&mut work, ROTATE, &[&id, &overlap]).await;
    let secret = rotated.map_err(|problem| conditional(&headers, in_field(problem, "overlap")))?;
    condition.holds()?;
    let subscription = find(&mut work, id).await?;
    work.commit().await?;
    let rotated = Rotated { secret: secret.unwrap_or_default() };
    Ok(with_etag(&subscription, Json(rotated).into_response()))
}

/// Send a test event
#[utoipa::path(post, operation_id = "ping_subscription", path = "/v1/subscriptions/{id}/ping", tag = "subscriptions", params(("id" = i64, Path)),
    responses((status = 202, description = "Queued", body = Queued), Problems))]
pub async fn ping(Api(mut work): Api, Id(id): Id) -> Result<Response, Problem> {
    let event_id = call(&mut work, "webhook_ping($1)", &[&id]).await?.unwrap_or_default();
    work.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { event_id })).into_response())
}

/// Try now
///
/// Attempts the waiting deliveries now: one if the receiver is failing, and all others once that
/// one succeeds.
#[utoipa::path(post, operation_id = "try_subscription", path = "/v1/subscriptions/{id}/try", tag = "subscriptions", params(("id" = i64, Path)), request_body = Try,
    responses((status = 202, description = "Requested"), Problems))]
pub async fn try_now(Api(mut work): Api, Id(id): Id, body: Body) -> Result<StatusCode, Problem> {
    let Try { ignore_retry_after } = body.read()?;
    call(&mut work, "webhook_try_now($1, $2)", &[&id, &ignore_retry_after]).await?;
    work.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

/// Redeliver given-up deliveries
///
/// Sends the deliveries again that the daemon gave up in a time range, in order and with the same
/// ids.
#[utoipa::path(post, operation_id = "redeliver_failed", path = "/v1/subscriptions/{id}/redeliver-failed", tag = "subscriptions", params(("id" = i64, Path)), request_body = RedeliverFailed,
    responses((status = 202, description = "Queued, or counted", body = Replayed), Problems))]
pub async fn redeliver_failed(Api(mut work): Api, Id(id): Id, body: Body) -> Result<Response, Problem> {
    let RedeliverFailed { since, until, dry_run } = body.read()?;
    check_moment(&mut work, "since", &since).await?;
    check_moment(&mut work, "until", &until).await?;
    let count = call(&mut work, REDELIVER_FAILED, &[&id, &since, &until, &dry_run]).await?;
    work.commit().await?;
    let events = count.and_then(|count| count.parse().ok()).unwrap_or_default();
    Ok((StatusCode::ACCEPTED, Json(Replayed { events })).into_response())
}

/// Replay events
///
/// Sends the events of a time range again, in order and with the same ids.
#[utoipa::path(post, operation_id = "replay_events", path = "/v1/subscriptions/{id}/replay", tag = "subscriptions", params(("id" = i64, Path)), request_body = Replay,
    responses((status = 202, description = "Queued", body = Replayed), Problems))]
pub async fn replay(Api(mut work): Api, Id(id): Id, body: Body) -> Result<Response, Problem> {
    let Replay { since, until, events } = body.read()?;
    let since = Some(since);
    check_moment(&mut work, "since", &since).await?;
    check_moment(&mut work, "until", &until).await?;
    let function = "webhook_replay($1, $2::text::timestamptz, coalesce($3::text::timestamptz, now()), $4)";
    let count = call(&mut work, function, &[&id, &since, &until, &events]).await?;
    work.commit().await?;
    let events = count.and_then(|count| count.parse().ok()).unwrap_or_default();
    Ok((StatusCode::ACCEPTED, Json(Replayed { events })).into_response())
}

async fn done(mut work: Work, id: i64) -> Result<Response, Problem> {
    let subscription = find(&mut work, id).await?;
    work.commit().await?;
    Ok(with_etag(&subscription, Json(&subscription).into_response()))
}
