//! The filters that the daemon decides itself, parsed once. Pure.

use delivery::event::Event;
use path_filter::{PathFilter, Subject};
use std::{collections::HashMap, sync::Arc};

/// Entries of deleted subscriptions that are kept. They are removed with the next parsed filter.
const GONE_MAX: usize = 1000;

/// Parsed filters by subscription.
#[derive(Debug, Default)]
pub struct ParsedFilters {
    by_subscription: HashMap<i64, Parsed>,
}

#[derive(Debug)]
struct Parsed {
    text: Arc<str>,
    /// `None` if only Postgres can evaluate it.
    filter: Option<PathFilter>,
}

impl ParsedFilters {
    /// Returns the parsed filter of a subscription, or `None` if Postgres must evaluate it.
    /// `subscriptions` is the number of subscriptions that there are.
    pub fn get(&mut self, id: i64, text: &Arc<str>, subscriptions: usize) -> Option<&PathFilter> {
        let is_known = |parsed: &Parsed| Arc::ptr_eq(&parsed.text, text) || parsed.text == *text;
        if !self.by_subscription.get(&id).is_some_and(is_known) {
            if self.by_subscription.len() > subscriptions + GONE_MAX {
                self.by_subscription.clear();
            }
            let parsed = Parsed { text: Arc::clone(text), filter: PathFilter::parse(text) };
            self.by_subscription.insert(id, parsed);
        }
        self.by_subscription.get(&id)?.filter.as_ref()
    }
}

/// Returns what a filter sees of an event.
pub fn subject(event: &Event) -> Subject<'_> {
    Subject {
        event_type: &event.event_type,
        key: event.key.as_deref(),
        table_name: event.table_name.as_deref(),
        actor: event.actor.as_deref(),
        origin: event.origin.as_deref(),
        truncated: event.truncated,
        data: &event.payload,
        previous: event.previous.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    //! A filter is parsed once, and again after a change.

    use super::*;

    #[test]
    fn a_changed_filter_is_parsed_again() {
        let mut filters = ParsedFilters::default();
        let (one, other): (Arc<str>, Arc<str>) = ("$.data.a == 1".into(), "$.data.b == 1".into());
        let parsed = |text: &str| PathFilter::parse(text);
        assert_eq!(filters.get(1, &one, 1).cloned(), parsed(&one));
        assert_eq!(filters.get(1, &other, 1).cloned(), parsed(&other));
        assert_eq!(filters.get(2, &"$.data.* == 1".into(), 1), None);
        assert_eq!(filters.get(1, &"$.data.b == 1".into(), 1).cloned(), parsed(&other));
        for id in 0..5000 {
            filters.get(id, &one, 1);
        }
        assert!(filters.by_subscription.len() <= GONE_MAX + 2, "deleted subscriptions are forgotten");
    }
}
