//! The routes of the admin server, and the layers that every request passes.
//!
//! Each REST route is declared once, and the declaration is also its documentation: the router and
//! the OpenAPI document come from the same source. The layers count requests, catch panics, add
//! security headers, and call [`guard::admit`].

use crate::{
    State, deliveries, events, guard, headers, health, metrics, page, portal_links, problem::Problem,
    receivers, subscriptions, tokens,
};
use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State as Shared},
    http::StatusCode,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "pg_webhook",
        description = "Webhook subscriptions and deliveries of one Postgres database. Every call has the privileges of the token's role."
    ),
    modifiers(&Bearer),
    components(schemas(Problem)),
    security(("token" = [])),
    tags(
        (name = "subscriptions", description = "Subscriptions and their options"),
        (name = "events", description = "Events and event types"),
        (name = "deliveries", description = "Deliveries and attempts"),
        (name = "access", description = "Tokens, and links to the page of an owner, for admins"),
        (name = "health", description = "Health and metrics, for operators")
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
        .routes(routes!(subscriptions::try_now))
        .routes(routes!(subscriptions::redeliver_failed))
        .routes(routes!(subscriptions::replay))
        .routes(routes!(receivers::list))
        .routes(routes!(events::pull))
        .routes(routes!(events::types))
        .routes(routes!(events::list))
        .routes(routes!(events::read))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::read))
        .routes(routes!(deliveries::attempts))
        .routes(routes!(deliveries::redeliver))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(portal_links::create))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// Returns the OpenAPI document that `/v1/openapi.json` serves.
pub fn document() -> utoipa::openapi::OpenApi {
    api().into_openapi()
}

/// The path of the OpenAPI document. The document describes the API and is not part of it.
const DOCUMENT: &str = "/v1/openapi.json";

/// Returns the path of every route.
pub fn paths() -> Vec<String> {
    let api = document().paths.paths.into_keys();
    api.chain([DOCUMENT.to_owned()]).chain(page::paths().map(str::to_owned)).collect()
}

/// Returns all routes, with the layers that every request passes.
pub fn router(state: &State) -> Router<State> {
    let (router, document) = api().split_for_parts();
    let document = Json(serde_json::to_value(document).unwrap_or_default());
    router
        .route(DOCUMENT, get(move || async move { document }))
        .merge(page::router())
        .fallback(page::nowhere)
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the path does not support this method")
        })
        .layer(from_fn_with_state(state.clone(), guard::admit))
        .layer(from_fn_with_state(state.clone(), page::portal::dress))
        .layer(from_fn_with_state(state.clone(), headers::protect))
        .layer(from_fn_with_state(state.clone(), count))
        .layer(from_fn(no_panic))
}

/// Counts requests by route and status. All requests that match no route count as one route.
async fn count(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    state.counted(route, response.status().as_u16());
    response
}

/// Turns a panic into a 500. It is a defect of one request, and deliveries must not stop.
async fn no_panic(request: Request, next: Next) -> Response {
    use futures_util::FutureExt;
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!("admin.request_panicked");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log of webhookd")
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words;
    use serde_json::{Value, json};
    use subscription_options::OPTIONS;

    #[test]
    fn the_document_says_what_is_asked_for_and_what_is_answered() {
        let document = serde_json::to_value(document()).unwrap();
        let schema = |name: &str| &document["components"]["schemas"][name];
        let body = |path: &str, method: &str, kind: &str| {
            document["paths"][path][method]["requestBody"]["content"][kind]["schema"]["$ref"].clone()
        };
        assert_eq!(
            body("/v1/subscriptions", "post", "application/json"),
            "#/components/schemas/NewSubscription"
        );
        assert_eq!(body("/v1/subscriptions/{id}", "patch", "application/json"), "#/components/schemas/Draft");
        let (new, draft) = (schema("NewSubscription"), schema("Draft"));
        assert_eq!((&new["required"], &draft["required"]), (&json!(["url"]), &Value::Null));
        assert_eq!(
            (&new["properties"]["url"]["type"], &new["additionalProperties"]),
            (&json!("string"), &json!(false))
        );
        assert_eq!(new["properties"].as_object().map(|all| all.len()), Some(OPTIONS.len()));
        for one in [new, draft, schema("Subscription")] {
            for (name, word) in [
                ("format", "hasura"),
                ("payload_mode", "thin"),
                ("ordering", "strict"),
                ("verification", "handshake"),
            ] {
                let words = one["properties"][name]["enum"].as_array();
                assert!(words.is_some_and(|words| words.contains(&json!(word))), "{name}: {one}");
            }
        }
        assert_eq!(schema("Delivery")["properties"]["state"]["enum"], json!(words::STATES));
        assert!(schema("Delivery")["required"].as_array().unwrap().contains(&json!("state")));
        let filters = document["paths"]["/v1/deliveries"]["get"]["parameters"].as_array().unwrap();
        let state = filters.iter().find(|one| one["name"] == "state").unwrap();
        assert_eq!((&state["schema"]["enum"], state["required"] == true), (&json!(words::STATES), false));
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, one) in methods.as_object().unwrap() {
                let open = path.ends_with('z');
                for status in if open { ["421", "429"].as_slice() } else { &["421", "429", "500", "503"] } {
                    assert!(one["responses"].get(status).is_some(), "{method} {path}: {status}");
                }
            }
        }
    }
}
