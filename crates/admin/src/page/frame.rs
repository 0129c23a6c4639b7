//! The frame of the page of an owner, and the pages that need no session. Pure.
//!
//! It shows the name, the logo and the colours of the application, and no word about the daemon.

use crate::{
    page::text::inert,
    portal::{PortalSettings, SessionKey},
    problem::Problem,
};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

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
pub fn document(
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
pub fn closed(settings: &PortalSettings, title: &str, more: &str) -> Response {
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

/// Returns a problem in words for customers.
pub fn said(problem: &Problem) -> Problem {
    if problem.status().is_server_error() {
        let detail = "This page is not available at the moment.";
        return Problem::new(problem.status(), detail).hint("Try again in a minute.");
    }
    Problem { sqlstate: None, ..problem.clone() }
}
