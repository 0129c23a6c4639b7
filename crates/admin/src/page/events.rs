//! The event browser on the page: a filtered list of the outbox, and one event with its deliveries.
//!
//! Reads with the visitor's rights: owners see their own events and announcements. A visitor who
//! may read no events gets a link to the deliveries.

use crate::{
    deliveries::{self, DeliveryFilter},
    events::{self, EventFilter},
    extract::Filled,
    page::{
        PageError, deliveries as log, field, layout, next_link,
        session::Visitor,
        text::{inert, pretty},
        time,
    },
    problem::Problem,
};
use axum::extract::Path;
use maud::{Markup, html};

/// `/events`
pub async fn list(
    mut visitor: Visitor,
    query: Result<Filled<EventFilter>, Problem>,
) -> Result<Markup, PageError> {
    let Filled(filter) = query?;
    let page = match events::page(&mut visitor.work, &filter).await {
        Ok(page) => page,
        Err(problem) if problem.sqlstate.as_deref() == Some("42501") => {
            return Ok(layout(
                "Events",
                Some(&visitor),
                "/events",
                html! {
                    h1 { "Events" }
                    div.note { p { "Only subscribers and readers can see this page. For the events of your subscriptions, see " a href="/deliveries" { "deliveries" } "." } }
                },
            ));
        }
        Err(problem) => return Err(problem.into()),
    };
    let pairs = [
        ("type", filter.event_type.as_deref()),
        ("key", filter.key.as_deref()),
        ("since", filter.since.as_deref()),
        ("until", filter.until.as_deref()),
    ];
    Ok(layout(
        "Events",
        Some(&visitor),
        "/events",
        html! {
            h1 { "Events" }
            form.row action="/events" role="search" aria-label="Filter" {
                (field("type", "Type or pattern", filter.event_type.as_deref()))
                (field("key", "Key", filter.key.as_deref()))
                (field("since", "Since", filter.since.as_deref()))
                (field("until", "Until", filter.until.as_deref()))
                button.main { "Filter" }
            }
            div #events data-live[filter.cursor.is_none()] {
                @if page.items.is_empty() { p { "No matches." @if page.next.is_some() { " The search is not complete yet." } } } @else {
                    div.scroll { table.cards {
                        caption.hidden { "Events, newest first" }
                        thead { tr { th scope="col" { "When" } th scope="col" { "Type" } th scope="col" { "Key" } th scope="col" { "Table" } th scope="col" { "By" } th scope="col" { "Event" } } }
                        tbody { @for event in &page.items { tr {
                            td.t data-label="When" { (time(&event.timestamp)) }
                            td.any data-label="Type" { (inert(&event.event_type)) }
                            td.any data-label="Key" { (inert(event.key.as_deref().unwrap_or("–"))) }
                            td.any data-label="Table" { (inert(event.table.as_deref().unwrap_or("–"))) }
                            td.any data-label="By" { (inert(event.actor.as_deref().unwrap_or("–"))) }
                            td data-label="Event" { a href=(format!("/events/{}", event.id)) { code { (event.id) } } }
                        } } }
                    } }
                }
            }
            (next_link("/events", &pairs, page.next.as_deref(), "Older"))
        },
    ))
}

/// `/events/{event_id}`
pub async fn show(mut visitor: Visitor, Path(event_id): Path<String>) -> Result<Markup, PageError> {
    let whole = events::find(&mut visitor.work, &event_id).await?;
    let filter = DeliveryFilter { event: Some(event_id), limit: Some(200), ..DeliveryFilter::default() };
    let told = deliveries::page(&mut visitor.work, &filter).await?;
    let names = log::names_of(&mut visitor, &told.items).await?;
    let event = &whole.event;
    let types = events::all_types(&mut visitor.work).await?;
    let is_described = types.iter().any(|one| one.event_type == event.event_type);
    let fact = |name: &str, value: Option<&str>| html! { @if let Some(value) = value { dt { (name) } dd.any { (inert(value)) } } };
    Ok(layout(
        "Event",
        Some(&visitor),
        "/events",
        html! {
            h1 { (inert(&event.event_type)) }
            @if is_described { p { a href=(format!("/docs/{}", event.event_type)) { "Description of this event type" } } }
            dl.facts.panel {
                dt { "Id" } dd { code { (event.id) } }
                dt { "Sequence" } dd { (event.sequence) }
                dt { "When" } dd { (time(&event.timestamp)) }
                (fact("Key", event.key.as_deref()))
                (fact("Table", event.table.as_deref()))
                (fact("By", event.actor.as_deref()))
                (fact("Origin", event.origin.as_deref()))
                @if event.truncated { dt { "Data" } dd.warn { "too large; only the key was kept" } }
            }
            h2 { "Data" } pre tabindex="0" { (pretty(whole.data.get().as_bytes())) }
            @if let Some(previous) = &whole.previous { h2 { "Before" } pre tabindex="0" { (pretty(previous.get().as_bytes())) } }
            h2 { "Deliveries" }
            div #told data-live { (log::table(&visitor, &told.items, &names)) }
        },
    ))
}
