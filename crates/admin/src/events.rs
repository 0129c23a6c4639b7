//! `/v1/events`, `/v1/event-types`, and the route where a receiver gets events that it has missed.

use crate::{
    State,
    answers::{Page, Problems},
    cursor::Cursor,
    extract::{EventId, Id, Query, number},
    guard::Api,
    problem::Problem,
    sessions::{Params, Work},
    subscriptions::{self, page_rows},
};
use axum::{Json, extract::State as Shared, http::StatusCode};
use bytes::Bytes;
use database::{
    Encoding,
    value::{Micros, Raw},
};
use delivery::{
    body,
    event::Event as Captured,
    shape::{Format, PayloadMode, Shape},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;
use utoipa::{IntoParams, ToSchema};

/// Number of events that are read for a page in one step: at least some more than requested. If too
/// few match, the next step reads more. Each step has a statement of its own. A time limit ends the
/// search, so a filter that matches little makes short pages and not slow ones.
const LOOK_ROWS: [i64; 4] = [64, 256, 1_000, 5_000];
const LOOK_TIME: Duration = Duration::from_millis(800);

/// An event type.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventType {
    #[serde(rename = "type")]
    pub event_type: String,
    /// The table whose changes it describes. Null for owners, and if the application emits it.
    pub relation: Option<String>,
    pub description: Option<String>,
}

/// An event, without its data.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    pub id: String,
    pub sequence: i64,
    #[serde(rename = "type")]
    pub event_type: String,
    pub timestamp: String,
    pub table: Option<String>,
    pub key: Option<String>,
    pub actor: Option<String>,
    pub origin: Option<String>,
    /// The data was over the size limit and has been cut to the key.
    pub truncated: bool,
}

/// An event with its data.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WholeEvent {
    #[serde(flatten)]
    pub event: Event,
    #[schema(value_type = serde_json::Value)]
    pub data: Box<RawValue>,
    /// Former values of the columns that an update changed.
    #[schema(value_type = Option<serde_json::Value>)]
    pub previous: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// `next` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of rows, 1 to 200 [default: 50].
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    /// A type, or a pattern: `order.*`.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// The key of the row.
    pub key: Option<String>,
    /// From this moment on.
    pub since: Option<String>,
    /// Before this moment.
    pub until: Option<String>,
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Pull {
    /// `next` of the previous answer, or the id of the last event that was received. Without it,
    /// the oldest event.
    pub after: Option<String>,
    /// Number of events to read, 1 to 1000 [default: 100]. Events that do not match are left out of
    /// the answer.
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u16>,
}

/// Events that match a subscription.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pulled {
    /// In the `standard` format, as they are delivered.
    #[schema(value_type = Vec<serde_json::Value>)]
    pub items: Vec<Box<RawValue>>,
    /// Pass it as `after`, now or later. It is never null.
    pub next: String,
    /// Whether more events are available now.
    pub more: bool,
}

const COLUMNS: &str =
    "webhook.public_id(e.id, e.created_at) as id, e.id as sequence, e.type, e.created_at as timestamp,
    e.table_name as \"table\", e.key, e.actor, e.origin, e.truncated";

/// The same columns, of the view for owners.
const OWNED_COLUMNS: &str = "e.event_id as id, e.sequence, e.type, e.created_at as timestamp,
    e.table_name as \"table\", e.key, e.actor, e.origin, e.truncated";

/// List event types
///
/// Owners get the types that are offered to them: public ones whose events have owners.
#[utoipa::path(get, operation_id = "list_event_types", path = "/v1/event-types", tag = "events",
    responses((status = 200, description = "The event types", body = Page<EventType>), Problems))]
pub async fn types(Api(mut work): Api) -> Result<Json<Page<EventType>>, Problem> {
    Ok(Json(Page { items: all_types(&mut work).await?, next: None }))
}

/// Returns the event types that are offered to the caller.
///
/// # Errors
/// The errors of the statement.
pub async fn all_types(work: &mut Work) -> Result<Vec<EventType>, Problem> {
    work.json(include_str!("sql/event_types.sql"), &[]).await
}

/// List events
///
/// Newest first. Owners get their own events and announcements, without internal types. To read on
/// without a gap, use `/v1/subscriptions/{id}/events`. A page may be short or empty: `next` is null
/// at the end.
#[utoipa::path(get, operation_id = "list_events", path = "/v1/events", tag = "events", params(EventFilter),
    responses((status = 200, description = "A page", body = Page<Event>), Problems))]
pub async fn list(
    Api(mut work): Api,
    Query(filter): Query<EventFilter>,
) -> Result<Json<Page<Event>>, Problem> {
    page(&mut work, &filter).await.map(Json)
}

/// A row with its position.
#[derive(Deserialize)]
struct Placed {
    xid: i64,
    /// Whether the filter matches. A row that does not match only shows how far the search has
    /// come.
    fits: bool,
    event: Event,
}

/// Reports whether the caller may read every event. For all others, the view for owners decides.
async fn sees_all(work: &mut Work) -> Result<bool, Problem> {
    Ok(work.row("select webhook.may_see_all()", &[]).await?.try_get(0)?)
}

/// A step of a search: it starts before `from`, and reads `look` events.
struct Step<'a> {
    filter: &'a EventFilter,
    from: Cursor,
    look: i64,
    /// The number of matching events that the page still lacks.
    wanted: i64,
}

impl Step<'_> {
    /// Returns the matching events, and the position that the step has reached. `None` at the end.
    /// The view for owners decides for callers that do not see all.
    async fn take(&self, work: &mut Work, sees_all: bool) -> Result<Option<(Vec<Placed>, Cursor)>, Problem> {
        if sees_all { self.all(work).await } else { self.owned(work).await }
    }

    /// The events of all owners.
    async fn all(&self, work: &mut Work) -> Result<Option<(Vec<Placed>, Cursor)>, Problem> {
        let EventFilter { event_type, key, since, until, .. } = self.filter;
        let sql = format!(include_str!("sql/events_page.sql"), columns = COLUMNS, look = self.look);
        let parameters: Params<'_> =
            &[&self.from.0, &self.from.1, event_type, key, since, until, &self.wanted];
        let mut found: Vec<Placed> = work.json(&sql, parameters).await?;
        let Some(last) = found.last() else { return Ok(None) };
        let end = Cursor(last.xid, last.event.sequence);
        found.retain(|placed| placed.fits);
        Ok(Some((found, end)))
    }

    /// The same with the events of the caller. The end of the step does not depend on how many of
    /// the events in between the caller has.
    async fn owned(&self, work: &mut Work) -> Result<Option<(Vec<Placed>, Cursor)>, Problem> {
        let EventFilter { event_type, key, since, until, .. } = self.filter;
        let sql = format!(include_str!("sql/events_stretch.sql"), look = self.look);
        let rows = work.as_daemon(&sql, &[&self.from.0, &self.from.1, since, until]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let end = Cursor(row.try_get(0)?, row.try_get(1)?);
        let sql = format!(include_str!("sql/events_owned.sql"), columns = OWNED_COLUMNS);
        let parameters: Params<'_> =
            &[&self.from.0, &self.from.1, event_type, key, since, until, &self.wanted, &end.0, &end.1];
        Ok(Some((work.json(&sql, parameters).await?, end)))
    }
}

/// Returns a page of events.
///
/// # Errors
/// An invalid filter, and the errors of the statement.
pub async fn page(work: &mut Work, filter: &EventFilter) -> Result<Page<Event>, Problem> {
    let rows = page_rows(filter.limit)?;
    subscriptions::check_moment(work, "since", &filter.since).await?;
    subscriptions::check_moment(work, "until", &filter.until).await?;
    let mut from = filter.cursor.as_deref().map(Cursor::parse).transpose()?.unwrap_or(Cursor::NEWEST);
    let (mut items, began) = (Vec::new(), Instant::now());
    let mut looks = LOOK_ROWS.into_iter().skip_while(|look| *look < rows + rows / 4);
    let mut look = 0;
    let sees_all = sees_all(work).await?;
    loop {
        look = looks.next().unwrap_or(look);
        let wanted = rows - i64::try_from(items.len()).unwrap_or(rows);
        let found = Step { filter, from, look, wanted }.take(work, sees_all).await?;
        let Some((found, end)) = found else { return Ok(Page { items, next: None }) };
        let mut full_at = None;
        for placed in found {
            if items.len() < usize::try_from(rows).unwrap_or_default() {
                full_at = Some(Cursor(placed.xid, placed.event.sequence));
                items.push(placed.event);
            }
        }
        if items.len() >= usize::try_from(rows).unwrap_or_default() {
            let next = full_at.unwrap_or(end);
            return Ok(Page { items, next: Some(next.to_string()) });
        }
        from = end;
        if began.elapsed() > LOOK_TIME {
            let rest = Step { filter, from, look: 1, wanted: 1 }.take(work, sees_all).await?;
            return Ok(Page { items, next: rest.map(|_| end.to_string()) });
        }
    }
}

/// Show an event
#[utoipa::path(get, operation_id = "read_event", path = "/v1/events/{event_id}", tag = "events", params(("event_id" = String, Path)),
    responses((status = 200, description = "The event, with its data", body = WholeEvent), Problems))]
pub async fn read(Api(mut work): Api, EventId(event_id): EventId) -> Result<Json<WholeEvent>, Problem> {
    find(&mut work, &event_id).await.map(Json)
}

/// Returns an event by its public id, if the caller may read it.
///
/// # Errors
/// 404, and the errors of the statement.
pub async fn find(work: &mut Work, event_id: &str) -> Result<WholeEvent, Problem> {
    let sql = if sees_all(work).await? {
        format!(
            "select row_to_json(x)::text from (select {COLUMNS}, e.payload as data, e.previous from webhook.find_event($1) e) x"
        )
    } else {
        format!(include_str!("sql/events_owned_one.sql"), columns = OWNED_COLUMNS)
    };
    let found = work.json(&sql, &[&event_id]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("event"))
}

/// The columns of [`captured`], in the views for subscribers.
pub const CAPTURED: &str =
    "e.sequence, e.xid, e.created_at, e.truncated, e.type, e.table_name, e.key, e.actor, e.origin,
    e.traceparent, e.payload, e.previous";

/// Parses an event from [`CAPTURED`].
///
/// # Errors
/// A column of another type.
pub fn captured(row: &Row, encoding: Encoding) -> Result<Captured, tokio_postgres::Error> {
    let mut replaced = false;
    let mut read = |at| -> Result<Option<String>, tokio_postgres::Error> {
        let raw: Option<Raw<'_>> = row.try_get(at)?;
        Ok(raw.map(|raw| {
            let (text, is_replaced) = encoding.read(raw.0);
            replaced |= is_replaced;
            text.into_owned()
        }))
    };
    let boxed = |text: Option<String>| text.map(Box::from);
    let event = Captured {
        id: row.try_get(0)?,
        slot: 0,
        xid: row.try_get::<_, i64>(1)?.unsigned_abs(),
        created_at_us: row.try_get::<_, Micros>(2)?.0,
        subscription_id: None,
        truncated: row.try_get(3)?,
        event_type: boxed(read(4)?).unwrap_or_default(),
        table_name: boxed(read(5)?),
        key: boxed(read(6)?),
        actor: boxed(read(7)?),
        origin: boxed(read(8)?),
        traceparent: boxed(read(9)?),
        payload: read(10)?.map(Bytes::from).unwrap_or_default(),
        previous: read(11)?.map(Bytes::from),
        owner: None,
        order_key: None,
        replaced: false,
    };
    Ok(Captured { replaced, ..event })
}

/// List missed events
///
/// Events that match the subscription as it is now, delivered or not, in the order of transactions.
/// An event that commits later is not skipped. Apply the events of a key in the order of
/// `sequence`.
#[utoipa::path(get, operation_id = "pull_events", path = "/v1/subscriptions/{id}/events", tag = "events", params(("id" = i64, Path), Pull),
    responses((status = 200, description = "Events", body = Pulled), Problems))]
pub async fn pull(
    Shared(state): Shared<State>,
    Api(mut work): Api,
    Id(id): Id,
    Query(pull): Query<Pull>,
) -> Result<Json<Pulled>, Problem> {
    let rows = match pull.limit.unwrap_or(100) {
        limit @ 1..=1000 => i32::from(limit),
        _ => {
            return Err(
                Problem::new(StatusCode::BAD_REQUEST, "limit must be between 1 and 1000").field("limit")
            );
        }
    };
    let subscription = subscriptions::find(&mut work, id).await?;
    let after = match pull.after.as_deref() {
        None => Cursor(0, 0),
        Some(text) if text.starts_with("evt_") => {
            let found = work.query(include_str!("sql/event_place.sql"), &[&text, &id]).await?;
            let row = found.first().ok_or_else(|| Problem::not_found("event").field("after"))?;
            Cursor(row.try_get(0)?, row.try_get(1)?)
        }
        Some(text) => Cursor::parse(text).map_err(|problem| problem.field("after"))?,
    };
    let range = "select xid, id, rows from webhook.event_stretch($1, $2, $3)";
    let found = work.query(range, &[&after.0, &after.1, &rows]).await?;
    let Some(row) = found.first() else {
        return Ok(Json(Pulled { items: Vec::new(), next: after.to_string(), more: false }));
    };
    let (end, count): (Cursor, i64) = (Cursor(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
    let sql = format!(
        "select {CAPTURED} from webhook.matching_event e
         where e.subscription_id = $1 and (e.xid, e.sequence) > ($2, $3) and (e.xid, e.sequence) <= ($4, $5)
         order by e.xid, e.sequence"
    );
    let found = work.query(&sql, &[&id, &after.0, &after.1, &end.0, &end.1]).await?;
    let shape = Shape {
        format: Format::Standard,
        payload_mode: PayloadMode::parse(subscription.text("payload_mode")).unwrap_or_default(),
    };
    let mut items = Vec::with_capacity(found.len());
    for row in &found {
        let body = body::render(&captured(row, work.encoding())?, 1, shape, &state.source).body;
        let text = String::from_utf8_lossy(&body).into_owned();
        items.push(
            RawValue::from_string(text).map_err(|_| {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "cannot read an event's data")
            })?,
        );
    }
    Ok(Json(Pulled { items, next: end.to_string(), more: count >= i64::from(rows) }))
}
