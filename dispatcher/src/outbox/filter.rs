//! After the patterns: subscriptions with a filter get only what it lets through. Postgres decides, for a whole batch at
//! once and with the very function that the views and webhook_dry_run() use.
//!
//! The filter is the one that held when the event came, as the routing table knows it, not the one that stands in the
//! table by the time of asking. After a start, deliveries that have neither attempt nor queue row are asked about by
//! the filters of that moment: an event of the last second before a crash may meet one that is younger than it.

use super::{Batch, Error};
use crate::router::{Revisions, Router};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tokio_postgres::{Client, Statement};

/// By the index, and the slot lets each look-up open one partition instead of sixteen.
const MATCHING: &str = "
    select p.event_id, p.subscription_id
    from unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::integer[], $6::bigint[])
         as p (slot, event_id, subscription_id, filter, xid)
    join webhook.event e on e.slot = p.slot and e.xid = p.xid and e.id = p.event_id
    where webhook.filter_matches(e, ($5::text[])[p.filter]::jsonpath)";

/// Asks through the reader's connection.
#[derive(Debug, Default)]
pub struct Filter {
    statement: Option<Statement>,
}

/// The deliveries to ask about, column by column; a filter is named by its place in `paths`, from 1.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pairs {
    slots: Vec<i16>,
    xids: Vec<i64>,
    events: Vec<i64>,
    subscriptions: Vec<i64>,
    filters: Vec<i32>,
    paths: Vec<Arc<str>>,
}

impl Pairs {
    fn of(batch: &Batch, router: &Router, revisions: &Revisions) -> Self {
        let mut pairs = Self::default();
        let mut places: HashMap<Arc<str>, i32> = HashMap::new();
        for (event, subscription_id) in batch.deliveries() {
            // What is for one subscription alone has been asked for.
            let filter = router.filter(revisions, event, subscription_id);
            let Some(filter) = filter.filter(|_| event.subscription_id.is_none()) else { continue };
            let place = *places.entry(Arc::clone(filter)).or_insert_with_key(|path| {
                pairs.paths.push(Arc::clone(path));
                i32::try_from(pairs.paths.len()).unwrap_or(i32::MAX)
            });
            pairs.slots.push(event.slot);
            pairs.xids.push(event.xid.cast_signed());
            pairs.events.push(event.id);
            pairs.subscriptions.push(subscription_id);
            pairs.filters.push(place);
        }
        pairs
    }
}

impl Filter {
    /// Takes out of a batch the deliveries that a filter does not let through. Asks nothing when there is none.
    ///
    /// # Errors
    /// Those of the connection. What a filter cannot evaluate does not match, and is no error.
    pub async fn strike(
        &mut self,
        client: &Client,
        batch: &mut Batch,
        (router, revisions): (&Router, &Revisions),
    ) -> Result<(), Error> {
        if !router.filters() && revisions.is_empty() {
            return Ok(());
        }
        let pairs = Pairs::of(batch, router, revisions);
        if pairs.events.is_empty() {
            return Ok(());
        }
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => self.statement.insert(client.prepare(MATCHING).await?).clone(),
        };
        let paths: Vec<&str> = pairs.paths.iter().map(|path| &**path).collect();
        let rows = client
            .query(
                &statement,
                &[&pairs.slots, &pairs.events, &pairs.subscriptions, &pairs.filters, &paths, &pairs.xids],
            )
            .await?;
        let matching = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let matching = matching.collect::<Result<HashSet<(i64, i64)>, tokio_postgres::Error>>()?;
        let asked: HashSet<(i64, i64)> = pairs.events.into_iter().zip(pairs.subscriptions).collect();
        batch.retain(|event_id, subscription_id| {
            let pair = (event_id, subscription_id);
            !asked.contains(&pair) || matching.contains(&pair)
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Event,
        message::{Budget, Message},
        subscription::Subscription,
    };

    #[test]
    fn only_deliveries_with_a_filter_are_asked_about() {
        let subscription = |id, filter: Option<&str>| {
            (id, Arc::new(Subscription { filter: filter.map(Arc::from), ..Subscription::sample(id) }))
        };
        let table = [
            subscription(1, Some("$.data.a > 1")),
            subscription(2, None),
            subscription(3, Some("$.data.b")),
            subscription(4, Some("$.data.a > 1")),
        ];
        let router = Router::new(Arc::new(table.into_iter().collect()));
        let budget = Arc::new(Budget::default());
        let message = |id, subscription_id, end| {
            let event = Event { slot: 7, subscription_id, ..Event::sample(id) };
            (Arc::new(Message::new(event, &budget)), end)
        };
        let batch = Batch {
            events: vec![message(10, None, 4), message(11, Some(1), 5), message(12, None, 6)],
            targets: vec![1, 2, 3, 4, 1, 3],
            ..Batch::default()
        };
        let pairs = Pairs::of(&batch, &router, &Revisions::default());
        assert_eq!(
            pairs,
            Pairs {
                slots: vec![7; 4],
                xids: vec![1000; 4],
                events: vec![10, 10, 10, 12],
                subscriptions: vec![1, 3, 4, 3],
                filters: vec![1, 2, 1, 2],
                paths: vec!["$.data.a > 1".into(), "$.data.b".into()],
            }
        );
    }
}
