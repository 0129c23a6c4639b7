//! The security headers of every response.

use crate::{State, policy::policy, portal};
use axum::{
    extract::{Request, State as Shared},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

/// Adds the headers to a response.
pub async fn protect(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let is_portal = portal::is_portal(request.uri().path());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let policy = if is_portal { state.portal.policy() } else { policy([].into_iter()) };
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    if is_portal {
        // The path contains the key of the session. Browsers that know X-Frame-Options only do not
        // know lists of origins.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    } else {
        // With `no-referrer`, browsers hide the origin of our own forms, which the guard checks.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
