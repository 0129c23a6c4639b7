//! Counters of attempts by subscription and outcome: the source of rates and latencies.
//!
//! The ledger reports each batch that it has written ([`Observer`]), at the cost of one lock per
//! batch. The sampler and `/metrics` read the counters. The number of subscriptions with counters
//! of their own is limited. The sums stay exact when subscriptions appear or are deleted.

use delivery::{
    outcome::Class,
    record::{Entry, Observer},
};
use prometheus::{Histogram, HistogramOpts};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

/// Maximum number of subscriptions with counters of their own: the ones with the lowest ids. The
/// others share the counters of [`OTHERS`].
pub const SUBSCRIPTIONS_MAX: usize = 500;

/// Stands for all further subscriptions.
pub const OTHERS: i64 = 0;

/// Stands for deleted subscriptions, whose attempts still count. They are not part of [`OTHERS`],
/// where their old attempts would look like new ones of an existing subscription.
pub const GONE: i64 = -1;

/// Upper bounds of the buckets of an attempt's duration, in seconds.
pub const BOUNDS_S: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The attempts that the ledger has written for one subscription since the daemon started.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Counts {
    /// Attempts by outcome, in the order of [`Class::ALL`].
    pub outcomes: [u64; Class::ALL.len()],
    /// Deliveries that the daemon gave up after a failed attempt.
    pub exhausted: u64,
    /// Attempts by duration: one count for each bound in [`BOUNDS_S`], and one for longer attempts.
    pub durations: [u64; BOUNDS_S.len() + 1],
}

impl Counts {
    pub fn succeeded(&self) -> u64 {
        self.outcomes[0]
    }

    pub fn failed(&self) -> u64 {
        self.outcomes[1..].iter().sum()
    }

    /// Returns the difference from earlier counts.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            outcomes: std::array::from_fn(|at| self.outcomes[at].saturating_sub(earlier.outcomes[at])),
            exhausted: self.exhausted.saturating_sub(earlier.exhausted),
            durations: std::array::from_fn(|at| self.durations[at].saturating_sub(earlier.durations[at])),
        }
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *own += more;
        }
        self.exhausted += other.exhausted;
        for (own, more) in self.durations.iter_mut().zip(other.durations) {
            *own += more;
        }
    }

    /// Returns the duration in milliseconds that this share of the attempts does not exceed,
    /// interpolated within its bucket. Returns `None` if there were no attempts.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total: u64 = self.durations.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        let mut below = 0.0;
        for (at, count) in self.durations.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                let low = if at == 0 { 0.0 } else { BOUNDS_S[at - 1] };
                let high = BOUNDS_S.get(at).copied().unwrap_or(low);
                return Some(1000.0 * (low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0)));
            }
            below += count;
        }
        None
    }
}

/// The subscriptions with counters of their own, as found by a poll of the sampler.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct OwnCounters {
    /// The first [`SUBSCRIPTIONS_MAX`] by id.
    pub named: BTreeSet<i64>,
    /// Whether there are more subscriptions.
    pub is_full: bool,
}

impl OwnCounters {
    /// Returns the key under which the attempts of an earlier subscription count from now on.
    fn place_of(&self, id: i64) -> i64 {
        match id {
            OTHERS | GONE => id,
            id if self.named.contains(&id) => id,
            id if self.is_full && self.named.last().is_some_and(|last| id > *last) => OTHERS,
            _ => GONE,
        }
    }

    /// Merges the counts of subscriptions that have lost their own counters.
    fn fold(&self, counts: &mut BTreeMap<i64, Counts>, is_earlier: impl Fn(i64) -> bool) {
        for (id, own) in std::mem::take(counts) {
            let place = if is_earlier(id) { self.place_of(id) } else { id };
            counts.entry(place).or_default().add(&own);
        }
    }
}

#[derive(Debug, Default)]
struct Kept {
    counts: BTreeMap<i64, Counts>,
    places: OwnCounters,
}

impl Kept {
    fn of(&mut self, id: i64) -> &mut Counts {
        let sums = [OTHERS, GONE].iter().filter(|sum| self.counts.contains_key(sum)).count();
        let is_free = self.counts.len() - sums < SUBSCRIPTIONS_MAX
            && (!self.places.is_full || self.places.named.contains(&id));
        let is_told_apart = is_free || self.counts.contains_key(&id);
        self.counts.entry(if is_told_apart { id } else { OTHERS }).or_default()
    }
}

/// The counters of this daemon's attempts.
#[derive(Debug)]
pub struct Counters {
    kept: Mutex<Kept>,
    /// Durations of all attempts, in seconds.
    pub durations: Histogram,
}

impl Counters {
    /// Creates the counters, all zero.
    ///
    /// # Errors
    /// Returns an error if the name of the histogram is not valid, which cannot happen.
    pub fn new() -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "webhookd_attempt_duration_seconds",
            "How long attempts took until their outcome was known.",
        );
        let durations = Histogram::with_opts(options.buckets(BOUNDS_S.to_vec()))?;
        Ok(Self { kept: Mutex::default(), durations })
    }

    /// Returns the present counts by subscription.
    pub fn snapshot(&self) -> BTreeMap<i64, Counts> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }

    /// Assigns counters to the subscriptions of a poll, and returns the present counts.
    ///
    /// Other subscriptions lose their counters, but only if they had counts at the previous poll
    /// (`earlier`, which changes in the same way): a newer subscription may be missing in this
    /// poll. The counts that they lose are added to [`OTHERS`] or [`GONE`], so the sums stay the
    /// same.
    pub fn settle(&self, places: OwnCounters, earlier: &mut BTreeMap<i64, Counts>) -> BTreeMap<i64, Counts> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        places.fold(&mut kept.counts, |id| earlier.contains_key(&id));
        places.fold(earlier, |_| true);
        kept.places = places;
        kept.counts.clone()
    }
}

impl Observer for Counters {
    fn written(&self, entries: &[&Entry]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let Some(attempt) = &entry.attempt else { continue };
            let own = kept.of(entry.subscription_id);
            let (class, seconds) = (attempt.outcome.class, attempt.outcome.duration.as_secs_f64());
            if let Some(at) = Class::ALL.iter().position(|known| *known == class) {
                own.outcomes[at] += 1;
            }
            own.exhausted += u64::from(class != Class::Succeeded && attempt.next_at_us.is_none());
            own.durations[BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
            self.durations.observe(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut counts = Counts::default();
        assert_eq!(counts.quantile_ms(0.5), None);
        counts.durations[3] = 98; // 5 to 10 ms
        counts.durations[9] = 2; // 0.5 to 1 s
        assert!((5.0..=10.0).contains(&counts.quantile_ms(0.5).unwrap()));
        assert!((500.0..=1000.0).contains(&counts.quantile_ms(0.99).unwrap()));
        let mut slow = Counts::default();
        slow.durations[BOUNDS_S.len()] = 1;
        assert_eq!(slow.quantile_ms(0.5), Some(60_000.0), "the last bucket has no end");
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let mut counts = Counts { exhausted: 2, ..Counts::default() };
        counts.outcomes[0] = 5;
        counts.outcomes[2] = 3;
        let mut later = counts.clone();
        later.outcomes[0] = 9;
        assert_eq!((later.since(&counts).succeeded(), later.since(&counts).failed()), (4, 0));
        later.add(&counts);
        assert_eq!((later.succeeded(), later.failed(), later.exhausted), (14, 6, 4));
    }

    fn attempts(counters: &Counters, ids: impl IntoIterator<Item = i64>) {
        let mut kept = counters.kept.lock().unwrap();
        for id in ids {
            kept.of(id).outcomes[0] += 1;
        }
    }

    fn places(named: impl IntoIterator<Item = i64>, is_full: bool) -> OwnCounters {
        OwnCounters { named: named.into_iter().collect(), is_full }
    }

    fn sum(counts: &BTreeMap<i64, Counts>) -> u64 {
        counts.values().map(Counts::succeeded).sum()
    }

    #[test]
    fn those_that_are_deleted_free_their_places() {
        let counters = Counters::new().unwrap();
        attempts(&counters, 1..=500);
        attempts(&counters, [501, 501]);
        assert_eq!(counters.snapshot()[&OTHERS].succeeded(), 2, "there is no place for it");
        let mut earlier = counters.settle(places(1..=500, true), &mut BTreeMap::new());
        // The first hundred are deleted; 501 gets counters of its own.
        let after = counters.settle(places(101..=501, false), &mut earlier);
        assert_eq!((after.len(), after[&GONE].succeeded(), sum(&after)), (402, 100, 502));
        assert_eq!(
            (earlier[&GONE].succeeded(), sum(&earlier)),
            (100, 502),
            "nothing counts twice for the plots"
        );
        attempts(&counters, [501, 502]);
        let after = counters.snapshot();
        assert_eq!((after[&501].succeeded(), after[&502].succeeded(), sum(&after)), (1, 1, 504));
    }

    #[test]
    fn for_ever_new_ones_do_not_use_it_up() {
        let counters = Counters::new().unwrap();
        let mut earlier = BTreeMap::new();
        for id in 1..=2000 {
            attempts(&counters, [id]);
            // The subscription is deleted before the next poll.
            earlier = counters.settle(places([], false), &mut earlier);
        }
        attempts(&counters, [2001]);
        let counts = counters.snapshot();
        assert_eq!((counts[&2001].succeeded(), counts.get(&OTHERS), sum(&counts)), (1, None, 2001));
        assert!(counts.len() <= 3, "{}", counts.len());
    }

    #[test]
    fn one_that_is_newer_than_a_look_keeps_what_it_has() {
        let counters = Counters::new().unwrap();
        attempts(&counters, [1]);
        let mut earlier = counters.settle(places([1], false), &mut BTreeMap::new());
        attempts(&counters, [2]);
        let mut earlier = counters.settle(places([1], false), &mut earlier);
        assert_eq!(counters.settle(places([1, 2], false), &mut earlier)[&2].succeeded(), 1);
    }

    #[test]
    fn the_first_are_told_apart_whoever_comes_first() {
        let counters = Counters::new().unwrap();
        let mut earlier = counters.settle(places(1..=500, true), &mut BTreeMap::new());
        attempts(&counters, 400..=700);
        let counts = counters.settle(places(1..=500, true), &mut earlier);
        assert_eq!((counts[&500].succeeded(), counts[&OTHERS].succeeded()), (1, 200));
        assert_eq!((counts.get(&501), counts.get(&GONE)), (None, None));
    }
}
