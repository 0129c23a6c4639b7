//! Why subscriptions get nothing, for those who look: `webhook.receiver.held_because`. Pure: says what has to be written.
//!
//! Two things hold a subscription besides a pause: something about it that the daemon cannot make sense of (a secret that
//! does not open, say), and a receiver that has not confirmed.

use crate::subscription::Subscriptions;
use std::{collections::HashMap, sync::Arc};

type Reasons = HashMap<i64, Arc<str>>;

/// What holds subscriptions, and what of it the table knows.
#[derive(Debug, Default)]
pub struct Held {
    broken: Reasons,
    unconfirmed: Reasons,
    /// `None`: whatever an earlier daemon has left there.
    written: Option<Reasons>,
}

/// What has to be written for the table to know.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// The table's other reasons, of an earlier daemon, are to go.
    pub is_whole: bool,
    pub ids: Vec<i64>,
    /// By id; `None`: nothing holds it any more.
    pub reasons: Vec<Option<String>>,
    after: Reasons,
}

impl Held {
    /// Looks at all subscriptions as they are now.
    pub fn look(&mut self, table: &Subscriptions) {
        let broken = table.iter().filter_map(|(id, s)| Some((*id, s.problem.clone()?)));
        self.broken = broken.collect();
        self.unconfirmed.retain(|id, _| table.get(id).is_some_and(|s| s.enabled && !s.is_confirmed()));
    }

    /// Takes down how a question to a receiver ended; `None`: it has confirmed.
    pub fn asked(&mut self, id: i64, why_not: Option<&str>) {
        match why_not {
            Some(why) => drop(self.unconfirmed.insert(id, format!("not confirmed: {why}").into())),
            None => drop(self.unconfirmed.remove(&id)),
        }
    }

    /// What the table does not know yet.
    pub fn change(&self) -> Option<Change> {
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
        Some(Change { is_whole: self.written.is_none(), ids, reasons, after: wanted })
    }

    /// The table knows it.
    pub fn written(&mut self, change: Change) {
        self.written = Some(change.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{subscription::Subscription, verification::Verification};

    fn table(subscriptions: impl IntoIterator<Item = Subscription>) -> Subscriptions {
        subscriptions.into_iter().map(|s| (s.id, Arc::new(s))).collect()
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
        held.asked(2, Some("it answered 404"));
        write(&mut held);
        held.look(&table([broken(1, "b"), asking(2)]));
        assert_eq!(rows(&held), [(1, Some("b".into())), (3, None)]);
        write(&mut held);
        held.asked(2, None);
        held.look(&table([Subscription::sample(1), asking(2)]));
        assert_eq!(rows(&held), [(1, None), (2, None)]);
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
