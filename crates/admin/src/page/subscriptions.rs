//! Subscriptions on the page: list, create, edit, pause, resume, rotate, ping, replay, delete.
//!
//! Each change is a call of the SQL API with the visitor's rights, like the REST API. A save
//! carries the etag of the state that the form was filled from. If the subscription has changed
//! since, the save fails, and the page shows the differences. A new secret is shown once.

mod form;

use crate::{
    State,
    counters::{Counts, SUBSCRIPTIONS_MAX},
    cursor::Cursor,
    deliveries::{self, DeliveryFilter},
    events,
    extract::{Id, Query},
    page::{
        PageError, badge, complaint, deliveries as log, form_token, layout,
        overview::state_of,
        past::Past,
        plot::chart,
        session::{Fields, Visitor},
        text::{figure, inert},
        time,
    },
    problem::Problem,
    sessions::Work,
    subscriptions as api,
    subscriptions::{Listing, Subscription},
};
use axum::{
    extract::State as Shared,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use form::{Values, body_of, differing, entered, fields, options_of, values_of};
use maud::{Markup, html};
use std::collections::HashSet;

/// `/subscriptions`
pub async fn list(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    query: Result<Query<Listing>, Problem>,
) -> Result<Markup, PageError> {
    let Query(listing) = query?;
    let rows = api::page_rows(listing.limit)?;
    let from = listing.cursor.as_deref().map(Cursor::parse).transpose()?.map_or(0, |cursor| cursor.0);
    let items = api::after(&mut visitor.work, from, rows).await?;
    let next = items
        .last()
        .filter(|_| i64::try_from(items.len()) == Ok(rows))
        .map(|last| Cursor(last.id, 0).to_string());
    let look = state.history.latest();
    let backlog = |id: i64| look.as_ref().and_then(|look| look.subscriptions.get(&id)).map(|one| one.backlog);
    Ok(layout(
        "Subscriptions",
        Some(&visitor),
        "/subscriptions",
        html! {
            h1 { "Subscriptions" }
            p { a.button.main href="/subscriptions/new" { "Create a subscription" } }
            div #subscriptions data-live {
                @if items.is_empty() { p { "There are no subscriptions." } } @else { div.scroll { table {
                    caption.hidden { "Subscriptions" }
                    thead { tr { th scope="col" { "Id" } th scope="col" { "Name" } th scope="col" { "URL" } th scope="col" { "Events" } th scope="col" { "State" } th.n scope="col" { "Queue" } th scope="col" { "Owner" } } }
                    tbody { @for one in &items { tr {
                        td.n { (one.id) }
                        th scope="row" { a.any href=(format!("/subscriptions/{}", one.id)) { (inert(one.option("name").as_str().unwrap_or("(no name)"))) } }
                        td.any { (inert(one.text("url"))) }
                        td.any { (inert(&one.texts("events", " "))) }
                        td { (badge(state_of(one))) }
                        td.n { (backlog(one.id).map_or("–".to_owned(), |rows| figure(rows as f64))) }
                        td.any { (inert(one.text("owner"))) }
                    } } }
                } } }
            }
            @if let Some(next) = next { p { a.button rel="next" href=(format!("/subscriptions?cursor={next}")) { "More" } } }
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
    let made = match options_of(&fields, None) {
        Ok(members) => api::subscribe(&mut visitor.work, &body_of(members)).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok((id, secret)) => {
            visitor.work.commit().await?;
            Ok(shown_once(&visitor, id, secret.as_deref(), "Subscription created").into_response())
        }
        Err(problem) => {
            visitor.work.restart().await?;
            let again = form_for_new(&mut visitor, &fields.0, Some(&problem)).await?;
            Ok((problem.status(), again).into_response())
        }
    }
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
                        p { b { "Copy this secret to the receiver now. It is shown only once." } }
                        pre.secret tabindex="0" { (secret) }
                    }
                }
                None => { p { "Requests are not signed, so there is no secret." } }
            }
            p { a.button.main href=(format!("/subscriptions/{id}")) { "Go to the subscription" } }
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
    const DOING: &str = "select circuit, consecutive_failures, row_to_json(x)->>'failing_since'
        from (select circuit, consecutive_failures, failing_since from webhook.subscription_stats where id = $1) x";
    let id = subscription.id;
    let row = visitor.work.row(DOING, &[&id]).await?;
    let bad = Problem::from;
    let (circuit, failures): (String, i32) = (row.try_get(0).map_err(bad)?, row.try_get(1).map_err(bad)?);
    let failing_since: Option<String> = row.try_get(2).map_err(bad)?;
    let filter = DeliveryFilter { subscription: Some(id), limit: Some(10), ..DeliveryFilter::default() };
    let told = deliveries::page(&mut visitor.work, &filter).await?;
    let past = Past::of(state, false, &HashSet::from([id]));
    let backlog = past.latest.as_ref().and_then(|look| look.subscriptions.get(&id)).map(|one| one.backlog);
    Ok(layout(
        "Subscription",
        Some(visitor),
        "/subscriptions",
        html! {
            h1 { (inert(subscription.title())) }
            @if let Some(problem) = problem { (complaint(problem)) }
            @if problem.is_some_and(|problem| problem.status() == StatusCode::PRECONDITION_FAILED) { (overtaken(values, subscription)) }
            div #doing data-live {
                dl.facts.panel {
                    dt { "State" } dd { (badge(state_of(subscription))) @if let Some(reason) = &subscription.paused_reason { " " (inert(reason)) } }
                    dt { "URL" } dd.any { (inert(subscription.text("url"))) }
                    dt { "Owner" } dd.any { (inert(subscription.text("owner"))) }
                    dt { "Circuit" } dd { (badge(&circuit)) @if failures > 0 { " " (failures) " failures in a row" } }
                    @if let Some(since) = &failing_since { dt { "Failing since" } dd { (time(since)) } }
                    dt { "Queued" } dd { (backlog.map_or("–".to_owned(), |rows| rows.to_string())) }
                    dt { "Created" } dd { (time(&subscription.created_at)) }
                }
            }
            (actions(visitor, subscription))
            div #past data-live { (plots(&past, backlog.is_some())) }
            h2 { "Last deliveries" }
            div #told data-live { (log::table(&told.items)) }
            p { a href=(format!("/deliveries?subscription={id}")) { "All deliveries" } }
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

fn actions(visitor: &Visitor, subscription: &Subscription) -> Markup {
    let path = format!("/subscriptions/{}", subscription.id);
    let form = |action: &str, class: &str, label: &str, confirm: Option<&str>, more: Markup| {
        html! {
            form.row method="post" action=(path) data-confirm=[confirm] {
                (form_token(visitor)) (more)
                button class=(class) name="action" value=(action) { (label) }
            }
        }
    };
    html! {
        div.row {
            (form("ping", "", "Send a ping", None, html! {}))
            @if subscription.is_enabled() {
                (form("pause", "", "Pause", None, html! { label.hidden for="reason" { "Reason" } input #reason name="reason" placeholder="reason"; }))
            } @else {
                (form("resume", "main", "Resume", None, html! { span.check { input #skip name="skip_backlog" type="checkbox" value="on"; " " label for="skip" { "discard queued deliveries" } } }))
            }
        }
        details {
            summary { "Rotate secret, replay, delete" }
            (form("rotate", "", "Rotate secret", None, html! { div { label for="overlap" { "Both secrets sign for" } input #overlap name="overlap" value="PT24H"; } }))
            (form("replay", "", "Replay", None, html! {
                div { label for="from" { "Since" } input #from name="since" placeholder="2026-11-22 03:00+00" required; }
                div { label for="to" { "Until" } input #to name="until" placeholder="now"; }
            }))
            (form("delete", "danger", "Delete subscription", Some("Delete this subscription, with its secrets and its queued deliveries?"), html! {}))
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
    api::find(&mut visitor.work, id).await?;
    match perform(&mut visitor.work, id, &fields).await {
        Ok(Done::Gone) => Ok(Redirect::to("/subscriptions").into_response()),
        Ok(Done::Changed) => Ok(Redirect::to(&format!("/subscriptions/{id}")).into_response()),
        Ok(Done::Secret(secret)) => Ok(shown_once(&visitor, id, Some(&secret), "New secret").into_response()),
        Err(problem) => {
            visitor.work.restart().await?;
            let subscription = api::find(&mut visitor.work, id).await?;
            let mut values = stored(&subscription);
            if fields.get("action") == Some("alter") {
                values.extend(entered(&fields));
            }
            if problem.status() == StatusCode::PRECONDITION_FAILED {
                // The page now shows the stored values, so the next save may replace them.
                values.insert(ETAG.to_owned(), api::etag(&subscription));
            }
            let again = detail(&state, &mut visitor, &subscription, &values, Some(&problem)).await?;
            Ok((problem.status(), again).into_response())
        }
    }
}

/// Changes the options whose value in the form differs from the state that it was filled from.
async fn alter(work: &mut Work, id: i64, fields: &Fields) -> Result<(), Problem> {
    work.restart_repeatable().await?;
    let present = api::expect_tag(work, id, fields.get(ETAG)).await?;
    let members = options_of(fields, Some(&values_of(&present)))?;
    api::alter(work, id, &body_of(members)).await
}

/// Replaces the message about a failed precondition, which is for programs, with one for people.
fn told(problem: Problem) -> Problem {
    if problem.status() != StatusCode::PRECONDITION_FAILED {
        return problem;
    }
    Problem::new(StatusCode::PRECONDITION_FAILED, "this subscription has changed since you opened the form")
        .hint("Nothing has been saved. The form has your entries. Save again to store all of them.")
}

enum Done {
    Changed,
    Gone,
    Secret(String),
}

async fn perform(work: &mut Work, id: i64, fields: &Fields) -> Result<Done, Problem> {
    let mut done = Done::Changed;
    match fields.get("action").unwrap_or_default() {
        "alter" => {
            alter(work, id, fields).await.map_err(|problem| told(api::met(problem)))?;
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
