//! The page of an owner: its routes, the page that opens a link, and problems in its own words. See
//! [`crate::portal`] for the whole flow.
//!
//! Most pages are those for operators. They ask the visitor for addresses
//! ([`crate::page::session::Visitor::link`]), and leave out parts that are for operators. It needs
//! no JavaScript. It must not name the daemon or its parts.

use crate::{
    State,
    page::{
        PageError, complaint, deliveries, docs,
        frame::{Frame, closed, document, said},
        live, subscriptions,
    },
    portal::{PortalSettings, SessionKey, is_portal},
    portal_links::{self, Closed},
    problem::Problem,
};
use axum::{
    Extension,
    extract::{Path, Request, State as Shared},
    http::header,
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
    routing::{MethodRouter, get, post},
};
use maud::{Markup, html};

/// Returns the pages of an owner, without the key of the session in their paths.
pub fn pages() -> Vec<(&'static str, MethodRouter<State>)> {
    vec![
        ("/portal", get(subscriptions::endpoints::list)),
        ("/portal/subscriptions", get(subscriptions::endpoints::list).post(subscriptions::create)),
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

/// `/portal/links/{token}`: the page with the button that opens the link.
///
/// GET does not use the link up: mail filters and messengers follow the links in messages.
async fn show_link(Shared(state): Shared<State>, Path(text): Path<String>) -> Result<Response, PageError> {
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
async fn open_link(Shared(state): Shared<State>, Path(text): Path<String>) -> Result<Response, PageError> {
    Ok(match portal_links::open(&state, &text).await? {
        Ok(key) => Redirect::to(&format!("{}/", key.base())).into_response(),
        Err(reason) => refusal(&state.portal, reason),
    })
}

/// Ends the session.
async fn close(
    Shared(state): Shared<State>,
    key: Option<Extension<SessionKey>>,
) -> Result<Response, PageError> {
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
    let mut page = (problem.status(), page).into_response();
    for name in [header::CONNECTION, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    page
}
