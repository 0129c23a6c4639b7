//! `/v1/deliveries`: deliveries, their attempts, and redelivery.
//!
//! Reads `webhook.delivery` and `webhook.attempt` with the caller's rights, and calls
//! `webhook_redeliver`. The page uses the same functions. The search for the next event number runs
//! with the daemon's rights; no row that a caller sees comes from it.

use crate::{
    answers::{Page, Problems},
    cursor::Cursor,
    extract::{DeliveryId, Query, number},
    guard::Api,
    problem::Problem,
    sessions::Work,
    subscriptions::{self, page_rows},
    words,
};
use axum::{Json, http::StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use utoipa::{IntoParams, ToSchema};

/// Time limit of a search. A filter that matches few rows makes pages short, not slow.
const LOOK_TIME: Duration = Duration::from_millis(800);

/// The number of event numbers that one query reads.
///
/// For one subscription, it starts with the number of wanted rows. For all, it starts with one
/// event, because that event may have thousands of deliveries. After each query that found too
/// little, it grows: by a factor of 16 after a query that took a few milliseconds, otherwise by
/// four, up to `MAX`. If the query was slow, it is halved instead.
#[derive(Debug)]
pub struct IdRange(i64);

impl IdRange {
    const MAX: i64 = 65_536;
    const SLOW: Duration = Duration::from_millis(200);
    const FAST: Duration = Duration::from_millis(5);

    pub fn new(rows: i64, subscription: Option<i64>) -> Self {
        Self(if subscription.is_some() { rows.clamp(1, Self::MAX) } else { 1 })
    }

    /// Returns the lowest event number of the query that starts at `high` and goes down.
    pub fn low(&self, high: i64) -> i64 {
        high.saturating_sub(self.0 - 1)
    }

    /// Adapts the size to the duration of the last query.
    pub fn adapt(&mut self, took: Duration) {
        let grown = |factor: i64| (self.0 * factor).min(Self::MAX);
        self.0 = match took {
            _ if took > Self::SLOW => (self.0 / 2).max(1),
            _ if took < Self::FAST => grown(16),
            _ => grown(4),
        };
    }
}

/// An event for a subscription.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Delivery {
    pub event_id: String,
    pub subscription_id: i64,
    pub sequence: i64,
    /// Null if the event is older than the retention.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    pub key: Option<String>,
    #[schema(schema_with = words::states)]
    pub state: String,
    pub attempts: i64,
    pub next_attempt_at: Option<String>,
    pub last_status: Option<i16>,
    pub last_error: Option<String>,
    pub created_at: Option<String>,
    pub delivered_at: Option<String>,
}

/// A request for a delivery.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Starts at 1.
    pub attempt: i16,
    pub started_at: String,
    /// Time until the outcome was known.
    pub duration_ms: f32,
    /// HTTP status, if the receiver sent one.
    pub status: Option<i16>,
    #[schema(schema_with = words::outcomes)]
    pub outcome: String,
    /// Time of the next attempt; null if this was the last one.
    pub next_at: Option<String>,
    pub error: Option<String>,
    /// The start of the receiver's response body, unchanged.
    pub response: Option<String>,
    pub dns_ms: Option<f32>,
    pub connect_ms: Option<f32>,
    pub tls_ms: Option<f32>,
    pub first_byte_ms: Option<f32>,
    /// `webhook-id` of the request, if it contained several events.
    pub batch_id: Option<String>,
}

#[derive(Debug, Default, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryFilter {
    /// `next` of the previous page.
    pub cursor: Option<String>,
    /// Maximum number of rows in the page, 1 to 200 [default: 50].
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u16>,
    #[param(schema_with = words::states)]
    pub state: Option<String>,
    /// Id of a subscription.
    #[serde(default, deserialize_with = "number")]
    pub subscription: Option<i64>,
    /// An event type, or a pattern such as `order.*`.
    #[serde(rename = "type")]
    pub event_type: Option<String>,
    /// Value of the event's key.
    pub key: Option<String>,
    /// Id of an event, `evt_…`.
    pub event: Option<String>,
    /// Only events captured at this time or later.
    pub since: Option<String>,
    /// Only events captured before this time.
    pub until: Option<String>,
}

const COLUMNS: &str =
    "d.event_id, d.subscription_id, d.sequence, d.type, d.key, d.state, d.attempts, d.next_attempt_at,
    d.last_status, d.last_error, d.created_at, d.delivered_at";

/// List deliveries
///
/// The newest events come first. A page may be short or empty; there are more rows if `next` is not
/// null.
#[utoipa::path(get, operation_id = "list_deliveries", path = "/v1/deliveries", tag = "deliveries", params(DeliveryFilter),
    responses((status = 200, description = "A page", body = Page<Delivery>), Problems))]
pub async fn list(
    Api(mut work): Api,
    Query(filter): Query<DeliveryFilter>,
) -> Result<Json<Page<Delivery>>, Problem> {
    page(&mut work, &filter).await.map(Json)
}

/// Returns the conditions of a filter on `webhook.delivery d` as SQL, and their values.
/// `parameters` is the number of parameters before them.
pub fn conditions(filter: &DeliveryFilter, parameters: usize) -> (String, Vec<&(dyn ToSql + Sync)>) {
    fn given<T: ToSql + Sync>(value: &Option<T>) -> Option<&(dyn ToSql + Sync)> {
        value.as_ref().map(|value| value as _)
    }
    let all = [
        ("d.state = #", given(&filter.state)),
        ("d.subscription_id = #", given(&filter.subscription)),
        ("webhook.pattern_matches(array[#::text], d.type)", given(&filter.event_type)),
        ("d.key = #", given(&filter.key)),
        ("d.event_id = #", given(&filter.event)),
        ("d.created_at >= #::text::timestamptz", given(&filter.since)),
        ("d.created_at < #::text::timestamptz", given(&filter.until)),
    ];
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (condition, value) in all {
        if let Some(value) = value {
            values.push(value);
            sql.push_str(" and ");
            sql.push_str(&condition.replace('#', &format!("${}", values.len() + parameters)));
        }
    }
    (sql, values)
}

/// Returns a page of deliveries. It reads ranges of event numbers, so the cost of a query does not
/// depend on the number of deliveries.
///
/// # Errors
/// Returns a problem if the filter is not valid, and the errors of the statements.
pub async fn page(work: &mut Work, filter: &DeliveryFilter) -> Result<Page<Delivery>, Problem> {
    if filter.state.as_deref().is_some_and(|state| !words::STATES.contains(&state)) {
        let detail = "state must be delivered, retrying, queued or exhausted";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).field("state"));
    }
    let rows = page_rows(filter.limit)?;
    subscriptions::check_moment(work, "since", &filter.since).await?;
    subscriptions::check_moment(work, "until", &filter.until).await?;
    let (first, last) = bounds(work, filter).await?;
    let mut from = filter.cursor.as_deref().map(Cursor::parse).transpose()?.unwrap_or(Cursor::NEWEST);
    let (conditions, filters) = conditions(filter, 5);
    let wanted = rows + 1;
    let full = usize::try_from(rows).unwrap_or_default();
    let sql = format!(
        "select row_to_json(x)::text from (select {COLUMNS} from webhook.delivery d
         where d.sequence between $1 and $2 and d.sequence <= $3 and (d.sequence < $3 or d.subscription_id < $4){conditions}
         order by d.sequence desc, d.subscription_id desc limit $5) x"
    );
    let mut items = Vec::<Delivery>::new();
    let mut range = IdRange::new(wanted, filter.subscription);
    let (mut below, mut is_late, began) = (last.min(from.0), false, Instant::now());
    loop {
        const NEXT: &str = "select webhook.delivery_number($1, $2, $3)";
        let next = work.as_daemon(NEXT, &[&below, &filter.state, &filter.subscription]).await?;
        let next: Option<i64> = next.first().map(|row| row.try_get(0)).transpose()?.flatten();
        let Some(high) = next.filter(|high| *high >= first) else {
            return Ok(Page { items, next: None });
        };
        if is_late {
            return Ok(Page { items, next: Some(Cursor(high, i64::MAX).to_string()) });
        }
        let low = range.low(high).max(first);
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&low, &high, &from.0, &from.1, &wanted];
        values.extend(&filters);
        let look_began = Instant::now();
        items.extend(work.json::<Delivery>(&sql, &values).await?);
        if items.len() > full {
            items.truncate(full);
            let next = items.last().map(|last| Cursor(last.sequence, last.subscription_id).to_string());
            return Ok(Page { items, next });
        }
        if let Some(last) = items.last() {
            from = Cursor(last.sequence, last.subscription_id);
        }
        below = low - 1;
        range.adapt(look_began.elapsed());
        is_late = began.elapsed() > LOOK_TIME;
    }
}

/// Returns the first and last event number that can match a filter, from its event id and its
/// times.
async fn bounds(work: &mut Work, filter: &DeliveryFilter) -> Result<(i64, i64), Problem> {
    /// The range is one hour wider at both ends: clocks can be set, and an event that was captured
    /// an hour off must still be found. `webhook.number_at` is exact to 1000 numbers.
    const AT: &str = "select webhook.number_at($1::text::timestamptz - interval '1 hour'),
        webhook.number_at($2::text::timestamptz + interval '1 hour') + 1000";
    let (mut first, mut last) = (1, i64::MAX);
    if filter.since.is_some() || filter.until.is_some() {
        let rows = work.as_daemon(AT, &[&filter.since, &filter.until]).await?;
        if let Some(row) = rows.first() {
            let (since, until): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            (first, last) = (since.unwrap_or(first).max(first), until.unwrap_or(last));
        }
    }
    if let Some(event) = &filter.event {
        let sequence: Option<i64> =
            work.row("select webhook.event_sequence($1)", &[event]).await?.try_get(0)?;
        let Some(sequence) = sequence else {
            let problem = Problem::new(StatusCode::BAD_REQUEST, "event must be an event id").field("event");
            return Err(problem.hint("An event id is evt_ followed by hexadecimal digits."));
        };
        (first, last) = (first.max(sequence), last.min(sequence));
    }
    Ok((first, last))
}

/// Returns one delivery.
///
/// # Errors
/// Returns 404 if the delivery does not exist or belongs to another owner.
pub async fn find(work: &mut Work, event_id: &str, subscription_id: i64) -> Result<Delivery, Problem> {
    let sql = format!(
        "select row_to_json(x)::text from (select {COLUMNS} from webhook.delivery d
         where d.sequence = webhook.event_sequence($1) and d.subscription_id = $2 and d.event_id = $1) x"
    );
    let found = work.json(&sql, &[&event_id, &subscription_id]).await?;
    found.into_iter().next().ok_or_else(|| Problem::not_found("delivery"))
}

/// Returns the attempts of a delivery, the oldest first.
///
/// # Errors
/// Returns the errors of the statement.
pub async fn attempts_of(work: &mut Work, delivery: &Delivery) -> Result<Vec<Attempt>, Problem> {
    let sql = include_str!("sql/attempts_of_delivery.sql");
    work.json(sql, &[&delivery.sequence, &delivery.subscription_id]).await
}

/// Show a delivery
#[utoipa::path(get, operation_id = "read_delivery", path = "/v1/deliveries/{event_id}/{subscription_id}", tag = "deliveries",
    params(("event_id" = String, Path), ("subscription_id" = i64, Path)),
    responses((status = 200, description = "The delivery", body = Delivery), Problems))]
pub async fn read(
    Api(mut work): Api,
    DeliveryId(event_id, id): DeliveryId,
) -> Result<Json<Delivery>, Problem> {
    find(&mut work, &event_id, id).await.map(Json)
}

/// List attempts
///
/// Every request for the delivery, with its outcome.
#[utoipa::path(get, operation_id = "list_attempts", path = "/v1/deliveries/{event_id}/{subscription_id}/attempts", tag = "deliveries",
    params(("event_id" = String, Path), ("subscription_id" = i64, Path)),
    responses((status = 200, description = "All attempts", body = Page<Attempt>), Problems))]
pub async fn attempts(
    Api(mut work): Api,
    DeliveryId(event_id, id): DeliveryId,
) -> Result<Json<Page<Attempt>>, Problem> {
    let delivery = find(&mut work, &event_id, id).await?;
    Ok(Json(Page { items: attempts_of(&mut work, &delivery).await?, next: None }))
}

/// Redeliver
///
/// Sends the event now, with the same `webhook-id`. The delivery may be delivered, exhausted or
/// queued. Only callers who may read every event can send one that never matched the subscription.
#[utoipa::path(post, operation_id = "redeliver", path = "/v1/deliveries/{event_id}/{subscription_id}/redeliver", tag = "deliveries",
    params(("event_id" = String, Path), ("subscription_id" = i64, Path)),
    responses((status = 202, description = "Queued", body = Delivery), Problems))]
pub async fn redeliver(
    Api(mut work): Api,
    DeliveryId(event_id, id): DeliveryId,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    subscriptions::call(&mut work, "webhook_redeliver($1, $2)", &[&event_id, &id]).await?;
    let delivery = find(&mut work, &event_id, id).await?;
    work.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(delivery)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_begin_small_where_an_event_can_have_thousands_of_deliveries() {
        let low = |range: &IdRange| range.low(1_000_000);
        assert_eq!(low(&IdRange::new(51, Some(7))), 999_950);
        let mut range = IdRange::new(51, None);
        for (took_ms, first) in [(0, 1_000_000), (100, 999_985), (250, 999_937), (0, 999_969), (0, 999_489)] {
            assert_eq!(low(&range), first, "before {took_ms} ms");
            range.adapt(Duration::from_millis(took_ms));
        }
        assert_eq!(low(&range), 991_809);
    }
}
