//! The security headers of every response, with its content security policy.

use crate::{State, portal};
use axum::{
    extract::{Request, State as Shared},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::Response,
};

const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'";

/// Returns the policy with the origins whose pages may embed ours.
pub fn policy<'a>(ancestors: impl Iterator<Item = &'a str>) -> HeaderValue {
    let listed: Vec<&str> = ancestors.collect();
    let listed = if listed.is_empty() { "'none'".to_owned() } else { listed.join(" ") };
    HeaderValue::from_str(&format!("{POLICY}; frame-ancestors {listed}"))
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

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

#[cfg(test)]
mod tests {
    //! The origins in the policy.

    use super::*;

    #[test]
    fn only_listed_origins_may_embed() {
        let text = |origins: &[&str]| {
            let policy = policy(origins.iter().copied());
            policy.to_str().unwrap().rsplit_once("; ").unwrap().1.to_owned()
        };
        assert_eq!(text(&[]), "frame-ancestors 'none'");
        assert_eq!(
            text(&["https://a.example", "https://b.example"]),
            "frame-ancestors https://a.example https://b.example"
        );
        assert!(policy(["a\nb"].into_iter()).to_str().unwrap().ends_with("frame-ancestors 'none'"));
    }
}
