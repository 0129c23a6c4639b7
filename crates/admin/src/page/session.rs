//! The visitor of the page: a cookie that holds the id of a session, and forms that only our own
//! pages can send. On the page of an owner, the key in the path takes the place of both.
//!
//! The cookie is `HttpOnly` and `SameSite=Strict`, and over TLS `Secure` and `__Host-`. Each form
//! carries a token that depends on the cookie and on a key of this process. A session ends when the
//! visitor signs out, when its token expires or is deleted, and with this process.

use crate::{
    State,
    browser_sessions::LASTS,
    caller::Caller,
    guard::{self, COOKIE, COOKIE_TLS},
    page::{
        PageError,
        frame::{self, Frame},
        layout,
    },
    portal::{SessionKey, is_portal},
    problem::Problem,
    sessions::{Pool, Work},
    token::{Token, TokenKind},
};
use axum::{
    Form,
    extract::{FromRequestParts, State as Shared, rejection::FormRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use hmac::{Hmac, KeyInit, Mac};
use maud::html;
use serde::Deserialize;
use sha2::Sha256;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// An authenticated visitor: the transaction of the request, and the token for forms.
pub struct Visitor {
    pub work: Work,
    /// On the page of an owner, what its frame shows.
    pub portal: Option<Frame>,
    pub form_token: String,
    /// Whether the browser sent a token, so that the page can offer to sign out.
    pub has_cookie: bool,
    /// Whether the visitor may read the whole outbox.
    pub sees_all: bool,
}

impl Visitor {
    /// Reports whether this is the page of an owner.
    pub fn is_owner(&self) -> bool {
        self.portal.is_some()
    }

    /// Returns the address of a page for this visitor.
    pub fn link(&self, path: &str) -> String {
        let base = self.portal.as_ref().map(|frame| frame.base.as_str()).unwrap_or_default();
        format!("{base}{path}")
    }

    /// Returns a problem in the words for this visitor.
    pub fn told(&self, problem: &Problem) -> Problem {
        if self.is_owner() { frame::said(problem) } else { problem.clone() }
    }

    /// Returns the word for a subscription.
    pub fn noun(&self) -> &'static str {
        if self.is_owner() { "endpoint" } else { "subscription" }
    }

    /// Returns the name that the page shows.
    pub fn name(&self) -> String {
        self.work.caller().map(Caller::name).unwrap_or_default()
    }
}

/// Returns the token of the visitor's forms. It depends on the cookie and on a key of this process,
/// so no other site's page can know it.
fn form_token(key: &[u8; 32], cookie: Option<&str>) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(cookie.unwrap_or("open").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reports whether a form comes from one of our pages. The comparison takes constant time.
fn is_ours(key: &[u8; 32], cookie: Option<&str>, sent: &str) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    mac.update(cookie.unwrap_or("open").as_bytes());
    let bytes: Option<Vec<u8>> = (0..sent.len() / 2)
        .map(|at| sent.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    sent.len() == 64 && bytes.is_some_and(|bytes| mac.verify_slice(&bytes).is_ok())
}

impl FromRequestParts<State> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let cookie = guard::cookie(&parts.headers);
        let key = parts.extensions.get::<SessionKey>();
        if key.is_none() && is_portal(parts.uri.path()) {
            return Err(frame::ended(&state.portal));
        }
        match enter(state, &parts.headers, key).await {
            Ok((work, sees_all)) => Ok(Self {
                work,
                portal: key.map(|key| Frame::new(&state.portal, key)),
                form_token: form_token(&state.form_key, cookie),
                has_cookie: cookie.is_some(),
                sees_all,
            }),
            Err(problem) if problem.status == StatusCode::UNAUTHORIZED.as_u16() => Err(match key {
                Some(_) => frame::ended(&state.portal),
                None => Redirect::to("/login").into_response(),
            }),
            Err(problem) => Err(PageError(problem).into_response()),
        }
    }
}

/// Begins the transaction of a visitor. Returns also whether the visitor may read the whole outbox.
async fn enter(
    state: &State,
    headers: &HeaderMap,
    key: Option<&SessionKey>,
) -> Result<(Work, bool), Problem> {
    // The caller may have no right on the schema, so no function of it is called.
    const READS: &str = "select case when has_schema_privilege('webhook', 'usage')
        then has_table_privilege('webhook.event', 'select') else false end";
    let token = state.visitor_token(headers, key)?;
    let mut work = state.enter(token.as_ref(), false, Pool::Callers).await?;
    let is_limited = work.caller().is_some_and(|caller| caller.owner.is_some());
    let reads = !is_limited && work.row(READS, &[]).await?.try_get(0)?;
    Ok((work, reads))
}

/// The fields of a form that came from one of our pages.
pub struct Fields(pub BTreeMap<String, String>);

impl Fields {
    /// Joins the values of fields with the same name, such as check boxes, by line breaks.
    fn joined(pairs: Vec<(String, String)>) -> Self {
        let mut fields = BTreeMap::<String, String>::new();
        for (name, value) in pairs {
            fields.entry(name).and_modify(|old| *old = format!("{old}\n{value}")).or_insert(value);
        }
        Self(fields)
    }

    /// Returns the trimmed value of a field, or `None` if it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

impl axum::extract::FromRequest<State> for Fields {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &State) -> Result<Self, Response> {
        let cookie = guard::cookie(request.headers()).map(str::to_owned);
        let has_key = request.extensions().get::<SessionKey>().is_some();
        let Form(fields) =
            Form::<Vec<(String, String)>>::from_request(request, state).await.map_err(|_| {
                PageError(Problem::new(StatusCode::BAD_REQUEST, "cannot read the form")).into_response()
            })?;
        let Self(fields) = Self::joined(fields);
        let sent = fields.get("form_token").map(String::as_str).unwrap_or_default();
        // No other site knows the key.
        if !has_key && !is_ours(&state.form_key, cookie.as_deref(), sent) {
            let problem =
                Problem::new(StatusCode::FORBIDDEN, "this form is out of date, or comes from another site")
                    .hint("Go back, reload the page, and submit it again.");
            return Err(PageError(problem).into_response());
        }
        Ok(Self(fields))
    }
}

#[derive(Deserialize)]
pub struct Login {
    token: String,
}

fn form(wrong: Option<&str>) -> maud::Markup {
    layout(
        "Sign in",
        None,
        "",
        html! {
            h1 { "Sign in" }
            @if let Some(wrong) = wrong { div.note.bad role="alert" { p { (wrong) } } }
            form.panel method="post" action="/login" {
                // The name under which password managers store the token. It is not sent.
                input type="text" autocomplete="username" value="webhookd" hidden;
                label for="token" { "Token" }
                input #token name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="token-hint";
                p.hint #token-hint { "An operator of the daemon creates one with " code { "webhookd token create" } "." }
                div.row { button.main { "Sign in" } }
            }
        },
    )
}

pub async fn show_login() -> maud::Markup {
    form(None)
}

/// Checks a token and stores it in a cookie that scripts cannot read.
pub async fn login(
    Shared(state): Shared<State>,
    headers: HeaderMap,
    login: Result<Form<Login>, FormRejection>,
) -> Response {
    let Ok(Form(login)) = login else {
        return (StatusCode::BAD_REQUEST, form(Some("Cannot read the form."))).into_response();
    };
    let Some(token) = Token::parse(TokenKind::Bearer, login.token.trim()) else {
        return (StatusCode::UNAUTHORIZED, form(Some("Invalid token. A token starts with whtok_.")))
            .into_response();
    };
    if let Err(problem) = state.enter(Some(&token), false, Pool::Callers).await {
        let detail = match problem.status {
            401 => "The token is unknown or has expired.".to_owned(),
            _ => problem.detail.clone().unwrap_or_default(),
        };
        return (problem.status(), form(Some(&detail))).into_response();
    }
    let Ok(id) = state.browser_sessions.open(token, Instant::now()) else {
        let problem = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot generate random numbers");
        return PageError(problem).into_response();
    };
    let cookie = set_cookie(&headers, &id, LASTS);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response()
}

pub async fn logout(Shared(state): Shared<State>, headers: HeaderMap, _: Fields) -> Response {
    if let Some(id) = guard::cookie(&headers) {
        state.browser_sessions.close(id);
    }
    let cookie = set_cookie(&headers, "", Duration::ZERO);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

/// Returns the cookie of a session. Behind a proxy that speaks TLS, the browser must not send it
/// without TLS.
fn set_cookie(headers: &HeaderMap, id: &str, lasts: Duration) -> String {
    let is_tls = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let (name, secure) = if is_tls { (COOKIE_TLS, "; Secure") } else { (COOKIE, "") };
    format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", lasts.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_ours_for_one_visitor_and_one_process() {
        let (key, other) = ([1; 32], [2; 32]);
        let token = form_token(&key, Some("whtok_a"));
        assert!(is_ours(&key, Some("whtok_a"), &token));
        assert!(!is_ours(&key, Some("whtok_b"), &token) && !is_ours(&key, None, &token));
        assert!(!is_ours(&other, Some("whtok_a"), &token));
        for text in ["", "00", &"0".repeat(64), &"é".repeat(32), &"zz".repeat(32)] {
            assert!(!is_ours(&key, Some("whtok_a"), text), "{text}");
        }
    }
}
