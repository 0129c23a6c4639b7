//! `webhookd delivery list` and `show`, with the rights of the role that connects. The list reads
//! ranges of event numbers, newest first, as REST does. So the cost of a statement does not depend
//! on the number of deliveries.

use crate::{
    cli::manage::DeliveryList,
    commands::{
        Error,
        session::{Argument, ClientSession, explain},
    },
};
use admin::deliveries::{DeliveryFilter, IdRange, conditions};
use std::time::Instant;

const COLUMNS: &str =
    "d.event_id, d.subscription_id as subscription, d.type, d.key, d.state, d.attempts, d.last_status as status,
    d.next_attempt_at, d.last_error as error";
const ATTEMPTS: &str = include_str!("sql/deliveries_attempts.sql");
/// A delivery without an attempt.
const IS_DUE: &str = include_str!("sql/deliveries_is_due.sql");
/// The range of numbers that can match. Clocks change, so events captured up to an hour off are
/// found too.
const BOUNDS: &str = include_str!("sql/deliveries_bounds.sql");
/// Roles that may see the deliveries of all owners skip gaps in the numbers.
const KNOWS_ALL: &str =
    "select has_function_privilege('webhook.delivery_number(bigint,text,bigint)', 'execute')";
const NEXT: &str = "select webhook.delivery_number($1, $2, $3)";

/// # Errors
/// The errors of the database, and an invalid event id.
pub async fn list(session: &ClientSession, flags: &DeliveryList) -> Result<Vec<String>, Error> {
    let DeliveryList { state, subscription, event_type, key, event, since, until, limit, .. } = flags;
    let filter = DeliveryFilter {
        subscription: *subscription,
        event_type: event_type.clone(),
        key: key.clone(),
        event: event.clone(),
        since: since.clone(),
        until: until.clone(),
        ..DeliveryFilter::default()
    };
    let (conditions, filters) = conditions(&filter, 4);
    let query = format!(
        "select {COLUMNS} from webhook.delivery d
         where d.sequence between $1 and $2 and (cardinality($3::text[]) = 0 or d.state = any ($3)){conditions}
         order by d.sequence desc, d.subscription_id limit $4"
    );
    let (first, last) = bounds(session, &filter).await?;
    let knows_all: bool = session.value(KNOWS_ALL, &[]).await?;
    let one_state = if let [state] = &state[..] { Some(state) } else { None };
    let (mut rows, mut below, mut range) = (Vec::new(), last, IdRange::new(*limit, *subscription));
    loop {
        let high: Option<i64> = if knows_all {
            session.value(NEXT, &[&below, &one_state, subscription]).await?
        } else {
            Some(below)
        };
        let left = limit.saturating_sub(i64::try_from(rows.len()).unwrap_or(i64::MAX));
        let Some(high) = high.filter(|high| *high >= first && left > 0) else { return Ok(rows) };
        let low = range.low(high).max(first);
        let mut arguments: Vec<Argument<'_>> = vec![&low, &high, state, &left];
        arguments.extend(&filters);
        let began = Instant::now();
        rows.extend(session.rows(&query, &arguments).await?);
        range.adapt(began.elapsed());
        below = low - 1;
    }
}

async fn bounds(session: &ClientSession, filter: &DeliveryFilter) -> Result<(i64, i64), Error> {
    let row = session.client.query_one(BOUNDS, &[&filter.since, &filter.until, &filter.event]).await;
    let row = row.map_err(explain)?;
    let get = |at| row.try_get::<_, Option<i64>>(at).map_err(explain);
    let (first, last) = (get(0)?.unwrap_or(1).max(1), get(1)?.unwrap_or(0));
    match (&filter.event, get(2)?) {
        (None, _) => Ok((first, last)),
        (Some(_), Some(sequence)) => Ok((first.max(sequence), last.min(sequence))),
        (Some(event), None) => Err(Error::Refused {
            message: format!("invalid event id {event}; an event id is evt_ followed by hexadecimal digits"),
        }),
    }
}

/// Returns every attempt to deliver an event. A delivery without attempts has an answer. An event
/// without a delivery is an error.
///
/// # Errors
/// The errors of the database, and an event without a delivery.
pub async fn attempts(
    session: &ClientSession,
    event: &str,
    subscription: Option<i64>,
) -> Result<Vec<String>, Error> {
    let rows = session.rows(ATTEMPTS, &[&event, &subscription]).await?;
    if rows.is_empty() && !session.value::<bool>(IS_DUE, &[&event, &subscription]).await? {
        let message = format!("event {event} has no delivery, or this role cannot see it");
        return Err(Error::Refused { message });
    }
    Ok(rows)
}
