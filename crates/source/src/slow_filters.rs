//! Filters that exceed their time limit. Their subscriptions are held until they have another
//! filter.
//!
//! The reader and the queue report such filters. The reader marks the subscriptions in its table.
//! The list is in memory only: the next daemon detects slow filters again.

use delivery::subscription::Subscriptions;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tracing::warn;

const PROBLEM: &str = "filter: evaluation takes too long";

/// The known slow filters.
#[derive(Debug, Default)]
pub struct SlowFilters {
    found: Mutex<Found>,
    /// Wakes the reader.
    notified: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Found {
    by_subscription: HashMap<i64, Arc<str>>,
    is_changed: bool,
}

impl SlowFilters {
    pub fn new(notified: Arc<Notify>) -> Self {
        Self { found: Mutex::default(), notified }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a slow filter and wakes the reader. A filter that was not known is logged.
    pub fn add(&self, subscription_id: i64, filter: &Arc<str>) {
        let mut found = self.found();
        let former = found.by_subscription.insert(subscription_id, Arc::clone(filter));
        found.is_changed = true;
        drop(found);
        self.notified.notify_one();
        // The reader and the queue may have evaluated the same filter at the same time.
        if former.as_ref() != Some(filter) {
            warn!(
                subscription_id,
                "subscription.filter_too_slow; the subscription is held until its filter changes"
            );
        }
    }

    /// Returns the known slow filters by subscription.
    pub fn filters(&self) -> HashMap<i64, Arc<str>> {
        self.found().by_subscription.clone()
    }

    /// Reports whether filters were added since the last call of [`mark`](Self::mark).
    pub fn has_changes(&self) -> bool {
        self.found().is_changed
    }

    /// Marks the subscriptions that still have their slow filter, and forgets the other filters.
    /// The table has all subscriptions, or only those of `ids`.
    pub fn mark(&self, ids: Option<&[i64]>, table: &mut Subscriptions) {
        let mut found = self.found();
        found.is_changed &= ids.is_some();
        found.by_subscription.retain(|id, filter| {
            if ids.is_some_and(|ids| !ids.contains(id)) {
                return true;
            }
            let Some(subscription) = table.get_mut(id).filter(|s| s.filter.as_ref() == Some(filter)) else {
                return false;
            };
            if !subscription.has_slow_filter {
                let mut held = (**subscription).clone();
                held.has_slow_filter = true;
                held.problem.get_or_insert_with(|| PROBLEM.into());
                *subscription = Arc::new(held);
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::subscription::Subscription;

    #[test]
    fn a_subscription_is_held_as_long_as_it_has_that_filter() {
        let with =
            |filter: &str| Arc::new(Subscription { filter: Some(filter.into()), ..Subscription::sample(1) });
        let slow_filters = SlowFilters::default();
        let mut table: Subscriptions = [(1, with("$.slow")), (2, Arc::new(Subscription::sample(2)))].into();
        slow_filters.mark(None, &mut table);
        assert!(table.values().all(|subscription| subscription.is_open()));
        slow_filters.add(1, &"$.slow".into());
        assert!(slow_filters.has_changes());
        slow_filters.mark(None, &mut table);
        assert!(!slow_filters.has_changes() && !table[&1].is_open() && table[&2].is_open());
        assert_eq!(table[&1].problem.as_deref(), Some(PROBLEM));
        // Another option has been changed.
        table.insert(1, with("$.slow"));
        slow_filters.mark(None, &mut table);
        assert!(!table[&1].is_open());
        table.insert(1, with("$.fast"));
        slow_filters.mark(None, &mut table);
        assert!(table[&1].is_open() && slow_filters.filters().is_empty());
    }

    #[test]
    fn a_part_of_the_table_says_nothing_of_the_others() {
        let with =
            |filter: &str| Arc::new(Subscription { filter: Some(filter.into()), ..Subscription::sample(1) });
        let slow_filters = SlowFilters::default();
        slow_filters.add(1, &"$.slow".into());
        let mut other: Subscriptions = [(2, Arc::new(Subscription::sample(2)))].into();
        slow_filters.mark(Some(&[2]), &mut other);
        assert!(
            slow_filters.has_changes() && slow_filters.filters().len() == 1,
            "the first is still to be marked"
        );
        let mut one: Subscriptions = [(1, with("$.slow"))].into();
        slow_filters.mark(Some(&[1]), &mut one);
        assert!(!one[&1].is_open());
        slow_filters.mark(Some(&[1]), &mut Subscriptions::new());
        assert!(slow_filters.filters().is_empty(), "it is gone");
    }
}
