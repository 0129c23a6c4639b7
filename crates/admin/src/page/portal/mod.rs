//! The page of an owner: its frame, the page that opens a link, and its own parts. See
//! [`crate::portal`] for the whole flow.
//!
//! Most pages are those for operators. They ask the visitor for addresses ([`Visitor::link`]), and
//! leave out parts that are for operators. This module adds the frame and [`endpoints`], and says
//! problems in its own words. It needs no JavaScript. It must not name the daemon or its parts.

pub mod endpoints;

use crate::{
    State,
    page::{complaint, deliveries, docs, live, session::Visitor, subscriptions, text::inert},
    portal::{PortalSettings, SessionKey, is_portal},
    portal_links::{self, Closed},
    problem::Problem,
};
use axum::{
    Extension,
    extract::{Path, Request, State as Shared},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, get, post},
};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

/// Returns the pages of an owner, without the key of the session in their paths.
pub fn pages() -> Vec<(&'static str, MethodRouter<State>)> {
    vec![
        ("/portal", get(endpoints::list)),
        ("/portal/subscriptions", get(endpoints::list).post(subscriptions::create)),
        ("/portal/subscriptions/new", get(subscriptions::blank)),
        ("/portal/subscriptions/{id}", get(subscriptions::show).post(subscriptions::act)),
        ("/portal/deliveries", get(deliveries::list)),
        (
            "/portal/deliveries/{event_id}/{subscription_id}",
            get(deliveries::show).post(deliveries::redeliver),
        ),
        ("/portal/docs", get(docs::list)),
        ("/portal/docs/{type}", get(docs::show)),
        ("/portal/docs/{type}/schema.json", get(docs::schema)),
        ("/portal/docs/documents/{name}", get(docs::download)),
        ("/portal/live", get(live)),
        ("/portal/close", post(close)),
        ("/portal/links/{token}", get(show_link).post(open_link)),
        ("/portal/brand.css", get(brand)),
        ("/portal/logo", get(logo)),
        ("/portal/embedded.js", get(embedded)),
    ]
}

/// The frame of the page of an owner.
pub struct Frame {
    /// The path of the session, with its key.
    pub base: String,
    settings: Arc<PortalSettings>,
}

impl Frame {
    pub fn new(settings: &Arc<PortalSettings>, key: &SessionKey) -> Self {
        Self { base: key.base(), settings: Arc::clone(settings) }
    }

    /// Returns the name of the application.
    pub fn name(&self) -> &str {
        self.settings.name()
    }

    /// Renders the frame around the content of a page.
    pub fn layout(&self, title: &str, current: &str, content: Markup) -> Markup {
        let base = &self.base;
        let tabs = [("/subscriptions", "Endpoints"), ("/deliveries", "Deliveries"), ("/docs", "Events")];
        let navigation = html! {
            nav aria-label="Main" { ul {
                @for (path, name) in tabs {
                    li { a href=(format!("{base}{path}")) aria-current=[(path == current).then_some("page")] { (name) } }
                }
            } }
            form.end method="post" action=(format!("{base}/close")) { button { "Sign out" } }
        };
        document(&self.settings, title, Some(base), navigation, content)
    }
}

/// Renders a page. `base` is the path of the session, if there is one.
fn document(
    settings: &PortalSettings,
    title: &str,
    base: Option<&str>,
    navigation: Markup,
    content: Markup,
) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · " (inert(settings.name())) }
                link rel="stylesheet" href="/style.css";
                link rel="stylesheet" href="/portal/brand.css";
                @if base.is_some() { script src="/live.js" defer {} } @else { script src="/portal/embedded.js" defer {} }
            }
            body data-stream=[base.map(|base| format!("{base}/live"))] data-name=(settings.name()) {
                a.skip href="#main" { "Skip to content" }
                header {
                    @if settings.logo().is_some() { img.logo src="/portal/logo" alt=""; }
                    strong.any { (inert(settings.name())) }
                    (navigation)
                }
                main #main {
                    div #renewal role="status" {}
                    (content)
                }
            }
        }
    }
}

/// Renders a page without a session, with what is wrong and what to do.
fn closed(settings: &PortalSettings, title: &str, more: &str) -> Response {
    let content = html! {
        h1 { (title) }
        div.note.bad role="alert" {
            p { b { (title) } }
            p { (more) " Go back to " (inert(settings.name())) " and open the page again." }
        }
    };
    (StatusCode::GONE, document(settings, title, None, html! {}, content)).into_response()
}

/// The page of a session that has ended.
pub fn ended(settings: &PortalSettings) -> Response {
    closed(settings, "This page has expired", "It is open for a limited time.")
}

/// `/portal/links/{token}`: the page with the button that opens the link.
///
/// GET does not use the link up: mail filters and messengers follow the links in messages.
async fn show_link(Shared(state): Shared<State>, Path(text): Path<String>) -> Result<Response, Problem> {
    Ok(match portal_links::look_up(&state, &text).await? {
        Ok(_) => invitation(&state.portal).into_response(),
        Err(reason) => refusal(&state.portal, reason),
    })
}

fn invitation(settings: &PortalSettings) -> Markup {
    let content = html! {
        h1 { "Your webhooks" }
        form.panel #open method="post" {
            p { "This link opens the page once. Do not pass it on." }
            div.row { button.main { "Open" } }
        }
    };
    document(settings, "Your webhooks", None, html! {}, content)
}

fn refusal(settings: &PortalSettings, reason: Closed) -> Response {
    match reason {
        Closed::Used => closed(settings, "This link has been used", "A link opens the page once."),
        Closed::Expired => closed(settings, "This link has expired", "A link is valid for a limited time."),
        Closed::Unknown => closed(settings, "This link is not valid", "It may have expired long ago."),
    }
}

/// Opens the link, and sends the browser to the page.
async fn open_link(Shared(state): Shared<State>, Path(text): Path<String>) -> Result<Response, Problem> {
    Ok(match portal_links::open(&state, &text).await? {
        Ok(key) => Redirect::to(&format!("{}/", key.base())).into_response(),
        Err(reason) => refusal(&state.portal, reason),
    })
}

/// Ends the session.
async fn close(
    Shared(state): Shared<State>,
    key: Option<Extension<SessionKey>>,
) -> Result<Response, Problem> {
    if let Some(Extension(key)) = key {
        portal_links::close(&state, &key).await?;
    }
    Ok(closed(&state.portal, "You have signed out", "This page is closed."))
}

async fn brand(Shared(state): Shared<State>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, state.portal.style_sheet()).into_response()
}

/// The policy of every response forbids scripts in an SVG file.
async fn logo(Shared(state): Shared<State>) -> Response {
    let Some(logo) = state.portal.logo() else { return Problem::not_found("logo").into_response() };
    let headers = [(header::CONTENT_TYPE, logo.kind), (header::CACHE_CONTROL, "public, max-age=300")];
    (headers, logo.bytes.clone()).into_response()
}

async fn embedded() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, include_str!("embedded.js")).into_response()
}

/// Shows the problems of the pages of an owner in their own frame and words.
pub async fn dress(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    if !is_portal(request.uri().path()) {
        return next.run(request).await;
    }
    let key = request.extensions().get::<SessionKey>().cloned();
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().map(said) else { return response };
    let title = problem.title.clone();
    let content = html! {
        h1 { (title) }
        (complaint(&problem))
        @if let Some(key) = &key { p { a href=(format!("{}/", key.base())) { "Back to your endpoints" } } }
    };
    let page = match &key {
        Some(key) => Frame::new(&state.portal, key).layout(&title, "", content),
        None => document(&state.portal, &title, None, html! {}, content),
    };
    (problem.status(), page).into_response()
}

/// Returns a problem in words for customers.
pub fn said(problem: &Problem) -> Problem {
    if problem.status().is_server_error() {
        let detail = "This page is not available at the moment.";
        return Problem::new(problem.status(), detail).hint("Try again in a minute.");
    }
    Problem { sqlstate: None, ..problem.clone() }
}

impl Visitor {
    /// Returns a problem in the words for this visitor.
    pub fn told(&self, problem: &Problem) -> Problem {
        if self.is_owner() { said(problem) } else { problem.clone() }
    }

    /// Returns the word for a subscription.
    pub fn noun(&self) -> &'static str {
        if self.is_owner() { "endpoint" } else { "subscription" }
    }
}
