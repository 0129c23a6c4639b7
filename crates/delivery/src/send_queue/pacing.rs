//! Concurrency of one send queue: how many requests the receiver gets at once. Pure.
//!
//! The rule is additive increase and multiplicative decrease, as in TCP. The limit grows while it
//! holds the send queue back, and halves when the receiver pushes back. At the start nothing is
//! known, so the first growth is fast. It doubles with every sample until there is a sign against
//! it.
//!
//! A receiver at its capacity does not push back; it only answers later. With twice the requests,
//! each takes twice as long. Single answers may differ by any factor, so the module compares means
//! only. If answers take twice as long as before, it tries half of the limit. If that makes answers
//! faster, the limit was the cause, and it grows from there by one request per round. If not, the
//! receiver has become slower for other reasons, and the limit goes back up.
//!
//! It reads the durations of successful attempts, and pushbacks. It knows no clock and no rate;
//! `bucket` limits requests per second.

use std::time::Duration;

/// Initial limit. Below it, the limit grows regardless of the recent average, because a few answers
/// show little.
const LIMIT_START: f64 = 32.0;

/// If answers take this many times as long, plus [`INFLATION_SLACK_US`], the receiver may be at its
/// capacity.
const INFLATION: f64 = 2.0;
const INFLATION_SLACK_US: f64 = 2000.0;

/// If answers are this many times as fast with half of the requests, the receiver was at its
/// capacity.
const RELIEF: f64 = 1.5;

/// Minimum number of answers for a mean.
const SAMPLE_MIN: u32 = 64;

/// The limit of one send queue.
#[derive(Debug)]
pub struct Pacing {
    limit: f64,
    is_fast: bool,
    /// Mean duration of answers when the receiver is at ease, and the recent average, in
    /// microseconds.
    base_us: f64,
    recent_us: f64,
    sample: Sample,
    /// Set while half of the limit is tried: the limit to restore, and the mean in microseconds
    /// before. The limit is restored if answers do not become faster.
    trial: Option<(f64, f64)>,
    /// Number of attempts begun, and its value at the last decrease.
    begun: u64,
    cut_at: u64,
}

/// Answers to requests that began at one limit, or while it grew to twice that limit.
#[derive(Debug)]
struct Sample {
    limit: f64,
    /// Number of attempts that had begun before the sample.
    since: u64,
    size: u32,
    count: u32,
    sum_us: f64,
}

impl Sample {
    fn new(limit: f64, since: u64) -> Self {
        Self { limit, since, size: SAMPLE_MIN.max(limit as u32), count: 0, sum_us: 0.0 }
    }

    /// Creates the sample after a start. At first all requests are young, and the first answers are
    /// the quickest ones. So the sample takes several rounds.
    fn first(limit: f64, since: u64) -> Self {
        Self { size: SAMPLE_MIN.max(3 * limit as u32), ..Self::new(limit, since) }
    }
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            limit: LIMIT_START,
            is_fast: true,
            base_us: f64::INFINITY,
            recent_us: 0.0,
            sample: Sample::first(LIMIT_START, 0),
            trial: None,
            begun: 0,
            cut_at: 0,
        }
    }
}

impl Pacing {
    /// Returns the maximum number of requests at once, at least 1.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Counts an attempt in. Its number goes to [`succeeded`](Self::succeeded) or
    /// [`pushed_back`](Self::pushed_back).
    pub fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.begun
    }

    /// Records a success and its duration. `is_full` means that the send queue could have used more
    /// than the limit. `max` is the maximum of the limit.
    pub fn succeeded(&mut self, number: u64, duration: Duration, is_full: bool, max: usize) {
        let us = duration.as_secs_f64() * 1e6;
        self.recent_us =
            if self.recent_us == 0.0 { us } else { self.recent_us + (us - self.recent_us) / 16.0 };
        if number > self.sample.since {
            self.sample.count += 1;
            self.sample.sum_us += us;
            if self.sample.count >= self.sample.size {
                self.judge(is_full);
                return;
            }
        }
        if !is_full || self.trial.is_some() || (self.limit >= LIMIT_START && self.is_slow(self.recent_us)) {
            return;
        }
        let step = if self.is_fast { 1.0 } else { 1.0 / self.limit };
        // Beyond twice the measured limit, nothing is known.
        let most = (self.sample.limit * 2.0).max(LIMIT_START).min(max.max(1) as f64);
        self.limit = (self.limit + step).min(most);
    }

    fn is_slow(&self, us: f64) -> bool {
        us > self.base_us * INFLATION + INFLATION_SLACK_US
    }

    /// Evaluates a sample, and begins the next.
    fn judge(&mut self, is_full: bool) {
        let mean_us = self.sample.sum_us / f64::from(self.sample.count);
        let trial = self.trial.take();
        self.is_fast &= trial.is_none_or(|(_, us)| us < mean_us * RELIEF);
        match trial {
            Some((limit, us)) if us < mean_us * RELIEF => {
                self.limit = limit;
                self.base_us = mean_us;
            }
            _ if self.base_us.is_infinite() => self.base_us = mean_us,
            _ if mean_us < self.base_us => self.base_us += (mean_us - self.base_us) / 4.0,
            _ if is_full && self.is_slow(mean_us) => {
                self.trial = Some((self.limit, mean_us));
                self.limit = (self.sample.limit / 2.0).max(1.0);
            }
            _ => {}
        }
        self.sample = Sample::new(self.limit, self.begun);
    }

    /// Restarts the fast growth from the present limit, because the receiver has come back.
    pub fn restart(&mut self) {
        let (limit, begun, cut_at) = (self.limit, self.begun, self.cut_at);
        *self = Self { limit, sample: Sample::first(limit, begun), begun, cut_at, ..Self::default() };
    }

    /// Halves the limit, because the receiver is overloaded or away. Of the attempts that were in
    /// flight together, only the first counts. Returns whether this is the first.
    pub fn pushed_back(&mut self, number: u64) -> bool {
        if number <= self.cut_at {
            return false;
        }
        self.limit = (self.limit / 2.0).max(1.0);
        self.is_fast = false;
        self.cut_at = self.begun;
        self.trial = None;
        self.sample = Sample::new(self.limit, self.begun);
        true
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_does_not_grow_unless_it_holds_the_queue_back() {
        let mut pacing = Pacing::default();
        for _ in 0..1000 {
            let number = pacing.begin();
            pacing.succeeded(number, SECOND, false, 512);
        }
        assert_eq!(pacing.limit(), 32);
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
                    pacing.succeeded(number, Duration::from_millis(ms), is_full, max);
                } else {
                    pacing.pushed_back(number);
                }
                prop_assert!((1..=max.max(32)).contains(&pacing.limit()));
            }
        }
    }
}
