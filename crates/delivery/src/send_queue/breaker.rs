//! The circuit of one receiver: its failures in a row, and when to report them. Pure.
//!
//! The circuit opens after [`FAILURES_MAX`] failures in a row. While it is open, one request per
//! [`Periods::probe_interval`] is sent, by default one a minute. It shows whether the circuit can
//! close.
//!
//! The module reads outcomes, and two clocks. It returns the effects: to write the state, to
//! report, to disable the subscription. The scheduler carries them out.

use crate::record::ReceiverHealth;
use std::time::Duration;

/// Failures in a row that open the circuit.
pub const FAILURES_MAX: i32 = 10;

/// Minimum number of failures in a row that disables a subscription.
const DISABLE_ATTEMPTS_MIN: i32 = 10;

/// A run of failures is written once it has lasted this long, unless it was written before for
/// another reason.
const REPORT_AFTER: Duration = Duration::from_secs(60);

/// If the wall clock moved this much further than the monotonic clock between two failures, it was
/// set, or the machine slept. This time does not count as a time of failures.
const CLOCK_STEP_MIN: Duration = Duration::from_secs(60);

/// Periods of the circuit.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    /// Time between two probes of an open circuit.
    pub probe_interval: Duration,
    /// Time of failures only, after which `webhook.subscription.failing` is emitted.
    pub failing_after: Duration,
    /// Time of failures only, after which the subscription is disabled.
    pub disable_after: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_secs(60),
            failing_after: Duration::from_secs(24 * 3600),
            disable_after: Duration::from_secs(5 * 24 * 3600),
        }
    }
}

/// Effects of an outcome on the circuit.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CircuitChange {
    pub opened: bool,
    pub closed: bool,
    /// The state of the receiver must be written.
    pub is_changed: bool,
    /// The receiver has failed for long enough to be reported.
    pub is_failing: bool,
    /// Set if the receiver was reported as failing and has recovered: the start of its failures, in
    /// microseconds since 1970.
    pub recovered_from_us: Option<i64>,
    pub disables: bool,
}

/// The circuit. See the module.
#[derive(Debug, Default)]
pub struct Breaker {
    health: ReceiverHealth,
    /// The table has a row that does not say that all is well.
    is_written: bool,
    probe_at: Duration,
    is_probing: bool,
    /// A probe was requested during the one in flight, which may have begun before the receiver was
    /// repaired. Another one follows at once.
    probes_again: bool,
    /// The time of the last failure, by the monotonic clock and by the wall clock.
    failed_at: Option<(Duration, i64)>,
}

impl Breaker {
    /// Continues from the state in the table. The first probe is due at once.
    pub fn restore(&mut self, health: ReceiverHealth, periods: &Periods) {
        let probe_interval_us = health.is_open.then(|| interval_us(periods)).flatten();
        let health = ReceiverHealth { probe_interval_us, ..health };
        *self = Self { health, is_written: health != ReceiverHealth::default(), ..Self::default() };
    }

    pub fn health(&self) -> &ReceiverHealth {
        &self.health
    }

    pub fn is_open(&self) -> bool {
        self.health.is_open
    }

    /// Returns when the next attempt may start. `None` until the probe in flight has ended.
    pub fn next_at(&self) -> Option<Duration> {
        (!self.is_probing).then_some(self.probe_at)
    }

    /// Makes the next probe due now, or after the probe in flight.
    pub fn probe_now(&mut self, now: Duration) {
        self.probes_again = self.is_probing;
        self.probe_at = self.probe_at.min(now);
    }

    /// Counts an attempt in, and returns whether it is a probe.
    pub fn begin(&mut self) -> bool {
        self.is_probing |= self.health.is_open;
        self.health.is_open
    }

    /// Records the end of an attempt that shows nothing about the receiver.
    pub fn passed(&mut self, was_probe: bool, now: Duration, periods: &Periods) {
        if was_probe {
            self.is_probing = false;
            let wait =
                if std::mem::take(&mut self.probes_again) { Duration::ZERO } else { periods.probe_interval };
            self.probe_at = now + wait;
        }
    }

    pub fn succeeded(&mut self) -> CircuitChange {
        let before = std::mem::take(&mut self.health);
        (self.is_probing, self.probes_again) = (false, false);
        self.probe_at = Duration::ZERO;
        self.failed_at = None;
        CircuitChange {
            closed: before.is_open,
            is_changed: std::mem::take(&mut self.is_written),
            recovered_from_us: before.warned_at_us.and(before.failing_since_us),
            ..CircuitChange::default()
        }
    }

    pub fn failed(
        &mut self,
        was_probe: bool,
        now: Duration,
        wall_us: i64,
        periods: &Periods,
    ) -> CircuitChange {
        self.passed(was_probe, now, periods);
        let health = &mut self.health;
        health.consecutive_failures = health.consecutive_failures.saturating_add(1);
        let before = self.failed_at.replace((now, wall_us));
        let since_us = health.failing_since_us.get_or_insert(wall_us);
        if let Some(step_us) = before.and_then(|before| step_us(before, (now, wall_us))) {
            *since_us = since_us.saturating_add(step_us).min(wall_us);
        }
        let since_us = *since_us;
        let lasted = Duration::from_micros(wall_us.saturating_sub(since_us).max(0).unsigned_abs());
        let mut change = CircuitChange::default();
        if !health.is_open && health.consecutive_failures >= FAILURES_MAX {
            health.is_open = true;
            health.probe_interval_us = interval_us(periods);
            self.probe_at = now + periods.probe_interval;
            change.opened = true;
        }
        if health.warned_at_us.is_none() && lasted >= periods.failing_after {
            health.warned_at_us = Some(wall_us);
            change.is_failing = true;
        }
        change.disables =
            lasted >= periods.disable_after && health.consecutive_failures >= DISABLE_ATTEMPTS_MIN;
        change.is_changed =
            change.opened || change.is_failing || (!self.is_written && lasted >= REPORT_AFTER);
        self.is_written |= change.is_changed;
        change
    }
}

fn interval_us(periods: &Periods) -> Option<i64> {
    i64::try_from(periods.probe_interval.as_micros()).ok()
}

/// Returns how much further the wall clock moved than the monotonic clock, in microseconds, if that
/// is at least [`CLOCK_STEP_MIN`].
fn step_us(before: (Duration, i64), now: (Duration, i64)) -> Option<i64> {
    let passed_us = i64::try_from(now.0.saturating_sub(before.0).as_micros()).unwrap_or(i64::MAX);
    let step_us = now.1.saturating_sub(before.1).saturating_sub(passed_us);
    (Duration::from_micros(step_us.max(0).unsigned_abs()) >= CLOCK_STEP_MIN).then_some(step_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_US: i64 = 3_600_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn fail(breaker: &mut Breaker, wall_us: i64) -> CircuitChange {
        let was_probe = breaker.begin();
        let now = SECOND + Duration::from_micros(wall_us.unsigned_abs());
        breaker.failed(was_probe, now, wall_us, &Periods::default())
    }

    #[test]
    fn time_that_only_the_wall_clock_knows_is_no_time_of_failures() {
        let mut breaker = Breaker::default();
        let fail = |breaker: &mut Breaker, seconds: u64, wall_us: i64| {
            let was_probe = breaker.begin();
            breaker.failed(was_probe, Duration::from_secs(seconds), wall_us, &Periods::default())
        };
        for at in 0..10 {
            fail(&mut breaker, at, at as i64 * 1_000_000);
        }
        // The machine slept for six days, or its clock was wrong.
        let change = fail(&mut breaker, 70, 6 * 24 * HOUR_US);
        assert!(!change.disables && !change.is_failing, "{change:?}");
        let change = fail(&mut breaker, 70 + 25 * 3600, (6 * 24 + 25) * HOUR_US);
        assert!(!change.disables && change.is_failing, "{change:?}");
        let change = fail(&mut breaker, 70 + 125 * 3600, (6 * 24 + 125) * HOUR_US);
        assert!(change.disables, "{change:?}");
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_a_success_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            assert_eq!(fail(&mut breaker, 0), CircuitChange::default());
        }
        assert_eq!(breaker.succeeded(), CircuitChange::default(), "nothing was written");
        (0..9).for_each(|_| assert!(!fail(&mut breaker, 0).disables));
        assert!(!breaker.is_open());
        assert_eq!(
            fail(&mut breaker, 0),
            CircuitChange { opened: true, is_changed: true, ..CircuitChange::default() }
        );
        assert_eq!(breaker.next_at(), Some(SECOND * 61));
        assert!(breaker.begin(), "a probe");
        assert_eq!(breaker.next_at(), None, "one at a time");
        breaker.failed(true, SECOND * 100, 0, &Periods::default());
        assert_eq!(breaker.next_at(), Some(SECOND * 160));
        assert_eq!(
            breaker.succeeded(),
            CircuitChange { closed: true, is_changed: true, ..CircuitChange::default() }
        );
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_requested_probe_is_due_at_once_or_after_the_one_in_flight() {
        let mut breaker = Breaker::default();
        (0..10).for_each(|_| assert!(!fail(&mut breaker, 0).disables));
        assert_eq!(breaker.next_at(), Some(SECOND * 61));
        breaker.probe_now(SECOND * 5);
        assert_eq!(breaker.next_at(), Some(SECOND * 5));
        assert!(breaker.begin());
        breaker.probe_now(SECOND * 6);
        assert_eq!(breaker.next_at(), None, "one at a time");
        breaker.failed(true, SECOND * 7, 0, &Periods::default());
        assert_eq!(breaker.next_at(), Some(SECOND * 7), "it may have begun before the repair");
        assert!(breaker.begin());
        breaker.failed(true, SECOND * 8, 0, &Periods::default());
        assert_eq!(breaker.next_at(), Some(SECOND * 68), "once");
    }

    #[test]
    fn our_own_fault_is_not_charged_and_does_not_hold_up_the_next_probe() {
        let mut breaker = Breaker::default();
        (0..10).for_each(|_| assert!(!fail(&mut breaker, 0).disables));
        let was_probe = breaker.begin();
        breaker.passed(was_probe, SECOND * 5, &Periods::default());
        assert_eq!((breaker.next_at(), breaker.health().consecutive_failures), (Some(SECOND * 65), 10));
    }

    #[test]
    fn a_day_of_failures_is_told_once_and_five_days_disable() {
        let mut breaker = Breaker::default();
        fail(&mut breaker, 0);
        assert!(!fail(&mut breaker, 23 * HOUR_US).is_failing);
        assert!(fail(&mut breaker, 24 * HOUR_US).is_failing);
        assert!(!fail(&mut breaker, 25 * HOUR_US).is_failing, "told once");
        assert!(!fail(&mut breaker, 121 * HOUR_US).disables, "five days, but five attempts");
        (0..4).for_each(|_| assert!(!fail(&mut breaker, 121 * HOUR_US).disables));
        assert!(fail(&mut breaker, 121 * HOUR_US).disables);
        assert_eq!(breaker.succeeded().recovered_from_us, Some(0));
        assert_eq!(breaker.succeeded().recovered_from_us, None, "told once");
    }

    #[test]
    fn it_goes_on_from_what_was_written() {
        let mut breaker = Breaker::default();
        let failing_since_us = Some(0);
        breaker.restore(
            ReceiverHealth { consecutive_failures: 9, failing_since_us, ..ReceiverHealth::default() },
            &Periods::default(),
        );
        assert!(fail(&mut breaker, 24 * HOUR_US).is_failing);
        assert!(breaker.is_open());
    }

    proptest! {
        /// A receiver that flaps within a minute costs no row until its circuit opens, and two per
        /// opening.
        #[test]
        fn written_only_when_it_changes(outcomes in proptest::collection::vec(any::<bool>(), 0..300)) {
            let mut breaker = Breaker::default();
            let (mut rows, mut turns) = (0, 0);
            for (at, is_success) in (0i64..).zip(outcomes) {
                let change = if is_success { breaker.succeeded() } else { fail(&mut breaker, at) };
                rows += i32::from(change.is_changed);
                turns += i32::from(change.opened) + i32::from(change.closed);
                prop_assert_eq!(breaker.is_open(), breaker.health().consecutive_failures >= FAILURES_MAX);
            }
            prop_assert_eq!(rows, turns);
        }
    }
}
