//! The documentation of events for receivers: `/docs`, `/docs/{type}`, and documents to download.
//!
//! Everything comes from `webhook_openapi()` and `webhook_event_schema()`, called with the
//! visitor's rights. The examples of verification come from the files that the tests run. The
//! module writes nothing.

mod document;
mod fields;
mod samples;

use crate::{
    State,
    events::{EventType, all_types},
    extract::Filled,
    page::{
        PageError, layout,
        session::Visitor,
        text::{inert, pretty},
    },
    problem::Problem,
    sessions::Work,
};
use axum::{
    extract::{Path, State as Shared},
    http::header,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use delivery::shape::Format;
use document::Header;
use fields::Form;
use maud::{Markup, html};
use samples::{EventSample, SECRET, SNIPPETS};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Returns every page of the documentation.
pub fn pages() -> [(&'static str, MethodRouter<State>); 4] {
    [
        ("/docs", get(list)),
        ("/docs/{type}", get(show)),
        ("/docs/{type}/schema.json", get(schema)),
        // Two segments, because a type has no slash, but may be called `openapi.json`.
        ("/docs/documents/{name}", get(download)),
    ]
}

#[derive(Debug, Default, Deserialize)]
pub struct DocsSearch {
    q: Option<String>,
}

/// Time limit of the database for a whole document of many types, within the limit of the request.
const DOCUMENT_TIMEOUT: &str = "12s";

/// Returns the document of the event types that these patterns match.
async fn document(work: &mut Work, events: &[&str]) -> Result<Box<RawValue>, Problem> {
    let sql = format!("select {}.webhook_openapi(events => $1)::text", work.schema());
    let found = work.json(&sql, &[&events]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("document"))
}

/// For those who may not call the functions.
fn is_forbidden(problem: &Problem) -> bool {
    problem.sqlstate.as_deref() == Some("42501")
}

fn page(visitor: &Visitor, title: &str, content: Markup) -> Markup {
    layout(title, Some(visitor), "/docs", content)
}

fn not_for_you(visitor: &Visitor) -> Markup {
    page(
        visitor,
        "Event documentation",
        html! {
            h1 { "Event documentation" }
            div.note { p { "Only publishers, subscribers, readers and admins can read the documentation. The role of this token is not one of them." } }
        },
    )
}

/// Whether a type, or what is said of it, has these letters.
fn matches(one: &EventType, words: &str) -> bool {
    let words = words.to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&words);
    has(&one.event_type) || one.description.as_deref().is_some_and(has)
}

fn data_of(body: &RawValue) -> Option<&RawValue> {
    document::at(body, &["properties", "data"])
}

/// `/docs`
pub async fn list(
    mut visitor: Visitor,
    query: Result<Filled<DocsSearch>, Problem>,
) -> Result<Markup, PageError> {
    let Filled(search) = query?;
    let all = match all_types(&mut visitor.work).await {
        Err(problem) if is_forbidden(&problem) => return Ok(not_for_you(&visitor)),
        all => all?,
    };
    // Without any type, because the headers are the same for each.
    let document = document(&mut visitor.work, &[]).await?;
    let words = search.q.unwrap_or_default();
    let count = all.len();
    let found: Vec<EventType> = all.into_iter().filter(|one| matches(one, &words)).collect();
    Ok(page(
        &visitor,
        "Event documentation",
        html! {
            h1 { "Event documentation" }
            p { @if visitor.is_owner() { "The events that you can receive. " } @else { "The events that this database currently sends to receivers. " } a href="#verify" { "How to verify" } "." }
            form.row action=(visitor.link("/docs")) role="search" aria-label="Event types" {
                div { label for="words" { "Type or description" } input #words name="q" type="search" value=(words); }
                button.main { "Search" }
            }
            p role="status" { @if words.is_empty() { (count) " event types" } @else { (found.len()) " of " (count) " event types" } }
            @if !found.is_empty() {
                div.scroll { table.cards {
                    caption.hidden { "Event types" }
                    thead { tr { th scope="col" { "Type" } th scope="col" { "Description" } } }
                    tbody { @for one in &found { tr {
                        th scope="row" { a href=(visitor.link(&format!("/docs/{}", one.event_type))) { code.any { (one.event_type) } } }
                        td.any data-label="Description" { (inert(one.description.as_deref().unwrap_or("–"))) }
                    } } }
                } }
            } @else if count == 0 {
                p { "There are no event types yet." @if !visitor.is_owner() { " " code { "webhook_watch()" } " adds those of a table." } }
            }
            h2 { "Downloads" }
            ul {
                li { a href=(visitor.link("/docs/documents/openapi.json")) download { "OpenAPI 3.1" } " – for viewers and code generators" }
                li { a href=(visitor.link("/docs/documents/asyncapi.json")) download { "AsyncAPI 3" } }
            }
            (verify(&document::headers(&document)))
        },
    ))
}

/// `/docs/{type}`
pub async fn show(
    Shared(state): Shared<State>,
    mut visitor: Visitor,
    Path(event_type): Path<String>,
) -> Result<Markup, PageError> {
    let document = match document(&mut visitor.work, &[&event_type]).await {
        Err(problem) if is_forbidden(&problem) => return Ok(not_for_you(&visitor)),
        document => document?,
    };
    let types = document::event_types(&document);
    let Some(one) = types.iter().find(|one| one.event_type == event_type) else {
        return Err(Problem::not_found("event type").into());
    };
    let schema = event_schema(&mut visitor.work, &event_type).await?;
    let data = data_of(one.schema);
    let forms = data.map(fields::forms).unwrap_or_default();
    let key = data.and_then(fields::key);
    let samples = samples::requests(one.example, key.as_deref().unwrap_or_default(), &state.source);
    let noun = event_type.rsplit_once('.').map_or("", |(noun, _)| noun);
    let all = all_types(&mut visitor.work).await?;
    let siblings: Vec<&str> = all
        .iter()
        .map(|other| other.event_type.as_str())
        .filter(|other| *other != event_type && other.rsplit_once('.').is_some_and(|(of, _)| of == noun))
        .collect();
    Ok(page(
        &visitor,
        &event_type,
        html! {
            p { a href=(visitor.link("/docs")) { "All event types" } }
            h1 { (inert(&event_type)) }
            @if let Some(description) = &one.description { p.any { (inert(description)) } }
            @if !siblings.is_empty() {
                p { "Other events of the same noun: " @for (at, other) in siblings.iter().enumerate() { @if at > 0 { ", " } a href=(visitor.link(&format!("/docs/{other}"))) { code { (other) } } } }
            }
            h2 #fields { "Fields of " code { "data" } }
            (field_tables(&event_type, &forms))
            @if let Some(key) = &key {
                p.hint { "For a row that is too large (" code { "truncated" } ") or was erased, the event has only the key"
                    @if !key.is_empty() { ": " code.any { (inert(&key.join(", "))) } } "." }
            }
            h2 #request { "Example request" }
            (requests(&samples, visitor.noun()))
            h2 #schema { "JSON Schema of " code { "data" } }
            p { a href=(visitor.link(&format!("/docs/{event_type}/schema.json"))) download=(format!("{event_type}.json")) { "Download" } }
            details { summary { "Show" } pre tabindex="0" { (pretty(schema.get().as_bytes())) } }
            (verify(&document::headers(&document)))
        },
    ))
}

async fn event_schema(work: &mut Work, event_type: &str) -> Result<Box<RawValue>, Problem> {
    let sql = format!("select {}.webhook_event_schema($1)::text", work.schema());
    let found = work.json(&sql, &[&event_type]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("event type"))
}

fn field_tables(event_type: &str, forms: &[Form]) -> Markup {
    html! {
        @for (at, form) in forms.iter().enumerate() {
            @if let Some(description) = &form.description { p.any { (inert(description)) } }
            div.scroll tabindex="0" role="region" aria-label="Fields" { table.fields.cards {
                caption.hidden { "Fields of " (event_type) @if forms.len() > 1 { ", form " (at + 1) } }
                thead { tr { th scope="col" { "Field" } th scope="col" { "Type" } th scope="col" { "Null" } th scope="col" { "Values" } th scope="col" { "Meaning" } } }
                tbody { @for field in &form.fields { tr {
                    th scope="row" { code.any { (inert(&field.name)) } }
                    td data-label="Type" { (inert(&field.kind)) }
                    td.t data-label="Null" { @if field.is_nullable { "allowed" } @else { "never" } }
                    td.any data-label="Values" { (inert(&field.constraint)) }
                    td.any data-label="Meaning" { (inert(field.description.as_deref().unwrap_or_default())) }
                } } }
            } }
            @if at + 1 < forms.len() { p { "These events come from several tables. Another form:" } }
        }
        @if forms.is_empty() { p { "The fields are not known. See the schema." } }
    }
}

fn requests(samples: &[EventSample], noun: &str) -> Markup {
    html! {
        p { "The format depends on the " (noun) ". Every request is signed. These examples are signed with " code.any { (SECRET) } ": a correct verifier accepts exactly these bytes, except that they are too old." }
        @for sample in samples {
            details open[sample.format == Format::Standard] {
                summary { "Format " code { (sample.format.as_str()) } }
                pre tabindex="0" { (inert(&sample.head)) "\n\n" (inert(&String::from_utf8_lossy(&sample.body))) }
            }
        }
        @if samples.is_empty() { p { "The example that a user entered is not a valid body." } }
    }
}

fn verify(headers: &[Header]) -> Markup {
    html! {
        h2 #verify { "How to verify" }
        @if !headers.is_empty() {
            dl.facts.panel { @for header in headers {
                dt { code { (inert(&header.name)) } } dd.any { (inert(header.description.as_deref().unwrap_or_default())) }
            } }
        }
        p { "Verify the bytes of the body as they arrived, before you parse them. Reject timestamps that are more than five minutes old or ahead. If there are several signatures, one valid signature is enough. Compare in constant time. These examples need only the standard library of their language:" }
        @for snippet in &SNIPPETS {
            details { summary { (snippet.language) " (" code { (snippet.file) } ")" } pre tabindex="0" { (snippet.text) } }
        }
    }
}

fn attachment(name: &str, text: &str) -> Response {
    // Names are ours, or event types, which contain letters, digits, dots and underscores.
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers =
        [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, text.to_owned()).into_response()
}

/// `/docs/{type}/schema.json`
pub async fn schema(mut visitor: Visitor, Path(event_type): Path<String>) -> Result<Response, PageError> {
    let schema = event_schema(&mut visitor.work, &event_type).await?;
    Ok(attachment(&format!("{event_type}.json"), schema.get()))
}

/// `/docs/documents/{name}`
pub async fn download(mut visitor: Visitor, Path(name): Path<String>) -> Result<Response, PageError> {
    let function = match name.as_str() {
        "openapi.json" => "webhook_openapi",
        "asyncapi.json" => "webhook_asyncapi",
        _ => return Err(Problem::not_found("document").into()),
    };
    visitor.work.query("select set_config('statement_timeout', $1, true)", &[&DOCUMENT_TIMEOUT]).await?;
    let sql = format!("select {}.{function}()::text", visitor.work.schema());
    let row = visitor.work.row(&sql, &[]).await?;
    let document: String = row.try_get(0).map_err(Problem::from)?;
    Ok(attachment(&name, &document))
}
