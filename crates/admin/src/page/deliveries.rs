//! The delivery log on the page: deliveries, their attempts and responses, the request, and
//! redelivery.
//!
//! Reads and changes with the visitor's rights, through the functions of the REST API. Texts of
//! receivers and events are shown with [`inert`] or [`pretty`]. Values of custom headers are not
//! shown.

use crate::{
    State,
    deliveries::{self, Attempt, Delivery, DeliveryFilter},
    events,
    extract::{DeliveryId, Filled},
    page::{
        PageError, badge, complaint, exact_time, field, form_token, layout, next_link,
        plot::phases,
        session::{Fields, Visitor},
        text::{inert, milliseconds, pretty},
        time,
    },
    problem::Problem,
    subscriptions::{self, Subscription},
};
use axum::{
    extract::State as Shared,
    response::{IntoResponse, Redirect, Response},
};
use delivery::{
    body,
    shape::{Format, PayloadMode, Shape},
};
use maud::{Markup, html};
use std::collections::HashMap;

/// Returns the address of the delivery's page.
fn path_of(visitor: &Visitor, delivery: &Delivery) -> String {
    visitor.link(&format!("/deliveries/{}/{}", delivery.event_id, delivery.subscription_id))
}

/// Renders a table of deliveries, with the names of their subscriptions.
pub fn table(visitor: &Visitor, items: &[Delivery], names: &HashMap<i64, String>) -> Markup {
    let to = |id: i64| names.get(&id).map_or_else(|| format!("#{id}"), |name| inert(name));
    html! {
        @if items.is_empty() { p { "No matches." } } @else {
            div.scroll { table.cards {
                caption.hidden { "Deliveries, newest events first" }
                thead { tr { th scope="col" { "When" } th scope="col" { "Type" } th scope="col" { "Key" } th scope="col" { "To" } th scope="col" { "State" } th.n scope="col" { "Attempts" } th scope="col" { "Last response" } th scope="col" { "Event" } } }
                tbody { @for one in items { tr {
                    td.t data-label="When" { @if let Some(at) = &one.created_at { (time(at)) } @else { "–" } }
                    td.any data-label="Type" { (inert(one.event_type.as_deref().unwrap_or("–"))) }
                    td.any data-label="Key" { (inert(one.key.as_deref().unwrap_or("–"))) }
                    td.any data-label="To" { a href=(visitor.link(&format!("/subscriptions/{}", one.subscription_id))) { (to(one.subscription_id)) } }
                    td data-label="State" { (badge(&one.state)) }
                    td.n data-label="Attempts" { (one.attempts) }
                    td.any data-label="Last response" { (last_response(one)) }
                    td data-label="Event" { a href=(path_of(visitor, one)) { code { (one.event_id) } } }
                } } }
            } }
        }
    }
}

/// Returns the last error, which begins with the status, or else the status.
fn last_response(one: &Delivery) -> String {
    let status = || one.last_status.map(|status| status.to_string());
    one.last_error.as_deref().map(inert).or_else(status).unwrap_or_default()
}

/// Returns the names of the subscriptions of these deliveries.
///
/// # Errors
/// The errors of the statement.
pub async fn names_of(visitor: &mut Visitor, items: &[Delivery]) -> Result<HashMap<i64, String>, Problem> {
    let ids: Vec<i64> = items.iter().map(|one| one.subscription_id).collect();
    subscriptions::names(&mut visitor.work, &ids).await
}

/// Returns the words for a state in the filter.
fn label_of(state: &str) -> &str {
    match state {
        "" => "any",
        "exhausted" => "gave up",
        state => state,
    }
}

/// Renders the filters that are used less.
fn more_filters(filter: &DeliveryFilter) -> Markup {
    html! {
        (field("type", "Type or pattern", filter.event_type.as_deref()))
        (field("key", "Key", filter.key.as_deref()))
        (field("event", "Event id", filter.event.as_deref()))
        (field("since", "Since", filter.since.as_deref()))
        (field("until", "Until", filter.until.as_deref()))
    }
}

/// `/deliveries`
pub async fn list(
    mut visitor: Visitor,
    query: Result<Filled<DeliveryFilter>, Problem>,
) -> Result<Markup, PageError> {
    let Filled(filter) = query?;
    let subscription = filter.subscription.map(|id| id.to_string());
    let found = deliveries::page(&mut visitor.work, &filter).await;
    let names = match &found {
        Ok(page) => names_of(&mut visitor, &page.items).await?,
        Err(_) => HashMap::new(),
    };
    let pairs = [
        ("state", filter.state.as_deref()),
        ("subscription", subscription.as_deref()),
        ("type", filter.event_type.as_deref()),
        ("key", filter.key.as_deref()),
        ("event", filter.event.as_deref()),
        ("since", filter.since.as_deref()),
        ("until", filter.until.as_deref()),
    ];
    let is_filtered = pairs.iter().skip(2).any(|(_, value)| value.is_some_and(|text| !text.is_empty()));
    let own = visitor.link("/deliveries");
    Ok(layout(
        "Deliveries",
        Some(&visitor),
        "/deliveries",
        html! {
            h1 { "Deliveries" }
            form.row action=(own) role="search" aria-label="Filter" {
                div {
                    label for="state" { "State" }
                    select #state name="state" {
                        @for state in ["", "delivered", "retrying", "queued", "exhausted"] {
                            option value=(state) selected[filter.state.as_deref().unwrap_or_default() == state] { (label_of(state)) }
                        }
                    }
                }
                @if visitor.is_owner() {
                    @if let Some(id) = &subscription { input type="hidden" name="subscription" value=(id); }
                } @else { (field("subscription", "Subscription id", subscription.as_deref())) }
                @if visitor.is_owner() {
                    details open[is_filtered] { summary { "More filters" } div.row { (more_filters(&filter)) } }
                } @else { (more_filters(&filter)) }
                button.main { "Filter" }
            }
            @match &found {
                Err(problem) => (complaint(&visitor.told(problem))),
                Ok(page) => {
                    div #deliveries data-live[filter.cursor.is_none()] {
                        @if page.items.is_empty() && visitor.is_owner() && !is_filtered && filter.state.as_deref().unwrap_or_default().is_empty() {
                            p { "There are no deliveries yet." }
                        } @else { (table(&visitor, &page.items, &names)) }
                        @if page.next.is_some() && page.items.is_empty() { p { "The search is not complete yet." } }
                    }
                    (next_link(&own, &pairs, page.next.as_deref(), "Older"))
                }
            }
        },
    ))
}

/// `/deliveries/{event_id}/{subscription_id}`
pub async fn show(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    DeliveryId(event_id, id): DeliveryId,
) -> Result<Markup, PageError> {
    let delivery = deliveries::find(&mut visitor.work, &event_id, id).await?;
    let attempts = deliveries::attempts_of(&mut visitor.work, &delivery).await?;
    // The attempts of a deleted subscription can still be shown.
    let subscription = match subscriptions::find(&mut visitor.work, id).await {
        Ok(subscription) => Some(subscription),
        Err(problem) if problem.status == 404 => None,
        Err(problem) => return Err(problem.into()),
    };
    let request = match &subscription {
        Some(subscription) => request(&state, &mut visitor, &delivery, subscription).await?,
        None => None,
    };
    Ok(layout(
        "Delivery",
        Some(&visitor),
        "/deliveries",
        html! {
            h1 { (inert(delivery.event_type.as_deref().unwrap_or("deleted event"))) " " span.soft { "to" } " "
                @match &subscription {
                    Some(one) => a href=(visitor.link(&format!("/subscriptions/{id}"))) { (inert(&one.title())) },
                    None => { (visitor.noun()) " #" (id) }
                }
            }
            div #delivery data-live {
                dl.facts.panel {
                    dt { "State" } dd { (badge(&delivery.state)) }
                    dt { "Event" } dd {
                        @if visitor.is_owner() { code { (delivery.event_id) } }
                        @else { a href=(format!("/events/{}", delivery.event_id)) { code { (delivery.event_id) } } }
                    }
                    @if let Some(key) = &delivery.key { dt { "Key" } dd.any { (inert(key)) } }
                    @if let Some(at) = &delivery.created_at { dt { @if visitor.is_owner() { "Created" } @else { "Captured" } } dd { (time(at)) } }
                    @if let Some(at) = &delivery.delivered_at { dt { "Delivered" } dd { (time(at)) } }
                    @if let Some(at) = &delivery.next_attempt_at { dt { "Next attempt" } dd { (time(at)) } }
                    dt { "Attempts" } dd { (delivery.attempts) }
                }
                h2 { "Attempts" }
                @if attempts.is_empty() { p { "There are no attempts yet." } }
                @for attempt in attempts.iter().rev() { (one(attempt)) }
            }
            form.row method="post" { (form_token(&visitor)) button.main { "Redeliver" } }
            @if let Some((headers, body)) = request {
                h2 { "Request" }
                p { @if visitor.is_owner() { "Requests are not stored." } @else { "webhookd does not store requests." }
                    " This one is made from the event and the current options of the " (visitor.noun()) ". "
                    "Attempts before a change of the options were different, and each attempt has its own timestamp and signatures." }
                pre tabindex="0" { (headers) }
                pre tabindex="0" { (body) }
            }
        },
    ))
}

fn one(attempt: &Attempt) -> Markup {
    let parts: Vec<(&str, f64)> = [
        ("name", attempt.dns_ms),
        ("connect", attempt.connect_ms),
        ("TLS", attempt.tls_ms),
        ("first byte", attempt.first_byte_ms),
    ]
    .into_iter()
    .map(|(name, ms)| (name, ms.map_or(0.0, f64::from)))
    .collect();
    html! {
        article.panel.attempt {
            h3 {
                "Attempt " (attempt.attempt) " "
                (badge(&attempt.outcome))
                @if let Some(status) = attempt.status { span { "HTTP " (status) } }
                (exact_time(&attempt.started_at))
            }
            div.row {
                (phases(&parts, f64::from(attempt.duration_ms)))
                span { (milliseconds(f64::from(attempt.duration_ms))) " in total" }
                @for (name, ms) in parts.iter().filter(|(_, ms)| *ms > 0.0) { span.soft { (name) " " (milliseconds(*ms)) } }
            }
            @if let Some(error) = &attempt.error { p.any { b { (inert(error)) } } }
            @if let Some(at) = &attempt.next_at { p.hint { "Next attempt " (time(at)) } }
            @if let Some(batch) = &attempt.batch_id { p.hint { "Sent in a batch with the id " code { (inert(batch)) } } }
            @if let Some(response) = &attempt.response {
                h4.hidden { "Answer" }
                pre tabindex="0" { (inert(response)) }
            }
        }
    }
}

/// Returns the headers and the body that are the same for every attempt. Returns `None` if the
/// event is gone.
async fn request(
    state: &State,
    visitor: &mut Visitor,
    delivery: &Delivery,
    subscription: &Subscription,
) -> Result<Option<(String, String)>, Problem> {
    let sql = format!(
        "select {} from webhook.delivered_event e where e.subscription_id = $1 and e.sequence = $2 and e.event_id = $3",
        events::CAPTURED
    );
    let rows = visitor
        .work
        .query(&sql, &[&delivery.subscription_id, &delivery.sequence, &delivery.event_id])
        .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let event = events::captured(row, visitor.work.encoding())?;
    let format = Format::parse(subscription.text("format")).unwrap_or_default();
    let payload_mode = PayloadMode::parse(subscription.text("payload_mode")).unwrap_or_default();
    let rendered = body::render(&event, 1, Shape { format, payload_mode }, &state.source);
    let mut lines =
        vec![format!("POST {}", subscription.text("url")), format!("webhook-id: {}", delivery.event_id)];
    for (name, value) in rendered.headers.iter().flat_map(|headers| headers.iter()) {
        lines.push(format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    // The values can be credentials.
    let headers = subscription.option("headers").as_object();
    lines.extend(headers.into_iter().flat_map(|pairs| pairs.keys()).map(|name| format!("{name}: •••")));
    if let Some(traceparent) = &event.traceparent {
        lines.push(format!("traceparent: {traceparent}"));
    }
    lines.push(format!("signature: {}", subscription.texts("signature", ", ")));
    Ok(Some((inert(&lines.join("\n")), pretty(&rendered.body))))
}

/// Redelivers the event, and redirects to the delivery's page.
pub async fn redeliver(
    mut visitor: Visitor,
    DeliveryId(event_id, id): DeliveryId,
    _: Fields,
) -> Result<Response, PageError> {
    subscriptions::call(&mut visitor.work, "webhook_redeliver($1, $2)", &[&event_id, &id]).await?;
    visitor.work.commit().await?;
    // The database accepts only an event id here, so the text needs no escaping.
    Ok(Redirect::to(&visitor.link(&format!("/deliveries/{event_id}/{id}"))).into_response())
}
