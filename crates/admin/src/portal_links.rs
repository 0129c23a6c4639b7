//! `/v1/portal-links`: links to the page of an owner, and how a link is opened. See
//! [`crate::portal`] for the whole flow.
//!
//! Creates links with the caller's rights, so only admins can. Opens and ends them with the
//! daemon's rights: the token of the link is the proof.

use crate::{
    State,
    answers::Problems,
    extract::Body,
    guard::Api,
    portal::{LINKS, PortalSettings, SessionKey},
    problem::Problem,
    sessions::Pool,
    token::{Token, TokenKind},
    tokens::{check_admin, check_role, named, no_randomness},
};
use axum::{
    Json,
    extract::State as Shared,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Lifetime of a link if the request names none, in minutes.
pub const MINUTES: i32 = 60;

/// A link to create.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPortalLink {
    /// The owner whose page it opens.
    pub owner: String,
    /// A role that the caller may become, and that sees nothing of other owners [default: `role` in
    /// `[portal]`].
    pub role: Option<String>,
    /// Minutes until the link and its session expire [default: 60].
    #[schema(minimum = 1, maximum = 1440)]
    pub minutes: Option<i32>,
}

/// A new link. It is shown only here, and can be opened once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedPortalLink {
    pub url: String,
    pub expires_at: String,
}

/// Create a link to an owner's page
///
/// For admins. The first person who opens the link sees the events of the owner, and changes the
/// owner's subscriptions, until it expires. Send it only to the owner.
#[utoipa::path(post, operation_id = "create_portal_link", path = "/v1/portal-links", request_body = NewPortalLink, tag = "access",
    responses((status = 201, description = "Created; the URL is shown only here", body = CreatedPortalLink), Problems))]
pub async fn create(
    Shared(state): Shared<State>,
    Api(mut work): Api,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    const CREATE: &str = "select to_json(webhook.create_portal_link($1, $2, $3, $4)) #>> '{}'";
    check_admin(&mut work).await?;
    let NewPortalLink { owner, role, minutes } = body.read()?;
    let role = match role {
        Some(role) => {
            check_role(&mut work, &role).await?;
            role
        }
        // The operator has chosen it for this purpose.
        None => default_role(&state.portal)?,
    };
    let token = Token::generate(TokenKind::Link).map_err(no_randomness)?;
    let sha256 = token.sha256();
    let minutes = minutes.unwrap_or(MINUTES);
    let created = work.row(CREATE, &[&sha256.as_slice(), &role, &owner, &minutes]).await;
    let expires_at: String = created.map_err(named)?.try_get(0)?;
    work.commit().await?;
    let base = state.portal.url().map_or_else(|| base_of(&headers), str::to_owned);
    let created = CreatedPortalLink { url: url_of(&base, &token), expires_at };
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

fn default_role(settings: &PortalSettings) -> Result<String, Problem> {
    settings.role().map(str::to_owned).ok_or_else(|| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "role is missing")
            .field("role")
            .hint("Pass a role that is only a subscriber, or set role in [portal].")
    })
}

/// Returns the URL that opens a link.
pub fn url_of(base: &str, token: &Token) -> String {
    format!("{base}{LINKS}{}", token.reveal())
}

/// Returns the address that the caller has used. Only for callers with a token: they get the URL
/// themselves.
fn base_of(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    format!("{scheme}://{}", text(header::HOST.as_str()).unwrap_or("127.0.0.1"))
}

/// Why a link does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    Used,
    Expired,
    /// No such link, or one that expired long ago.
    Unknown,
}

/// Looks up a link without using it.
///
/// # Errors
/// The inner one is the reason why the link does not open. The outer one is the statement's.
pub async fn look_up(state: &State, text: &str) -> Result<Result<Token, Closed>, Problem> {
    let Some(token) = Token::parse(TokenKind::Link, text) else { return Ok(Err(Closed::Unknown)) };
    let sql = include_str!("sql/portal_link_state.sql");
    let (_, rows) = state.find(&token, false, Pool::Callers, sql).await?;
    let Some(row) = rows.first() else { return Ok(Err(Closed::Unknown)) };
    let (is_used, is_expired): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (is_used, is_expired) {
        (true, _) => Err(Closed::Used),
        (_, true) => Err(Closed::Expired),
        _ => Ok(token),
    })
}

/// Opens a link and returns the key of its session. Of several requests, one gets the key.
///
/// # Errors
/// The inner one is the reason why the link does not open. The outer one is the statement's.
pub async fn open(state: &State, text: &str) -> Result<Result<SessionKey, Closed>, Problem> {
    let token = match look_up(state, text).await? {
        Ok(token) => token,
        Err(closed) => return Ok(Err(closed)),
    };
    let key = Token::generate(TokenKind::Session).map_err(no_randomness)?;
    let (mut work, _) = state.database.begin(false, Pool::Callers, None, None).await?;
    let hashes = (token.sha256(), key.sha256());
    let sql = include_str!("sql/portal_link_open.sql");
    if work.query(sql, &[&hashes.0.as_slice(), &hashes.1.as_slice()]).await?.is_empty() {
        return Ok(Err(Closed::Used));
    }
    work.commit().await?;
    Ok(Ok(SessionKey(key)))
}

/// Ends a session.
///
/// # Errors
/// The errors of the statement.
pub async fn close(state: &State, key: &SessionKey) -> Result<(), Problem> {
    const CLOSE: &str = "update webhook.portal_link set expires_at = now()
        where session_sha256 = $1 and expires_at > now()";
    let (mut work, _) = state.database.begin(false, Pool::Callers, None, None).await?;
    work.query(CLOSE, &[&key.0.sha256().as_slice()]).await?;
    work.commit().await
}
