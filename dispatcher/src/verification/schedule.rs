//! Decides which receivers are asked for confirmation, and when. Pure: the clock and randomness are
//! arguments.

use crate::verification::is_to_be_asked;
use delivery::subscription::{Subscription, Update};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Waits after the first, second, … failure. The last one repeats forever.
const WAITS: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(1800)];

/// Every subscription whose receiver has not confirmed, by id.
#[derive(Debug, Default)]
pub struct Schedule {
    entries: BTreeMap<i64, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// A changed subscription is a new object. It replaces the entry and is asked again.
    subscription: Arc<Subscription>,
    failures: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(Duration),
    /// `again`: after a failure, ask again at once.
    UnderWay {
        again: bool,
    },
    /// The receiver has confirmed; the table does not show it yet.
    Confirmed,
}

impl Schedule {
    /// Updates the entries after a change of the subscriptions.
    pub fn update(&mut self, update: &Update, now: Duration) {
        match update {
            Update::All(table) => {
                self.entries.retain(|id, _| table.contains_key(id));
                for (id, subscription) in table.iter() {
                    self.set(*id, Some(subscription), now);
                }
            }
            Update::Only(changed) => {
                for (id, subscription) in changed.iter() {
                    self.set(*id, subscription.as_ref(), now);
                }
            }
        }
    }

    fn set(&mut self, id: i64, subscription: Option<&Arc<Subscription>>, now: Duration) {
        let Some(subscription) = subscription.filter(|subscription| is_to_be_asked(subscription)) else {
            self.entries.remove(&id);
            return;
        };
        let is_known =
            self.entries.get(&id).is_some_and(|entry| Arc::ptr_eq(&entry.subscription, subscription));
        if !is_known {
            let entry = Entry { subscription: Arc::clone(subscription), failures: 0, state: State::Due(now) };
            self.entries.insert(id, entry);
        }
    }

    /// Makes this subscription due now, if it needs a confirmation.
    pub fn want(&mut self, id: i64, now: Duration) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = match entry.state {
                State::UnderWay { .. } => State::UnderWay { again: true },
                State::Due(_) | State::Confirmed => State::Due(now),
            };
        }
    }

    /// Takes due subscriptions while there are free places, and marks them as in progress. The
    /// owner with the fewest requests comes first, and may have as many as places are free. So the
    /// receivers of one owner, which may all be silent, do not keep the others waiting.
    pub fn take_due(&mut self, now: Duration, mut free: usize) -> Vec<Arc<Subscription>> {
        if free == 0 {
            return Vec::new();
        }
        let mut owners: HashMap<Arc<str>, (usize, VecDeque<i64>)> = HashMap::new();
        for (id, entry) in &self.entries {
            match entry.state {
                State::Due(at) if at <= now => {
                    owners.entry(Arc::clone(&entry.subscription.owner)).or_default().1.push_back(*id);
                }
                State::UnderWay { .. } => {
                    owners.entry(Arc::clone(&entry.subscription.owner)).or_default().0 += 1;
                }
                State::Due(_) | State::Confirmed => {}
            }
        }
        let mut taken = Vec::new();
        while let Some((asked, due)) = owners
            .values_mut()
            .filter(|(asked, due)| *asked < free && !due.is_empty())
            .min_by_key(|(asked, due)| (*asked, due.front().copied()))
        {
            let entry = due.pop_front().and_then(|id| self.entries.get_mut(&id));
            taken.extend(entry.map(|entry| {
                entry.state = State::UnderWay { again: false };
                Arc::clone(&entry.subscription)
            }));
            *asked += 1;
            free -= 1;
        }
        taken
    }

    /// Returns the time of the next due subscription.
    pub fn next(&self) -> Option<Duration> {
        let due = |entry: &Entry| match entry.state {
            State::Due(at) => Some(at),
            State::UnderWay { .. } | State::Confirmed => None,
        };
        self.entries.values().filter_map(due).min()
    }

    pub fn confirmed(&mut self, subscription: &Arc<Subscription>) {
        if let Some(entry) = self.asked(subscription) {
            entry.state = State::Confirmed;
        }
    }

    /// Records a failure. Returns the time of the next request, or `None` if the subscription has
    /// changed or is gone. `unit` is evenly distributed over 0..1.
    pub fn failed(&mut self, subscription: &Arc<Subscription>, now: Duration, unit: f64) -> Option<Duration> {
        let entry = self.asked(subscription)?;
        let wait = WAITS[entry.failures.min(WAITS.len() - 1)].mul_f64(0.8 + 0.4 * unit);
        let at = if entry.state == (State::UnderWay { again: true }) { now } else { now + wait };
        entry.failures += 1;
        entry.state = State::Due(at);
        Some(at)
    }

    /// Returns the entry for an answer, or `None` if the subscription has changed or is gone.
    fn asked(&mut self, subscription: &Arc<Subscription>) -> Option<&mut Entry> {
        self.entries.get_mut(&subscription.id).filter(|entry| Arc::ptr_eq(&entry.subscription, subscription))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::subscription::Verification;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn unconfirmed(id: i64) -> Arc<Subscription> {
        Arc::new(Subscription {
            verification: Verification::Ping,
            is_verified: false,
            ..Subscription::sample(id)
        })
    }

    fn table(subscriptions: &[&Arc<Subscription>]) -> Update {
        let all = subscriptions.iter().map(|subscription| (subscription.id, Arc::clone(subscription)));
        Update::All(Arc::new(all.collect()))
    }

    fn ids(taken: &[Arc<Subscription>]) -> Vec<i64> {
        taken.iter().map(|subscription| subscription.id).collect()
    }

    #[test]
    fn only_the_enabled_and_unconfirmed_are_asked() {
        let (one, other) = (unconfirmed(1), Arc::new(Subscription::sample(2)));
        let with = |id, change: fn(&mut Subscription)| {
            let mut subscription = Arc::try_unwrap(unconfirmed(id)).unwrap();
            change(&mut subscription);
            Arc::new(subscription)
        };
        let paused = with(3, |s| s.enabled = false);
        let confirmed = with(4, |s| s.is_verified = true);
        let nowhere = with(5, |s| s.url = None);
        let mute = with(6, |s| s.signers = [].into());
        let mute_handshake = with(7, |s| (s.signers, s.verification) = ([].into(), Verification::Handshake));
        let mut schedule = Schedule::default();
        schedule
            .update(&table(&[&one, &other, &paused, &confirmed, &nowhere, &mute, &mute_handshake]), at(0));
        assert_eq!(ids(&schedule.take_due(at(0), 10)), [1, 7]);
        assert!(schedule.take_due(at(9999), 10).is_empty(), "each once at a time");
    }

    #[test]
    fn owners_share_the_places() {
        let of = |id, owner: &str| {
            let mut subscription = Arc::try_unwrap(unconfirmed(id)).unwrap();
            subscription.owner = owner.into();
            Arc::new(subscription)
        };
        let all: Vec<_> = (1..=40).map(|id| of(id, if id < 38 { "many" } else { "few" })).collect();
        let mut schedule = Schedule::default();
        schedule.update(&table(&all[..37].iter().collect::<Vec<_>>()), at(0));
        assert_eq!(schedule.take_due(at(0), 16).len(), 8, "an owner alone has half of them");
        schedule.update(&table(&all.iter().collect::<Vec<_>>()), at(1));
        assert_eq!(ids(&schedule.take_due(at(1), 8)), [38, 39, 40]);
    }

    #[test]
    fn refusals_are_asked_again_later_and_later() {
        let one = unconfirmed(1);
        let mut schedule = Schedule::default();
        schedule.update(&table(&[&one]), at(0));
        let mut now = at(0);
        for wait in [5, 60, 300, 1800, 1800] {
            assert_eq!(schedule.take_due(now, 10).len(), 1);
            assert_eq!(schedule.next(), None);
            assert_eq!(schedule.failed(&one, now, 0.5), Some(now + at(wait)));
            assert!(schedule.take_due(now + at(wait) - Duration::from_millis(1), 10).is_empty());
            now += at(wait);
        }
        assert_eq!(schedule.take_due(now, 10).len(), 1);
        schedule.confirmed(&one);
        schedule.update(&table(&[&one]), now);
        assert_eq!(
            (schedule.next(), schedule.take_due(at(99_999), 10).len()),
            (None, 0),
            "the table is late"
        );
    }

    #[test]
    fn a_change_asks_anew_and_makes_old_answers_void() {
        let (old, new) = (unconfirmed(1), unconfirmed(1));
        let mut schedule = Schedule::default();
        schedule.update(&table(&[&old]), at(0));
        schedule.take_due(at(0), 10);
        schedule.update(&table(&[&new]), at(1));
        assert_eq!(schedule.failed(&old, at(2), 0.5), None);
        schedule.confirmed(&old);
        assert!(Arc::ptr_eq(&schedule.take_due(at(2), 10)[0], &new));
        schedule.update(&table(&[]), at(3));
        assert_eq!(schedule.failed(&new, at(3), 0.5), None);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_is_wanted_is_asked_at_once() {
        let (one, two) = (unconfirmed(1), unconfirmed(2));
        let mut schedule = Schedule::default();
        schedule.update(&table(&[&one, &two]), at(0));
        assert_eq!(ids(&schedule.take_due(at(0), 1)), [1], "as many as there is room for");
        schedule.want(1, at(1));
        assert_eq!(schedule.failed(&one, at(2), 0.5), Some(at(2)), "wanted while it was under way");
        assert_eq!(ids(&schedule.take_due(at(2), 10)), [1, 2]);
        schedule.failed(&one, at(3), 0.5);
        schedule.want(1, at(4));
        schedule.want(99, at(4));
        assert_eq!(ids(&schedule.take_due(at(4), 10)), [1]);
    }
}
