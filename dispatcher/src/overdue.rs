//! Filters that do not come to an end in time, and whose subscriptions are therefore held until they have another.
//!
//! Found by whoever asks (the reader, the queue), taken into the table of subscriptions by the reader. Kept in memory: the
//! next daemon finds out for itself.

use crate::subscription::Subscriptions;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use tracing::warn;

/// What `webhook.queue.last_error` says of deliveries that the filter has yet to let through.
pub const UNDECIDED: &str = "its filter took too long and is yet to be asked";

const PROBLEM: &str = "its filter: it takes too long";

/// See the module.
#[derive(Debug, Default)]
pub struct Overdue {
    found: Mutex<Found>,
    /// Wakes the reader.
    rung: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Found {
    by_subscription: HashMap<i64, Arc<str>>,
    is_news: bool,
}

impl Overdue {
    pub fn new(rung: Arc<Notify>) -> Self {
        Self { found: Mutex::default(), rung }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has been found.
    pub fn add(&self, subscription_id: i64, filter: &Arc<str>) {
        let mut found = self.found();
        let former = found.by_subscription.insert(subscription_id, Arc::clone(filter));
        found.is_news = true;
        drop(found);
        self.rung.notify_one();
        // The reader and the queue may have asked at the same time.
        if former.as_ref() != Some(filter) {
            warn!(subscription_id, "subscription.filter_too_slow; it is held until it has another filter");
        }
    }

    /// Those that are known, by subscription.
    pub fn filters(&self) -> HashMap<i64, Arc<str>> {
        self.found().by_subscription.clone()
    }

    /// Whether there are some that the table of subscriptions does not know of.
    pub fn has_news(&self) -> bool {
        self.found().is_news
    }

    /// Marks the subscriptions that still have such a filter, and forgets the others.
    pub fn mark(&self, table: &mut Subscriptions) {
        let mut found = self.found();
        found.is_news = false;
        found.by_subscription.retain(|id, filter| {
            let Some(subscription) = table.get_mut(id).filter(|s| s.filter.as_ref() == Some(filter)) else {
                return false;
            };
            if !subscription.has_overdue_filter {
                let mut held = (**subscription).clone();
                held.has_overdue_filter = true;
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
    use crate::subscription::Subscription;

    #[test]
    fn a_subscription_is_held_as_long_as_it_has_that_filter() {
        let with =
            |filter: &str| Arc::new(Subscription { filter: Some(filter.into()), ..Subscription::sample(1) });
        let overdue = Overdue::default();
        let mut table: Subscriptions = [(1, with("$.slow")), (2, Arc::new(Subscription::sample(2)))].into();
        overdue.mark(&mut table);
        assert!(table.values().all(|subscription| subscription.is_open()));
        overdue.add(1, &"$.slow".into());
        assert!(overdue.has_news());
        overdue.mark(&mut table);
        assert!(!overdue.has_news() && !table[&1].is_open() && table[&2].is_open());
        assert_eq!(table[&1].problem.as_deref(), Some(PROBLEM));
        // Another option has been altered.
        table.insert(1, with("$.slow"));
        overdue.mark(&mut table);
        assert!(!table[&1].is_open());
        table.insert(1, with("$.fast"));
        overdue.mark(&mut table);
        assert!(table[&1].is_open() && overdue.filters().is_empty());
    }
}
