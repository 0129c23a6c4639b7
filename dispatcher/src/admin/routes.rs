//! Every route there is. Those of the REST API are declared once, and are routes and documentation at the same time.

use super::{State, deliveries, events, guard, health, metrics, page, problem::Problem, subscriptions};
use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State as Shared},
    http::StatusCode,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoResponses, Modify, OpenApi, ToSchema,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// A page of rows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the rows behind; null: there are none.
    pub next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

/// What every route may answer instead.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documentation")]
pub enum Problems {
    #[response(
        status = 400,
        description = "A parameter or the body cannot be read",
        content_type = "application/problem+json"
    )]
    BadRequest(Problem),
    #[response(
        status = 401,
        description = "No token, or one that nobody has",
        content_type = "application/problem+json"
    )]
    Unauthorized(Problem),
    #[response(
        status = 403,
        description = "The token's role may not",
        content_type = "application/problem+json"
    )]
    Forbidden(Problem),
    #[response(
        status = 404,
        description = "There is no such thing, or it is another's",
        content_type = "application/problem+json"
    )]
    NotFound(Problem),
    #[response(
        status = 409,
        description = "It is not in a state for that, or the name is taken",
        content_type = "application/problem+json"
    )]
    Conflict(Problem),
    #[response(
        status = 412,
        description = "It has been changed since",
        content_type = "application/problem+json"
    )]
    PreconditionFailed(Problem),
    #[response(
        status = 413,
        description = "The body is too large",
        content_type = "application/problem+json"
    )]
    TooLarge(Problem),
    #[response(status = 415, description = "The body is not JSON", content_type = "application/problem+json")]
    NotJson(Problem),
    #[response(
        status = 422,
        description = "A member of the body is wrong: `field` names it",
        content_type = "application/problem+json"
    )]
    Unprocessable(Problem),
    #[response(status = 429, description = "Too many requests", content_type = "application/problem+json")]
    TooMany(Problem),
    #[response(
        status = 503,
        description = "The database is away or busy",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pg_webhook",
        description = "Webhook subscriptions and deliveries of one Postgres database. Every call is made with the rights of the token's role."
    ),
    modifiers(&Bearer),
    components(schemas(Problem)),
    security(("token" = [])),
    tags(
        (name = "subscriptions", description = "Who gets which events, and how"),
        (name = "events", description = "What has happened"),
        (name = "deliveries", description = "Who got what"),
        (name = "health", description = "For those who carry the pager")
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

fn api() -> OpenApiRouter<State> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(subscriptions::list, subscriptions::create))
        .routes(routes!(subscriptions::read, subscriptions::change, subscriptions::delete))
        .routes(routes!(subscriptions::pause))
        .routes(routes!(subscriptions::resume))
        .routes(routes!(subscriptions::rotate))
        .routes(routes!(subscriptions::ping))
        .routes(routes!(subscriptions::replay))
        .routes(routes!(events::pull))
        .routes(routes!(events::types))
        .routes(routes!(events::list))
        .routes(routes!(events::read))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::read))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// The document that `/v1/openapi.json` serves.
pub fn document() -> utoipa::openapi::OpenApi {
    api().into_openapi()
}

/// Where the document is served: it is about the API, and not part of it.
const DOCUMENT: &str = "/v1/openapi.json";

/// The path of every route.
pub fn paths() -> Vec<String> {
    let api = document().paths.paths.into_keys();
    api.chain([DOCUMENT.to_owned()]).chain(page::paths().map(str::to_owned)).collect()
}

/// Every route, with the layers that all requests pass.
pub fn router(state: &State) -> Router<State> {
    let (router, document) = api().split_for_parts();
    let document = Json(serde_json::to_value(document).unwrap_or_default());
    router
        .route(DOCUMENT, get(move || async move { document }))
        .merge(page::router())
        .fallback(page::nowhere)
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done with that method")
        })
        .layer(from_fn_with_state(state.clone(), guard::admit))
        .layer(from_fn_with_state(state.clone(), count))
        .layer(from_fn(no_panic))
}

/// Counts requests by route and status: what matched no route counts as one route.
async fn count(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    state.counted(route, response.status().as_u16());
    response
}

/// A panic is a defect of one request, not of the daemon: deliveries go on.
async fn no_panic(request: Request, next: Next) -> Response {
    use futures_util::FutureExt;
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("admin.request_panicked");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this request met a defect").into_response()
        }
    }
}
