//! Subscriptions by the owner whose events they get, and by pattern. Pure.
//!
//! The set is ordered by audience, pattern and subscription. So a look-up reads one range, and a
//! change of one subscription moves no other entry.

use delivery::{
    event::{EVERY_OWNER, Event},
    scope::Scope,
    subscription::Subscription,
};
use event_type::{Pattern, is_reserved, prefixes};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The audience of the events of all owners and of none. Numbers of owners begin behind it.
const EVERYTHING: u32 = 0;

/// The text that stands for [`Pattern::All`]. A prefix ends with `.`, and a type does neither.
const ALL: &str = "*";

/// Audience, pattern, subscription.
type Entry = (u32, u32, i64);

/// See the module.
#[derive(Debug, Default, Clone)]
pub struct Index {
    owners: Names,
    patterns: Names,
    entries: BTreeSet<Entry>,
}

impl Index {
    pub fn new<'a>(subscriptions: impl Iterator<Item = &'a Subscription>) -> Self {
        let mut index = Self::default();
        let mut entries = Vec::new();
        for subscription in subscriptions {
            index.name(subscription, |entry| entries.push(entry));
        }
        // This makes full nodes, which take two thirds of the memory.
        index.entries = entries.into_iter().collect();
        index
    }

    pub fn add(&mut self, subscription: &Subscription) {
        let mut entries = std::mem::take(&mut self.entries);
        self.name(subscription, |entry| {
            entries.insert(entry);
        });
        self.entries = entries;
    }

    /// Calls `each` with the entries of a subscription that is added.
    fn name(&mut self, subscription: &Subscription, mut each: impl FnMut(Entry)) {
        let owner = &subscription.owner;
        let audience = match subscription.scope {
            Scope::All => EVERYTHING,
            Scope::Own => self.owners.take(owner, || Arc::clone(owner)),
        };
        for text in subscription.patterns.iter().map(text) {
            each((audience, self.patterns.take(text, || text.into()), subscription.id));
        }
    }

    /// Removes a subscription that was added as it is.
    pub fn remove(&mut self, subscription: &Subscription) {
        let audience = match subscription.scope {
            Scope::All => Some(EVERYTHING),
            Scope::Own => self.owners.number(&subscription.owner),
        };
        for text in subscription.patterns.iter().map(text) {
            if let (Some(audience), Some(pattern)) = (audience, self.patterns.number(text)) {
                self.entries.remove(&(audience, pattern, subscription.id));
            }
            self.patterns.release(text);
        }
        if subscription.scope == Scope::Own {
            self.owners.release(&subscription.owner);
        }
    }

    /// Calls `each` for every subscription whose patterns and scope match, in one or more ascending
    /// runs. An internal type reaches only subscriptions to the events of all owners. Returns the
    /// number of runs that are not empty.
    pub fn find(&self, event: &Event, is_internal: bool, mut each: impl FnMut(i64)) -> usize {
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
            }
        }
        if is_announcement {
            let owned = self.entries.range((EVERYTHING + 1, 0, i64::MIN)..);
            for (.., id) in owned.filter(|(_, pattern, _)| patterns.contains(pattern)) {
                runs += 1;
                each(*id);
            }
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
            number => self.owners.name(number).to_owned(),
        };
        let entry = |(audience, pattern, id): &Entry| {
            (owner(*audience), self.patterns.name(*pattern).to_owned(), *id)
        };
        self.entries.iter().map(entry).collect()
    }

    /// Returns how many owners and patterns have a number.
    #[cfg(test)]
    pub fn names(&self) -> (usize, usize) {
        (self.owners.named.len(), self.patterns.named.len())
    }
}

fn text(pattern: &Pattern) -> &str {
    match pattern {
        Pattern::All => ALL,
        Pattern::Prefix(text) | Pattern::Exact(text) => text,
    }
}

/// Numbers of texts that are in use, from 1.
#[derive(Debug, Default, Clone)]
struct Names {
    named: HashMap<Arc<str>, Name>,
    /// Numbers below the highest that are not in use.
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Name {
    number: u32,
    /// How often the text is in use.
    uses: u32,
}

impl Names {
    fn number(&self, name: &str) -> Option<u32> {
        self.named.get(name).map(|name| name.number)
    }

    /// Adds one use of a text, and returns its number. `share` makes the key of a new one.
    fn take(&mut self, name: &str, share: impl FnOnce() -> Arc<str>) -> u32 {
        if let Some(name) = self.named.get_mut(name) {
            name.uses += 1;
            return name.number;
        }
        let highest = || u32::try_from(self.named.len() + 1).unwrap_or(u32::MAX);
        let number = self.free.pop().unwrap_or_else(highest);
        self.named.insert(share(), Name { number, uses: 1 });
        number
    }

    /// Forgets one use.
    fn release(&mut self, text: &str) {
        let Some(name) = self.named.get_mut(text) else { return };
        name.uses -= 1;
        if name.uses == 0 {
            self.free.push(name.number);
            self.named.remove(text);
        }
    }

    #[cfg(test)]
    fn name(&self, number: u32) -> &str {
        self.named.iter().find(|(_, name)| name.number == number).map(|(text, _)| text).unwrap()
    }
}
