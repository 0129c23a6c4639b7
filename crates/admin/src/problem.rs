//! Errors of the admin server, as RFC 9457 defines them: a JSON object for programs, and the same
//! text on the page.
//!
//! If the caller made a mistake, the answer contains the database's message and hint. Other errors
//! are logged, and the caller only gets the status.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio_postgres::error::SqlState;
use tracing::error;
use utoipa::{ToResponse, ToSchema};

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, ToResponse)]
#[response(description = "The problem", content_type = "application/problem+json")]
pub struct Problem {
    /// Always `about:blank`. The status shows the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What was wrong with this request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The SQLSTATE, if Postgres rejected the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The member of the body, or the parameter, that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// The caller has exceeded a limit.
    pub fn too_many() -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests").hint("Wait a second.")
    }

    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: Some(detail.into()),
            hint: None,
            sqlstate: None,
            field: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Returns 404: the thing does not exist, or the caller may not know that it does.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("the {what} does not exist"))
            .hint("It may have been deleted, or belong to another owner.")
    }

    /// Returns 503: the database is not available or busy.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).hint("Try again in a moment.")
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Returns the status for an SQLSTATE. `None` means that the caller did not cause it, and gets no
/// details.
fn status_of(code: &str) -> Option<StatusCode> {
    let class = code.get(..2).unwrap_or_default();
    Some(match code {
        "42704" | "42P01" => StatusCode::NOT_FOUND,
        "42501" => StatusCode::FORBIDDEN,
        "23505" | "55000" | "40001" | "40P01" => StatusCode::CONFLICT,
        "23502" | "23514" | "42601" | "42939" | "42883" | "54000" | "0A000" => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        _ if class == "22" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => return None,
    })
}

/// Returns the option at the start of a message of the SQL API, as in `rate_limit: must be above
/// 0`.
pub fn field_of(message: &str) -> Option<&str> {
    // `clear: "url" cannot be cleared` is about a null value.
    let name = match message.strip_prefix("clear: \"") {
        Some(rest) => rest.split_once('"')?.0,
        None => message.split_once([':', ' '])?.0,
    };
    subscription_options::find(name).map(|option| option.name)
}

impl From<tokio_postgres::Error> for Problem {
    fn from(cause: tokio_postgres::Error) -> Self {
        let Some(database) = cause.as_db_error() else {
            if database::passes(&cause) {
                return Self::unavailable("the database is not available");
            }
            // A value that cannot be sent, or a row of another shape. This is our defect.
            error!(error = %database::chain(&cause), "admin.statement_failed");
            return Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error; see the log of webhookd");
        };
        let code = database.code().code();
        if let Some(status) = status_of(code) {
            let mut problem = Self::new(status, database.message());
            problem.hint = database.hint().map(str::to_owned);
            problem.sqlstate = Some(code.to_owned());
            problem.field = field_of(database.message()).map(str::to_owned);
            if *database.code() == SqlState::UNIQUE_VIOLATION && problem.field.is_none() {
                problem.field = Some("name".to_owned());
            }
            return problem;
        }
        match *database.code() {
            SqlState::QUERY_CANCELED => Self::unavailable("the request took too long; ask for fewer rows"),
            SqlState::LOCK_NOT_AVAILABLE => Self::unavailable("another session is changing this object"),
            _ if database::passes(&cause) => Self::unavailable("the database is busy or restarting"),
            _ => {
                error!(error = %database::chain(&cause), "admin.statement_failed");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the database rejected a statement of webhookd; see the log of webhookd",
                )
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(&self)).into_response();
        // For the page of an owner, which shows it in its own words.
        response.extensions_mut().insert(self);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"webhookd\""));
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_the_option_that_the_message_begins_with() {
        assert_eq!(field_of("rate_limit: must be between"), Some("rate_limit"));
        assert_eq!(field_of("url must not be null"), Some("url"));
        assert_eq!(field_of("subscription \"url\" already exists"), None);
        assert_eq!(field_of("clear: \"url\" cannot be cleared"), Some("url"));
        assert_eq!(field_of("other: no"), None);
    }

    #[test]
    fn mistakes_have_a_status_and_defects_have_none() {
        for (code, status) in
            [("22023", 422), ("22P02", 422), ("42704", 404), ("42501", 403), ("23505", 409), ("40001", 409)]
        {
            assert_eq!(status_of(code).map(|status| status.as_u16()), Some(status), "{code}");
        }
        for code in ["XX000", "57014", "42703", "08006"] {
            assert_eq!(status_of(code), None, "{code}");
        }
    }
}
