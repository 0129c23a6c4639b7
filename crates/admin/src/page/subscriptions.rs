//! Subscriptions on the page: list, create, edit, pause, resume, try, rotate, ping, replay, delete.
//!
//! Each change is a call of the SQL API with the visitor's rights, like the REST API. A save
//! carries the etag of the state that the form was filled from. If the subscription has changed
//! since, the save fails, and the page shows the differences. A new secret is shown once.
//!
//! The page of an owner uses the same handlers. Its form and its view of an endpoint are in
//! [`endpoints`].

mod actions;
mod confirm;
pub mod endpoints;
mod form;

use crate::{
    State,
    counters::{Counts, SUBSCRIPTIONS_MAX},
    deliveries::{self, DeliveryFilter},
    events,
    extract::{Filled, Id},
    page::{
        PageError, complaint, deliveries as log, form_token, layout, next_link,
        past::Past,
        plot::chart,
        receivers as shown,
        session::{Fields, Visitor},
        text::{broken, figure, inert},
        time,
    },
    problem::Problem,
    receivers::{self, ReceiverFilter},
    sessions::Work,
    subscriptions as api,
    subscriptions::Subscription,
};
use actions::actions;
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use form::{Values, body_of, differing, entered, fields, options_of, values_of};
use maud::{Markup, html};
use std::collections::{HashMap, HashSet};

/// `/subscriptions`
pub async fn list(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    query: Result<Filled<ReceiverFilter>, Problem>,
) -> Result<Markup, PageError> {
    let Filled(filter) = query?;
    let (overview, next) = receivers::page(&mut visitor.work, &filter).await?;
    let limit = filter.limit.map(|limit| limit.to_string());
    let pairs = [("q", filter.q.as_deref()), ("state", filter.state.as_deref()), ("limit", limit.as_deref())];
    Ok(layout(
        "Subscriptions",
        Some(&visitor),
        "/subscriptions",
        html! {
            h1.hidden { "Subscriptions" }
            div #headline data-live { (shown::header(&overview, &state.obstacles())) }
            div.row.between {
                h2 { "Receivers" }
                a.button.main href="/subscriptions/new" { "Create a subscription" }
            }
            (shown::filter_form("/subscriptions", &overview, &filter))
            div #subscriptions data-live { (shown::list(&visitor, &overview.receivers, None)) }
            (next_link("/subscriptions", &pairs, next.as_deref(), "More"))
        },
    ))
}

/// `/subscriptions/new`
pub async fn blank(mut visitor: Visitor) -> Result<Markup, PageError> {
    form_for_new(&mut visitor, &Values::new(), None).await
}

async fn form_for_new(
    visitor: &mut Visitor,
    values: &Values,
    problem: Option<&Problem>,
) -> Result<Markup, PageError> {
    if visitor.is_owner() {
        return endpoints::form_for_new(visitor, values, problem).await;
    }
    let types = events::all_types(&mut visitor.work).await?;
    let known: Vec<&str> = types.iter().map(|one| one.event_type.as_str()).collect();
    Ok(layout(
        "Subscribe",
        Some(visitor),
        "/subscriptions",
        html! {
            h1 { "Create a subscription" }
            @if let Some(problem) = problem { (complaint(problem)) }
            form.panel method="post" action="/subscriptions" {
                (form_token(visitor))
                (fields(values, problem.and_then(|problem| problem.field.as_deref()), &known))
                div.row { button.main { "Create" } }
            }
        },
    ))
}

/// Creates a subscription and shows its secret.
pub async fn create(mut visitor: Visitor, fields: Fields) -> Result<Response, PageError> {
    let made = match chosen(&fields, None, visitor.is_owner()) {
        Ok(members) if visitor.is_owner() => endpoints::add(&mut visitor, members).await,
        Ok(members) => api::subscribe(&mut visitor.work, &body_of(members)).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok((id, secret)) => {
            visitor.work.commit().await?;
            let title = if visitor.is_owner() { "Endpoint added" } else { "Subscription created" };
            Ok(shown_once(&visitor, id, secret.as_deref(), title).into_response())
        }
        Err(problem) => {
            visitor.work.restart().await?;
            let again = form_for_new(&mut visitor, &fields.0, Some(&problem)).await?;
            Ok((problem.status(), again).into_response())
        }
    }
}

/// Returns the options of a form that differ from the present ones.
fn chosen(
    fields: &Fields,
    present: Option<&Values>,
    is_owner: bool,
) -> Result<serde_json::Map<String, serde_json::Value>, Problem> {
    let mut members = options_of(fields, present)?;
    if is_owner {
        endpoints::keep_own(&mut members, fields)?;
    }
    Ok(members)
}

fn shown_once(visitor: &Visitor, id: i64, secret: Option<&str>, title: &str) -> Markup {
    layout(
        title,
        Some(visitor),
        "/subscriptions",
        html! {
            h1 { (title) }
            @match secret {
                Some(secret) => {
                    div.note role="status" {
                        p { b { "Copy this secret to the " @if visitor.is_owner() { "endpoint" } @else { "receiver" } " now. It is shown only once." } }
                        pre.secret tabindex="0" { (secret) }
                    }
                }
                None => { p { "Requests are not signed, so there is no secret." } }
            }
            p { a.button.main href=(visitor.link(&format!("/subscriptions/{id}"))) { "Go to the " (visitor.noun()) } }
        },
    )
}

/// `/subscriptions/{id}`
pub async fn show(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    Id(id): Id,
) -> Result<Markup, PageError> {
    let subscription = api::find(&mut visitor.work, id).await?;
    let values = stored(&subscription);
    detail(&state, &mut visitor, &subscription, &values, None).await
}

/// The hidden field with the etag of the state that the form was filled from.
const ETAG: &str = "etag";

fn stored(subscription: &Subscription) -> Values {
    let mut values = values_of(subscription);
    values.insert(ETAG.to_owned(), api::etag(subscription));
    values
}

async fn detail(
    state: &State,
    visitor: &mut Visitor,
    subscription: &Subscription,
    values: &Values,
    problem: Option<&Problem>,
) -> Result<Markup, PageError> {
    if visitor.is_owner() {
        let stored = html! { input type="hidden" name=(ETAG) value=[values.get(ETAG)]; };
        return endpoints::detail(visitor, subscription, values, problem, stored).await;
    }
    let id = subscription.id;
    let receiver = receivers::find(&mut visitor.work, id).await?;
    let filter = DeliveryFilter { subscription: Some(id), limit: Some(10), ..DeliveryFilter::default() };
    let told = deliveries::page(&mut visitor.work, &filter).await?;
    let past = Past::of(state, false, &HashSet::from([id]));
    let backlog = past.latest.as_ref().and_then(|look| look.subscriptions.get(&id)).map(|one| one.backlog);
    Ok(layout(
        "Subscription",
        Some(visitor),
        "/subscriptions",
        html! {
            h1.any { (inert(&subscription.title())) }
            @if let Some(problem) = problem { (complaint(problem)) }
            @if problem.is_some_and(|problem| problem.status() == StatusCode::PRECONDITION_FAILED) { (overtaken(values, subscription)) }
            div #doing data-live {
                div.panel.receiver {
                    (shown::state(&receiver))
                    p { (receiver.explanation()) }
                    (shown::facts(&receiver))
                }
            }
            (actions(visitor, subscription, &receiver))
            div #past data-live { (plots(&past, backlog.is_some())) }
            h2 { "Last deliveries" }
            div #told data-live { (log::table(visitor, &told.items, &HashMap::from([(id, subscription.title())]))) }
            p { a href=(format!("/deliveries?subscription={id}")) { "All deliveries" } }
            h2 { "About" }
            dl.facts.panel {
                dt { "Id" } dd { (id) }
                dt { "URL" } dd { (broken(subscription.text("url"))) }
                dt { "Events" } dd.any { (inert(&subscription.texts("events", ", "))) }
                dt { "Owner" } dd.any { (inert(subscription.text("owner"))) }
                dt { "Created" } dd { (time(&subscription.created_at)) }
            }
            h2 #edit { "Edit" }
            form.panel method="post" action=(format!("/subscriptions/{id}")) {
                (form_token(visitor))
                input type="hidden" name=(ETAG) value=[values.get(ETAG)];
                (fields(values, problem.and_then(|problem| problem.field.as_deref()), &[]))
                div.row { button.main name="action" value="alter" { "Save" } }
            }
        },
    ))
}

fn plots(past: &Past, is_told: bool) -> Markup {
    let (kept, minutes) = past.span();
    let rates = [past.rates("delivered", Counts::succeeded), past.rates("failed", Counts::failed)];
    html! {
        @if is_told {
            h2 { "The last " (minutes) " minutes" }
            div.plots {
                (past.backlog())
                (chart("Deliveries per second", &rates, kept, minutes, None, figure))
            }
        } @else {
            p.hint { "There are no statistics yet. Statistics are kept for the first " (SUBSCRIPTIONS_MAX) " subscriptions." }
        }
    }
}

/// Renders the fields that another person has changed since the form was filled, where the stored
/// value differs from the form.
fn overtaken(values: &Values, subscription: &Subscription) -> Markup {
    let differing = differing(values, &values_of(subscription));
    html! {
        div.note.warn #stored {
            @if differing.is_empty() { p { "The stored values are the same as in the form." } } @else {
                p { "Stored values that differ from the form:" }
                dl.facts { @for (name, text) in &differing {
                    dt { (name) } dd.any { @if text.is_empty() { "nothing" } @else { (inert(text)) } }
                } }
            }
            p { a href="#edit" { "Go to the form" } }
        }
    }
}

/// Performs the action of a button.
pub async fn act(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    Id(id): Id,
    fields: Fields,
) -> Result<Response, PageError> {
    // Returns 404 if the visitor may not see the subscription. An action must not change it or
    // reveal that it exists.
    let present = api::find(&mut visitor.work, id).await?;
    match confirm::question(&mut visitor, &present, &fields).await {
        Ok(None) => {}
        Ok(Some(page)) => return Ok(page.into_response()),
        Err(problem) => return again(&state, &mut visitor, id, &fields, problem).await,
    }
    let is_owner = visitor.is_owner();
    match perform(&mut visitor.work, id, &fields, is_owner).await {
        Ok(Done::Gone) => Ok(Redirect::to(&visitor.link("/subscriptions")).into_response()),
        Ok(Done::Changed) => Ok(Redirect::to(&visitor.link(&format!("/subscriptions/{id}"))).into_response()),
        Ok(Done::Secret(secret)) => Ok(shown_once(&visitor, id, Some(&secret), "New secret").into_response()),
        Err(problem) => again(&state, &mut visitor, id, &fields, problem).await,
    }
}

/// Shows the subscription with the problem of an action. The form keeps what was entered.
async fn again(
    state: &State,
    visitor: &mut Visitor,
    id: i64,
    fields: &Fields,
    problem: Problem,
) -> Result<Response, PageError> {
    visitor.work.restart().await?;
    let subscription = api::find(&mut visitor.work, id).await?;
    let mut values = stored(&subscription);
    if fields.get("action") == Some("alter") {
        values.extend(entered(fields));
    }
    if problem.status() == StatusCode::PRECONDITION_FAILED {
        // The page now shows the stored values, so the next save may replace them.
        values.insert(ETAG.to_owned(), api::etag(&subscription));
    }
    let page = detail(state, visitor, &subscription, &values, Some(&problem)).await?;
    Ok((problem.status(), page).into_response())
}

/// Changes the options whose value in the form differs from the state that it was filled from.
async fn alter(work: &mut Work, id: i64, fields: &Fields, is_owner: bool) -> Result<(), Problem> {
    work.restart_repeatable().await?;
    let present = api::expect_tag(work, id, fields.get(ETAG)).await?;
    let members = chosen(fields, Some(&values_of(&present)), is_owner)?;
    api::alter(work, id, &body_of(members)).await
}

/// Replaces the message about a failed precondition, which is for programs, with one for people.
fn told(problem: Problem, noun: &str) -> Problem {
    if problem.status() != StatusCode::PRECONDITION_FAILED {
        return problem;
    }
    let detail = format!("this {noun} has changed since you opened the form");
    Problem::new(StatusCode::PRECONDITION_FAILED, detail)
        .hint("Nothing has been saved. The form has your entries. Save again to store all of them.")
}

enum Done {
    Changed,
    Gone,
    Secret(String),
}

async fn perform(work: &mut Work, id: i64, fields: &Fields, is_owner: bool) -> Result<Done, Problem> {
    let mut done = Done::Changed;
    match fields.get("action").unwrap_or_default() {
        "alter" => {
            let noun = if is_owner { "endpoint" } else { "subscription" };
            alter(work, id, fields, is_owner).await.map_err(|problem| told(api::met(problem), noun))?;
        }
        "pause" => {
            api::call(work, "webhook_pause($1, $2)", &[&id, &fields.get("reason")]).await?;
        }
        "resume" => {
            let skip = fields.get("skip_backlog").is_some();
            api::call(work, "webhook_resume($1, $2)", &[&id, &skip]).await?;
        }
        "ping" => {
            api::call(work, "webhook_ping($1)", &[&id]).await?;
        }
        "try" => {
            let ignore_retry_after = fields.get("ignore_retry_after").is_some();
            api::call(work, "webhook_try_now($1, $2)", &[&id, &ignore_retry_after]).await?;
        }
        "redeliver-failed" => {
            let until: Option<String> = None;
            api::call(work, api::REDELIVER_FAILED, &[&id, &fields.get("since"), &until, &false]).await?;
        }
        "rotate" => {
            let secret = api::call(work, api::ROTATE, &[&id, &fields.get("overlap")]).await?;
            done = Done::Secret(secret.unwrap_or_default());
        }
        "replay" => {
            let function =
                "webhook_replay($1, $2::text::timestamptz, coalesce($3::text::timestamptz, now()))";
            api::call(work, function, &[&id, &fields.get("since"), &fields.get("until")]).await?;
        }
        "delete" => {
            api::call(work, "webhook_unsubscribe($1)", &[&id]).await?;
            done = Done::Gone;
        }
        _ => return Err(Problem::new(StatusCode::BAD_REQUEST, "unknown action").field("action")),
    }
    work.commit().await?;
    Ok(done)
}
