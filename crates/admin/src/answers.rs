//! The answers that several REST routes share, and their documentation.

use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

/// A page of rows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass this as `cursor` to get the next rows; null if there are none.
    pub next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { items: Vec::new(), next: None }
    }
}

/// The errors that every REST route can return.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documentation")]
pub enum Problems {
    #[response(
        status = 400,
        description = "A parameter or the body is not valid",
        content_type = "application/problem+json"
    )]
    BadRequest(Problem),
    #[response(
        status = 401,
        description = "No token, or an unknown token",
        content_type = "application/problem+json"
    )]
    Unauthorized(Problem),
    #[response(
        status = 403,
        description = "The token's role does not have the privilege",
        content_type = "application/problem+json"
    )]
    Forbidden(Problem),
    #[response(
        status = 404,
        description = "The object does not exist, or belongs to another owner",
        content_type = "application/problem+json"
    )]
    NotFound(Problem),
    #[response(
        status = 409,
        description = "The state of the object does not allow this, or the name is taken",
        content_type = "application/problem+json"
    )]
    Conflict(Problem),
    #[response(
        status = 412,
        description = "The object has changed since",
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
        status = 421,
        description = "Without tokens, the host must be a name of this machine",
        content_type = "application/problem+json"
    )]
    Misdirected(Problem),
    #[response(
        status = 422,
        description = "A member of the body is not valid; `field` names it",
        content_type = "application/problem+json"
    )]
    Unprocessable(Problem),
    #[response(status = 429, description = "Too many requests", content_type = "application/problem+json")]
    TooMany(Problem),
    #[response(
        status = 500,
        description = "Internal error; see the daemon's log",
        content_type = "application/problem+json"
    )]
    Defect(Problem),
    #[response(
        status = 503,
        description = "The database is not available, or busy",
        content_type = "application/problem+json"
    )]
    Unavailable(Problem),
}

/// The errors that a route without a token check can return.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "documentation")]
pub enum Refusals {
    #[response(
        status = 421,
        description = "Without tokens, the host must be a name of this machine",
        content_type = "application/problem+json"
    )]
    Misdirected(Problem),
    #[response(status = 429, description = "Too many requests", content_type = "application/problem+json")]
    TooMany(Problem),
}
