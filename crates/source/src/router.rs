//! Finds the subscriptions that an event matches. Pure.
//!
//! The cost per event depends on the number of segments in its type and on the number of matching
//! subscriptions, not on the number of all subscriptions or owners. `webhook.mismatch` implements
//! the same rule in SQL. The router does not evaluate filters: it returns them, and leaves out
//! subscriptions whose filter compares a member with another value than the event has.
//!
//! * `index` finds the subscriptions by the event's owner and type, and by such values.
//! * `revisions` knows the rules that applied earlier in a window.

mod by_value;
mod index;
mod names;
mod revisions;

pub use revisions::{Change, Revisions, Rule};

use delivery::{
    event::Event,
    scope::InternalTypes,
    subscription::{Subscription, Subscriptions, Update, has_order},
};
use index::Index;
use path_filter::Document;
use std::sync::Arc;

/// Subscriptions by their patterns. Windows that are still being read when subscriptions change
/// keep a router of their own.
#[derive(Debug, Default, Clone)]
pub struct Router {
    subscriptions: Subscriptions,
    index: Index,
    internal: Arc<InternalTypes>,
    /// How many subscriptions have a filter, and how many need their events in order.
    filters: usize,
    ordered: usize,
}

impl Router {
    pub fn new(subscriptions: Subscriptions) -> Self {
        let index = Index::new(subscriptions.values().map(|subscription| (&**subscription).into()));
        let mut router = Self { index, ..Self::default() };
        for subscription in subscriptions.values() {
            router.filters += usize::from(subscription.filter.is_some());
            router.ordered += usize::from(has_order(subscription));
        }
        router.subscriptions = subscriptions;
        router
    }

    /// Applies a new version of the table.
    pub fn update(&mut self, update: &Update) {
        match update {
            Update::All(table) => {
                let internal = Arc::clone(&self.internal);
                *self = Self { internal, ..Self::new((**table).clone()) };
            }
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

    /// Replaces the types whose events reach only subscriptions to the events of all owners.
    pub fn set_internal(&mut self, internal: Arc<InternalTypes>) {
        self.internal = internal;
    }

    pub fn internal(&self) -> &Arc<InternalTypes> {
        &self.internal
    }

    fn add(&mut self, id: i64, subscription: Arc<Subscription>) {
        self.index.add((&*subscription).into());
        self.filters += usize::from(subscription.filter.is_some());
        self.ordered += usize::from(has_order(&subscription));
        self.subscriptions.insert(id, subscription);
    }

    fn remove(&mut self, id: i64) {
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        self.filters -= usize::from(subscription.filter.is_some());
        self.ordered -= usize::from(has_order(&subscription));
        self.index.remove((&*subscription).into());
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

    /// Appends the ids of the subscriptions that get the event if their filter accepts it, in
    /// ascending order without duplicates.
    fn route(
        &self,
        event: &Event,
        is_internal: bool,
        document: Option<&Document<'_>>,
        matched: &mut Vec<i64>,
    ) {
        if let Some(id) = event.subscription_id {
            let may_get = |of: &Arc<Subscription>| of.may_get(event, &self.internal);
            matched.extend(self.subscriptions.get(&id).is_some_and(may_get).then_some(id));
            return;
        }
        let start = matched.len();
        let runs = self.index.find(event, is_internal, document, |id| {
            let subscription = &self.subscriptions[&id];
            // This is cheap: the list of running transactions in the snapshot is short, and a newer
            // event needs no search in it.
            if !subscription.created_snapshot.sees(event.xid)
                && subscription.takes_origin(event.origin.as_deref())
            {
                matched.push(id);
            }
        });
        if runs > 1 && matched.len() - start > 1 {
            matched[start..].sort_unstable();
            dedup(matched, start);
        }
    }

    /// Appends the ids of the subscriptions that get the event if their filter accepts it, by the
    /// rules that applied when it was captured. They are in ascending order without duplicates.
    /// Without a document, no value of a filter is looked up.
    pub fn route_revised(
        &self,
        revisions: &Revisions,
        event: &Event,
        document: Option<&Document<'_>>,
        matched: &mut Vec<i64>,
    ) {
        let start = matched.len();
        let is_internal =
            self.internal.contains(&event.event_type) || revisions.internal.contains(&event.event_type);
        self.route(event, is_internal, document, matched);
        if revisions.is_empty() || event.subscription_id.is_some() {
            return;
        }
        let mut kept = matched.split_off(start);
        kept.retain(|id| !revisions.by_subscription.contains_key(id));
        revisions.index.find(event, is_internal, document, |id| {
            let names = revisions.then(id, event.id).is_some_and(|rule| rule.names(event, is_internal));
            if names && !self.subscriptions[&id].created_snapshot.sees(event.xid) {
                kept.push(id);
            }
        });
        matched.append(&mut kept);
        matched[start..].sort_unstable();
        dedup(matched, start);
    }
}

/// Removes duplicates from the sorted ids from `start` on. A subscription may match by several
/// patterns.
fn dedup(ids: &mut Vec<i64>, start: usize) {
    if ids.len() == start {
        return;
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
mod tests;
