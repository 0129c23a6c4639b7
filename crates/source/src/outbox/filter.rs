//! Removes the deliveries that their subscription's filter rejects. Runs after the router.
//!
//! Postgres evaluates the filters, in one statement for a whole batch. The router supplies the
//! filter that applied when the event was captured. The table may contain a newer filter by now.
//!
//! There are two exceptions. After a start, deliveries without an attempt and without a queue row
//! are evaluated with the present filters. An event of the last second before a crash may therefore
//! meet a newer filter. And if a filter is too slow, its deliveries go to the queue: the filter
//! that the subscription has when it opens again decides.

use crate::{
    matching::{Answer, Matching, Pair},
    outbox::Error,
    router::{Revisions, Router},
    slow_filters::SlowFilters,
};
use database::Client;
use delivery::{
    event::Event,
    feed::{Batch, Deliveries},
};
use std::sync::Arc;

/// Evaluates filters on the reader's connection.
#[derive(Debug)]
pub struct Filter {
    matching: Matching,
    pub slow_filters: Arc<SlowFilters>,
}

/// Returns the deliveries whose filter must be evaluated.
fn pairs(batch: &Batch, router: &Router, revisions: &Revisions) -> Vec<Pair> {
    let pair = |(event, subscription_id): (&Event, i64)| {
        // An event for one subscription alone was requested, so no filter applies.
        let filter = router.filter(revisions, event, subscription_id);
        let filter = Arc::clone(filter.filter(|_| event.subscription_id.is_none())?);
        Some(Pair { event_id: event.id, place: event.place(), subscription_id, filter })
    };
    batch.deliveries().filter_map(pair).collect()
}

impl Filter {
    pub fn new(slow_filters: Arc<SlowFilters>) -> Self {
        Self { matching: Matching::default(), slow_filters }
    }

    /// Removes from a batch the deliveries that a filter rejects. Sends no query if no filter
    /// applies.
    ///
    /// # Errors
    /// Returns the errors of the connection. A filter that cannot be evaluated does not match; this
    /// is not an error.
    pub async fn filter_out(
        &mut self,
        client: &Client,
        batch: &mut Batch,
        (router, revisions): (&Router, &Revisions),
    ) -> Result<(), Error> {
        if !router.filters() && revisions.is_empty() {
            return Ok(());
        }
        let pairs = pairs(batch, router, revisions);
        if pairs.is_empty() {
            return Ok(());
        }
        let asked: Deliveries = pairs.iter().map(|pair| (pair.event_id, pair.subscription_id)).collect();
        let Answer { passed, undecided } = self.matching.ask(client, pairs, &self.slow_filters).await?;
        batch.retain(|event_id, subscription_id| {
            let pair = (event_id, subscription_id);
            !asked.contains(&pair) || passed.contains(&pair) || undecided.contains(&pair)
        });
        batch.undecided = undecided;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::{
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
        let router = Router::new(table.into_iter().collect());
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
        let asked = pairs(&batch, &router, &Revisions::default());
        let asked: Vec<_> = asked.iter().map(|p| (p.event_id, p.subscription_id, &*p.filter)).collect();
        let (a, b) = ("$.data.a > 1", "$.data.b");
        assert_eq!(asked, [(10, 1, a), (10, 3, b), (10, 4, a), (12, 3, b)]);
    }
}
