//! How many requests one receiver gets at once. Pure.
//!
//! Additive increase, multiplicative decrease, as in TCP: the limit grows while it is what holds the lane back and more
//! does not only make every answer slower; it halves when the receiver pushes back. What is known at the start is
//! nothing, so the first growth is fast: it doubles with every round until something speaks against it.

use std::time::Duration;

/// Where every lane starts.
const LIMIT_START: f64 = 32.0;

/// Answers this much slower than the fastest mean that the receiver works at its capacity.
const INFLATION: f64 = 2.0;
const INFLATION_SLACK_US: f64 = 2000.0;

/// The fastest answer counts for at least this long and at most twice as long.
const FLOOR_PERIOD: Duration = Duration::from_secs(30);

/// One lane's limit.
#[derive(Debug)]
pub struct Pacing {
    limit: f64,
    is_fast: bool,
    /// The fastest answer of this period and of the one before, and the recent average; in microseconds.
    floor_us: f64,
    floor_before_us: f64,
    period_since: Duration,
    recent_us: f64,
    /// Attempts begun, and how many had begun at the last decrease.
    begun: u64,
    cut_at: u64,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            limit: LIMIT_START,
            is_fast: true,
            floor_us: f64::INFINITY,
            floor_before_us: f64::INFINITY,
            period_since: Duration::ZERO,
            recent_us: 0.0,
            begun: 0,
            cut_at: 0,
        }
    }
}

impl Pacing {
    /// Most requests at once; at least 1.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Counts an attempt in; its number goes back into [`pushed_back`](Self::pushed_back).
    pub fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// The receiver answered in its own time; `is_full`: the lane could have used more than the limit.
    pub fn answered(&mut self, now: Duration, duration: Duration, is_full: bool, max: usize) {
        let us = duration.as_secs_f64() * 1e6;
        if now.saturating_sub(self.period_since) >= FLOOR_PERIOD {
            self.period_since = now;
            self.floor_before_us = std::mem::replace(&mut self.floor_us, f64::INFINITY);
        }
        self.floor_us = self.floor_us.min(us);
        self.recent_us =
            if self.recent_us == 0.0 { us } else { self.recent_us + (us - self.recent_us) / 16.0 };
        if !is_full {
            return;
        }
        if self.recent_us > self.floor_us.min(self.floor_before_us) * INFLATION + INFLATION_SLACK_US {
            self.is_fast = false;
            return;
        }
        let step = if self.is_fast { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(max.max(1) as f64);
    }

    /// The receiver has come back: what it takes now is found out as fast as at the start.
    pub fn restart(&mut self) {
        self.is_fast = true;
    }

    /// The receiver is overwhelmed or away. Of the attempts that were under way together, only the first counts; tells
    /// whether this is it.
    pub fn pushed_back(&mut self, number: u64) -> bool {
        if number <= self.cut_at {
            return false;
        }
        self.limit = (self.limit / 2.0).max(1.0);
        self.is_fast = false;
        self.cut_at = self.begun;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_slow_but_steady_receiver_gets_hundreds_at_once_within_seconds() {
        let mut pacing = Pacing::default();
        for _round in 0..4 {
            for _ in 0..pacing.limit() {
                pacing.begin();
                pacing.answered(SECOND, SECOND, true, 512);
            }
        }
        assert_eq!(pacing.limit(), 512);
    }

    #[test]
    fn it_does_not_grow_unless_it_holds_the_lane_back() {
        let mut pacing = Pacing::default();
        (0..1000).for_each(|_| pacing.answered(SECOND, SECOND, false, 512));
        assert_eq!(pacing.limit(), 32);
    }

    #[test]
    fn it_stops_growing_when_answers_only_get_slower() {
        let mut pacing = Pacing::default();
        // A receiver with room for 40: beyond that, each further request waits.
        for _ in 0..5000 {
            let waits = (pacing.limit() as f64 / 40.0).max(1.0);
            pacing.answered(SECOND, SECOND.mul_f64(waits), true, 512);
        }
        assert!((40..200).contains(&pacing.limit()), "{}", pacing.limit());
    }

    #[test]
    fn a_receiver_that_became_slower_is_learnt_anew() {
        let mut pacing = Pacing::default();
        pacing.answered(SECOND, Duration::from_millis(1), true, 512);
        for second in 1..200 {
            pacing.answered(SECOND * second, SECOND, true, 512);
        }
        assert!(pacing.limit() > 33, "{}", pacing.limit());
    }

    #[test]
    fn a_burst_of_failures_halves_once() {
        let mut pacing = Pacing::default();
        let numbers: Vec<u64> = (0..32).map(|_| pacing.begin()).collect();
        let cuts = numbers.iter().filter(|number| pacing.pushed_back(**number)).count();
        assert_eq!(cuts, 1);
        assert_eq!(pacing.limit(), 16);
        let later = pacing.begin();
        pacing.pushed_back(later);
        assert_eq!(pacing.limit(), 8);
    }

    #[test]
    fn a_receiver_that_came_back_is_at_full_speed_within_ten_rounds() {
        let mut pacing = Pacing::default();
        for _ in 0..10 {
            let number = pacing.begin();
            pacing.pushed_back(number);
        }
        assert_eq!(pacing.limit(), 1);
        pacing.restart();
        for _round in 0..10 {
            (0..pacing.limit()).for_each(|_| pacing.answered(SECOND, SECOND, true, 512));
        }
        assert_eq!(pacing.limit(), 512);
    }

    proptest! {
        #[test]
        fn the_limit_stays_between_1_and_the_maximum(
            steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u64..10_000), 0..500),
            max in 1usize..600,
        ) {
            let mut pacing = Pacing::default();
            for (is_answer, is_full, ms) in steps {
                let number = pacing.begin();
                if is_answer {
                    pacing.answered(SECOND, Duration::from_millis(ms), is_full, max);
                } else {
                    pacing.pushed_back(number);
                }
                prop_assert!((1..=max.max(32)).contains(&pacing.limit()));
            }
        }
    }
}
