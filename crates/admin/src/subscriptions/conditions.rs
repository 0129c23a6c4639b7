//! `ETag` and `If-Match`: a change applies to the state that the caller has seen, or it fails.

use crate::{
    problem::Problem,
    sessions::Work,
    subscriptions::{calls::find, shape::Subscription},
};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use sha2::{Digest, Sha256};

/// Returns the entity tag. It changes with the state: a strong validator of the representation.
pub fn etag(subscription: &Subscription) -> String {
    let bytes = serde_json::to_vec(subscription).unwrap_or_default();
    let digest = Sha256::digest(&bytes);
    let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Adds the entity tag to an answer.
pub fn with_etag(subscription: &Subscription, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::from_str(&etag(subscription)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// The condition of a request, compared with the state before it.
///
/// The request's own errors come first (RFC 9110, section 13.2.1: a precondition is ignored if the
/// response without it would be an error). So the change is made, the condition is checked, and the
/// transaction is rolled back if it does not hold.
#[must_use]
#[derive(Debug, Clone, Copy)]
pub struct Condition(bool);

impl Condition {
    /// # Errors
    /// 412 if the subscription had another state.
    pub fn holds(self) -> Result<(), Problem> {
        if self.0 { Ok(()) } else { Err(changed()) }
    }
}

/// Compares `If-Match` with the present state. The transaction is then at repeatable read
/// (`guard.rs`), so the change fails if another one comes in between.
///
/// # Errors
/// 404.
pub async fn expect(work: &mut Work, id: i64, headers: &HeaderMap) -> Result<Condition, Problem> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(Condition(true));
    }
    let own = etag(&find(work, id).await?);
    let mut lines = headers.get_all(header::IF_MATCH).iter().filter_map(|line| line.to_str().ok());
    Ok(Condition(lines.any(|line| line.split(',').any(|tag| tag.trim() == "*" || tag.trim() == own))))
}

/// Compares the tag in a form, which belongs to the state that its fields were filled from. Returns
/// the state to change. The transaction must be at repeatable read.
///
/// # Errors
/// 412 if the state has changed since; 404.
pub async fn expect_tag(work: &mut Work, id: i64, tag: Option<&str>) -> Result<Subscription, Problem> {
    let own = find(work, id).await?;
    if tag == Some(etag(&own).as_str()) { Ok(own) } else { Err(changed()) }
}

fn changed() -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, "the subscription has changed")
        .hint("Read it again, and send its new ETag in If-Match.")
}

/// If the request has `If-Match`, turns a conflict with another change into 412.
pub fn conditional(headers: &HeaderMap, problem: Problem) -> Problem {
    if headers.contains_key(header::IF_MATCH) { met(problem) } else { problem }
}

/// Turns a conflict with another change into 412, for a request that named the state.
pub fn met(problem: Problem) -> Problem {
    let is_conflict = problem.sqlstate.as_deref().is_some_and(|code| code.starts_with("40"));
    if is_conflict { changed() } else { problem }
}
