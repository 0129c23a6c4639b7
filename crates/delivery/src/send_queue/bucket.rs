//! A token bucket: how many requests per second one receiver gets. Pure.
//!
//! The bucket is small: it holds one token, and a little less than the tokens of 10 ms. It fills a
//! hundredth slower than the limit. So in any second, wherever it begins, the tokens held and
//! gained are less than the limit plus one. There is no burst after an idle time. The bucket starts
//! empty, because it does not know what an earlier daemon has just sent.
//!
//! The limit is the rate limit of the subscription. A receiver that refuses requests lowers it for
//! a while ([`Bucket::halve`]).

use std::time::Duration;

/// The bucket fills more slowly than the limit by `SLOWER_SHARE`. Above one token, it holds
/// `EXTRA_SHARE` of the tokens of a second. This makes up for timers that fire up to 1 ms late.
const SLOWER_SHARE: f64 = 0.01;
const EXTRA_SHARE: f64 = 0.009;

/// Longest wait for the first token. Otherwise a limit of one per day would not survive a daily
/// restart.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(60);

/// Period in which starts are counted. The count shows the rate that a receiver got before it
/// refused.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// A lowered rate recovers by `RECOVERY_SHARE` of the former rate per second, or by `RECOVERY_MIN`
/// requests per second if that is more. It is forgotten at `FORGOTTEN_AT` times the former rate.
const RECOVERY_SHARE: f64 = 1.0 / 20.0;
const RECOVERY_MIN: f64 = 4.0;
const FORGOTTEN_AT: f64 = 2.0;

/// Lowest rate that refusals lead to, in requests per second. A receiver that wants less sends
/// Retry-After.
const RATE_MIN: f64 = 1.0;

/// A token bucket. See the module.
#[derive(Debug, Default)]
pub struct Bucket {
    /// The configured limit in requests per second. `None` for no limit.
    limit: Option<f64>,
    lowered: Option<Lowered>,
    tokens: f64,
    filled_at: Duration,
    /// When the limit was set. `None` after the first start.
    empty_since: Option<Duration>,
    /// Starts in the present period and in the period before.
    counted: (u32, u32),
    counted_since: Duration,
}

/// A rate that the receiver has lowered.
#[derive(Debug, Clone, Copy)]
struct Lowered {
    rate: f64,
    /// The rate before.
    was: f64,
    at: Duration,
}

impl Bucket {
    /// Sets the limit in requests per second. A new limit empties the bucket.
    pub fn limit(&mut self, limit: Option<f64>, now: Duration) {
        if self.limit != limit {
            self.limit = limit;
            self.tokens = 0.0;
            self.filled_at = now;
            self.empty_since = Some(now);
        }
    }

    /// Returns the rate in force.
    fn rate(&mut self, now: Duration) -> Option<f64> {
        let lowered = match self.lowered {
            Some(lowered) => {
                let step = (lowered.was * RECOVERY_SHARE).max(RECOVERY_MIN);
                let rate = lowered.rate + step * now.saturating_sub(lowered.at).as_secs_f64();
                if rate >= lowered.was * FORGOTTEN_AT {
                    self.lowered = None;
                }
                self.lowered.map(|_| rate)
            }
            None => None,
        };
        match (self.limit, lowered) {
            (Some(limit), Some(lowered)) => Some(limit.min(lowered)),
            (limit, lowered) => limit.or(lowered),
        }
    }

    /// Forgets a lowered rate. It says nothing about another receiver.
    pub fn forget_refusals(&mut self) {
        self.lowered = None;
    }

    /// Reports whether there is no limit.
    pub fn is_free(&self) -> bool {
        self.limit.is_none() && self.lowered.is_none()
    }

    /// Returns how many requests may start now.
    ///
    /// # Errors
    /// The time at which the next one may start.
    pub fn allowance(&mut self, now: Duration) -> Result<usize, Duration> {
        if self.is_free() {
            return Ok(usize::MAX);
        }
        let Some(rate) = self.rate(now) else { return Ok(usize::MAX) };
        let size = 1.0 + rate * EXTRA_SHARE;
        let fill = rate * (1.0 - SLOWER_SHARE);
        let gained = now.saturating_sub(self.filled_at).as_secs_f64() * fill;
        self.tokens = (self.tokens + gained).min(size);
        self.filled_at = now;
        let first_at = self.empty_since.map(|since| since + FIRST_WAIT_MAX);
        if first_at.is_some_and(|at| now >= at) {
            self.tokens = self.tokens.max(1.0);
        }
        if self.tokens >= 1.0 {
            return Ok(self.tokens as usize);
        }
        let missing = Duration::try_from_secs_f64((1.0 - self.tokens) / fill).unwrap_or(Duration::MAX);
        // The time is a little late, so that rounding does not cause a wake-up in vain.
        let at = now.saturating_add(missing).saturating_add(Duration::from_micros(1));
        Err(first_at.map_or(at, |first| first.min(at)))
    }

    /// Counts a start.
    pub fn start(&mut self, now: Duration) {
        if !self.is_free() {
            self.tokens -= 1.0;
            self.empty_since = None;
        }
        let passed = now.saturating_sub(self.counted_since);
        if passed >= COUNT_PERIOD {
            let before = if passed < COUNT_PERIOD * 2 { self.counted.0 } else { 0 };
            self.counted = (0, before);
            self.counted_since = now;
        }
        self.counted.0 += 1;
    }

    /// Halves the rate that the receiver got, because the receiver answered that it gets too many
    /// requests. The rate recovers from there.
    pub fn halve(&mut self, now: Duration) {
        let given = f64::from(self.counted.0.max(self.counted.1));
        let was = self.rate(now).map_or(given, |rate| rate.min(given)).max(RATE_MIN);
        self.lowered = Some(Lowered { rate: (was / 2.0).max(RATE_MIN), was, at: now });
        self.tokens = self.tokens.min(0.0);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Starts what is allowed at each of these times. Returns the times of the starts.
    fn drain(bucket: &mut Bucket, looks: impl Iterator<Item = Duration>) -> Vec<Duration> {
        let mut starts = Vec::new();
        for at in looks {
            for _ in 0..bucket.allowance(at).unwrap_or(0).min(1_000_000) {
                bucket.start(at);
                starts.push(at);
            }
        }
        starts
    }

    fn ms(from: u64, upto: u64) -> impl Iterator<Item = Duration> {
        (from..upto).map(Duration::from_millis)
    }

    #[test]
    fn what_has_no_limit_is_free() {
        assert_eq!(Bucket::default().allowance(Duration::ZERO), Ok(usize::MAX));
    }

    #[test]
    fn it_starts_empty_and_uses_nearly_all_of_its_limit() {
        for limit in [1.0, 5.0, 100.0, 2000.0] {
            let mut bucket = Bucket::default();
            bucket.limit(Some(limit), Duration::ZERO);
            assert!(bucket.allowance(Duration::ZERO).is_err());
            let starts = drain(&mut bucket, ms(0, 20_000)).len() as f64;
            assert!(starts <= limit * 20.0 && starts >= limit * 20.0 * 0.94, "{starts} at {limit}/s");
        }
    }

    #[test]
    fn it_tells_when_to_look_again() {
        let mut bucket = Bucket::default();
        bucket.limit(Some(5.0), Duration::ZERO);
        let next = bucket.allowance(Duration::ZERO).unwrap_err();
        assert!(bucket.allowance(next - Duration::from_millis(1)).is_err());
        assert_eq!(bucket.allowance(next), Ok(1));
    }

    #[test]
    fn half_after_a_refusal_and_back_within_ten_seconds() {
        let mut bucket = Bucket::default();
        for at in ms(0, 1000) {
            bucket.start(at);
        }
        bucket.halve(Duration::from_secs(1));
        let first = drain(&mut bucket, ms(1000, 2000)).len();
        assert!((400..=600).contains(&first), "{first}");
        let later = drain(&mut bucket, ms(11_000, 12_000)).len();
        assert!((900..=1100).contains(&later), "{later}");
        assert_eq!(bucket.allowance(Duration::from_secs(120)), Ok(usize::MAX), "forgotten");
    }

    #[test]
    fn a_refusal_now_and_then_does_not_strangle_a_queue_with_little_to_send() {
        let mut bucket = Bucket::default();
        let mut at = Duration::ZERO;
        for _ in 0..100 {
            assert!(bucket.allowance(at).is_ok());
            bucket.start(at);
            bucket.halve(at);
            at = bucket.allowance(at).unwrap_err();
        }
        assert!(at < Duration::from_secs(120), "one a second at the least: {at:?}");
    }

    proptest! {
        /// At any times of checks, and after any idle time, no second has more starts than the
        /// limit.
        #[test]
        fn never_more_than_the_limit_in_any_window(
            limit in prop_oneof![1u32..20, 50u32..3000],
            gaps in proptest::collection::vec(prop_oneof![0u64..2_000, 0u64..300_000, Just(5_000_000)], 1..400),
        ) {
            let mut bucket = Bucket::default();
            bucket.limit(Some(f64::from(limit)), Duration::ZERO);
            let mut at = Duration::ZERO;
            let looks = gaps.into_iter().map(|gap| { at += Duration::from_micros(gap); at });
            let starts = drain(&mut bucket, looks);
            for (from, start) in starts.iter().enumerate() {
                let within = starts[from..].iter().take_while(|at| **at < *start + Duration::from_secs(1)).count();
                prop_assert!(within <= limit as usize, "{} starts from {:?} at {}/s", within, start, limit);
            }
        }
    }
}
