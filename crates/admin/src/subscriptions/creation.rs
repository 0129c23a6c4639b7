//! `POST /v1/subscriptions`: creates a subscription once, even if the request is repeated.

use crate::{
    answers::Problems,
    caller::Caller,
    extract::Body,
    guard::Api,
    problem::Problem,
    subscriptions::{
        calls::{find, subscribe},
        conditions::with_etag,
        shape::{Created, NewSubscription},
    },
};
use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Create a subscription
///
/// With `Idempotency-Key`, you may repeat the same request within a day. The answer is then the
/// first answer without the secret, which is shown once. If that answer was lost, rotate the
/// secret.
#[utoipa::path(post, operation_id = "create_subscription", path = "/v1/subscriptions", tag = "subscriptions", request_body = NewSubscription,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 printable characters", min_length = 1, max_length = 255)),
    responses((status = 201, description = "Created; the secret is shown only here", body = Created,
               headers(("Location" = String), ("ETag" = String))),
              (status = 200, description = "Created by an earlier request with this key", body = Created), Problems))]
pub async fn create(Api(mut work): Api, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    // A statement of its own. Within the next statement, the old row would still be in the way.
    const FORGET: &str = "delete from webhook.idempotency where created_at < now() - interval '1 day'";
    const CLAIM: &str = "insert into webhook.idempotency (caller, key, request_sha256) values ($1, $2, $3)
        on conflict do nothing returning true";
    const CLAIMED: &str =
        "select request_sha256 = $3, subscription_id from webhook.idempotency where caller = $1 and key = $2";
    const KEEP: &str = "update webhook.idempotency set subscription_id = $3 where caller = $1 and key = $2";
    let caller = work.caller().map(Caller::key).unwrap_or_default();
    let key = idempotency_key(&headers)?;
    if let Some(key) = &key {
        let sha256 = Sha256::digest(&body.0).to_vec();
        let params: [&(dyn ToSql + Sync); 3] = [&caller, key, &sha256];
        work.as_daemon(FORGET, &[]).await?;
        if work.as_daemon(CLAIM, &params).await?.is_empty() {
            let rows = work.as_daemon(CLAIMED, &params).await?;
            let Some(row) = rows.first() else {
                return Err(Problem::unavailable("this key has just expired"));
            };
            let (is_same, id): (bool, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            if !is_same {
                let problem =
                    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "this key was used for another request");
                return Err(problem.field("Idempotency-Key").hint("Use a new key for each request."));
            }
            let subscription = find(&mut work, id.unwrap_or_default()).await?;
            let created = Created { subscription, secret: None };
            let mut response = Json(&created).into_response();
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            return Ok(with_etag(&created.subscription, response));
        }
    }
    let (id, secret) = subscribe(&mut work, &body).await?;
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
