//! `/v1/subscriptions`: a subscription as a REST resource. Every change is a call of the SQL API.

use super::{
    cursor::Cursor,
    database::Work,
    extract::{Body, Id, Query, number, typed},
    guard::Api,
    options::{Argument, Arguments, OPTIONS},
    problem::Problem,
    routes::{Page, Problems},
};
use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use utoipa::{IntoParams, ToSchema};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A subscription. Durations are ISO 8601 (`PT15S`), times RFC 3339.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    pub id: i64,
    pub name: Option<String>,
    pub url: String,
    /// Patterns: `order.paid`, `order.*`, `*`.
    pub events: Vec<String>,
    /// `false`: paused; what matches meanwhile is kept.
    pub enabled: bool,
    pub paused_reason: Option<String>,
    /// For a whole attempt.
    pub timeout: String,
    /// Waits after the 1st, 2nd, … failed attempt.
    pub retry: Vec<String>,
    pub max_in_flight: i32,
    /// SQL/JSON path on the event.
    pub filter: Option<String>,
    pub format: String,
    pub payload_mode: String,
    pub headers: BTreeMap<String, String>,
    /// Requests a second at most.
    pub rate_limit: Option<f64>,
    pub ordering: String,
    pub batch_size: i32,
    pub batch_window: String,
    pub compact: bool,
    pub exclude_origin: Vec<String>,
    pub verification: String,
    pub verified_at: Option<String>,
    pub signature: Vec<String>,
    pub owner: String,
    pub tls: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// A new subscription, or what is to change of one. What is left out has its default, or stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only judges: the members go to Postgres as they came")]
pub struct Draft {
    /// `http` or `https`, with a host, at most 2048 bytes.
    #[schema(min_length = 1, max_length = 2048)]
    url: Option<String>,
    #[schema(min_items = 1, max_items = 1000)]
    events: Option<Vec<String>>,
    /// Unique; null has none.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// `whsec_…`, `whsk_…`, `env:…` or `file:…`; left out, one is made and shown once.
    secret: Option<String>,
    /// 1 ms to 5 min.
    timeout: Option<String>,
    #[schema(max_items = 50)]
    retry: Option<Vec<String>>,
    #[schema(minimum = 1, maximum = 4096)]
    max_in_flight: Option<i32>,
    enabled: Option<bool>,
    filter: Option<String>,
    format: Option<String>,
    payload_mode: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    rate_limit: Option<f64>,
    ordering: Option<String>,
    #[schema(minimum = 1, maximum = 1000)]
    batch_size: Option<i32>,
    batch_window: Option<String>,
    compact: Option<bool>,
    exclude_origin: Option<Vec<String>>,
    verification: Option<String>,
    signature: Option<Vec<String>>,
    /// Whose it is: a role, or a tenant of the application.
    owner: Option<String>,
    tls: Option<String>,
}

/// A subscription that has just been made, with its secret, which is shown here and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub struct Created {
    #[serde(flatten)]
    pub subscription: Subscription,
    /// Null: it is not signed, or the same request has been answered before.
    pub secret: Option<String>,
}

/// A new secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Rotated {
    /// Of a key pair: its public half.
    pub secret: String,
}

/// An event that has been queued.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queued {
    pub event_id: String,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Drop what has been kept instead of delivering it.
    #[serde(default)]
    pub skip_backlog: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    /// How long the old secret signs beside the new one: 0 to 7 days, ISO 8601 [default: PT24H].
    pub overlap: Option<String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// From this moment on.
    pub since: String,
    /// Before this one [default: now].
    pub until: Option<String>,
    /// Instead of the subscription's patterns.
    pub events: Option<Vec<String>>,
}

/// How much of the past will be sent again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    pub events: i64,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Listing {
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Rows of a page at most, 1 to 200 [default: 50].
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
}

const ROW: &str = "select row_to_json(x)::text from (
    select s.id, s.name, s.url, s.events, s.enabled, s.paused_reason, s.timeout, s.retry, s.max_in_flight, s.filter, s.format,
           s.payload_mode, s.headers, s.rate_limit, s.ordering, s.batch_size, s.batch_window, s.compact, s.exclude_origin,
           s.verification, s.verified_at, s.signature, s.owner, s.tls, s.created_at, s.updated_at
    from webhook.subscription s";

/// The rows of a page: `limit`, or the default.
///
/// # Errors
/// Out of range.
pub fn page_rows(limit: Option<u16>) -> Result<i64, Problem> {
    match limit.unwrap_or(50) {
        limit @ 1..=200 => Ok(i64::from(limit)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, "limit must be between 1 and 200").field("limit")),
    }
}

/// What the caller sees, by number.
///
/// # Errors
/// The statement's.
pub async fn after(work: &mut Work, id: i64, rows: i64) -> Result<Vec<Subscription>, Problem> {
    work.json(&format!("{ROW} where s.id > $1 order by s.id limit $2) x"), &[&id, &rows]).await
}

/// One of them.
///
/// # Errors
/// 404 if there is none, or it is another's.
pub async fn find(work: &mut Work, id: i64) -> Result<Subscription, Problem> {
    let found = work.json(&format!("{ROW} where s.id = $1) x"), &[&id]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("subscription"))
}

/// Changes with the state: a strong validator of the representation.
pub fn etag(subscription: &Subscription) -> String {
    let bytes = serde_json::to_vec(subscription).unwrap_or_default();
    let digest = Sha256::digest(&bytes);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

fn with_etag(subscription: &Subscription, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::from_str(&etag(subscription)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// Reads it, and holds the request to its `If-Match`. The transaction is then at repeatable read (`guard.rs`), so whoever
/// changes it after this look makes the change fail, and not the other way round.
async fn expect(work: &mut Work, id: i64, headers: &HeaderMap) -> Result<Subscription, Problem> {
    let present = find(work, id).await?;
    let Some(wanted) = headers.get(header::IF_MATCH) else { return Ok(present) };
    let wanted = wanted.to_str().unwrap_or_default();
    let own = etag(&present);
    if wanted.split(',').any(|tag| tag.trim() == "*" || tag.trim() == own) {
        Ok(present)
    } else {
        Err(changed())
    }
}

fn changed() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "the subscription has been changed since")
        .hint("Read it again, and send its new ETag in If-Match.")
}

/// A conflict with another change is what `If-Match` asks about.
fn conditional(headers: &HeaderMap, problem: Problem) -> Problem {
    let is_conflict = problem.sqlstate.as_deref().is_some_and(|code| code.starts_with("40"));
    if is_conflict && headers.contains_key(header::IF_MATCH) { changed() } else { problem }
}

/// The options of a body, of the right JSON types.
fn arguments(body: &Body, first: usize) -> Result<Arguments, Problem> {
    let members = body.members()?;
    let unknown = members.keys().find(|name| OPTIONS.iter().all(|option| option.name != name.as_str()));
    if let Some(name) = unknown {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{name} is no option"));
        return Err(problem.field(name.as_str()).hint("See /v1/openapi.json for those there are."));
    }
    let _: Draft = typed(Value::Object(members.clone()))?;
    Ok(Arguments::of(&members, first))
}

/// Which option it was that could not be cast: Postgres does not say.
async fn name_the_field(work: Work, arguments: &Arguments, mut problem: Problem) -> Problem {
    let is_cast = problem.field.is_none() && matches!(problem.status, 422);
    let Some(caller) = work.caller().cloned() else { return problem };
    let database = work.database();
    drop(work);
    if !is_cast {
        return problem;
    }
    for (argument, part) in arguments.values.iter().zip(arguments.sql.split(", ")) {
        let Some((name, cast)) = part.split_once(" => ") else { continue };
        let cast = cast.split_once("::").map_or(cast, |(_, cast)| cast);
        let Ok(mut work) = database.begin(false).await else { return problem };
        if work.act_as(caller.clone()).await.is_err() {
            return problem;
        }
        let probe = work.query(&format!("select ($1::{cast}) is null"), &[argument.as_sql()]).await;
        if probe.is_err_and(|error| error.status == 422) {
            problem.field = Some(name.to_owned());
            problem.detail = problem.detail.map(|detail| format!("{name}: {detail}"));
            return problem;
        }
    }
    problem
}

/// Makes one; returns its number and its secret.
///
/// # Errors
/// What the SQL API refuses, with the field's name.
pub async fn subscribe(mut work: Work, body: &Body) -> Result<(Work, i64, Option<String>), Problem> {
    let arguments = arguments(body, 1)?;
    let sql = format!("select id, secret from {}.webhook_subscribe({})", work.schema(), arguments.sql);
    if !arguments.sql.contains("url => ") {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "url is missing").field("url"));
    }
    let values: Vec<&(dyn ToSql + Sync)> = arguments.values.iter().map(Argument::as_sql).collect();
    match work.row(&sql, &values).await {
        Ok(row) => {
            let (id, secret) = (row.try_get(0)?, row.try_get(1)?);
            Ok((work, id, secret))
        }
        Err(problem) => Err(name_the_field(work, &arguments, problem).await),
    }
}

/// Changes one.
///
/// # Errors
/// What the SQL API refuses, with the field's name.
pub async fn alter(mut work: Work, id: i64, body: &Body) -> Result<Work, Problem> {
    let arguments = arguments(body, 3)?;
    let comma = if arguments.sql.is_empty() { "" } else { ", " };
    let call =
        format!("select ({}.webhook_alter(id => $1, clear => $2{comma}{})).id", work.schema(), arguments.sql);
    let clear = (!arguments.clear.is_empty()).then_some(&arguments.clear);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&id, &clear];
    values.extend(arguments.values.iter().map(Argument::as_sql));
    match work.row(&call, &values).await {
        Ok(_) => Ok(work),
        Err(problem) => Err(name_the_field(work, &arguments, problem).await),
    }
}

/// Calls a function of the SQL API for one subscription; its answer, if it has one, is text.
///
/// # Errors
/// What it refuses.
pub async fn call(
    work: &mut Work,
    function: &str,
    arguments: &[&(dyn ToSql + Sync)],
) -> Result<Option<String>, Problem> {
    let sql = format!("select {}.{function}::text", work.schema());
    Ok(work.row(&sql, arguments).await?.try_get(0)?)
}

/// Subscriptions
///
/// Those that the token sees, by number.
#[utoipa::path(get, path = "/v1/subscriptions", params(Listing), tag = "subscriptions",
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

/// Subscribe
///
/// With `Idempotency-Key` the same request may be sent again within a day: it is answered with what it made the first time,
/// but for the secret, which is shown once. If that answer was lost, rotate the secret.
#[utoipa::path(post, path = "/v1/subscriptions", tag = "subscriptions", request_body = Draft,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters", min_length = 1, max_length = 255)),
    responses((status = 201, description = "Made; the secret is shown here and nowhere else", body = Created,
               headers(("Location" = String), ("ETag" = String))),
              (status = 200, description = "Made by an earlier request with this key", body = Created), Problems))]
pub async fn create(Api(mut work): Api, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    const CLAIM: &str = "with old as (delete from webhook.idempotency where created_at < now() - interval '1 day')
        insert into webhook.idempotency (caller, key, request_sha256) values ($1, $2, $3) on conflict do nothing returning true";
    const CLAIMED: &str =
        "select request_sha256 = $3, subscription_id from webhook.idempotency where caller = $1 and key = $2";
    const KEEP: &str = "update webhook.idempotency set subscription_id = $3 where caller = $1 and key = $2";
    let caller = work.caller().map(super::guard::Caller::name).unwrap_or_default();
    let key = idempotency_key(&headers)?;
    if let Some(key) = &key {
        let sha256 = Sha256::digest(&body.0).to_vec();
        let params: [&(dyn ToSql + Sync); 3] = [&caller, key, &sha256];
        if work.as_daemon(CLAIM, &params).await?.is_empty() {
            let rows = work.as_daemon(CLAIMED, &params).await?;
            let Some(row) = rows.first() else {
                return Err(Problem::unavailable("this key is just being forgotten"));
            };
            let (is_same, id): (bool, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            if !is_same {
                let problem = Problem::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "this key has been used for another request",
                );
                return Err(problem.field("Idempotency-Key").hint("Use a new key for each request."));
            }
            let subscription = find(&mut work, id.unwrap_or_default()).await?;
            let created = Created { subscription, secret: None };
            let mut response = Json(&created).into_response();
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            return Ok(with_etag(&created.subscription, response));
        }
    }
    let (mut work, id, secret) = subscribe(work, &body).await?;
    if let Some(key) = &key {
        work.as_daemon(KEEP, &[&caller, key, &id]).await?;
    }
    let subscription = find(&mut work, id).await?;
    work.commit().await?;
    let created = Created { subscription, secret };
    let location = [(header::LOCATION, format!("/v1/subscriptions/{id}"))];
    Ok(with_etag(&created.subscription, (StatusCode::CREATED, location, Json(&created)).into_response()))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if (1..=255).contains(&text.len()) => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "Idempotency-Key must have 1 to 255 printable characters",
        )
        .field("Idempotency-Key")),
    }
}

/// A subscription
#[utoipa::path(get, path = "/v1/subscriptions/{id}", tag = "subscriptions", params(("id" = i64, Path)),
    responses((status = 200, description = "It", body = Subscription, headers(("ETag" = String))), Problems))]
pub async fn read(Api(mut work): Api, Id(id): Id) -> Result<Response, Problem> {
    let subscription = find(&mut work, id).await?;
    Ok(with_etag(&subscription, Json(&subscription).into_response()))
}

/// Change a subscription
///
/// A merge patch (RFC 7396): what is left out stays; null ends `name`, `filter`, `rate_limit` and `tls`. A `secret` given
/// here replaces all others at once.
#[utoipa::path(patch, path = "/v1/subscriptions/{id}", tag = "subscriptions",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the state that is meant")),
    request_body(content((Draft = "application/merge-patch+json"), (Draft = "application/json"))),
    responses((status = 200, description = "As it is now", body = Subscription, headers(("ETag" = String))), Problems))]
pub async fn change(
    Api(mut work): Api,
    Id(id): Id,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    expect(&mut work, id, &headers).await?;
    let mut work = alter(work, id, &body).await.map_err(|problem| conditional(&headers, problem))?;
    let subscription = find(&mut work, id).await?;
    work.commit().await.map_err(|problem| conditional(&headers, problem))?;
    Ok(with_etag(&subscription, Json(&subscription).into_response()))
}

/// End a subscription
///
/// With its secrets and what is queued for it. Past attempts stay.
#[utoipa::path(delete, path = "/v1/subscriptions/{id}", tag = "subscriptions",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header, description = "ETag of the state that is meant")),
    responses((status = 204, description = "Ended"), Problems))]
pub async fn delete(Api(mut work): Api, Id(id): Id, headers: HeaderMap) -> Result<StatusCode, Problem> {
    expect(&mut work, id, &headers).await?;
    let ended = call(&mut work, "webhook_unsubscribe($1)", &[&id]).await;
    ended.map_err(|problem| conditional(&headers, problem))?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pause a subscription
#[utoipa::path(post, path = "/v1/subscriptions/{id}/pause", tag = "subscriptions", params(("id" = i64, Path)), request_body = Pause,
    responses((status = 200, description = "As it is now", body = Subscription), Problems))]
pub async fn pause(Api(mut work): Api, Id(id): Id, body: Body) -> Result<Response, Problem> {
    let Pause { reason } = body.read()?;
    call(&mut work, "webhook_pause($1, $2)", &[&id, &reason]).await?;
    done(work, id).await
}

/// Resume a subscription
#[utoipa::path(post, path = "/v1/subscriptions/{id}/resume", tag = "subscriptions", params(("id" = i64, Path)), request_body = Resume,
    responses((status = 200, description = "As it is now", body = Subscription), Problems))]
pub async fn resume(Api(mut work): Api, Id(id): Id, body: Body) -> Result<Response, Problem> {
    let Resume { skip_backlog } = body.read()?;
    call(&mut work, "webhook_resume($1, $2)", &[&id, &skip_backlog]).await?;
    done(work, id).await
}

/// Rotate the secret
#[utoipa::path(post, path = "/v1/subscriptions/{id}/rotate", tag = "subscriptions", params(("id" = i64, Path)), request_body = Rotate,
    responses((status = 200, description = "The new secret, shown here and nowhere else", body = Rotated), Problems))]
pub async fn rotate(Api(mut work): Api, Id(id): Id, body: Body) -> Result<Json<Rotated>, Problem> {
    let Rotate { overlap } = body.read()?;
    let secret =
        call(&mut work, ROTATE, &[&id, &overlap]).await.map_err(|problem| in_field(problem, "overlap"))?;
    work.commit().await?;
    Ok(Json(Rotated { secret: secret.unwrap_or_default() }))
}

/// The call of the SQL API, with its default.
pub const ROTATE: &str = "webhook_rotate_secret($1, coalesce($2::text::interval, '24 hours'))";

/// Judges a moment that a caller gives as text.
///
/// # Errors
/// 422 with the field's name.
pub async fn check_moment(work: &mut Work, field: &str, text: &Option<String>) -> Result<(), Problem> {
    if text.is_some() {
        let cast = work.query("select $1::text::timestamptz is null", &[text]).await;
        cast.map_err(|problem| in_field(problem, field))?;
    }
    Ok(())
}

/// What could not be cast, where there is but one thing to be cast.
fn in_field(problem: Problem, field: &str) -> Problem {
    if problem.status == 422 && problem.field.is_none() { problem.field(field) } else { problem }
}

/// Send a test event
#[utoipa::path(post, path = "/v1/subscriptions/{id}/ping", tag = "subscriptions", params(("id" = i64, Path)),
    responses((status = 202, description = "Queued", body = Queued), Problems))]
pub async fn ping(Api(mut work): Api, Id(id): Id) -> Result<Response, Problem> {
    let event_id = call(&mut work, "webhook_ping($1)", &[&id]).await?.unwrap_or_default();
    work.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Queued { event_id })).into_response())
}

/// Send the past again
///
/// The events of a range of time once more, in order and under the same ids.
#[utoipa::path(post, path = "/v1/subscriptions/{id}/replay", tag = "subscriptions", params(("id" = i64, Path)), request_body = Replay,
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
