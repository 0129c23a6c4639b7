//! The admin page: HTML that the server renders, from the same functions as the REST API. It is
//! readable without JavaScript.
//!
//! All content can be foreign: the responses of receivers, the data of the application. The
//! templates escape it, and [`text::inert`] shows hidden characters. The content security policy in
//! `guard.rs` allows no inline script, no inline style and no other host.

mod deliveries;
mod docs;
mod events;
mod frame;
mod overview;
mod past;
mod plot;
pub mod portal;
mod receivers;
mod session;
mod subscriptions;
pub mod text;

use crate::{State, portal::SessionKey, problem::Problem, receivers::words::outcome_words, sessions::Pool};
use axum::{
    Extension, Router,
    extract::{Query, State as Shared},
    http::{HeaderMap, StatusCode, header},
    response::{
        IntoResponse, Redirect, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{MethodRouter, get, post},
};
use futures_util::stream::unfold;
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use session::Visitor;
use std::{convert::Infallible, time::Duration};
use text::Precision;
use tokio::time::{Instant, sleep_until};

/// Returns every page with its handlers. The tests of access rights rely on this one list.
fn pages() -> Vec<(&'static str, MethodRouter<State>)> {
    let mut pages = vec![
        ("/", get(overview::show)),
        ("/login", get(session::show_login).post(session::login)),
        ("/logout", post(session::logout)),
        ("/search", get(search)),
        ("/subscriptions", get(subscriptions::list).post(subscriptions::create)),
        ("/subscriptions/new", get(subscriptions::blank)),
        ("/subscriptions/{id}", get(subscriptions::show).post(subscriptions::act)),
        ("/events", get(events::list)),
        ("/events/{event_id}", get(events::show)),
        ("/deliveries", get(deliveries::list)),
        ("/deliveries/{event_id}/{subscription_id}", get(deliveries::show).post(deliveries::redeliver)),
        ("/live", get(live)),
        ("/style.css", get(async || asset("text/css; charset=utf-8", include_str!("style.css")))),
        ("/favicon.ico", get(async || asset("image/svg+xml", include_str!("icon.svg")))),
        ("/live.js", get(async || asset("text/javascript; charset=utf-8", include_str!("live.js")))),
    ];
    pages.extend(docs::pages());
    pages.extend(portal::pages());
    pages
}

/// Returns the paths of all pages.
pub fn paths() -> impl Iterator<Item = &'static str> {
    pages().into_iter().map(|(path, _)| path)
}

pub fn router() -> Router<State> {
    pages().into_iter().fold(Router::new(), |router, (path, page)| router.route(path, page))
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=300")], text).into_response()
}

/// A problem that is rendered as a page.
pub struct PageError(pub Problem);

impl From<Problem> for PageError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let title = problem.title.clone();
        (
            problem.status(),
            // For the page of an owner, which shows it in its own frame.
            Extension(problem.clone()),
            layout(
                &title,
                None,
                "",
                html! { h1 { (title) } (complaint(&problem)) p { a href="/" { "Go to the overview" } } },
            ),
        )
            .into_response()
    }
}

/// Returns a 404: a page for browsers, a problem document for programs.
pub async fn nowhere(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let problem = Problem::not_found("page");
    if accept.contains("text/html") { PageError(problem).into_response() } else { problem.into_response() }
}

/// Renders a problem's message and hint, and its SQLSTATE if it has one.
pub fn complaint(problem: &Problem) -> Markup {
    html! {
        div.note.bad role="alert" {
            p.any { b { (text::inert(problem.detail.as_deref().unwrap_or(&problem.title))) } }
            @if let Some(hint) = &problem.hint { p.any { (text::inert(hint)) } }
            @if let Some(code) = &problem.sqlstate { p.hint { "SQLSTATE " (code) } }
        }
    }
}

/// Renders the frame of every page around its content.
pub fn layout(title: &str, visitor: Option<&Visitor>, current: &str, content: Markup) -> Markup {
    if let Some(frame) = visitor.and_then(|visitor| visitor.portal.as_ref()) {
        return frame.layout(title, current, content);
    }
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · webhookd" }
                link rel="stylesheet" href="/style.css";
                script src="/live.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                @if let Some(visitor) = visitor {
                    header {
                        strong { "webhookd" }
                        nav aria-label="Main" { ul {
                            @for (path, name) in TABS {
                                li { a href=(path) aria-current=[(path == current).then_some("page")] { (name) } }
                            }
                        } }
                        form action="/search" role="search" {
                            label.hidden for="q" { "Event id or key" }
                            input #q name="q" type="search" placeholder="evt_… or a key";
                            button { "Search" }
                        }
                        @if visitor.has_cookie {
                            form method="post" action="/logout" { (form_token(visitor)) button { "Sign out" } }
                        }
                        span.who.any { (text::inert(&visitor.name())) }
                    }
                }
                main #main {
                    // Filled by live.js. Screen readers announce changes only if the element exists
                    // from the start.
                    div #renewal role="status" {}
                    (content)
                }
            }
        }
    }
}

const TABS: [(&str, &str); 5] = [
    ("/", "Overview"),
    ("/subscriptions", "Subscriptions"),
    ("/events", "Events"),
    ("/deliveries", "Deliveries"),
    ("/docs", "Docs"),
];

/// Renders the hidden field that proves that a form comes from one of our pages.
pub fn form_token(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name="form_token" value=(visitor.form_token); }
}

/// Renders a time in UTC. live.js adds the time in the reader's zone as a tooltip.
pub fn time(text: &str) -> Markup {
    html! { time datetime=(text) { (text::moment(text, Precision::Seconds)) } }
}

/// The same with milliseconds.
pub fn exact_time(text: &str) -> Markup {
    html! { time datetime=(text) { (text::moment(text, Precision::Milliseconds)) } }
}

/// Renders a state as a word on a colour.
pub fn badge(state: &str) -> Markup {
    let class = match state {
        "delivered" | "succeeded" | "on" | "closed" => "good",
        "exhausted" | "open" | "http_error" | "timeout" | "dns" | "connect" | "tls" | "protocol"
        | "refused" => "bad",
        "retrying" | "paused" | "unconfirmed" => "warn",
        _ => "soft",
    };
    let label = if state == "exhausted" { "gave up" } else { outcome_words(state) };
    html! { span class=(format!("badge {class}")) { (label) } }
}

/// Renders the link to the next page, if there is one.
pub fn next_link(path: &str, pairs: &[(&str, Option<&str>)], next: Option<&str>, label: &str) -> Markup {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs.iter().chain([&("cursor", next)]) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            query.append_pair(name, value);
        }
    }
    html! { @if next.is_some() { p { a.button rel="next" href=(format!("{path}?{}", query.finish())) { (label) } } } }
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    q: String,
}

/// Searches for an event id or a key. Callers who may read the outbox see the event itself, even if
/// it matched no subscription. For all others, and for keys, the search lists deliveries.
async fn search(mut visitor: Visitor, Query(search): Query<Search>) -> Result<Redirect, PageError> {
    let text = search.q.trim();
    let name = if text.starts_with("evt_") { "event" } else { "key" };
    if name == "event" {
        match super::events::find(&mut visitor.work, text).await {
            Ok(whole) => return Ok(Redirect::to(&format!("/events/{}", whole.event.id))),
            // The event is gone, or the visitor may not see it.
            Err(problem) if problem.status().is_client_error() => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !text.is_empty() {
        query.append_pair(name, text);
    }
    Ok(Redirect::to(&format!("/deliveries?{}", query.finish())))
}

/// How long a stream lasts. Browsers open it again.
const STREAM_LASTS: Duration = Duration::from_secs(3600);
/// Time between two checks whether the visitor's token is still valid.
const STREAM_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Streams the number of each poll of the database (`sampler.rs`), so that pages refresh
/// themselves. The stream contains nothing else. It ends with the visitor's session.
pub async fn live(
    Shared(state): Shared<State>,
    visitor: Visitor,
    key: Option<Extension<SessionKey>>,
    headers: HeaderMap,
) -> Response {
    drop(visitor);
    let key = key.map(|Extension(key)| key);
    let token = match state.visitor_token(&headers, key.as_ref()) {
        Ok(token) => token,
        Err(problem) => return PageError(problem).into_response(),
    };
    let Some(place) = state.guard.stream(token.as_ref()) else {
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many open pages with this token");
        return PageError(problem).into_response();
    };
    let looks = state.history.looks.subscribe();
    let (now, until) = (Instant::now(), Instant::now() + STREAM_LASTS);
    let stream = unfold((looks, state, now, place), move |(mut looks, state, mut checked_at, place)| {
        let (headers, key) = (headers.clone(), key.clone());
        async move {
            tokio::select! {
                changed = looks.changed() => changed.ok()?,
                () = state.shutdown.cancelled() => return None,
                () = sleep_until(until) => return None,
            }
            if checked_at.elapsed() >= STREAM_CHECK_INTERVAL {
                checked_at = Instant::now();
                let token = state.visitor_token(&headers, key.as_ref()).ok()?;
                let entered = state.enter(token.as_ref(), false, Pool::Callers).await;
                if entered.is_err_and(|problem| problem.status() == StatusCode::UNAUTHORIZED) {
                    return None;
                }
            }
            let look = *looks.borrow_and_update();
            let event = Event::default().event("look").data(look.to_string());
            Some((Ok::<_, Infallible>(event), (looks, state, checked_at, place)))
        }
    });
    let mut headers = HeaderMap::new();
    headers.insert("x-accel-buffering", header::HeaderValue::from_static("no"));
    (headers, Sse::new(stream).keep_alive(KeepAlive::default())).into_response()
}

/// Renders a text field of a filter form.
pub fn field(name: &str, label: &str, value: Option<&str>) -> Markup {
    html! { div { label for=(name) { (label) } input id=(name) name=(name) value=[value]; } }
}
