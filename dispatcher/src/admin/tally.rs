//! What the ledger has written, counted: the source of rates and latencies. Costs the ledger one lock for each batch.

use crate::{
    delivery::outcome::Class,
    ledger::{Observer, entry::Entry},
};
use prometheus::{Histogram, HistogramOpts};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// Subscriptions that are told apart; what later ones do is counted under [`OTHERS`].
pub const SUBSCRIPTIONS_MAX: usize = 500;

/// Stands for all further subscriptions.
pub const OTHERS: i64 = 0;

/// Upper bounds of the buckets of an attempt's duration, in seconds.
pub const BOUNDS_S: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// What has been written for one subscription since the daemon began.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Counts {
    /// Attempts by outcome, in the order of [`Class::ALL`].
    pub outcomes: [u64; Class::ALL.len()],
    /// Deliveries whose last attempt has failed.
    pub exhausted: u64,
    /// Attempts by duration: those up to each of [`BOUNDS_S`], and the longer ones.
    pub durations: [u64; BOUNDS_S.len() + 1],
}

impl Counts {
    pub fn succeeded(&self) -> u64 {
        self.outcomes[0]
    }

    pub fn failed(&self) -> u64 {
        self.outcomes[1..].iter().sum()
    }

    /// What has come since an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            outcomes: std::array::from_fn(|at| self.outcomes[at].saturating_sub(earlier.outcomes[at])),
            exhausted: self.exhausted.saturating_sub(earlier.exhausted),
            durations: std::array::from_fn(|at| self.durations[at].saturating_sub(earlier.durations[at])),
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *own += more;
        }
        self.exhausted += other.exhausted;
        for (own, more) in self.durations.iter_mut().zip(other.durations) {
            *own += more;
        }
    }

    /// The duration, in milliseconds, that this share of the attempts does not exceed, between the bounds of its bucket;
    /// `None`: there were none.
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

/// The counters of this daemon.
#[derive(Debug)]
pub struct Tally {
    counts: Mutex<BTreeMap<i64, Counts>>,
    /// Of all attempts, in seconds.
    pub durations: Histogram,
}

impl Tally {
    /// # Errors
    /// The name of the histogram is none; it is.
    pub fn new() -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "webhookd_attempt_duration_seconds",
            "How long attempts took until their outcome was known.",
        );
        let durations = Histogram::with_opts(options.buckets(BOUNDS_S.to_vec()))?;
        Ok(Self { counts: Mutex::default(), durations })
    }

    /// As it stands, by subscription.
    pub fn snapshot(&self) -> BTreeMap<i64, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Observer for Tally {
    fn written(&self, entries: &[&Entry]) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let Some(attempt) = &entry.attempt else { continue };
            let is_known = counts.contains_key(&entry.subscription_id) || counts.len() < SUBSCRIPTIONS_MAX;
            let own = counts.entry(if is_known { entry.subscription_id } else { OTHERS }).or_default();
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
}
