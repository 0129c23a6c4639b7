//! Evaluates filters in Postgres: many deliveries at once, with the function that the views and
//! webhook_dry_run() use, and with a time limit for each filter.
//!
//! If all filters together take too long, each is evaluated by itself. A filter that is too slow by
//! itself is too slow, and its deliveries stay undecided: they are neither delivered nor
//! dropped.

use crate::slow_filters::SlowFilters;
use database::Client;
use delivery::{event::Place, feed::Deliveries};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_postgres::{Error, Statement, error::SqlState};

/// By the index. With the slot, each look-up opens one partition and not sixteen.
const MATCHING: &str = include_str!("sql/matching.sql");

/// Time limit for all filters of a batch together. 20 000 deliveries need less than half of it.
const TOGETHER_MAX: Duration = Duration::from_secs(2);

/// Time limit for one filter of one subscription, for at most a batch of events.
const ALONE_MAX: Duration = Duration::from_millis(500);

/// Time limit of a second evaluation, after all other causes have been excluded. It is at least
/// this long, and this many times as long as the cheapest filter needs for the same events. So a
/// busy machine makes no filter count as too slow.
const ALONE_AGAIN_MIN: Duration = Duration::from_secs(1);
const TIMES_ANYTHING: u32 = 8;

/// The cheapest filter.
const ANYTHING: &str = "$";

/// A delivery whose filter is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub event_id: i64,
    pub place: Place,
    pub subscription_id: i64,
    pub filter: Arc<str>,
}

/// The result. Deliveries in neither set do not match.
#[derive(Debug, Default)]
pub struct Answer {
    pub passed: Deliveries,
    /// The filter is too slow.
    pub undecided: Deliveries,
}

/// Evaluates filters over one connection.
#[derive(Debug, Default)]
pub struct Matching {
    statement: Option<Statement>,
}

impl Matching {
    /// Evaluates the filters of deliveries. It skips filters that are known to be too slow, and
    /// records new ones.
    ///
    /// # Errors
    /// The errors of the connection. A filter that cannot be evaluated does not match, and is not
    /// an error.
    pub async fn ask(
        &mut self,
        client: &Client,
        mut pairs: Vec<Pair>,
        slow_filters: &SlowFilters,
    ) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        let held = slow_filters.filters();
        if !held.is_empty() {
            let is_held = |pair: &mut Pair| held.get(&pair.subscription_id) == Some(&pair.filter);
            answer.undecided = deliveries(&pairs.extract_if(.., is_held).collect::<Vec<_>>());
        }
        if pairs.is_empty() {
            return Ok(answer);
        }
        let statement = match &self.statement {
            Some(statement) => statement.clone(),
            None => self.statement.insert(client.prepare(MATCHING).await?).clone(),
        };
        let asked = Asked { client, statement };
        if !is_of_one(&pairs)
            && let Some(passed) = asked.within(TOGETHER_MAX, &pairs).await?
        {
            answer.passed = passed;
            return Ok(answer);
        }
        for alone in by_filter(pairs) {
            match asked.alone(&alone).await? {
                Some(passed) => answer.passed.extend(passed),
                None => {
                    slow_filters.add(alone[0].subscription_id, &alone[0].filter);
                    answer.undecided.extend(deliveries(&alone));
                }
            }
        }
        Ok(answer)
    }
}

struct Asked<'a> {
    client: &'a Client,
    statement: Statement,
}

impl Asked<'_> {
    /// Returns `None` if the filter exceeds its limit. This is the filter's fault only if the
    /// events themselves can be read in time: the table may be locked, the disk slow, or the
    /// statement cancelled.
    async fn alone(&self, pairs: &[Pair]) -> Result<Option<Deliveries>, Error> {
        if let Some(passed) = self.within(ALONE_MAX, pairs).await? {
            return Ok(Some(passed));
        }
        let anything: Vec<Pair> =
            pairs.iter().map(|pair| Pair { filter: ANYTHING.into(), ..pair.clone() }).collect();
        let began = Instant::now();
        self.query(&anything).await?;
        self.within(again_max(began.elapsed()), pairs).await
    }

    /// Returns the deliveries that match, or `None` if the time was too short. All statements are
    /// sent at once, so this costs no additional round trip.
    async fn within(&self, limit: Duration, pairs: &[Pair]) -> Result<Option<Deliveries>, Error> {
        let limit = format!("set statement_timeout = {}", limit.as_millis());
        let (limited, passed, unlimited) = futures_util::join!(
            self.client.batch_execute(&limit),
            self.query(pairs),
            self.client.batch_execute("set statement_timeout = 0"),
        );
        limited?;
        unlimited?;
        match passed {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(None),
            passed => passed.map(Some),
        }
    }

    async fn query(&self, pairs: &[Pair]) -> Result<Deliveries, Error> {
        let PairColumns { slots, xids, events, subscriptions, filters, paths } = PairColumns::of(pairs);
        let rows = self
            .client
            .query(&self.statement, &[&slots, &events, &subscriptions, &filters, &paths, &xids])
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// Returns the time limit of a filter, from the time that the cheapest one took for the same
/// events.
fn again_max(anything: Duration) -> Duration {
    ALONE_AGAIN_MIN.max(anything * TIMES_ANYTHING)
}

/// The deliveries column by column. A filter is named by its position in `paths`, from 1.
#[derive(Debug, Default, PartialEq, Eq)]
struct PairColumns<'a> {
    slots: Vec<i16>,
    xids: Vec<i64>,
    events: Vec<i64>,
    subscriptions: Vec<i64>,
    filters: Vec<i32>,
    paths: Vec<&'a str>,
}

impl<'a> PairColumns<'a> {
    fn of(pairs: &'a [Pair]) -> Self {
        let mut columns = Self::default();
        let mut places: HashMap<&str, i32> = HashMap::new();
        for pair in pairs {
            let place = *places.entry(&pair.filter).or_insert_with_key(|path| {
                columns.paths.push(path);
                i32::try_from(columns.paths.len()).unwrap_or(i32::MAX)
            });
            columns.slots.push(pair.place.slot);
            columns.xids.push(pair.place.xid.cast_signed());
            columns.events.push(pair.event_id);
            columns.subscriptions.push(pair.subscription_id);
            columns.filters.push(place);
        }
        columns
    }
}

fn deliveries(pairs: &[Pair]) -> Deliveries {
    pairs.iter().map(|pair| (pair.event_id, pair.subscription_id)).collect()
}

/// Reports whether there is only one filter of one subscription.
fn is_of_one(pairs: &[Pair]) -> bool {
    pairs.windows(2).all(|two| {
        two[0].subscription_id == two[1].subscription_id && Arc::ptr_eq(&two[0].filter, &two[1].filter)
    })
}

/// Groups deliveries by subscription and filter. Within a window, a subscription can have several
/// filters.
fn by_filter(pairs: Vec<Pair>) -> Vec<Vec<Pair>> {
    let mut groups: HashMap<(i64, Arc<str>), Vec<Pair>> = HashMap::new();
    for pair in pairs {
        groups.entry((pair.subscription_id, Arc::clone(&pair.filter))).or_default().push(pair);
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(event_id: i64, subscription_id: i64, filter: &str) -> Pair {
        Pair { event_id, place: Place { slot: 7, xid: 1000 }, subscription_id, filter: filter.into() }
    }

    #[test]
    fn a_busy_machine_makes_no_filter_overdue() {
        assert_eq!(again_max(Duration::from_millis(80)), ALONE_AGAIN_MIN);
        assert_eq!(
            again_max(Duration::from_secs(1)),
            Duration::from_secs(8),
            "cheap, and too slow all the same"
        );
    }

    #[test]
    fn a_filter_is_sent_once() {
        let pairs = [pair(10, 1, "$.a"), pair(10, 3, "$.b"), pair(10, 4, "$.a"), pair(12, 3, "$.b")];
        let wanted = PairColumns {
            slots: vec![7; 4],
            xids: vec![1000; 4],
            events: vec![10, 10, 10, 12],
            subscriptions: vec![1, 3, 4, 3],
            filters: vec![1, 2, 1, 2],
            paths: vec!["$.a", "$.b"],
        };
        assert_eq!(PairColumns::of(&pairs), wanted);
    }

    #[test]
    fn one_by_one_is_by_subscription_and_filter() {
        let pairs = vec![pair(10, 1, "$.a"), pair(10, 2, "$.a"), pair(11, 1, "$.b"), pair(12, 1, "$.a")];
        assert!(!is_of_one(&pairs) && is_of_one(&pairs[..1]));
        let mut groups: Vec<Vec<i64>> = by_filter(pairs)
            .iter()
            .map(|group| group.iter().map(|pair| pair.event_id * 10 + pair.subscription_id).collect())
            .collect();
        groups.sort_unstable();
        assert_eq!(groups, [vec![101, 121], vec![102], vec![111]]);
    }
}
