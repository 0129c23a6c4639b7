//! How many rows of backlogs start per second while other subscriptions have new events. Pure.
//! The same limits the deliveries of owners that have many, while other owners have new events.
//!
//! A backlog that drains as fast as it can takes every processor. New events of other subscriptions
//! then wait for a processor at each step: in Postgres, in the daemon, and in a receiver on the
//! same machine. So all backlogs together get a rate that leaves a part of the machine free.
//!
//! The limit is in force only for [`OTHERS_PERIOD`] after each such event. Without these events,
//! the free part would help no delivery. The limit is at least twice the rate at which backlogs
//! grow, so that a backlog becomes shorter. For owners, it is a quarter more than that.

use crate::send_queue::bucket::Bucket;
use std::time::Duration;

/// The lowest limit, in rows per second and processor. Without a limit, a processor delivers about
/// 18 000, with Postgres and the receiver on it.
pub const ROWS_PER_PROCESSOR: f64 = 5_000.0;

/// How long the limit is in force after an event of another subscription.
const OTHERS_PERIOD: Duration = Duration::from_secs(1);

/// Period in which added rows are counted.
const COUNT_PERIOD: Duration = Duration::from_secs(1);

/// The limit is this many times the growth, or more.
pub const OF_BACKLOGS: f64 = 2.0;
pub const OF_OWNERS: f64 = 1.25;

/// The rate of all backlogs. See the module.
#[derive(Debug)]
pub struct BacklogRate {
    /// Lowest limit, in rows per second.
    least: f64,
    /// [`OF_BACKLOGS`] or [`OF_OWNERS`].
    growth_factor: f64,
    bucket: Bucket,
    others_at: Option<Duration>,
    /// Rows added in the present period.
    added: u32,
    added_since: Duration,
    /// Rows added per second in the period before.
    growth: f64,
}

impl BacklogRate {
    /// Creates a rate of at least `least` rows per second.
    pub fn new(least: f64, growth_factor: f64) -> Self {
        Self {
            least,
            growth_factor,
            bucket: Bucket::default(),
            others_at: None,
            added: 0,
            added_since: Duration::ZERO,
            growth: 0.0,
        }
    }

    /// Records that a subscription without a backlog has started a delivery.
    pub fn other_started(&mut self, now: Duration) {
        self.others_at = Some(now);
    }

    /// Records that a row was added to a backlog that drains.
    pub fn added(&mut self, now: Duration) {
        self.count(now);
        self.added += 1;
    }

    /// Records that rows of backlogs have started.
    pub fn started(&mut self, rows: usize, now: Duration) {
        for _ in 0..rows {
            self.bucket.start(now);
        }
    }

    /// Returns how many rows may start now.
    ///
    /// # Errors
    /// The time at which the next one may start.
    pub fn allowance(&mut self, now: Duration) -> Result<usize, Duration> {
        self.count(now);
        let is_limited = self.others_at.is_some_and(|at| now.saturating_sub(at) < OTHERS_PERIOD);
        self.bucket.limit(is_limited.then(|| self.least.max(self.growth * self.growth_factor)), now);
        self.bucket.allowance(now)
    }

    /// Begins the next period if it is time.
    fn count(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.added_since);
        if passed >= COUNT_PERIOD {
            let is_recent = passed < COUNT_PERIOD * 2;
            self.growth = if is_recent { f64::from(self.added) / passed.as_secs_f64() } else { 0.0 };
            (self.added, self.added_since) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts what is allowed in each millisecond. Returns the number of rows.
    fn drain(
        rate: &mut BacklogRate,
        ms: std::ops::Range<u64>,
        mut each: impl FnMut(&mut BacklogRate, u64),
    ) -> usize {
        let mut rows = 0;
        for ms in ms {
            let now = Duration::from_millis(ms);
            each(rate, ms);
            let some = rate.allowance(now).unwrap_or(0).min(100);
            rate.started(some, now);
            rows += some;
        }
        rows
    }

    #[test]
    fn without_other_events_there_is_no_limit() {
        let mut rate = BacklogRate::new(1000.0, OF_BACKLOGS);
        assert_eq!(drain(&mut rate, 0..1000, |_, _| {}), 100_000);
    }

    #[test]
    fn the_limit_ends_a_second_after_the_last_of_them() {
        let mut rate = BacklogRate::new(1000.0, OF_BACKLOGS);
        let event = |rate: &mut BacklogRate, ms| {
            if ms % 500 == 0 {
                rate.other_started(Duration::from_millis(ms));
            }
        };
        let rows = drain(&mut rate, 0..10_000, event);
        assert!((9_000..=10_000).contains(&rows), "{rows}");
        assert_eq!(rate.allowance(Duration::from_secs(11)), Ok(usize::MAX));
    }

    #[test]
    fn an_earlier_growth_does_not_count() {
        let mut rate = BacklogRate::new(1000.0, OF_BACKLOGS);
        drain(&mut rate, 0..5000, |rate, ms| (0..100).for_each(|_| rate.added(Duration::from_millis(ms))));
        let event = |rate: &mut BacklogRate, ms| rate.other_started(Duration::from_millis(ms));
        let rows = drain(&mut rate, 8_000..9_000, event);
        assert!(rows <= 1000, "{rows}");
    }

    #[test]
    fn a_backlog_that_grows_becomes_shorter() {
        let mut rate = BacklogRate::new(1000.0, OF_BACKLOGS);
        let event = |rate: &mut BacklogRate, ms| {
            rate.other_started(Duration::from_millis(ms));
            (0..4).for_each(|_| rate.added(Duration::from_millis(ms)));
        };
        drain(&mut rate, 0..1001, event);
        let rows = drain(&mut rate, 1001..6001, event);
        assert!(rows > 5 * 4_000 * 3 / 2, "{rows} left, 20000 came");
    }
}
