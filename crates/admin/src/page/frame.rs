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
        div.note role="alert" {
            p { (more) " Go back to " (inert(settings.name())) " and open the page again." }
        }
    };
    (StatusCode::GONE, document(settings, title, None, html! {}, content)).into_response()
}

/// The page of a session that has ended.
pub fn ended(settings: &PortalSettings) -> Response {
    closed(settings, "This page has expired", "It is open for a limited time.")
}

/// Words that customers have no use for. A message with one of them is for programmers.
const TECHNICAL: [&str; 7] =
    ["webhook.", "webhook_", "webhookd", "daemon", "permission denied", "postgres", "database"];

/// Returns a message for people, or `None` if it is for programmers. What it quotes, such as a URL,
/// may be anything.
fn plain(text: &str) -> Option<String> {
    let mut parts: Vec<String> = text.split('"').map(str::to_owned).collect();
    for part in parts.iter_mut().step_by(2) {
        let lower = part.to_lowercase();
        if TECHNICAL.iter().any(|word| lower.contains(word)) {
            return None;
        }
        *part = part.replace("subscription", "endpoint").replace("Subscription", "Endpoint");
    }
    Some(parts.join("\""))
}

/// Returns a limit of the owner in words.
fn limit(detail: &str) -> Option<String> {
    let (name, rest) = detail.split_once(": ")?;
    let what = match name {
        "subscriptions" => "endpoints",
        "queued" => "deliveries that wait",
        _ => return None,
    };
    let number = rest.rsplit_once("at most ")?.1.split(' ').next()?;
    Some(format!("You can have at most {number} {what}."))
}

/// Returns a problem in words for customers.
pub fn said(problem: &Problem) -> Problem {
    let status = problem.status();
    let with = |title: &str, detail: &str, hint: Option<&str>| Problem {
        title: title.to_owned(),
        detail: Some(detail.to_owned()),
        hint: hint.map(str::to_owned),
        sqlstate: None,
        ..problem.clone()
    };
    let detail = problem.detail.as_deref().and_then(|text| limit(text).or_else(|| plain(text)));
    let hint = problem.hint.as_deref().and_then(plain);
    let (detail, hint) = (detail.as_deref(), hint.as_deref());
    match status {
        _ if status.is_server_error() => {
            let detail = "This page is not available at the moment.";
            with("Not available", detail, Some("Try again in a minute."))
        }
        StatusCode::NOT_FOUND => {
            with("Not found", "This page does not exist.", Some("It may have been deleted."))
        }
        // It is not about the request: the role of the page has changed.
        StatusCode::FORBIDDEN if problem.sqlstate.is_none() => {
            with("Not available", "You cannot use this page at the moment.", Some("Open it again later."))
        }
        StatusCode::FORBIDDEN => with("Not possible", detail.unwrap_or("You cannot do this."), hint),
        StatusCode::TOO_MANY_REQUESTS => {
            with("Too many requests", "There were too many requests.", Some("Wait a moment and try again."))
        }
        _ => with("This did not work", detail.unwrap_or("Your entry cannot be saved."), hint),
    }
}

#[cfg(test)]
mod tests {
    //! Problems in words for customers.

    use super::*;

    #[test]
    fn customers_read_no_word_about_the_machine() {
        let problem = |status: u16, detail: &str, hint: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let said =
                said(&Problem { sqlstate: Some("x".to_owned()), ..Problem::new(status, detail).hint(hint) });
            (said.detail.unwrap(), said.hint)
        };
        let (detail, hint) =
            problem(422, "url: \"https://a.example/webhook_in\" has a port", "Call webhook_x().");
        assert_eq!((detail.as_str(), hint), ("url: \"https://a.example/webhook_in\" has a port", None));
        assert_eq!(problem(403, "permission denied for schema webhook", "Wait.").0, "You cannot do this.");
        let many = "subscriptions: owner \"t1\" can have at most 5";
        assert_eq!(problem(422, many, "x").0, "You can have at most 5 endpoints.");
        assert_eq!(
            problem(409, "subscription \"subscription\" is there", "x").0,
            "endpoint \"subscription\" is there"
        );
        assert_eq!(problem(500, "x", "y").0, "This page is not available at the moment.");
        let role = Problem::new(StatusCode::FORBIDDEN, "cannot act as the role tenants").hint("Grant it.");
        let said = said(&role);
        assert_eq!(said.detail.as_deref(), Some("You cannot use this page at the moment."));
        assert!(!format!("{said:?}").contains("tenants") && !format!("{said:?}").contains("Grant"));
    }
}
