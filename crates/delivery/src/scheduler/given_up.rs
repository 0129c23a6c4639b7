//! Summaries of deliveries that are given up, for the log. Pure.
//!
//! A receiver that is gone may exhaust thousands of deliveries in a second. The log gets a line per
//! subscription, and not one per delivery.

use crate::subscription::Subscription;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tracing::info;

/// Time from the first delivery that is given up to the summary.
const INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of subscriptions with a line of their own in one summary.
const LINES_MAX: usize = 20;

/// The deliveries given up since the last summary.
#[derive(Debug, Default)]
pub struct GivenUp {
    by_subscription: BTreeMap<i64, Summary>,
    report_at: Option<Duration>,
}

/// The deliveries of one subscription.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    pub name: Option<Arc<str>>,
    pub deliveries: u64,
    /// Sequence and status of the last one.
    pub sequence: i64,
    pub status: Option<u16>,
}

impl GivenUp {
    /// Counts a delivery. `subscription` is `None` if it was deleted meanwhile.
    pub fn note(
        &mut self,
        id: i64,
        subscription: Option<&Subscription>,
        (sequence, status): (i64, Option<u16>),
        now: Duration,
    ) {
        self.report_at.get_or_insert(now + INTERVAL);
        let summary = self.by_subscription.entry(id).or_default();
        summary.name = subscription.and_then(|subscription| subscription.name.clone());
        summary.deliveries += 1;
        (summary.sequence, summary.status) = (sequence, status);
    }

    /// Returns when the next summary is due.
    pub fn report_at(&self) -> Option<Duration> {
        self.report_at
    }

    /// Returns the summary if it is due, those with most deliveries first.
    fn take(&mut self, now: Duration) -> Vec<(i64, Summary)> {
        if self.report_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.report_at = None;
        let mut summaries: Vec<_> = std::mem::take(&mut self.by_subscription).into_iter().collect();
        summaries.sort_by_key(|(_, summary)| std::cmp::Reverse(summary.deliveries));
        summaries
    }

    /// Logs the summary if it is due.
    pub fn report(&mut self, now: Duration) {
        let summaries = self.take(now);
        let (shown, others) = summaries.split_at(summaries.len().min(LINES_MAX));
        for (subscription_id, summary) in shown {
            let Summary { name, deliveries, sequence, status } = summary;
            let name = name.as_deref();
            info!(subscription_id, name, deliveries, sequence, status, "deliveries.exhausted");
        }
        if !others.is_empty() {
            let deliveries: u64 = others.iter().map(|(_, summary)| summary.deliveries).sum();
            info!(subscriptions = others.len(), deliveries, "deliveries.exhausted; of other subscriptions");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_summary_per_interval_and_subscription() {
        let mut given_up = GivenUp::default();
        let second = Duration::from_secs;
        assert_eq!(given_up.report_at(), None);
        let named = Subscription { name: Some("crm".into()), ..Subscription::sample(2) };
        given_up.note(1, None, (10, None), second(5));
        for sequence in 11..=13 {
            given_up.note(2, Some(&named), (sequence, Some(500)), second(6));
        }
        assert_eq!(given_up.take(second(14)), []);
        let crm = Summary { name: Some("crm".into()), deliveries: 3, sequence: 13, status: Some(500) };
        let other = Summary { name: None, deliveries: 1, sequence: 10, status: None };
        assert_eq!(given_up.take(second(15)), [(2, crm), (1, other)]);
        assert_eq!((given_up.report_at(), given_up.take(second(60))), (None, Vec::new()));
    }
}
