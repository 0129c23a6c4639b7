//! `/v1/tokens`: the tokens of this server, for admins.
//!
//! Reads and writes `webhook.token` with the caller's rights, so only admins can use it, and no
//! caller that is limited to an owner. A caller can give away only a role that it may become
//! itself, and that the daemon may act as.

use crate::{
    answers::{Page, Problems},
    cursor::Cursor,
    extract::{Body, Query, TokenId},
    guard::Api,
    problem::Problem,
    sessions::Work,
    subscriptions::{Listing, page_rows},
    token::{Token, TokenKind},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest lifetime of a token, in minutes: ten years.
const MINUTES_MAX: i32 = 3650 * 1440;

/// A token, without its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    pub id: i64,
    pub name: String,
    /// The role that its requests act as.
    pub role: String,
    /// The owner that it is limited to. Null: all that the role sees.
    pub owner: Option<String>,
    pub created_at: String,
    pub created_by: String,
    /// Null: it does not expire.
    pub expires_at: Option<String>,
}

/// A token to create.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What the token is for, 1 to 200 characters.
    pub name: String,
    /// A role that the caller may become. With an owner, it must see nothing of other owners.
    pub role: String,
    /// The owner that the token is limited to [default: all that the role sees].
    pub owner: Option<String>,
    /// Minutes until the token expires [default: it does not expire].
    #[schema(minimum = 1, maximum = 5256000)]
    pub minutes: Option<i32>,
}

/// A new token with its secret, which is shown only here.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedToken {
    #[serde(flatten)]
    pub info: TokenInfo,
    /// `whtok_…`.
    pub token: String,
}

/// List tokens
///
/// For admins. The answer contains no secrets.
#[utoipa::path(get, operation_id = "list_tokens", path = "/v1/tokens", params(Listing), tag = "access",
    responses((status = 200, description = "A page", body = Page<TokenInfo>), Problems))]
pub async fn list(
    Api(mut work): Api,
    Query(listing): Query<Listing>,
) -> Result<Json<Page<TokenInfo>>, Problem> {
    let rows = page_rows(listing.limit)?;
    let from = listing.cursor.as_deref().map(Cursor::parse).transpose()?.map_or(0, |cursor| cursor.0);
    let mut items = after(&mut work, from, rows + 1).await?;
    let more = items.len() > usize::try_from(rows).unwrap_or(usize::MAX);
    if more {
        items.pop();
    }
    let next = items.last().filter(|_| more).map(|last| Cursor(last.id, 0).to_string());
    Ok(Json(Page { items, next }))
}

async fn after(work: &mut Work, id: i64, rows: i64) -> Result<Vec<TokenInfo>, Problem> {
    work.json(include_str!("sql/tokens_page.sql"), &[&id, &rows]).await
}

/// Create a token
///
/// For admins. The token is shown only in this answer; the database stores its hash.
#[utoipa::path(post, operation_id = "create_token", path = "/v1/tokens", request_body = NewToken, tag = "access",
    responses((status = 201, description = "Created; the token is shown only here", body = CreatedToken), Problems))]
pub async fn create(Api(mut work): Api, body: Body) -> Result<Response, Problem> {
    const CREATE: &str =
        "select webhook.create_token($1, $2, $3, $4, now() + make_interval(mins => $5::integer))";
    check_admin(&mut work).await?;
    let NewToken { name, role, owner, minutes } = body.read()?;
    if minutes.is_some_and(|minutes| !(1..=MINUTES_MAX).contains(&minutes)) {
        let detail = format!("minutes must be between 1 and {MINUTES_MAX}");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).field("minutes"));
    }
    check_role(&mut work, &role).await?;
    let token = Token::generate(TokenKind::Bearer).map_err(no_randomness)?;
    let sha256 = token.sha256();
    let created = work.row(CREATE, &[&name, &sha256.as_slice(), &role, &owner, &minutes]).await;
    let id: i64 = created.map_err(named)?.try_get(0)?;
    let info = after(&mut work, id - 1, 1).await?.into_iter().next();
    let info = info.ok_or_else(|| Problem::not_found("token"))?;
    work.commit().await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { info, token: token.reveal().to_owned() })).into_response())
}

/// Revoke a token
///
/// For admins. Its requests are rejected at once, and the page's sessions with it end.
#[utoipa::path(delete, operation_id = "revoke_token", path = "/v1/tokens/{token_id}", tag = "access", params(("token_id" = i64, Path)),
    responses((status = 204, description = "Revoked"), Problems))]
pub async fn revoke(Api(mut work): Api, TokenId(id): TokenId) -> Result<StatusCode, Problem> {
    const REVOKE: &str = "delete from webhook.token t where t.id = $1 returning t.id";
    if work.query(REVOKE, &[&id]).await?.is_empty() {
        return Err(Problem::not_found("token"));
    }
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Checks that the caller is an admin. Other callers learn nothing about roles.
///
/// # Errors
/// 403, and the errors of the statement.
pub async fn check_admin(work: &mut Work) -> Result<(), Problem> {
    const ADMIN: &str = "select has_table_privilege('webhook.token', 'insert')";
    if work.row(ADMIN, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "only admins can give access to others")
        .hint("Use a token of a role that webhook_grant() has made an admin."))
}

/// Checks that the caller may become a role, and that the daemon may act as it. Whether the role
/// exists, and fits an owner, is for the SQL function.
///
/// # Errors
/// 403 with the name of the role, and the errors of the statements.
pub async fn check_role(work: &mut Work, role: &str) -> Result<(), Problem> {
    let refused = |detail: String, hint: String| {
        Err(Problem::new(StatusCode::FORBIDDEN, detail).field("role").hint(hint))
    };
    let may_become = include_str!("sql/tokens_may_become.sql");
    if !work.row(may_become, &[&role]).await?.try_get::<_, bool>(0)? {
        let hint = format!("Pass a role that the token's role is a member of: grant {role} to ….");
        return refused(format!("role: you cannot act as the role {role}"), hint);
    }
    let rows = work.as_daemon(may_become, &[&role]).await?;
    if !rows.first().map(|row| row.try_get::<_, bool>(0)).transpose()?.unwrap_or_default() {
        let hint = format!("The role of the daemon must be a member of it: grant {role} to ….");
        return refused(format!("role: webhookd cannot act as the role {role}"), hint);
    }
    Ok(())
}

/// Adds the member of the body that a message of the SQL functions begins with.
pub fn named(problem: Problem) -> Problem {
    let detail = problem.detail.clone().unwrap_or_default();
    let member = ["name", "role", "owner", "minutes"].into_iter().find(|member| {
        let rest = detail.strip_prefix(member);
        rest.is_some_and(|rest| rest.starts_with([':', ' ']))
            || detail.contains(&format!("\"{member}_has_1_to_200_characters\""))
    });
    match member {
        Some(member) => problem.field(member),
        None => problem,
    }
}

/// The operating system has no random numbers.
pub fn no_randomness(_: getrandom::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot generate random numbers")
}
