//! Finds the subscriptions that an event matches. Pure.
//!
//! The cost per event depends on the number of segments in its type and on the number of matching
//! subscriptions, not on the number of all subscriptions. `webhook.mismatch` implements the same
//! rule in SQL. The router does not evaluate filters; it only returns them.

use delivery::{
    event::Event,
    subscription::{Subscription, Subscriptions, Update, has_order},
};
use event_type::{Pattern, is_reserved, prefixes};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Subscriptions by their patterns. Windows that are still being read when subscriptions change
/// keep a router of their own.
#[derive(Debug, Default, Clone)]
pub struct Router {
    subscriptions: Subscriptions,
    /// Ids in ascending order.
    exact: HashMap<Box<str>, Vec<i64>>,
    prefix: HashMap<Box<str>, Vec<i64>>,
    all: Vec<i64>,
    /// How many subscriptions have a filter, and how many need their events in order.
    filters: usize,
    ordered: usize,
}

impl Router {
    pub fn new(subscriptions: Subscriptions) -> Self {
        let mut router = Self::default();
        let mut ids: Vec<i64> = subscriptions.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            router.add(id, Arc::clone(&subscriptions[&id]));
        }
        router
    }

    /// Applies a new version of the table.
    pub fn update(&mut self, update: &Update) {
        match update {
            Update::All(table) => *self = Self::new((**table).clone()),
            Update::Only(changed) => {
                for (id, subscription) in changed.iter() {
                    self.remove(*id);
                    if let Some(subscription) = subscription {
                        self.add(*id, Arc::clone(subscription));
                    }
                }
            }
        }
    }

    fn add(&mut self, id: i64, subscription: Arc<Subscription>) {
        for pattern in &subscription.patterns {
            let ids = match pattern {
                Pattern::All => &mut self.all,
                Pattern::Prefix(prefix) => self.prefix.entry(prefix.as_str().into()).or_default(),
                Pattern::Exact(exact) => self.exact.entry(exact.as_str().into()).or_default(),
            };
            let at = ids.partition_point(|other| *other < id);
            ids.insert(at, id);
        }
        self.filters += usize::from(subscription.filter.is_some());
        self.ordered += usize::from(has_order(&subscription));
        self.subscriptions.insert(id, subscription);
    }

    fn remove(&mut self, id: i64) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        self.filters -= usize::from(subscription.filter.is_some());
        self.ordered -= usize::from(has_order(&subscription));
        for pattern in &subscription.patterns {
            let (map, name) = match pattern {
                Pattern::All => {
                    self.all.retain(|other| *other != id);
                    continue;
                }
                Pattern::Prefix(prefix) => (&mut self.prefix, prefix.as_str()),
                Pattern::Exact(exact) => (&mut self.exact, exact.as_str()),
            };
            if let Some(ids) = map.get_mut(name) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    map.remove(name);
                }
            }
        }
    }

    /// Reports whether any subscription has a filter.
    pub fn filters(&self) -> bool {
        self.filters > 0
    }

    /// Reports whether any subscription needs its events in order.
    pub fn has_order(&self) -> bool {
        self.ordered > 0
    }

    /// Returns the filter, if there is one, that the event must pass before it is delivered to the
    /// subscription.
    pub fn filter<'a>(
        &'a self,
        revisions: &'a Revisions,
        event: &Event,
        subscription_id: i64,
    ) -> Option<&'a Arc<str>> {
        match revisions.then(subscription_id, event.id) {
            Some(rule) => rule.filter.as_ref(),
            None => self.subscriptions.get(&subscription_id)?.filter.as_ref(),
        }
    }

    pub fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Appends the ids of the subscriptions that get the event, in ascending order without
    /// duplicates.
    pub fn route(&self, event: &Event, matched: &mut Vec<i64>) {
        if let Some(id) = event.subscription_id {
            matched.extend(self.subscriptions.contains_key(&id).then_some(id));
            return;
        }
        let start = matched.len();
        let mut sources = 0;
        let mut add = |ids: &[i64]| {
            let before = matched.len();
            // This is cheap: the list of running transactions in the snapshot is short, and a newer
            // event needs no search in it.
            matched.extend(ids.iter().filter(|id| {
                let subscription = &self.subscriptions[*id];
                !subscription.created_snapshot.sees(event.xid)
                    && subscription.takes_origin(event.origin.as_deref())
            }));
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

/// The events that a subscription selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub patterns: Vec<Pattern>,
    pub exclude_origin: Box<[Box<str>]>,
    pub filter: Option<Arc<str>>,
}

impl Rule {
    fn of(subscription: &Subscription) -> Self {
        Self {
            patterns: subscription.patterns.clone(),
            exclude_origin: subscription.exclude_origin.clone(),
            filter: subscription.filter.clone(),
        }
    }

    /// Reports whether pattern and origin match. Postgres evaluates the filter.
    fn names(&self, event: &Event) -> bool {
        let is_excluded = |origin: &str| self.exclude_origin.iter().any(|excluded| **excluded == *origin);
        self.patterns.iter().any(|pattern| pattern.matches(&event.event_type))
            && !event.origin.as_deref().is_some_and(is_excluded)
    }
}

/// The rules of subscriptions at points within a window, where they differ from the rules at its
/// end.
///
/// The table contains only the rules at the end. The events about the changes contain the others.
#[derive(Debug, Default)]
pub struct Revisions {
    /// By subscription: the first event that each rule applies to, ascending. The first rule
    /// applies from the start.
    by_subscription: BTreeMap<i64, Vec<(i64, Rule)>>,
}

/// A change of a subscription, as its event describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub event_id: i64,
    pub subscription_id: i64,
    pub rule: Rule,
    /// The rule before the change.
    pub previous: Rule,
}

impl Revisions {
    /// Combines the table before the window, the changes in the window in ascending order of
    /// events, and the changed subscriptions at its end. `before` may lack a subscription, as it
    /// does at the start of the daemon. Then the first change contains the rule before the window.
    pub fn new(before: &Subscriptions, changes: Vec<Change>, end: &Subscriptions) -> Self {
        let mut by_subscription: BTreeMap<i64, Vec<(i64, Rule)>> = BTreeMap::new();
        for Change { event_id, subscription_id, rule, previous } in changes {
            // The snapshot of a subscription that was created in this window excludes earlier
            // events.
            let before = || before.get(&subscription_id).map_or(previous, |before| Rule::of(before));
            let revisions =
                by_subscription.entry(subscription_id).or_insert_with(|| vec![(i64::MIN, before())]);
            revisions.push((event_id, rule));
        }
        by_subscription.retain(|id, revisions| {
            end.get(id).is_some_and(|end| {
                let end = Rule::of(end);
                revisions.iter().any(|(_, rule)| *rule != end)
            })
        });
        Self { by_subscription }
    }

    /// Reports whether no subscription had another rule within the window.
    pub fn is_empty(&self) -> bool {
        self.by_subscription.is_empty()
    }

    /// Returns the rule of the subscription when the event was captured. Returns `None` if the rule
    /// is the same as at the end.
    fn then(&self, subscription_id: i64, event_id: i64) -> Option<&Rule> {
        let revisions = self.by_subscription.get(&subscription_id)?;
        revisions.iter().rev().find(|(from, _)| *from <= event_id).map(|(_, rule)| rule)
    }
}

impl Router {
    /// Like [`route`](Self::route), with the rules that applied when the event was captured.
    pub fn route_revised(&self, revisions: &Revisions, event: &Event, matched: &mut Vec<i64>) {
        let start = matched.len();
        self.route(event, matched);
        if revisions.is_empty() || event.subscription_id.is_some() {
            return;
        }
        let mut kept = matched.split_off(start);
        kept.retain(|id| !revisions.by_subscription.contains_key(id));
        for id in revisions.by_subscription.keys() {
            let names = revisions.then(*id, event.id).is_some_and(|rule| rule.names(event));
            if names && !self.subscriptions[id].created_snapshot.sees(event.xid) {
                kept.push(*id);
            }
        }
        kept.sort_unstable();
        matched.append(&mut kept);
    }
}

/// Sorts the new ids and removes duplicates. Ids from one source are already sorted, but a
/// subscription may contain the same pattern twice.
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
    use delivery::{snapshot::Snapshot, subscription::Ordering};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn table(rows: &[(i64, &[&str], &str)]) -> Router {
        let subscriptions = rows.iter().map(|(id, patterns, created)| {
            let patterns = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
            let created: Snapshot = created.parse().unwrap();
            (*id, Arc::new(Subscription { patterns, created_snapshot: created, ..Subscription::sample(*id) }))
        });
        Router::new(subscriptions.collect())
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
        let rule = |text: &str| Rule {
            patterns: vec![Pattern::parse(text).unwrap()],
            exclude_origin: Box::default(),
            filter: None,
        };
        let change = |event_id, subscription_id, previous: &str, text: &str| Change {
            event_id,
            subscription_id,
            rule: rule(text),
            previous: rule(previous),
        };
        let before = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:")]);
        let end = table(&[(1, &["a.x"], "3:3:"), (2, &["*"], "3:3:"), (3, &["b.*"], "3:3:")]);
        let changes = vec![
            change(10, 1, "a.x", "b.x"),
            change(15, 2, "*", "*"),
            change(18, 3, "a.*", "a.*"),
            change(20, 1, "b.x", "a.x"),
            change(30, 3, "a.*", "b.*"),
        ];
        // At the start of the daemon, the table before the window is not known.
        for before in [before.subscriptions(), &Subscriptions::new()] {
            let revisions = Revisions::new(before, changes.clone(), end.subscriptions());
            let at = |id: i64| {
                let mut matched = vec![99];
                let event = Event { id, event_type: "a.x".into(), ..Event::sample(id) };
                end.route_revised(&revisions, &event, &mut matched);
                matched.split_off(1)
            };
            assert_eq!(at(9), [1, 2, 3]);
            assert_eq!(at(11), [2, 3]);
            assert_eq!(at(21), [1, 2, 3]);
            assert_eq!(at(31), [1, 2]);
        }
    }

    #[test]
    fn an_excluded_origin_gets_no_echo() {
        let excluding = |id, origins: &[&str]| {
            let exclude_origin = origins.iter().map(|origin| Box::from(*origin)).collect();
            (id, Arc::new(Subscription { exclude_origin, ..Subscription::sample(id) }))
        };
        let table = [excluding(1, &["crm"]), excluding(2, &["erp", "crm"]), excluding(3, &[])];
        let router = Router::new(table.into_iter().collect());
        for (origin, gets) in
            [(None, &[1, 2, 3][..]), (Some("crm"), &[3]), (Some("erp"), &[1, 3]), (Some("CRM"), &[1, 2, 3])]
        {
            let event = Event { origin: origin.map(Box::from), ..event("a.b", 10, None) };
            assert_eq!(route(&router, &event), gets, "{origin:?}");
            let to_one_alone = Event { subscription_id: Some(2), ..event };
            assert_eq!(route(&router, &to_one_alone), [2]);
        }
    }

    #[test]
    fn within_a_window_origins_and_filters_are_those_of_the_moment() {
        let rule = |origin: &str, filter: Option<&str>| Rule {
            patterns: vec![Pattern::All],
            exclude_origin: [origin.into()].into(),
            filter: filter.map(Arc::from),
        };
        let subscription = |rule: Rule| {
            let Rule { patterns, exclude_origin, filter } = rule;
            Arc::new(Subscription { patterns, exclude_origin, filter, ..Subscription::sample(1) })
        };
        let table = |rule| -> Subscriptions { [(1, subscription(rule))].into() };
        let changes = vec![
            Change {
                event_id: 10,
                subscription_id: 1,
                rule: rule("b", Some("$.y")),
                previous: rule("a", None),
            },
            Change { event_id: 20, subscription_id: 1, rule: rule("c", None), previous: rule("b", None) },
        ];
        let end = Router::new(table(rule("c", None)));
        let revisions = Revisions::new(&table(rule("a", Some("$.x"))), changes, end.subscriptions());
        for (id, origin, filter) in [(9, "a", Some("$.x")), (11, "b", Some("$.y")), (21, "c", None)] {
            for other in ["a", "b", "c"] {
                let event = Event { id, origin: Some(other.into()), ..Event::sample(id) };
                let mut matched = Vec::new();
                end.route_revised(&revisions, &event, &mut matched);
                assert_eq!(matched.is_empty(), other == origin, "event {id} from {other}");
                assert_eq!(end.filter(&revisions, &event, 1).map(|filter| &**filter), filter);
            }
        }
    }

    proptest! {
        /// The maps find the same subscriptions as a linear scan.
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

        /// A router that follows the changes equals a new one.
        #[test]
        fn an_update_equals_a_new_router(
            steps in proptest::collection::vec(
                proptest::collection::vec(
                    (1i64..6, proptest::option::of((
                        proptest::collection::vec("\\*|[ab]\\.(\\*|[ab])", 0..4), any::<bool>(), any::<bool>(),
                    ))),
                    0..4,
                ),
                1..6,
            ),
        ) {
            let (mut router, mut table) = (Router::default(), Subscriptions::new());
            for step in steps {
                let mut loaded = Subscriptions::new();
                let ids: BTreeSet<i64> = step.iter().map(|(id, _)| *id).collect();
                for (id, options) in step {
                    loaded.remove(&id);
                    let Some((patterns, has_filter, has_order)) = options else { continue };
                    loaded.insert(id, Arc::new(Subscription {
                        patterns: patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect(),
                        filter: has_filter.then(|| "$.a".into()),
                        ordering: if has_order { Ordering::Key } else { Ordering::None },
                        ..Subscription::sample(id)
                    }));
                }
                for id in &ids {
                    table.remove(id);
                }
                table.extend(loaded.clone());
                router.update(&Update::of(&Vec::from_iter(ids), loaded));
                let new = Router::new(table.clone());
                prop_assert_eq!(
                    (&router.exact, &router.prefix, &router.all, router.filters, router.ordered),
                    (&new.exact, &new.prefix, &new.all, new.filters, new.ordered)
                );
                prop_assert!(router.subscriptions.len() == table.len());
                router.update(&Update::All(Arc::new(table.clone())));
            }
        }
    }
}
