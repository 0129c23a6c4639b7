//! The samples of the last half hour (`sampler.rs`) as points of plots, limited to what a visitor
//! may see. Pure.

use crate::{
    State,
    counters::Counts,
    page::plot::{Series, chart},
    sampler::{INTERVAL, KEPT, Sample, SubscriptionSample},
};
use maud::{Markup, html};
use std::collections::{BTreeMap, HashSet};

/// Number of samples per point. A plot of 30 s is smoother than one of 5 s.
const POINT: usize = 3;

/// Points over time, oldest first.
pub type Points = Vec<Option<f64>>;

/// The part of the last half hour that a visitor may see, point by point.
pub struct Past {
    pub points: Vec<Point>,
    /// By subscription.
    pub sparks: BTreeMap<i64, Sparkline>,
    pub latest: Option<Sample>,
    pub total: Counts,
}

pub struct Point {
    pub seconds: f64,
    pub events: i64,
    pub lag_s: f64,
    pub standing: SubscriptionSample,
    /// Whether the samples contain any of the subscriptions.
    is_told: bool,
}

/// The plots of one subscription in a row of a table.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Sparkline {
    /// Attempts a second.
    pub attempts: Points,
    /// Rows in the queue.
    pub backlog: Points,
}

impl Past {
    /// Creates the points of all subscriptions, or of those that are seen, with a line for each of
    /// these.
    pub fn of(state: &State, sees_all: bool, seen: &HashSet<i64>) -> Self {
        state.history.with(|samples| {
            // Groups end with the newest sample, so that only the last point changes with a new
            // sample.
            let samples: Vec<&Sample> = samples.iter().collect();
            let groups: Vec<&[&Sample]> = samples.rchunks(POINT).rev().collect();
            Self::drawn(&groups, sees_all, seen)
        })
    }

    fn drawn(groups: &[&[&Sample]], sees_all: bool, seen: &HashSet<i64>) -> Self {
        let sees = |id: i64| sees_all || seen.contains(&id);
        let points: Vec<Point> = groups.iter().map(|group| past_point(group, sees_all, sees)).collect();
        let mut total = Counts::default();
        for point in &points {
            total.add(&point.standing.counts);
        }
        let latest = groups.last().and_then(|group| group.last()).map(|look| (*look).clone());
        let sparks = seen.iter().map(|id| (*id, spark_of(groups, *id))).collect();
        Self { points, sparks, latest, total }
    }

    /// Returns the width of the plots in points and in minutes: at least five minutes, and at most
    /// the time since the start.
    pub fn span(&self) -> (usize, usize) {
        let per_minute = 60 / (usize::try_from(INTERVAL.as_secs()).unwrap_or(5) * POINT).max(1);
        let minutes =
            self.points.len().div_ceil(per_minute.max(1)).clamp(5, KEPT / POINT / per_minute.max(1));
        (minutes * per_minute, minutes)
    }

    pub fn series(&self, value: impl Fn(&Point) -> Option<f64>) -> Points {
        self.points.iter().map(value).collect()
    }

    /// Returns a line of counted results per second.
    pub fn rates(&self, name: &'static str, value: fn(&Counts) -> u64) -> Series<'static> {
        let rate = |point: &Point| value(&point.standing.counts) as f64 / point.seconds;
        Series { name, values: self.series(|point| point.is_told.then(|| rate(point))) }
    }

    /// Returns the plot of the queue of a subscription, or of all subscriptions.
    pub fn backlog(&self) -> Markup {
        let (kept, minutes) = self.span();
        let values = self.series(|point| point.is_told.then_some(point.standing.backlog as f64));
        let series = [Series { name: "deliveries", values }];
        html! { (chart("Queued", &series, kept, minutes, None, super::text::figure)) }
    }
}

fn past_point(group: &[&Sample], sees_all: bool, sees: impl Fn(i64) -> bool) -> Point {
    let is_told = sees_all || group.iter().any(|sample| sample.subscriptions.keys().copied().any(&sees));
    let mut point =
        Point { seconds: 0.0, events: 0, lag_s: 0.0, standing: SubscriptionSample::default(), is_told };
    for sample in group {
        let standing = sample.of(&sees);
        point.seconds += sample.seconds;
        point.events += sample.events;
        point.lag_s = point.lag_s.max(sample.lag_s);
        point.standing.backlog = standing.backlog;
        point.standing.counts.add(&standing.counts);
    }
    point.seconds = point.seconds.max(0.001);
    point
}

fn spark_of(groups: &[&[&Sample]], id: i64) -> Sparkline {
    let mut spark = Sparkline::default();
    for group in groups {
        let seconds: f64 = group.iter().map(|sample| sample.seconds).sum();
        let told: Vec<&SubscriptionSample> =
            group.iter().filter_map(|sample| sample.subscriptions.get(&id)).collect();
        let attempts: u64 = told.iter().map(|one| one.counts.succeeded() + one.counts.failed()).sum();
        spark.attempts.push(Some(attempts as f64 / seconds.max(0.001)));
        spark.backlog.push(told.last().map(|one| one.backlog as f64));
    }
    spark
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn look(subscriptions: &[(i64, i64, u64)]) -> Sample {
        let standing = |backlog, succeeded| {
            let mut counts = Counts::default();
            counts.outcomes[0] = succeeded;
            SubscriptionSample { enabled: true, circuit_open: false, backlog, counts }
        };
        Sample {
            subscriptions: subscriptions
                .iter()
                .map(|(id, backlog, succeeded)| (*id, standing(*backlog, *succeeded)))
                .collect(),
            ..Sample::idle(Instant::now())
        }
    }

    #[test]
    fn one_s_points_are_its_own() {
        let looks = [look(&[(1, 3, 10)]), look(&[(1, 4, 20), (2, 70, 500)]), look(&[(1, 5, 0), (2, 80, 0)])];
        let groups: Vec<Vec<&Sample>> = looks.iter().map(|look| vec![look]).collect();
        let groups: Vec<&[&Sample]> = groups.iter().map(Vec::as_slice).collect();
        let of = |sees_all, seen: &[i64]| Past::drawn(&groups, sees_all, &seen.iter().copied().collect());
        let backlog = |past: &Past| past.backlog().into_string();
        let rates = |past: &Past| past.rates("delivered", Counts::succeeded).values;

        let one = of(false, &[1]);
        assert!(backlog(&one).contains("deliveries: now 5, at most 5"));
        assert_eq!(rates(&one), [Some(2.0), Some(4.0), Some(0.0)]);
        let two = of(false, &[2]);
        assert!(backlog(&two).contains("deliveries: now 80, at most 80"));
        assert_eq!(rates(&two), [None, Some(100.0), Some(0.0)], "no value before it existed");
        assert_eq!(two.sparks[&2].backlog, [None, Some(70.0), Some(80.0)]);
        assert!(backlog(&of(true, &[])).contains("deliveries: now 85, at most 85"));
        assert!(backlog(&of(false, &[])).contains("deliveries: now nothing, at most nothing"));
    }
}
