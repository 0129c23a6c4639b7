//! Reads the bodies of requests, after authentication.

use crate::{State, caller::Peer, extract::BODY_BYTES_MAX, portal, problem::Problem};
use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::LengthLimitError;
use std::time::Duration;
use tokio::time::timeout;

/// The path of the form that signs in. Its body is read without authentication, like the form that
/// opens a link, so it is limited more: in time, in size, and in number for each address.
const LOGIN: &str = "/login";
const LOGIN_TIMEOUT: Duration = Duration::from_secs(2);
const LOGIN_BYTES_MAX: usize = 4 * 1024;

/// Calls the handler after the whole body has arrived. A client that sends slowly must not keep a
/// Postgres session waiting.
///
/// The body is read only if the token is valid. Otherwise, the handler gets none, and refuses.
pub async fn whole(state: &State, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, Body::empty())).await;
    }
    let is_login = parts.uri.path() == LOGIN || portal::is_link(parts.uri.path());
    let max = if is_login { LOGIN_BYTES_MAX } else { BODY_BYTES_MAX };
    let read = if is_login {
        let peer = parts.extensions.get::<Peer>();
        let Some(_place) = peer.and_then(|peer| state.guard.logins.enter(peer)) else {
            return closing(Problem::too_many().into_response());
        };
        match timeout(LOGIN_TIMEOUT, to_bytes(body, max)).await {
            Ok(read) => read,
            Err(_) => {
                let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "the form took too long to arrive");
                return closing(problem.into_response());
            }
        }
    } else {
        let Some(sha256) = state.recognise(&parts).await else {
            return closing(next.run(Request::from_parts(parts, Body::empty())).await);
        };
        let Some(_place) = state.guard.bodies.enter(&sha256) else {
            return closing(Problem::too_many().into_response());
        };
        to_bytes(body, max).await
    };
    match read {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(error) => {
            let problem = if error.into_inner().is::<LengthLimitError>() {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {max} bytes"))
            } else {
                Problem::new(StatusCode::BAD_REQUEST, "cannot read the body")
            };
            problem.into_response()
        }
    }
}

/// Closes the connection after the response, because the body of the request is still on its way.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
