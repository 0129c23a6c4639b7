//! Extractors for the body, the query and the path of a request. Pure.
//!
//! Each mistake in a request becomes a problem document that names the field. Postgres checks the
//! values.

use crate::problem::Problem;
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt::Display;

/// Maximum size of a request body, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The bytes of a JSON body. A request without body and content type counts as `{}`.
pub struct Body(pub Bytes);

impl Body {
    /// Parses the body as a JSON object.
    ///
    /// # Errors
    /// Returns 400 if the body is not JSON, and 422 if it is not an object.
    pub fn members(&self) -> Result<Map<String, Value>, Problem> {
        let value: Value = serde_json::from_slice(&self.0).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))
        })?;
        match value {
            Value::Object(members) => Ok(members),
            _ => Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body must be a JSON object")),
        }
    }

    /// Deserializes the object.
    ///
    /// # Errors
    /// Returns the errors of [`Body::members`], and 422 if a member is unknown or has another type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        typed(Value::Object(self.members()?))
    }
}

/// Deserializes a JSON value.
///
/// # Errors
/// Returns 422 with the name of the member.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.inner().to_string());
        if path == "." { problem } else { problem.field(path) }
    })
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence =
            kind.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let is_json = essence == "application/json" || essence == "application/merge-patch+json";
        let has_type = kind.is_some();
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body has more than {BODY_BYTES_MAX} bytes"),
                ),
                _ => Problem::new(StatusCode::BAD_REQUEST, "cannot read the body"),
            })?;
        if bytes.is_empty() && !has_type {
            return Ok(Self(Bytes::from_static(b"{}")));
        }
        if !is_json {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be application/json",
            ));
        }
        Ok(Self(bytes))
    }
}

/// The query parameters.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(parts, false).map(Self)
    }
}

/// The query parameters of a form. Empty values count as absent.
pub struct Filled<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Filled<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        query(parts, true).map(Self)
    }
}

fn query<T: DeserializeOwned>(parts: &Parts, drops_empty: bool) -> Result<T, Problem> {
    let bad = |error: &dyn Display, field: Option<String>| {
        let problem = Problem::new(StatusCode::BAD_REQUEST, format!("query: {error}"));
        if let Some(field) = field { problem.field(field) } else { problem }
    };
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|error| bad(&error, None))?;
    let mut members = Map::new();
    for (name, value) in pairs.0 {
        let value = if drops_empty { value.trim().to_owned() } else { value };
        if drops_empty && value.is_empty() {
            continue;
        }
        if members.contains_key(&name) {
            return Err(bad(&"given twice", Some(name)));
        }
        members.insert(name, Value::String(value));
    }
    serde_path_to_error::deserialize(Value::Object(members)).map_err(|error| {
        let path = error.path().to_string();
        bad(error.inner(), (path != ".").then_some(path))
    })
}

/// The id of a subscription, from the path.
pub struct Id(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<i64>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::not_found("subscription"))
    }
}

/// The id of a token, from the path.
pub struct TokenId(pub i64);

impl<S: Send + Sync> FromRequestParts<S> for TokenId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<i64>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::not_found("token"))
    }
}

/// The public id of an event, from the path.
pub struct EventId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for EventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::not_found("event"))
    }
}

/// A delivery from the path: the event's public id and the subscription's id.
pub struct DeliveryId(pub String, pub i64);

impl<S: Send + Sync> FromRequestParts<S> for DeliveryId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, i64)>::from_request_parts(parts, state).await;
        path.map(|Path((event, id))| Self(event, id)).map_err(|_| Problem::not_found("delivery"))
    }
}

/// Deserializes a number from a query, where all values are text.
///
/// # Errors
/// Returns an error if the text is not a number or is out of range.
pub fn number<'de, D: serde::Deserializer<'de>, T: std::str::FromStr>(from: D) -> Result<Option<T>, D::Error>
where
    T::Err: Display,
{
    let text = <Option<String> as serde::Deserialize>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}
