//! Subscriptions by the owner whose events they get, by pattern, and by the value that a filter
//! needs. Pure.
//!
//! The sets are ordered by audience, pattern and subscription. So a look-up reads one range, and a
//! change of one subscription moves no other entry.

use super::{
    by_value::{ByValue, needs},
    names::Names,
};
use delivery::{
    event::{EVERY_OWNER, Event},
    scope::Scope,
    subscription::Subscription,
};
use event_type::{Pattern, is_reserved, prefixes};
use path_filter::Document;
use std::{collections::BTreeSet, sync::Arc};

/// The audience of the events of all owners and of none. Numbers of owners begin behind it.
const EVERYTHING: u32 = 0;

/// The text that stands for [`Pattern::All`]. A prefix ends with `.`, and a type does neither.
const ALL: &str = "*";

/// Audience, pattern, subscription.
type Entry = (u32, u32, i64);

/// What a subscription selects.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    pub subscription_id: i64,
    pub owner: &'a Arc<str>,
    pub scope: Scope,
    pub patterns: &'a [Pattern],
    pub filter: Option<&'a str>,
}

impl<'a> From<&'a Subscription> for Selection<'a> {
    fn from(subscription: &'a Subscription) -> Self {
        Self {
            subscription_id: subscription.id,
            owner: &subscription.owner,
            scope: subscription.scope,
            patterns: &subscription.patterns,
            filter: subscription.filter.as_deref(),
        }
    }
}

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Index {
    owners: Names<Arc<str>>,
    patterns: Names<Arc<str>>,
    entries: BTreeSet<Entry>,
    /// Those that are not in `entries`.
    by_value: ByValue,
}

impl Index {
    pub fn new<'a>(selections: impl Iterator<Item = Selection<'a>>) -> Self {
        let mut index = Self::default();
        let mut entries = Vec::new();
        for selection in selections {
            index.name(selection, |entry| entries.push(entry));
        }
        // This makes full nodes, which take two thirds of the memory.
        index.entries = entries.into_iter().collect();
        index
    }

    pub fn add(&mut self, selection: Selection<'_>) {
        let mut entries = std::mem::take(&mut self.entries);
        self.name(selection, |entry| {
            entries.insert(entry);
        });
        self.entries = entries;
    }

    /// Calls `each` with the entries of a subscription that is added.
    fn name(&mut self, selection: Selection<'_>, mut each: impl FnMut(Entry)) {
        let Selection { subscription_id, owner, scope, patterns, filter } = selection;
        let audience = match scope {
            Scope::All => EVERYTHING,
            Scope::Own => self.owners.take(owner, || Arc::clone(owner)),
        };
        let needed = needs(filter);
        for text in patterns.iter().map(text) {
            let pattern = self.patterns.take(text, || text.into());
            match &needed {
                Some(needed) => self.by_value.add(audience, pattern, needed, subscription_id),
                None => each((audience, pattern, subscription_id)),
            }
        }
    }

    /// Removes a subscription that was added as it is.
    pub fn remove(&mut self, selection: Selection<'_>) {
        let Selection { subscription_id, owner, scope, patterns, filter } = selection;
        let audience = match scope {
            Scope::All => Some(EVERYTHING),
            Scope::Own => self.owners.number(owner),
        };
        let needed = needs(filter);
        for text in patterns.iter().map(text) {
            if let (Some(audience), Some(pattern)) = (audience, self.patterns.number(text)) {
                match &needed {
                    Some(needed) => self.by_value.remove(audience, pattern, needed, subscription_id),
                    None => {
                        self.entries.remove(&(audience, pattern, subscription_id));
                    }
                }
            }
            self.patterns.release(text);
        }
        if scope == Scope::Own {
            self.owners.release(owner);
        }
    }

    /// Calls `each` for every subscription whose patterns and scope match, in one or more ascending
    /// runs. An internal type reaches only subscriptions to the events of all owners. Leaves out
    /// those whose filter needs a value that the document does not have. Returns the number of runs
    /// that are not empty.
    pub fn find(
        &self,
        event: &Event,
        is_internal: bool,
        document: Option<&Document<'_>>,
        mut each: impl FnMut(i64),
    ) -> usize {
        let patterns = self.patterns_of(&event.event_type);
        let owner = event.owner.as_deref().filter(|_| !is_internal);
        let is_announcement = owner == Some(EVERY_OWNER);
        let own = owner.filter(|_| !is_announcement).and_then(|owner| self.owners.number(owner));
        let mut runs = 0;
        for audience in std::iter::once(EVERYTHING).chain(own) {
            for pattern in &patterns {
                let run = (audience, *pattern, i64::MIN)..=(audience, *pattern, i64::MAX);
                let mut is_empty = true;
                for (.., id) in self.entries.range(run) {
                    is_empty = false;
                    each(*id);
                }
                runs += usize::from(!is_empty);
                runs += self.by_value.find((audience, *pattern), document, &mut each);
            }
        }
        if is_announcement {
            let owned = self.entries.range((EVERYTHING + 1, 0, i64::MIN)..);
            for (.., id) in owned.filter(|(_, pattern, _)| patterns.contains(pattern)) {
                runs += 1;
                each(*id);
            }
            self.by_value.groups(EVERYTHING + 1, |group| {
                if patterns.contains(&group.1) {
                    runs += self.by_value.find(group, document, &mut each);
                }
            });
        }
        runs
    }

    /// Returns the numbers of the patterns that match an event type.
    fn patterns_of(&self, event_type: &str) -> Vec<u32> {
        let all = (!is_reserved(event_type)).then_some(ALL);
        let texts = all.into_iter().chain([event_type]).chain(prefixes(event_type));
        texts.filter_map(|text| self.patterns.number(text)).collect()
    }

    /// Returns the entries in words, for comparisons.
    #[cfg(test)]
    pub fn in_words(&self) -> BTreeSet<(String, String, i64)> {
        let owner = |number: u32| match number {
            EVERYTHING => String::new(),
            number => self.owners.name(number).unwrap().to_string(),
        };
        let entry = |(audience, pattern, id): &Entry| {
            (owner(*audience), self.patterns.name(*pattern).unwrap().to_string(), *id)
        };
        let mut by_value = Vec::new();
        self.by_value.groups(0, |group| {
            self.by_value.find(group, None, |id| by_value.push((group.0, group.1, id)));
        });
        self.entries.iter().chain(&by_value).map(entry).collect()
    }

    /// Returns how many owners, patterns, paths and values have a number.
    #[cfg(test)]
    pub fn names(&self) -> [usize; 4] {
        let (paths, values) = self.by_value.names();
        [self.owners.len(), self.patterns.len(), paths, values]
    }
}

fn text(pattern: &Pattern) -> &str {
    match pattern {
        Pattern::All => ALL,
        Pattern::Prefix(text) | Pattern::Exact(text) => text,
    }
}
