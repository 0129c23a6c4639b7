//! Tracks why subscriptions are held, for `webhook.receiver.held_because`. Pure: it returns the
//! rows to write.
//!
//! Besides a pause, two conditions hold a subscription. Either the daemon cannot use part of it,
//! such as a secret that does not open, or its receiver has not confirmed.

use delivery::subscription::{Subscription, Update};
use std::{collections::HashMap, sync::Arc};

type Reasons = HashMap<i64, Arc<str>>;

/// The reasons that hold subscriptions, and the reasons that the table has.
#[derive(Debug, Default)]
pub struct Held {
    broken: Reasons,
    unconfirmed: Reasons,
    /// `None` until the first write: the table may still have reasons of an earlier daemon.
    written: Option<Reasons>,
}

/// The rows to write to the table.
#[derive(Debug, PartialEq, Eq)]
pub struct HeldUpdate {
    /// Whether all other reasons in the table must be removed, because an earlier daemon wrote
    /// them.
    pub is_whole: bool,
    pub ids: Vec<i64>,
    /// The reason for each id. `None` if the subscription is not held.
    pub reasons: Vec<Option<String>>,
    /// The subscriptions that could not be written, because another session has locked them.
    pub locked: Vec<i64>,
    after: Reasons,
}

impl Held {
    /// Updates the reasons from the current subscriptions.
    pub fn look(&mut self, update: &Update) {
        match update {
            Update::All(table) => {
                self.broken.clear();
                self.unconfirmed.retain(|id, _| table.contains_key(id));
                for (id, subscription) in table.iter() {
                    self.set(*id, Some(subscription));
                }
            }
            Update::Only(changed) => {
                for (id, subscription) in changed.iter() {
                    self.set(*id, subscription.as_deref());
                }
            }
        }
    }

    fn set(&mut self, id: i64, subscription: Option<&Subscription>) {
        match subscription.and_then(|subscription| subscription.problem.clone()) {
            Some(problem) => drop(self.broken.insert(id, problem)),
            None => drop(self.broken.remove(&id)),
        }
        if !subscription.is_some_and(|s| s.enabled && !s.is_confirmed()) {
            self.unconfirmed.remove(&id);
        }
    }

    /// Records the result of asking a receiver. `None` means that it confirmed.
    pub fn asked(&mut self, id: i64, why_not: Option<&str>) {
        match why_not {
            Some(why) => drop(self.unconfirmed.insert(id, format!("not confirmed: {why}").into())),
            None => drop(self.unconfirmed.remove(&id)),
        }
    }

    /// Returns the difference between the reasons and the table, if there is any.
    pub fn change(&self) -> Option<HeldUpdate> {
        let mut wanted = self.unconfirmed.clone();
        wanted.extend(self.broken.iter().map(|(id, why)| (*id, why.clone())));
        let none = Reasons::new();
        let written = self.written.as_ref().unwrap_or(&none);
        let mut rows: Vec<(i64, Option<String>)> = wanted
            .iter()
            .filter(|(id, why)| written.get(id) != Some(why))
            .map(|(id, why)| (*id, Some(why.to_string())))
            .collect();
        rows.extend(written.keys().filter(|id| !wanted.contains_key(id)).map(|id| (*id, None)));
        if rows.is_empty() && self.written.is_some() {
            return None;
        }
        rows.sort_unstable();
        let (ids, reasons) = rows.into_iter().unzip();
        Some(HeldUpdate { is_whole: self.written.is_none(), ids, reasons, locked: Vec::new(), after: wanted })
    }

    /// Records that the table has the change, without the locked subscriptions.
    pub fn written(&mut self, change: HeldUpdate) {
        let HeldUpdate { mut after, locked, .. } = change;
        let before = self.written.take().unwrap_or_default();
        for id in locked {
            match before.get(&id) {
                Some(why) => drop(after.insert(id, Arc::clone(why))),
                None => drop(after.remove(&id)),
            }
        }
        self.written = Some(after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::subscription::Verification;

    fn table(subscriptions: impl IntoIterator<Item = Subscription>) -> Update {
        Update::All(Arc::new(subscriptions.into_iter().map(|s| (s.id, Arc::new(s))).collect()))
    }

    fn broken(id: i64, why: &str) -> Subscription {
        Subscription { problem: Some(why.into()), ..Subscription::sample(id) }
    }

    fn asking(id: i64) -> Subscription {
        Subscription { verification: Verification::Ping, ..Subscription::sample(id) }
    }

    fn rows(held: &Held) -> Vec<(i64, Option<String>)> {
        held.change().map(|change| change.ids.into_iter().zip(change.reasons).collect()).unwrap_or_default()
    }

    fn write(held: &mut Held) {
        if let Some(change) = held.change() {
            held.written(change);
        }
        assert_eq!(held.change(), None, "once it is written there is nothing to write");
    }

    #[test]
    fn the_first_look_replaces_what_was_there() {
        let mut held = Held::default();
        held.look(&table([Subscription::sample(1)]));
        let change = held.change().expect("an earlier daemon may have left something");
        assert!(change.is_whole && change.ids.is_empty());
        write(&mut held);
        held.look(&table([broken(1, "no secret"), Subscription::sample(2)]));
        assert_eq!(rows(&held), [(1, Some("no secret".into()))]);
        assert!(!held.change().unwrap().is_whole);
    }

    #[test]
    fn what_is_mended_confirmed_or_gone_is_taken_back() {
        let mut held = Held::default();
        held.look(&table([broken(1, "a"), asking(2), broken(3, "c")]));
        held.asked(2, Some("the receiver answered 404"));
        write(&mut held);
        held.look(&table([broken(1, "b"), asking(2)]));
        assert_eq!(rows(&held), [(1, Some("b".into())), (3, None)]);
        write(&mut held);
        held.asked(2, None);
        held.look(&Update::Only([(1, Some(Arc::new(Subscription::sample(1))))].into()));
        assert_eq!(rows(&held), [(1, None), (2, None)]);
        write(&mut held);
        held.asked(2, Some("the receiver answered 404"));
        held.look(&Update::Only([(2, None)].into()));
        assert!(rows(&held).is_empty(), "it is gone");
    }

    #[test]
    fn what_is_locked_is_written_again() {
        let mut held = Held::default();
        held.look(&table([broken(1, "a"), broken(2, "b")]));
        let change = held.change().unwrap();
        held.written(HeldUpdate { locked: vec![2], ..change });
        assert_eq!(rows(&held), [(2, Some("b".into()))]);
        write(&mut held);
        held.look(&table([broken(1, "a"), Subscription::sample(2)]));
        let change = held.change().unwrap();
        held.written(HeldUpdate { locked: vec![2], ..change });
        assert_eq!(rows(&held), [(2, None)]);
    }

    #[test]
    fn what_is_broken_comes_before_what_is_unconfirmed_and_a_pause_ends_the_asking() {
        let mut held = Held::default();
        let both = || Subscription { problem: Some("no key".into()), ..asking(1) };
        held.look(&table([both()]));
        held.asked(1, Some("x"));
        assert_eq!(rows(&held), [(1, Some("no key".into()))]);
        write(&mut held);
        held.look(&table([Subscription { enabled: false, problem: None, ..asking(1) }]));
        assert_eq!(rows(&held), [(1, None)]);
    }
}
