//! Judgements on a receiver's record, for promises that hold at every moment of a run. Pure.

use crate::receiver::Received;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Returns the most arrivals within any window of this length.
pub fn most_within(arrivals: &[Instant], window: Duration) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort();
    let mut first = 0;
    let mut most = 0;
    for (last, arrival) in sorted.iter().enumerate() {
        while *arrival - sorted[first] >= window {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most
}

/// The known answers of one event.
#[derive(Debug, Default)]
struct Known {
    /// When it was first answered with a 2xx.
    succeeded: Option<Instant>,
    /// When each failed attempt was answered, in order of arrival.
    failed: Vec<Instant>,
}

impl Known {
    /// Reports whether its delivery was final at `at`: answered with a 2xx, or with as many
    /// failures as there are attempts.
    fn is_final(&self, at: Instant, attempts_max: usize) -> bool {
        self.succeeded.is_some_and(|when| when <= at)
            || self.failed.iter().filter(|when| **when <= at).count() >= attempts_max
    }
}

/// Describes every case in which an event arrived before an earlier one of its key was final.
///
/// `requests` are those of one subscription, in order of arrival, one event each; `attempts_max` is
/// how often an event is tried. Answered requests count with their answer. The end of an unanswered
/// request is not known: it counts as failed at its arrival, the earliest time at which it can have
/// been over.
pub fn out_of_order(
    requests: &[Received],
    key_of: impl Fn(&serde_json::Value) -> String,
    attempts_max: usize,
) -> Vec<String> {
    let mut keys: HashMap<String, HashMap<i64, Known>> = HashMap::new();
    let bodies: Vec<_> = requests.iter().map(Received::json).collect();
    let sequence_of = |body: &serde_json::Value| body["sequence"].as_i64().expect("a body has a sequence");
    for (request, body) in requests.iter().zip(&bodies) {
        let known = keys.entry(key_of(body)).or_default().entry(sequence_of(body)).or_default();
        match request.answered {
            Some((at, 200..=299)) => {
                known.succeeded = Some(known.succeeded.map_or(at, |before| before.min(at)))
            }
            Some((at, _)) => known.failed.push(at),
            None => known.failed.push(request.arrived),
        }
    }
    let mut wrong = Vec::new();
    for (request, body) in requests.iter().zip(&bodies) {
        let (key, sequence) = (key_of(body), sequence_of(body));
        for (earlier, known) in &keys[&key] {
            if *earlier < sequence && !known.is_final(request.arrived, attempts_max) {
                wrong.push(format!("key {key}: event {sequence} came while event {earlier} was not final"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn windows_are_half_open_and_slide() {
        let start = Instant::now();
        let at = |ms: &[u64]| ms.iter().map(|ms| start + Duration::from_millis(*ms)).collect::<Vec<_>>();
        let second = Duration::from_secs(1);
        assert_eq!(most_within(&at(&[]), second), 0);
        assert_eq!(most_within(&at(&[0, 1000, 2000]), second), 1);
        assert_eq!(most_within(&at(&[900, 0, 999, 1001]), second), 3);
        assert_eq!(most_within(&at(&[0, 900, 1000, 1100, 1899, 1900]), second), 4);
    }

    /// Key, sequence, time of arrival, and time and status of the answer; in milliseconds.
    type Case = (&'static str, i64, u64, Option<(u64, u16)>);

    fn record(of: &[Case]) -> Vec<Received> {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        of.iter()
            .map(|(key, sequence, came, answered)| Received {
                method: "POST".to_owned(),
                path: "/".to_owned(),
                arrived: at(*came),
                arrived_at: SystemTime::now(),
                headers: Vec::new(),
                body: format!("{{\"key\":\"{key}\",\"sequence\":{sequence}}}").into(),
                verified: Ok(()),
                answered: answered.map(|(ms, status)| (at(ms), status)),
            })
            .collect()
    }

    fn judged(of: &[Case]) -> usize {
        out_of_order(&record(of), |body| body["key"].to_string(), 2).len()
    }

    #[test]
    fn a_later_event_waits_for_the_earlier_of_its_key_alone() {
        assert_eq!(judged(&[("a", 1, 0, Some((5, 200))), ("b", 2, 1, Some((6, 200)))]), 0);
        assert_eq!(judged(&[("a", 1, 0, Some((5, 200))), ("a", 2, 6, Some((9, 200)))]), 0);
        assert_eq!(judged(&[("a", 1, 0, Some((5, 200))), ("a", 2, 4, Some((9, 200)))]), 1, "still under way");
        assert_eq!(
            judged(&[("a", 1, 0, Some((5, 500))), ("a", 2, 6, Some((9, 200)))]),
            1,
            "to be tried again"
        );
        assert_eq!(
            judged(&[("a", 2, 0, Some((1, 200))), ("a", 1, 6, Some((9, 200)))]),
            1,
            "the wrong way round"
        );
    }

    #[test]
    fn given_up_is_final_and_a_repetition_changes_nothing() {
        let given_up =
            [("a", 1, 0, Some((1, 500))), ("a", 1, 2, Some((3, 500))), ("a", 2, 4, Some((5, 200)))];
        assert_eq!(judged(&given_up), 0);
        let again = [("a", 1, 0, Some((1, 200))), ("a", 2, 2, Some((3, 200))), ("a", 1, 4, Some((5, 200)))];
        assert_eq!(judged(&again), 0);
        let unanswered = [("a", 1, 0, None), ("a", 2, 1, Some((2, 200)))];
        assert_eq!(judged(&unanswered), 1);
    }
}
