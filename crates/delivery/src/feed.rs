//! What the reader of the outbox sends: events with their subscriptions, and changes of
//! subscriptions. Pure.

use crate::{event::Event, message::Message, scope::InternalTypes, snapshot::Snapshot, subscription::Update};
use std::{collections::HashSet, sync::Arc};

/// What the reader sends to the scheduler, in commit order.
#[derive(Debug)]
pub enum Feed {
    /// The subscriptions from here on. The first update contains all of them.
    Subscriptions(Update),
    /// The internal event types from here on.
    InternalTypes(Arc<InternalTypes>),
    Batch(Batch),
    /// All events from before the start have been sent.
    Recovered,
}

/// Events of one window, in ascending order of ids, with their subscriptions.
#[derive(Debug, Default)]
pub struct Batch {
    /// Windows are numbered from 0 within a session.
    pub window: u64,
    /// Each event with the end of its part of `targets`. The part begins where the one before ends.
    pub events: Vec<(Arc<Message>, usize)>,
    pub targets: Vec<i64>,
    /// Deliveries whose filter has not been evaluated yet.
    pub undecided: Deliveries,
    /// The batch is from before the start, and its events may have been in flight then.
    pub is_recovered: bool,
    /// Queue rows that SQL has just written and wants delivered: subscription and event.
    pub requests: Vec<Request>,
    /// Subscriptions to whose backlog SQL has just added rows.
    pub backlogs: Vec<i64>,
    /// Subscriptions whose waiting deliveries SQL wants attempted now.
    pub tries: Vec<TryNow>,
    /// The snapshot at the end of the window. Set if the window has been read to its end.
    pub end: Option<Snapshot>,
}

/// Event and subscription.
pub type Deliveries = HashSet<(i64, i64)>;

/// A redelivery that was requested in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub subscription_id: i64,
    pub event_id: i64,
}

/// An attempt that was requested with `webhook_try_now()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryNow {
    pub subscription_id: i64,
    /// Ends a pause that the receiver asked for.
    pub ignore_retry_after: bool,
}

/// What the reader sends to the task that asks receivers for confirmation.
#[derive(Debug)]
pub enum VerificationInput {
    /// The current subscriptions.
    Subscriptions(Update),
    /// The user requested that this subscription is asked now, with webhook_ping() or
    /// webhook_try_now().
    Wanted(i64),
}

impl Batch {
    /// Returns every delivery in the batch: event and subscription.
    pub fn deliveries(&self) -> impl Iterator<Item = (&Event, i64)> + '_ {
        let starts = std::iter::once(0).chain(self.events.iter().map(|(_, end)| *end));
        starts.zip(&self.events).flat_map(|(start, (message, end))| {
            self.targets[start..*end].iter().map(|subscription_id| (message.event(), *subscription_id))
        })
    }

    /// Returns the same as numbers.
    pub fn pairs(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.deliveries().map(|(event, subscription_id)| (event.id, subscription_id))
    }

    /// Keeps the deliveries for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(i64, i64) -> bool) {
        let (mut start, mut kept) = (0, 0);
        for (message, end) in &mut self.events {
            for at in start..*end {
                if keep(message.event().id, self.targets[at]) {
                    self.targets[kept] = self.targets[at];
                    kept += 1;
                }
            }
            start = *end;
            *end = kept;
        }
        self.targets.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Budget;

    #[test]
    fn pairs_and_retain_agree_on_the_shares() {
        let budget = Arc::new(Budget::default());
        let event = |id, end| (Arc::new(Message::new(Event::sample(id), &budget)), end);
        let mut batch = Batch {
            events: vec![event(1, 2), event(2, 2), event(3, 5)],
            targets: vec![10, 20, 10, 20, 30],
            ..Batch::default()
        };
        let all = [(1, 10), (1, 20), (3, 10), (3, 20), (3, 30)];
        assert_eq!(batch.pairs().collect::<Vec<_>>(), all);
        batch.retain(|event_id, subscription_id| {
            (event_id, subscription_id) != (1, 10) && subscription_id != 20
        });
        assert_eq!(batch.pairs().collect::<Vec<_>>(), [(3, 10), (3, 30)]);
        assert_eq!(batch.events.iter().map(|(_, end)| *end).collect::<Vec<_>>(), [0, 0, 2]);
        assert!(budget.bytes_held() > 0);
        drop(batch);
        assert_eq!(budget.bytes_held(), 0);
    }
}
