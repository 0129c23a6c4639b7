//! How many requests a second one receiver gets. Pure.
//!
//! The bucket is small: one token, and a little less than a hundredth of a second's. It fills a hundredth slower than the
//! limit, so that what it held and what it gained together are less than one above the limit in any second, wherever that
//! begins; there is no burst after idle. It starts empty, because nobody knows what an earlier daemon has sent just before.

use std::time::Duration;

/// The share of the limit by which it fills more slowly, and the share of a second's tokens that it holds above one:
/// what a timer of a millisecond makes late is made up for.
const SLOWER_SHARE: f64 = 0.01;
const EXTRA_SHARE: f64 = 0.009;

/// Longest wait for the first token: a limit of one a day would otherwise not survive a daily restart.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(60);

/// A second's starts are counted to know what a receiver was given when it says that it is too much.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// The rate comes back by this share of what it was, each second, or by this many requests a second if that is more; it is
/// forgotten at this multiple of what it was.
const RECOVERY_SHARE: f64 = 1.0 / 20.0;
const RECOVERY_MIN: f64 = 4.0;
const FORGOTTEN_AT: f64 = 2.0;

/// The lowest that a receiver's refusals bring it down to, in requests a second. Who wants less says so with Retry-After.
const RATE_MIN: f64 = 1.0;

/// See the module.
#[derive(Debug, Default)]
pub struct Bucket {
    /// What it was told; `None`: no limit.
    limit: Option<f64>,
    lowered: Option<Lowered>,
    tokens: f64,
    filled_at: Duration,
    /// Since when it has never been used.
    empty_since: Option<Duration>,
    /// Starts in this period and in the one before.
    counted: (u32, u32),
    counted_since: Duration,
}

/// Brought down by the receiver.
#[derive(Debug, Clone, Copy)]
struct Lowered {
    rate: f64,
    /// What it was when the receiver said so.
    was: f64,
    at: Duration,
}

impl Bucket {
    /// Sets the limit, in requests a second; the tokens begin anew if it is another.
    pub fn limit(&mut self, limit: Option<f64>, now: Duration) {
        if self.limit != limit {
            self.limit = limit;
            self.tokens = 0.0;
            self.filled_at = now;
            self.empty_since = Some(now);
        }
    }

    /// What holds now.
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

    /// Another receiver: what the former one refused says nothing about it.
    pub fn forget_refusals(&mut self) {
        self.lowered = None;
    }

    /// Whether there is no limit at all.
    pub fn is_free(&self) -> bool {
        self.limit.is_none() && self.lowered.is_none()
    }

    /// How many may start now, or when the next one may.
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
        // A little later than exact, so that rounding does not wake for nothing.
        let at = now.saturating_add(missing).saturating_add(Duration::from_micros(1));
        Err(first_at.map_or(at, |first| first.min(at)))
    }

    /// One has started.
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

    /// The receiver says that it is too much: half of what it was given, from where it recovers.
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

    /// Starts whatever is allowed, looking at the clock at these moments; tells when.
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
    fn a_refusal_now_and_then_does_not_strangle_a_lane_with_little_to_send() {
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
        /// Whenever it is looked at, and however long it was idle: never more than the limit in any second.
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
