//! From an event to the subscriptions that get it. Pure.
//!
//! The cost per event depends on the number of segments of its type and on how many subscriptions match, not on how many
//! there are. SQL's `webhook.pattern_matches` and the join of `webhook.pending` state the same rule.

use crate::{event::Event, subscription::Subscriptions};
use event_type::{Pattern, is_reserved, prefixes};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Subscriptions by what they name events by. Built anew when subscriptions change, shared by windows that are still
/// being read.
#[derive(Debug, Default)]
pub struct Router {
    subscriptions: Arc<Subscriptions>,
    exact: HashMap<Box<str>, Vec<i64>>,
    prefix: HashMap<Box<str>, Vec<i64>>,
    all: Vec<i64>,
}

impl Router {
    pub fn new(subscriptions: Arc<Subscriptions>) -> Self {
        let mut router = Self { subscriptions: Arc::clone(&subscriptions), ..Self::default() };
        let mut ids: Vec<i64> = subscriptions.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            for pattern in &subscriptions[&id].patterns {
                match pattern {
                    Pattern::All => router.all.push(id),
                    Pattern::Prefix(prefix) => {
                        router.prefix.entry(prefix.as_str().into()).or_default().push(id)
                    }
                    Pattern::Exact(exact) => router.exact.entry(exact.as_str().into()).or_default().push(id),
                }
            }
        }
        router
    }

    pub fn subscriptions(&self) -> &Arc<Subscriptions> {
        &self.subscriptions
    }

    /// Appends the ids of the subscriptions that get the event, ascending, each once.
    pub fn route(&self, event: &Event, matched: &mut Vec<i64>) {
        if let Some(id) = event.subscription_id {
            matched.extend(self.subscriptions.contains_key(&id).then_some(id));
            return;
        }
        let start = matched.len();
        let mut sources = 0;
        let mut add = |ids: &[i64]| {
            let before = matched.len();
            // Running transactions are at most a handful above a subscription's own, so this is one comparison.
            matched.extend(ids.iter().filter(|id| !self.subscriptions[*id].created_snapshot.sees(event.xid)));
            sources += usize::from(matched.len() > before);
        };
        if !is_reserved(&event.event_type) {
            add(&self.all);
        }
        if let Some(ids) = self.exact.get(&event.event_type) {
            add(ids);
        }
        for prefix in prefixes(&event.event_type) {
            if let Some(ids) = self.prefix.get(prefix) {
                add(ids);
            }
        }
        if matched.len() - start > 1 {
            sort_and_dedup(matched, start, sources);
        }
    }
}

/// What subscriptions named events by at points within a window, where that differs from what they name at its end.
///
/// A table shows the end only; the events of the changes carry the rest.
#[derive(Debug, Default)]
pub struct Revisions {
    /// By subscription: from which event on, ascending; the first holds from the beginning.
    by_subscription: BTreeMap<i64, Vec<(i64, Vec<Pattern>)>>,
}

/// A change of a subscription, as its event tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub event_id: i64,
    pub subscription_id: i64,
    pub patterns: Vec<Pattern>,
}

impl Revisions {
    /// From the table before the window, the changes in it, ascending by event, and the table at its end.
    pub fn new(before: &Subscriptions, changes: Vec<Change>, end: &Subscriptions) -> Self {
        let mut by_subscription: BTreeMap<i64, Vec<(i64, Vec<Pattern>)>> = BTreeMap::new();
        for Change { event_id, subscription_id, patterns } in changes {
            let revisions = by_subscription.entry(subscription_id).or_insert_with(|| {
                // A subscription made in this very window is as it was made; its snapshot keeps out what came before.
                let first =
                    before.get(&subscription_id).map_or(&patterns, |subscription| &subscription.patterns);
                vec![(i64::MIN, first.clone())]
            });
            revisions.push((event_id, patterns));
        }
        by_subscription.retain(|id, revisions| {
            end.get(id).is_some_and(|end| revisions.iter().any(|(_, patterns)| *patterns != end.patterns))
        });
        Self { by_subscription }
    }

    /// Whether there is a difference at all.
    pub fn is_empty(&self) -> bool {
        self.by_subscription.is_empty()
    }
}

impl Router {
    /// [`route`](Self::route), by what the subscriptions named when the event came.
    pub fn route_revised(&self, revisions: &Revisions, event: &Event, matched: &mut Vec<i64>) {
        let start = matched.len();
        self.route(event, matched);
        if revisions.is_empty() || event.subscription_id.is_some() {
            return;
        }
        let mut kept = matched.split_off(start);
        kept.retain(|id| !revisions.by_subscription.contains_key(id));
        for (id, revisions) in &revisions.by_subscription {
            let then = revisions.iter().rev().find(|(from, _)| *from <= event.id);
            let names =
                then.is_some_and(|(_, patterns)| patterns.iter().any(|p| p.matches(&event.event_type)));
            if names && !self.subscriptions[id].created_snapshot.sees(event.xid) {
                kept.push(*id);
            }
        }
        kept.sort_unstable();
        matched.append(&mut kept);
    }
}

/// One source is ascending already, but a subscription may name the same pattern twice.
fn sort_and_dedup(ids: &mut Vec<i64>, start: usize, sources: usize) {
    if sources > 1 {
        ids[start..].sort_unstable();
    }
    let mut kept = start + 1;
    for at in start + 1..ids.len() {
        if ids[at] != ids[kept - 1] {
            ids[kept] = ids[at];
            kept += 1;
        }
    }
    ids.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outbox::snapshot::Snapshot, subscription::Subscription};
    use proptest::prelude::*;

    fn table(rows: &[(i64, &[&str], &str)]) -> Router {
        let subscriptions = rows.iter().map(|(id, patterns, created)| {
            let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let created: Snapshot = created.parse().unwrap();
            (*id, Arc::new(Subscription { patterns, created_snapshot: created, ..Subscription::sample(*id) }))
        });
        Router::new(Arc::new(subscriptions.collect()))
    }

    fn event(event_type: &str, xid: u64, subscription_id: Option<i64>) -> Event {
        Event { event_type: event_type.into(), xid, subscription_id, ..Event::sample(1) }
    }

    fn route(router: &Router, event: &Event) -> Vec<i64> {
        let mut matched = vec![99];
        router.route(event, &mut matched);
        assert_eq!(matched.remove(0), 99, "what was there stays");
        matched
    }

    #[test]
    fn exact_prefix_and_star() {
        let router = table(&[
            (1, &["order.created"], "3:3:"),
            (2, &["order.*"], "3:3:"),
            (3, &["*"], "3:3:"),
            (4, &["order.*", "*", "order.created", "order.*"], "3:3:"),
            (5, &["sales.order.*"], "3:3:"),
            (6, &["webhook.*"], "3:3:"),
        ]);
        assert_eq!(route(&router, &event("order.created", 10, None)), [1, 2, 3, 4]);
        assert_eq!(route(&router, &event("order.deleted", 10, None)), [2, 3, 4]);
        assert_eq!(route(&router, &event("sales.order.created", 10, None)), [3, 4, 5]);
        assert_eq!(route(&router, &event("webhook.subscription.updated", 10, None)), [6]);
    }

    #[test]
    fn a_targeted_event_goes_to_its_subscription_alone() {
        let router = table(&[(1, &["*"], "3:3:"), (2, &["a.b"], "3:3:")]);
        assert_eq!(route(&router, &event("webhook.ping", 10, Some(2))), [2]);
        assert_eq!(route(&router, &event("webhook.ping", 10, Some(7))), [] as [i64; 0]);
    }

    #[test]
    fn what_was_committed_before_a_subscription_does_not_match() {
        let router = table(&[(1, &["*"], "10:20:10,15")]);
        for (xid, gets) in [(9, false), (10, true), (12, false), (15, true), (20, true), (21, true)] {
            assert_eq!(!route(&router, &event("a.b", xid, None)).is_empty(), gets, "xid {xid}");
        }
    }

    #[test]
    fn within_a_window_an_event_meets_the_patterns_of_its_moment() {
        let patterns = |text: &str| vec![Pattern::parse(text).unwrap()];
        let change =
            |event_id, subscription_id, text| Change { event_id, subscription_id, patterns: patterns(text) };
        let before = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:")]);
        let end = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:"), (3, &["b.*"], "3:3:")]);
        let changes = vec![
            change(10, 1, "b.x"),
            change(15, 2, "*"),
            change(18, 3, "a.*"),
            change(20, 1, "a.x"),
            change(30, 3, "b.*"),
        ];
        let revisions = Revisions::new(before.subscriptions(), changes, end.subscriptions());
        let at = |id: i64| {
            let mut matched = vec![99];
            end.route_revised(
                &revisions,
                &Event { id, event_type: "a.x".into(), ..Event::sample(id) },
                &mut matched,
            );
            matched.split_off(1)
        };
        assert_eq!(at(9), [1, 2, 3]);
        assert_eq!(at(11), [2, 3]);
        assert_eq!(at(21), [1, 2, 3]);
        assert_eq!(at(31), [1, 2]);
    }

    proptest! {
        /// The maps find what asking every subscription would.
        #[test]
        fn agrees_with_a_linear_scan(
            rows in proptest::collection::vec(proptest::collection::vec("\\*|[ab](\\.[ab])?\\.(\\*|[ab])", 1..4), 0..12),
            event_type in "[ab](\\.[ab]){1,2}",
        ) {
            let patterns: Vec<Vec<&str>> = rows.iter().map(|row| row.iter().map(String::as_str).collect()).collect();
            let rows: Vec<(i64, &[&str], &str)> =
                patterns.iter().zip(1..).map(|(row, id)| (id, row.as_slice(), "3:3:")).collect();
            let wanted: Vec<i64> = rows.iter()
                .filter(|(_, row, _)| row.iter().any(|p| Pattern::parse(p).unwrap().matches(&event_type)))
                .map(|(id, ..)| *id).collect();
            prop_assert_eq!(route(&table(&rows), &event(&event_type, 10, None)), wanted);
        }
    }
}
