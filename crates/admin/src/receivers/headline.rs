//! The headline: what is wrong with the receivers, in a few sentences. Pure.
//!
//! It is never green while deliveries fail, wait for a repair, or were given up.

use crate::receivers::words::{Tone, count, duration, state_of};
use serde::{Deserialize, Serialize};

/// The receivers in one state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub state: String,
    pub receivers: i64,
    /// Receivers with given-up deliveries, and the number of these deliveries.
    pub giving_up: i64,
    pub given_up: i64,
    /// Receivers that reject the content of events, and the number of these events.
    pub rejecting: i64,
    pub rejected: i64,
    /// Age of the oldest event that waits, in seconds.
    pub oldest_waiting_s: Option<f64>,
}

/// The headline, the most urgent sentence first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    pub sentences: Vec<String>,
    pub tone: Tone,
}

/// Returns the headline of these groups.
pub fn headline(groups: &[Group]) -> Headline {
    let total: i64 = groups.iter().map(|group| group.receivers).sum();
    if total == 0 {
        let sentences = vec!["There are no subscriptions yet.".to_owned()];
        return Headline { sentences, tone: Tone::Soft };
    }
    let mut sentences = Vec::new();
    sentences.extend(failing(groups, total));
    sentences.extend(given_up(groups));
    for (state, one, many) in [
        (
            "disabled",
            "is disabled because its receiver failed for too long",
            "are disabled because their receivers failed for too long",
        ),
        ("blocked", "is blocked by our settings", "are blocked by our settings"),
        (
            "unconfirmed",
            "waits for the confirmation of its receiver",
            "wait for the confirmation of their receivers",
        ),
        ("paused", "is paused", "are paused"),
        ("slow", "is slow", "are slow"),
        ("retrying", "has failed deliveries that are retried", "have failed deliveries that are retried"),
    ] {
        let receivers = of(groups, state).map_or(0, |group| group.receivers);
        match receivers {
            0 => {}
            1 => sentences.push(format!("1 {one}.")),
            receivers => sentences.push(format!("{receivers} {many}.")),
        }
    }
    sentences.extend(rejected(groups));
    let present = groups.iter().filter(|group| group.receivers > 0);
    let worst = present.map(|group| state_of(&group.state).tone).min().unwrap_or(Tone::Good);
    let loses = groups.iter().any(|group| group.given_up > 0 || group.rejected > 0);
    let tone = if loses { Tone::Bad } else { worst };
    if sentences.is_empty() {
        sentences.push(
            if total == 1 { "The receiver is healthy." } else { "All receivers are healthy." }.to_owned(),
        );
    }
    Headline { sentences, tone }
}

fn of<'a>(groups: &'a [Group], state: &str) -> Option<&'a Group> {
    groups.iter().find(|group| group.state == state)
}

fn failing(groups: &[Group], total: i64) -> Option<String> {
    let group = of(groups, "failing").filter(|group| group.receivers > 0)?;
    let are = if group.receivers == 1 { "is" } else { "are" };
    let of_all = format!("{} of {} {are} failing", group.receivers, count(total, "receiver"));
    Some(match group.oldest_waiting_s {
        Some(age) => format!("{of_all}; the oldest event has waited {}.", duration(age)),
        None => format!("{of_all}."),
    })
}

fn given_up(groups: &[Group]) -> Option<String> {
    let receivers: i64 = groups.iter().map(|group| group.giving_up).sum();
    let deliveries: i64 = groups.iter().map(|group| group.given_up).sum();
    (deliveries > 0).then(|| {
        format!("webhookd gave up {} to {}.", count(deliveries, "delivery"), count(receivers, "receiver"))
    })
}

fn rejected(groups: &[Group]) -> Option<String> {
    let receivers: i64 = groups.iter().map(|group| group.rejecting).sum();
    let events: i64 = groups.iter().map(|group| group.rejected).sum();
    let verb = if receivers == 1 { "rejects" } else { "reject" };
    (events > 0).then(|| {
        format!("{} {verb} the content of {}.", count(receivers, "receiver"), count(events, "event"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(state: &str, receivers: i64) -> Group {
        Group { state: state.to_owned(), receivers, ..Group::default() }
    }

    fn said(groups: &[Group]) -> (String, Tone) {
        let Headline { sentences, tone } = headline(groups);
        (sentences.join(" "), tone)
    }

    #[test]
    fn the_worst_comes_first() {
        let failing = Group { oldest_waiting_s: Some(500.0), ..group("failing", 3) };
        let groups = [group("healthy", 2), failing, group("paused", 1)];
        let want = "3 of 6 receivers are failing; the oldest event has waited 8 min. 1 is paused.";
        assert_eq!(said(&groups), (want.to_owned(), Tone::Bad));
        let gave_up = Group { giving_up: 2, given_up: 713, ..group("gave_up", 2) };
        let want = "webhookd gave up 713 deliveries to 2 receivers.";
        assert_eq!(said(&[gave_up, group("healthy", 1)]), (want.to_owned(), Tone::Bad));
    }

    #[test]
    fn it_is_green_only_if_nothing_is_wrong() {
        assert_eq!(said(&[group("healthy", 6)]), ("All receivers are healthy.".to_owned(), Tone::Good));
        assert_eq!(said(&[group("healthy", 1)]).0, "The receiver is healthy.");
        assert_eq!(said(&[]), ("There are no subscriptions yet.".to_owned(), Tone::Soft));
        for state in crate::receivers::words::STATES.iter().filter(|state| state.word != "healthy") {
            let (text, tone) = said(&[group("healthy", 5), group(state.word, 1)]);
            let is_said_by_count = matches!(state.word, "gave_up" | "rejecting");
            assert!(tone != Tone::Good, "{}", state.word);
            assert!(is_said_by_count || !text.contains("healthy"), "{text}");
        }
        // A paused subscription may have given-up deliveries.
        let paused = Group { giving_up: 1, given_up: 1, ..group("paused", 1) };
        let want = "webhookd gave up 1 delivery to 1 receiver. 1 is paused.";
        assert_eq!(said(&[paused]), (want.to_owned(), Tone::Bad));
        let rejecting = Group { rejecting: 1, rejected: 12, ..group("rejecting", 1) };
        let want = "1 receiver rejects the content of 12 events.";
        assert_eq!(said(&[rejecting, group("healthy", 1)]), (want.to_owned(), Tone::Bad));
    }
}
