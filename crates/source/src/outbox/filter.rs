//! Removes the deliveries that their subscription's filter rejects. Runs after the router.
//!
//! The daemon decides most filters itself, for each event as it is routed. Postgres evaluates the
//! others ([`filter_queue`](super::filter_queue)). The router supplies the filter that applied when
//! the event was captured. The table may contain a newer filter by now.
//!
//! There are two exceptions. After a start, deliveries without an attempt and without a queue row
//! are evaluated with the present filters. An event of the last second before a crash, or one that
//! was in the queue, may therefore meet a newer filter. And if a filter is too slow, its deliveries
//! go to the queue: the filter that the subscription has when it opens again decides.

use super::filter_queue::{FilterQueue, Portion};
use crate::{
    matching::{Matching, Pair},
    outbox::Error,
    parsed_filters::{ParsedFilters, subject},
    router::{Revisions, Router},
    slow_filters::SlowFilters,
};
use database::Client;
use delivery::event::Event;
use path_filter::Document;
use std::sync::Arc;

/// The daemon compares texts as Postgres does in a database in UTF-8.
const IS_UTF8: &str = "select current_setting('server_encoding') = 'UTF8'";

/// Decides filters. Those that Postgres must evaluate are evaluated on the reader's connection, or
/// in the queue.
#[derive(Debug)]
pub struct Filter {
    parsed: ParsedFilters,
    /// The database is in UTF-8. `None` if this is not known yet.
    is_utf8: Option<bool>,
    matching: Matching,
    pub slow_filters: Arc<SlowFilters>,
}

impl Filter {
    pub fn new(slow_filters: Arc<SlowFilters>) -> Self {
        Self { parsed: ParsedFilters::default(), is_utf8: None, matching: Matching::default(), slow_filters }
    }

    /// Asks for the encoding of the database, once, if there is a filter.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn prepare(
        &mut self,
        client: &Client,
        (router, revisions): (&Router, &Revisions),
    ) -> Result<(), Error> {
        if self.is_utf8.is_none() && (router.filters() || !revisions.is_empty()) {
            self.is_utf8 = Some(client.query_one(IS_UTF8, &[]).await?.try_get(0)?);
        }
        Ok(())
    }

    /// Returns the document of an event for filters. Returns `None` if Postgres must evaluate all
    /// of them.
    pub fn document<'a>(&self, event: &'a Event) -> Option<Document<'a>> {
        self.is_utf8.unwrap_or_default().then(|| Document::new(subject(event)))
    }

    /// Removes from the deliveries of an event those that a filter rejects. Appends to the part
    /// those that are not decided, and those that must stay behind them.
    pub fn select(
        &mut self,
        (event, document): (&Event, Option<&Document<'_>>),
        (router, revisions): (&Router, &Revisions),
        targets: &mut Vec<i64>,
        part: &mut Portion,
        queue: &mut FilterQueue,
    ) {
        let has_filters = router.filters() || !revisions.is_empty();
        if queue.is_empty() && !has_filters {
            return;
        }
        let subscriptions = router.subscriptions().len();
        targets.retain(|id| {
            // An event for one subscription alone was requested, so no filter applies.
            let filter = router.filter(revisions, event, *id).filter(|_| event.subscription_id.is_none());
            let decided = match (filter, document) {
                (None, _) => Some(true),
                (Some(text), Some(document)) => {
                    self.parsed.get(*id, text, subscriptions).and_then(|parsed| parsed.matches(document))
                }
                (Some(_), None) => None,
            };
            if decided == Some(false) || (decided == Some(true) && !queue.holds(*id)) {
                return decided == Some(true);
            }
            queue.enter(*id);
            part.batch.targets.push(*id);
            if let Some(filter) = filter.filter(|_| decided.is_none()) {
                let filter = Arc::clone(filter);
                let pair = Pair { event_id: event.id, place: event.place(), subscription_id: *id, filter };
                part.asked.push(pair);
            }
            false
        });
    }

    /// Evaluates a part here and now.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn decide(&mut self, client: &Client, part: &mut Portion) -> Result<(), Error> {
        part.decide(client, &mut self.matching, &self.slow_filters).await
    }
}

#[cfg(test)]
mod tests {
    //! Which deliveries are decided, and which go into the filter queue.

    use super::*;
    use crate::outbox::filter_queue;
    use delivery::subscription::Subscription;

    const BY_POSTGRES: &str = "$.data.* > 1";

    fn router() -> Router {
        let subscription = |id, filter: Option<&str>| {
            (id, Arc::new(Subscription { filter: filter.map(Arc::from), ..Subscription::sample(id) }))
        };
        let table = [
            subscription(1, Some("($.\"data\".\"a\" > 1)")),
            subscription(2, None),
            subscription(3, Some(BY_POSTGRES)),
            subscription(4, Some("($.\"data\".\"a\" < 1)")),
        ];
        Router::new(table.into_iter().collect())
    }

    fn selected(filter: &mut Filter, queue: &mut FilterQueue, event: &Event) -> (Vec<i64>, Portion) {
        let (mut targets, mut part) = (vec![1, 2, 3, 4], Portion::default());
        let document = filter.document(event);
        let event = (event, document.as_ref());
        filter.select(event, (&router(), &Revisions::default()), &mut targets, &mut part, queue);
        (targets, part)
    }

    fn asked(part: &Portion) -> Vec<i64> {
        part.asked.iter().map(|pair| pair.subscription_id).collect()
    }

    fn event(id: i64, payload: &'static [u8]) -> Event {
        Event { payload: payload.into(), ..Event::sample(id) }
    }

    fn filter(is_utf8: bool) -> Filter {
        Filter { is_utf8: Some(is_utf8), ..Filter::new(Arc::default()) }
    }

    #[test]
    fn only_undecided_deliveries_take_the_filter_queue() {
        let (mut filter, mut queue) = (filter(true), filter_queue::sample());
        let (direct, part) = selected(&mut filter, &mut queue, &event(10, br#"{"a": 2}"#));
        assert_eq!((direct, part.batch.targets.clone(), asked(&part)), (vec![1, 2], vec![3], vec![3]));
        assert_eq!(&*part.asked[0].filter, BY_POSTGRES);
        let targeted = Event { subscription_id: Some(4), ..event(11, b"{}") };
        let (direct, part) = selected(&mut filter, &mut queue, &targeted);
        assert_eq!((direct, part.batch.targets.clone()), (vec![1, 2, 4], vec![3]), "no filter applies");
        assert!(part.asked.is_empty(), "the delivery follows the earlier one, decided");
    }

    #[test]
    fn a_decided_delivery_stays_behind_an_undecided_one() {
        let (mut filter, mut queue) = (filter(true), filter_queue::sample());
        let uncertain = event(10, br#"{"a": 1e5000}"#);
        let (direct, part) = selected(&mut filter, &mut queue, &uncertain);
        assert_eq!((direct, asked(&part)), (vec![2], vec![1, 3, 4]));
        let (direct, part) = selected(&mut filter, &mut queue, &event(11, br#"{"a": 2}"#));
        assert_eq!((direct, part.batch.targets.clone(), asked(&part)), (vec![2], vec![1, 3], vec![3]));
    }

    #[test]
    fn postgres_decides_all_filters_of_a_database_in_another_encoding() {
        let (direct, part) =
            selected(&mut filter(false), &mut filter_queue::sample(), &event(10, br#"{"a": 2}"#));
        assert_eq!((direct, asked(&part)), (vec![2], vec![1, 3, 4]));
    }
}
