//! Converts entries to the columns of the ledger's statements. Pure.
//!
//! Each attempt becomes a row. Several changes of one queue row become one change.

use database::value::Micros;
use delivery::{
    outcome::Class,
    record::{Entry, QueueChange, State, UNDECIDED},
};
use source::outbox::ring::Present;
use std::{collections::HashMap, time::Duration};
use tokio_postgres::types::ToSql;

/// The values of one column.
pub type Column<'a> = &'a (dyn ToSql + Sync);

/// The columns of `webhook.attempt`.
#[derive(Debug, Default)]
pub struct Attempts<'a> {
    pub event_id: Vec<i64>,
    pub event_xid: Vec<i64>,
    pub subscription_id: Vec<i64>,
    pub started_at: Vec<Micros>,
    pub duration_ms: Vec<f32>,
    pub slot: Vec<i16>,
    pub attempt: Vec<i16>,
    pub status: Vec<Option<i16>>,
    pub outcome: Vec<&'static str>,
    pub next_at: Vec<Option<Micros>>,
    pub error: Vec<Option<&'a str>>,
    pub response: Vec<Option<&'a str>>,
    pub dns_ms: Vec<Option<f32>>,
    pub connect_ms: Vec<Option<f32>>,
    pub tls_ms: Vec<Option<f32>>,
    pub first_byte_ms: Vec<Option<f32>>,
    pub batch_id: Vec<Option<&'a str>>,
}

impl Attempts<'_> {
    /// Returns the columns in the order of `sql/insert_attempts.sql`.
    pub fn columns(&self) -> [Column<'_>; 17] {
        [
            &self.event_id,
            &self.event_xid,
            &self.subscription_id,
            &self.started_at,
            &self.duration_ms,
            &self.slot,
            &self.attempt,
            &self.status,
            &self.outcome,
            &self.next_at,
            &self.error,
            &self.response,
            &self.dns_ms,
            &self.connect_ms,
            &self.tls_ms,
            &self.first_byte_ms,
            &self.batch_id,
        ]
    }
}

/// The columns of `webhook.queue`.
#[derive(Debug, Default)]
pub struct Puts<'a> {
    pub subscription_id: Vec<i64>,
    pub event_id: Vec<i64>,
    pub event_xid: Vec<i64>,
    pub event_slot: Vec<i16>,
    pub attempts: Vec<i16>,
    pub retry_from: Vec<i16>,
    pub next_at: Vec<Option<Micros>>,
    pub last_status: Vec<Option<i16>>,
    pub last_error: Vec<Option<&'a str>>,
    pub state: Vec<&'static str>,
    pub order_key: Vec<Option<i64>>,
    pub is_new: Vec<bool>,
}

impl Puts<'_> {
    /// Returns the columns in the order of `sql/put_queued.sql`.
    pub fn columns(&self) -> [Column<'_>; 12] {
        [
            &self.subscription_id,
            &self.event_id,
            &self.event_xid,
            &self.event_slot,
            &self.attempts,
            &self.retry_from,
            &self.next_at,
            &self.last_status,
            &self.last_error,
            &self.state,
            &self.order_key,
            &self.is_new,
        ]
    }
}

/// The columns of the `webhook.delivery.exhausted` events and the rows of `webhook.given_up`, for
/// the deliveries that the batch gives up.
#[derive(Debug, Default)]
pub struct ExhaustedRows<'a> {
    pub subscription_id: Vec<i64>,
    pub sequence: Vec<i64>,
    pub started_at: Vec<Micros>,
    pub event_id: Vec<&'a str>,
    pub event_type: Vec<&'a str>,
    pub attempts: Vec<i16>,
    pub status: Vec<Option<i16>>,
    pub error: Vec<Option<&'a str>>,
    pub slot: Vec<i16>,
}

impl ExhaustedRows<'_> {
    /// Returns the columns in the order of `sql/tell_exhausted.sql` and `sql/give_up.sql`.
    pub fn columns(&self) -> [Column<'_>; 9] {
        [
            &self.subscription_id,
            &self.sequence,
            &self.started_at,
            &self.event_id,
            &self.event_type,
            &self.attempts,
            &self.status,
            &self.error,
            &self.slot,
        ]
    }
}

/// The content of one transaction. If several entries change one queue row, the last one counts.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub attempts: Attempts<'a>,
    pub puts: Puts<'a>,
    pub deleted_subscription_id: Vec<i64>,
    pub deleted_event_id: Vec<i64>,
    pub exhausted: ExhaustedRows<'a>,
    /// Deliveries that succeeded, not with their first attempt: subscriptions and events.
    pub recovered_subscription_id: Vec<i64>,
    pub recovered_event_id: Vec<i64>,
    /// The subscriptions whose rows the batch changes, or may have created before. They are locked
    /// first.
    pub locks: Vec<i64>,
    /// The slot, if the batch consists of successes in that slot without a note or a response, and
    /// changes no queue row.
    pub only_successes_in: Option<i16>,
    /// Whether each attempt was alone in its request and used an open connection. Then no row has a
    /// batch id, or times for DNS, connect and TLS.
    pub is_plain: bool,
}

impl<'a> Batch<'a> {
    /// Returns the queue rows to delete: subscriptions and events.
    pub fn deleted(&self) -> [Column<'_>; 2] {
        [&self.deleted_subscription_id, &self.deleted_event_id]
    }

    /// Returns the deliveries that may have been given up before they succeeded.
    pub fn recovered(&self) -> [Column<'_>; 2] {
        [&self.recovered_subscription_id, &self.recovered_event_id]
    }

    pub fn of(entries: &[&'a Entry], present: &Present, is_again: bool) -> Self {
        let mut batch = Self::default();
        let mut changes: HashMap<(i64, i64), RowChange<'a>> = HashMap::new();
        for entry in entries {
            batch.push_attempt(entry, present);
            batch.push_exhausted(entry);
            if is_again || entry.changes_row() {
                batch.locks.push(entry.subscription_id);
            }
            if entry.queue != QueueChange::Keep {
                let change = changes.entry((entry.subscription_id, entry.event_id));
                change.and_modify(|change| change.follow(entry)).or_insert_with(|| RowChange::first(entry));
            }
        }
        let attempts = &batch.attempts;
        batch.only_successes_in = attempts.slot.first().copied().filter(|first| {
            changes.is_empty()
                && attempts.slot.iter().all(|slot| slot == first)
                && attempts.outcome.iter().all(|outcome| *outcome == Class::Succeeded.as_str())
                && attempts.error.iter().all(Option::is_none)
                && attempts.response.iter().all(Option::is_none)
        });
        let is_empty = |column: &[Option<f32>]| column.iter().all(Option::is_none);
        batch.is_plain = is_empty(&attempts.dns_ms)
            && is_empty(&attempts.connect_ms)
            && is_empty(&attempts.tls_ms)
            && attempts.batch_id.iter().all(Option::is_none);
        batch.locks.sort_unstable();
        batch.locks.dedup();
        // All statements use the same order, so two sessions cannot deadlock.
        let mut changes: Vec<_> = changes.into_iter().collect();
        changes.sort_unstable_by_key(|(pair, _)| *pair);
        for (_, change) in changes {
            batch.push_change(change);
        }
        batch
    }

    fn push_attempt(&mut self, entry: &'a Entry, present: &Present) {
        let Some(attempt) = &entry.attempt else { return };
        if attempt.outcome.class == Class::Succeeded && attempt.number > 1 {
            self.recovered_subscription_id.push(entry.subscription_id);
            self.recovered_event_id.push(entry.event_id);
        }
        let (outcome, columns) = (&attempt.outcome, &mut self.attempts);
        columns.event_id.push(entry.event_id);
        columns.event_xid.push(entry.place.xid.cast_signed());
        columns.subscription_id.push(entry.subscription_id);
        columns.started_at.push(Micros(outcome.started_at_us));
        columns.duration_ms.push(ms(outcome.duration));
        columns.slot.push(present.slot());
        columns.attempt.push(attempt.number);
        columns.status.push(outcome.status.map(u16::cast_signed));
        columns.outcome.push(outcome.class.as_str());
        columns.next_at.push(attempt.next_at_us.filter(|_| outcome.class != Class::Succeeded).map(Micros));
        columns.error.push(outcome.error.as_deref());
        columns.response.push(outcome.response.as_deref());
        columns.dns_ms.push(outcome.phases.dns.map(ms));
        columns.connect_ms.push(outcome.phases.connect.map(ms));
        columns.tls_ms.push(outcome.phases.tls.map(ms));
        columns.first_byte_ms.push(outcome.phases.first_byte.map(ms));
        columns.batch_id.push(outcome.batch_id.as_deref());
    }

    fn push_exhausted(&mut self, entry: &'a Entry) {
        let (Some(exhausted), Some(attempt)) = (&entry.exhausted, &entry.attempt) else { return };
        let rows = &mut self.exhausted;
        rows.subscription_id.push(entry.subscription_id);
        rows.sequence.push(entry.event_id);
        rows.started_at.push(Micros(attempt.outcome.started_at_us));
        rows.event_id.push(&exhausted.event_id);
        rows.event_type.push(&exhausted.event_type);
        rows.attempts.push(attempt.number);
        rows.status.push(attempt.outcome.status.map(u16::cast_signed));
        rows.error.push(attempt.outcome.error.as_deref());
        rows.slot.push(entry.place.slot);
    }

    fn push_change(&mut self, RowChange { entry, is_new }: RowChange<'a>) {
        match entry.queue {
            QueueChange::Keep => {}
            QueueChange::Delete => {
                self.deleted_subscription_id.push(entry.subscription_id);
                self.deleted_event_id.push(entry.event_id);
            }
            QueueChange::Put { state, attempts, retry_from, order_key, is_new: _ } => {
                let outcome = entry.attempt.as_ref().map(|attempt| &attempt.outcome);
                let columns = &mut self.puts;
                columns.subscription_id.push(entry.subscription_id);
                columns.event_id.push(entry.event_id);
                columns.event_xid.push(entry.place.xid.cast_signed());
                columns.event_slot.push(entry.place.slot);
                columns.attempts.push(attempts);
                columns.retry_from.push(retry_from);
                columns.order_key.push(order_key);
                columns.is_new.push(is_new);
                columns.state.push(state.as_str());
                columns.next_at.push(match state {
                    State::Waiting { next_at_us } => Some(Micros(next_at_us)),
                    State::Backlog | State::Undecided | State::Blocked => None,
                });
                columns.last_status.push(outcome.and_then(|outcome| outcome.status).map(u16::cast_signed));
                let undecided = (state == State::Undecided).then_some(UNDECIDED);
                columns.last_error.push(outcome.and_then(|outcome| outcome.error.as_deref()).or(undecided));
            }
        }
    }
}

/// The change of one queue row: the last entry about it, and whether an entry creates the row.
struct RowChange<'a> {
    entry: &'a Entry,
    is_new: bool,
}

impl<'a> RowChange<'a> {
    fn first(entry: &'a Entry) -> Self {
        let is_new = matches!(entry.queue, QueueChange::Put { is_new: true, .. });
        Self { entry, is_new }
    }

    /// Adds a later entry. After a deletion, only an entry that creates the row can bring it back.
    fn follow(&mut self, entry: &'a Entry) {
        let was_new = self.is_new && self.entry.queue != QueueChange::Delete;
        *self = Self::first(entry);
        self.is_new |= was_new;
    }
}

fn ms(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use delivery::record::summary;
    use delivery::{
        event::Place,
        outcome::Outcome,
        record::{Attempt, Record},
    };
    use source::outbox::ring::Ring;
    use std::collections::HashSet;

    fn entry(event_id: i64, class: Option<Class>, queue: QueueChange) -> Entry {
        let attempt = class.map(|class| Attempt {
            number: 1,
            outcome: Outcome {
                class,
                status: Some(200),
                started_at_us: 1_700_000_000_000_000,
                duration: Duration::from_millis(3),
                phases: Default::default(),
                batch_id: None,
                error: Some("x".into()),
                response: None,
                retry_after: None,
                is_shortage: false,
            },
            next_at_us: Some(5),
        });
        Entry {
            subscription_id: 1,
            event_id,
            place: Place::default(),
            window: Some(7),
            attempt,
            queue,
            exhausted: None,
        }
    }

    fn put(attempts: i16) -> QueueChange {
        QueueChange::Put { state: State::Backlog, attempts, retry_from: 0, order_key: None, is_new: false }
    }

    #[test]
    fn successes_alone_take_the_short_way() {
        let mut success = entry(1, Some(Class::Succeeded), QueueChange::Keep);
        success.attempt.as_mut().unwrap().outcome.error = None;
        let failure = entry(2, Some(Class::Timeout), put(1));
        let retried = entry(3, Some(Class::Succeeded), QueueChange::Delete);
        let present = Present::default();
        present.set(&Ring::of(Some("0:3:3")));
        assert_eq!(Batch::of(&[&success, &success], &present, false).only_successes_in, Some(3));
        assert_eq!(Batch::of(&[&success, &failure], &present, false).only_successes_in, None);
        let mut noted = success.clone();
        noted.attempt.as_mut().unwrap().outcome.error = Some("the request was sent again".into());
        let batch = Batch::of(&[&success, &noted], &present, false);
        assert_eq!(batch.only_successes_in, None, "the short way has no column for the note");
        assert_eq!(batch.attempts.error, [None, Some("the request was sent again")]);
        let mut kept = success.clone();
        kept.attempt.as_mut().unwrap().outcome.response = Some("ok".into());
        assert_eq!(
            Batch::of(&[&success, &kept], &present, false).only_successes_in,
            None,
            "nor for a response"
        );
        assert_eq!(Batch::of(&[&retried], &present, false).only_successes_in, None);
        assert_eq!(
            Batch::of(&[&success], &present, false).attempts.next_at,
            [None],
            "a success is final, even if it is sent again"
        );
    }

    #[test]
    fn an_attempt_without_its_queue_row_is_written_only_where_nobody_would_miss_that() {
        let record = |event_id, class, next_at_us| {
            let mut entry = entry(event_id, Some(class), put(1));
            entry.attempt.as_mut().unwrap().next_at_us = next_at_us;
            Record::Entry(entry)
        };
        let known = HashSet::from([(1, 5)]);
        assert!(
            !record(4, Class::Timeout, Some(9)).is_final_or(&known),
            "a retry follows, and no row exists"
        );
        assert!(record(5, Class::Timeout, Some(9)).is_final_or(&known), "another daemon has written it");
        assert!(record(4, Class::Timeout, None).is_final_or(&known), "given up");
        assert!(record(4, Class::Succeeded, Some(9)).is_final_or(&known), "delivered");
        assert!(!Record::Forget { subscription_id: 1 }.is_final_or(&known));
    }

    #[test]
    fn the_last_word_about_a_row_counts_and_every_attempt_stays() {
        let entries = [
            entry(5, None, put(0)),
            entry(4, Some(Class::Timeout), put(1)),
            entry(5, Some(Class::Succeeded), QueueChange::Delete),
            entry(4, Some(Class::Timeout), put(2)),
        ];
        let entries: Vec<&Entry> = entries.iter().collect();
        let batch = Batch::of(&entries, &Present::default(), false);
        assert_eq!(batch.attempts.event_id, [4, 5, 4]);
        assert_eq!((batch.puts.event_id, batch.puts.attempts), (vec![4], vec![2]));
        assert_eq!(batch.deleted_event_id, [5]);
        let summary = summary(&entries);
        assert_eq!((summary.entries, &*summary.windows), (4, &[(7, 4)][..]));
        assert_eq!(summary.spilled, [(1, 3)]);
        assert_eq!(summary.settled, [(1, 4), (1, 5), (1, 4)]);
    }

    #[test]
    fn a_row_is_made_if_one_of_the_entries_makes_it_and_none_has_deleted_it_since() {
        let made = || QueueChange::Put {
            state: State::Backlog,
            attempts: 0,
            retry_from: 0,
            order_key: None,
            is_new: true,
        };
        let makes = |changes: &[QueueChange]| {
            let entries: Vec<Entry> = changes.iter().map(|change| entry(1, None, *change)).collect();
            let entries: Vec<&Entry> = entries.iter().collect();
            Batch::of(&entries, &Present::default(), false).puts.is_new
        };
        assert_eq!(makes(&[put(1)]), [false], "it is there, or has been called off");
        assert_eq!(makes(&[made(), put(1), put(2)]), [true]);
        assert_eq!(makes(&[made(), QueueChange::Delete, put(1)]), [false]);
        assert_eq!(makes(&[made(), QueueChange::Delete, made()]), [true], "asked for again");
    }
}
