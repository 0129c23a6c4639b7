//! Decides when a failed delivery is retried. Pure: randomness is an argument.

use crate::outcome::RETRY_AFTER_MAX;
use std::time::Duration;

/// Jitter of the wait. Deliveries that failed together are not retried together.
const JITTER: f64 = 0.2;

/// Returns the wait after a failure, or `None` if the schedule is exhausted.
///
/// `failures` counts the failed attempts of the current schedule, including this one (1 or more).
/// `unit` is evenly distributed over 0..1 and shifts the wait by up to a fifth either way. The wait
/// is never shorter than `retry_after`, up to [`RETRY_AFTER_MAX`].
pub fn wait(
    schedule: &[Duration],
    failures: usize,
    retry_after: Option<Duration>,
    unit: f64,
) -> Option<Duration> {
    let planned = schedule.get(failures.checked_sub(1)?)?;
    let spread = planned.mul_f64(1.0 - JITTER + 2.0 * JITTER * unit.clamp(0.0, 1.0));
    Some(spread.max(retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SCHEDULE: [Duration; 3] =
        [Duration::from_secs(5), Duration::from_secs(300), Duration::from_secs(1800)];

    #[test]
    fn one_step_per_failure_then_exhausted() {
        let waits: Vec<_> = (1..=4).map(|failures| wait(&SCHEDULE, failures, None, 0.5)).collect();
        assert_eq!(waits, [Some(SCHEDULE[0]), Some(SCHEDULE[1]), Some(SCHEDULE[2]), None]);
        assert_eq!(wait(&[], 1, None, 0.5), None);
        assert_eq!(wait(&SCHEDULE, 0, None, 0.5), None, "nothing has failed");
    }

    #[test]
    fn retry_after_delays_but_never_hastens_and_has_a_ceiling() {
        let after = |seconds| wait(&SCHEDULE, 2, Some(Duration::from_secs(seconds)), 0.5);
        assert_eq!(after(1), Some(SCHEDULE[1]));
        assert_eq!(after(301), Some(Duration::from_secs(301)));
        assert_eq!(after(u64::MAX), Some(RETRY_AFTER_MAX));
        assert_eq!(
            wait(&SCHEDULE, 4, Some(Duration::from_secs(9)), 0.5),
            None,
            "it does not lengthen the schedule"
        );
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(unit in 0.0f64..1.0, step in 0usize..3, after in 0u64..600) {
            let after = Duration::from_secs(after);
            let waited = wait(&SCHEDULE, step + 1, Some(after), unit).unwrap();
            prop_assert!(waited >= after);
            prop_assert!(waited >= SCHEDULE[step].mul_f64(0.7999));
            prop_assert!(waited <= SCHEDULE[step].mul_f64(1.2001).max(after));
        }
    }
}
