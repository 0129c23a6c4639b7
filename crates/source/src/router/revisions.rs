//! The rules of subscriptions within a window. Pure.

use super::index::{Index, Selection};
use delivery::{
    event::Event,
    scope::{Audience, InternalTypes},
    subscription::{Subscription, Subscriptions},
};
use event_type::Pattern;
use std::{collections::BTreeMap, sync::Arc};

/// The events that a subscription selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub patterns: Arc<[Pattern]>,
    pub exclude_origin: Box<[Box<str>]>,
    pub filter: Option<Arc<str>>,
    /// Whose events. `None` if the event about the change does not say it: then nothing has
    /// changed it.
    pub audience: Option<Audience>,
}

impl Rule {
    fn of(subscription: &Subscription) -> Self {
        Self {
            patterns: Arc::clone(&subscription.patterns),
            exclude_origin: subscription.exclude_origin.clone(),
            filter: subscription.filter.clone(),
            audience: Some(subscription.audience()),
        }
    }

    /// Returns what the rule selects, if its audience is known.
    fn selection(&self, subscription_id: i64) -> Option<Selection<'_>> {
        let Audience { owner, scope } = self.audience.as_ref()?;
        let (scope, filter) = (*scope, self.filter.as_deref());
        Some(Selection { subscription_id, owner, scope, patterns: &self.patterns, filter })
    }

    /// Reports whether owner, pattern and origin match. Postgres evaluates the filter.
    pub(super) fn names(&self, event: &Event, is_internal: bool) -> bool {
        let is_excluded = |origin: &str| self.exclude_origin.iter().any(|excluded| **excluded == *origin);
        self.audience.as_ref().is_some_and(|audience| audience.includes(event, is_internal))
            && self.patterns.iter().any(|pattern| pattern.matches(&event.event_type))
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
    pub(super) by_subscription: BTreeMap<i64, Vec<(i64, Rule)>>,
    /// The subscriptions by each of their rules.
    pub(super) index: Index,
    /// Types that were internal at a point of the window. They count as internal in all of it.
    pub(super) internal: InternalTypes,
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
                for (_, rule) in revisions.iter_mut().filter(|(_, rule)| rule.audience.is_none()) {
                    rule.audience.clone_from(&end.audience);
                }
                revisions.iter().any(|(_, rule)| *rule != end)
            })
        });
        let selections = by_subscription
            .iter()
            .flat_map(|(id, rules)| rules.iter().filter_map(|(_, rule)| rule.selection(*id)));
        let index = Index::new(selections);
        Self { index, by_subscription, internal: InternalTypes::new() }
    }

    /// Reports whether no subscription had another rule within the window.
    pub fn is_empty(&self) -> bool {
        self.by_subscription.is_empty()
    }

    /// Adds types that were internal at a point of the window.
    pub fn with_internal(self, internal: InternalTypes) -> Self {
        Self { internal, ..self }
    }

    /// Returns the rule of the subscription when the event was captured. Returns `None` if the rule
    /// is the same as at the end.
    pub(super) fn then(&self, subscription_id: i64, event_id: i64) -> Option<&Rule> {
        let revisions = self.by_subscription.get(&subscription_id)?;
        revisions.iter().rev().find(|(from, _)| *from <= event_id).map(|(_, rule)| rule)
    }
}
