//! The filter queue: deliveries whose filter only Postgres can evaluate.
//!
//! A subscription without a filter must not wait for a filter. So the reader sends decided
//! deliveries to the scheduler at once, and puts the others into this queue, in parts. A worker
//! evaluates the parts in their order, and sends them to the scheduler. It has a connection of its
//! own, which it opens for the first part.
//!
//! * **Checkpoint.** If a window has a part here, the end of the window comes behind that part. The
//!   scheduler closes a window only with its end. So the checkpoint does not pass the queue.
//! * **Order.** A delivery follows an earlier one of its subscription into the queue, even if it is
//!   decided. When the last one has left the queue, the next one goes to the scheduler again.
//! * **Memory.** The queue has a limit in bytes. If it is full, the reader waits until the worker
//!   is done with a part, and all subscriptions wait with it. While the reader waits, the worker
//!   does not evaluate parts that have few deliveries for each event, but sends them on undecided.
//!   They become rows of `webhook.queue`, and are evaluated later. So a few expensive filters do
//!   not delay the others for long. Many filters for each event can: it costs less to evaluate them
//!   than to write their rows.
//!
//! The queue is empty during a recovery, because the reader evaluates recovered deliveries itself.
//! The next session reads again what is in the queue at the end of a session.

use crate::{
    matching::{Answer, Matching, Pair},
    outbox::Error,
    slow_filters::SlowFilters,
};
use database::{Client, Purpose, Target, Watch, connect};
use delivery::feed::{Batch, Deliveries, Feed};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Maximum number of deliveries for each event, on average, that a full queue sends on undecided.
const QUEUED_PER_EVENT_MAX: usize = 4;

/// Memory of a delivery in the queue, besides its event.
const PAIR_BYTES: usize = 64;

/// The unit of the queue's limit.
const UNIT_BYTES: usize = 1024;

/// Some deliveries of a window. Those of `asked` are not decided.
#[derive(Debug, Default)]
pub struct Portion {
    pub batch: Batch,
    pub asked: Vec<Pair>,
}

impl Portion {
    /// Evaluates the filters of the part.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn decide(
        &mut self,
        client: &Client,
        matching: &mut Matching,
        slow_filters: &SlowFilters,
    ) -> Result<(), Error> {
        let pairs = std::mem::take(&mut self.asked);
        if pairs.is_empty() {
            return Ok(());
        }
        let asked = deliveries(&pairs);
        let Answer { passed, undecided } = matching.ask(client, pairs, slow_filters).await?;
        self.batch.retain(|event_id, subscription_id| {
            let pair = (event_id, subscription_id);
            !asked.contains(&pair) || passed.contains(&pair) || undecided.contains(&pair)
        });
        self.batch.undecided = undecided;
        Ok(())
    }

    fn leave_undecided(&mut self) {
        self.batch.undecided = deliveries(&std::mem::take(&mut self.asked));
    }

    fn bytes(&self) -> usize {
        let events: usize = self.batch.events.iter().map(|(message, _)| message.bytes()).sum();
        events + self.batch.targets.len() * PAIR_BYTES
    }

    /// Reports whether the rows of the part cost less than what they delay.
    fn is_sparse(&self) -> bool {
        self.asked.len() <= self.batch.events.len() * QUEUED_PER_EVENT_MAX
    }
}

fn deliveries(pairs: &[Pair]) -> Deliveries {
    pairs.iter().map(|pair| (pair.event_id, pair.subscription_id)).collect()
}

/// A part on its way.
struct Sent {
    part: Portion,
    number: u64,
    _room: Option<OwnedSemaphorePermit>,
}

/// What both ends share.
struct Shared {
    /// The number of the last part that the scheduler has.
    done: AtomicU64,
    /// The reader waits for room.
    is_full: AtomicBool,
}

/// The reader's end of the queue. Parts are numbered from 1.
pub struct FilterQueue {
    parts: mpsc::UnboundedSender<Sent>,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    units_max: u32,
    next: u64,
    /// By subscription: its last part.
    last: HashMap<i64, u64>,
    /// `last` has no entries up to this part.
    forgotten: u64,
    /// Windows with a part here that are not read to their end.
    windows: BTreeSet<u64>,
}

/// The other end.
pub struct Worker {
    parts: mpsc::UnboundedReceiver<Sent>,
    shared: Arc<Shared>,
    pub server: Target,
    pub watch: Watch,
    pub slow_filters: Arc<SlowFilters>,
    pub feed: mpsc::Sender<Feed>,
}

/// Creates a queue for at most this many bytes.
pub fn open(
    bytes_max: usize,
    (server, watch): (Target, Watch),
    slow_filters: Arc<SlowFilters>,
    feed: mpsc::Sender<Feed>,
) -> (FilterQueue, Worker) {
    let (sender, parts) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { done: AtomicU64::new(0), is_full: AtomicBool::new(false) });
    let worker = Worker { parts, shared: Arc::clone(&shared), server, watch, slow_filters, feed };
    (FilterQueue::new(bytes_max, sender, shared), worker)
}

impl FilterQueue {
    fn new(bytes_max: usize, parts: mpsc::UnboundedSender<Sent>, shared: Arc<Shared>) -> Self {
        let units_max = u32::try_from((bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS >> 3));
        let units_max = units_max.unwrap_or(u32::MAX);
        Self {
            parts,
            shared,
            room: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            next: 1,
            last: HashMap::new(),
            forgotten: 0,
            windows: BTreeSet::new(),
        }
    }

    /// Forgets the subscriptions that have left the queue. Reports whether none is left. Those of
    /// the next part stay.
    pub fn is_empty(&mut self) -> bool {
        let done = self.shared.done.load(Ordering::Acquire);
        if done > self.forgotten {
            self.forgotten = done;
            self.last.retain(|_, number| *number > done);
        }
        self.last.is_empty()
    }

    /// Reports whether a delivery of this subscription is in the queue, or in the next part.
    pub fn holds(&self, subscription_id: i64) -> bool {
        let done = || self.shared.done.load(Ordering::Acquire);
        self.last.get(&subscription_id).is_some_and(|number| *number > done())
    }

    /// Records that the next part has a delivery of this subscription.
    pub fn enter(&mut self, subscription_id: i64) {
        self.last.insert(subscription_id, self.next);
    }

    /// Records that the next part does not take the filter queue.
    pub fn skip(&mut self) {
        let next = self.next;
        self.last.retain(|_, number| *number != next);
    }

    /// Reports whether the end of a window must come behind its parts.
    pub fn has_window(&self, window: u64) -> bool {
        self.windows.contains(&window)
    }

    /// Sends the next part. Waits for room.
    pub async fn send(&mut self, part: Portion) {
        match part.batch.end {
            None => self.windows.insert(part.batch.window),
            Some(_) => self.windows.remove(&part.batch.window),
        };
        let units = u32::try_from(part.bytes() / UNIT_BYTES).unwrap_or(u32::MAX).min(self.units_max);
        let room = match Arc::clone(&self.room).try_acquire_many_owned(units) {
            Ok(room) => Some(room),
            Err(_) => {
                self.shared.is_full.store(true, Ordering::Release);
                let room = Arc::clone(&self.room).acquire_many_owned(units).await.ok();
                self.shared.is_full.store(false, Ordering::Release);
                room
            }
        };
        // The worker ends with the session.
        let _ = self.parts.send(Sent { part, number: self.next, _room: room });
        self.next += 1;
    }
}

impl Worker {
    /// Evaluates parts until the reader ends.
    ///
    /// # Errors
    /// The errors of the connection.
    pub async fn run(mut self) -> Result<(), Error> {
        let (mut matching, mut connection) = (Matching::default(), None);
        while let Some(Sent { mut part, number, _room }) = self.parts.recv().await {
            if self.shared.is_full.load(Ordering::Acquire) && part.is_sparse() {
                part.leave_undecided();
            } else if !part.asked.is_empty() {
                let client = match &mut connection {
                    Some(client) => client,
                    none => none.insert(connect(&self.server, Purpose::Filters, self.watch.clone()).await?),
                };
                part.decide(client, &mut matching, &self.slow_filters).await?;
            }
            if self.feed.send(Feed::Batch(part.batch)).await.is_err() {
                return Ok(());
            }
            self.shared.done.store(number, Ordering::Release);
        }
        Ok(())
    }
}

/// Returns a queue without a worker, for tests.
#[cfg(test)]
pub fn sample() -> FilterQueue {
    let shared = Arc::new(Shared { done: AtomicU64::new(0), is_full: AtomicBool::new(false) });
    FilterQueue::new(1 << 20, mpsc::unbounded_channel().0, shared)
}

#[cfg(test)]
mod tests {
    //! The order within a subscription, and the limit.

    use super::*;
    use delivery::{
        event::Event,
        message::{Budget, Message},
    };

    fn part(window: u64, events: i64, targets_each: usize) -> Portion {
        let budget = Arc::new(Budget::default());
        let message = |id: i64| Arc::new(Message::new(Event::sample(id), &budget));
        let events: Vec<_> = (1..=events).map(|id| (message(id), id as usize * targets_each)).collect();
        let targets = events.iter().flat_map(|_| 0..targets_each as i64).collect();
        let mut part =
            Portion { batch: Batch { window, events, targets, ..Batch::default() }, asked: vec![] };
        part.asked = part
            .batch
            .deliveries()
            .map(|(event, subscription_id)| Pair {
                event_id: event.id,
                place: event.place(),
                subscription_id,
                filter: "$".into(),
            })
            .collect();
        part
    }

    fn queue(bytes_max: usize) -> (FilterQueue, mpsc::UnboundedReceiver<Sent>) {
        let (sender, parts) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { done: AtomicU64::new(0), is_full: AtomicBool::new(false) });
        (FilterQueue::new(bytes_max, sender, shared), parts)
    }

    #[tokio::test]
    async fn a_subscription_stays_in_the_queue_until_its_last_part_is_done() {
        let (mut queue, _parts) = queue(1 << 20);
        queue.enter(7);
        assert!(!queue.is_empty() && queue.holds(7), "in the part that is being filled");
        queue.send(part(0, 1, 1)).await;
        queue.enter(8);
        queue.send(part(0, 1, 1)).await;
        assert!(queue.holds(7) && queue.holds(8) && !queue.holds(9) && !queue.is_empty());
        queue.shared.done.store(1, Ordering::Release);
        assert!(!queue.holds(7) && queue.holds(8));
        queue.shared.done.store(2, Ordering::Release);
        assert!(!queue.holds(8) && queue.is_empty());
        queue.enter(7);
        queue.skip();
        assert!(!queue.holds(7) && queue.is_empty(), "the part was decided elsewhere");
    }

    #[tokio::test]
    async fn the_end_of_a_window_comes_behind_its_parts() {
        let (mut queue, mut parts) = queue(1 << 20);
        assert!(!queue.has_window(3));
        queue.send(part(3, 1, 1)).await;
        assert!(queue.has_window(3) && !queue.has_window(4));
        let mut last = part(3, 0, 0);
        last.batch.end = Some("5:5:".parse().unwrap());
        queue.send(last).await;
        assert!(!queue.has_window(3));
        assert!(parts.recv().await.is_some_and(|sent| sent.part.batch.end.is_none()));
        assert!(parts.recv().await.is_some_and(|sent| sent.part.batch.end.is_some()));
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_reader_wait_for_one_part() {
        let (mut queue, mut parts) = queue(100_000);
        queue.send(part(0, 100, 1)).await;
        let mut second = Box::pin(queue.send(part(1, 100, 1)));
        assert!(futures_util::poll!(&mut second).is_pending());
        let first = parts.recv().await;
        assert!(futures_util::poll!(&mut second).is_pending(), "the part is still being evaluated");
        drop(first);
        second.await;
        assert!(!queue.shared.is_full.load(Ordering::Acquire));
        // A part that is larger than the queue needs all of it.
        drop(parts.recv().await);
        queue.send(part(2, 1000, 1)).await;
        assert!(parts.recv().await.is_some());
    }

    #[test]
    fn only_a_few_deliveries_for_each_event_become_rows() {
        assert!(part(0, 10, 4).is_sparse() && !part(0, 10, 5).is_sparse());
        let mut part = part(0, 2, 2);
        part.leave_undecided();
        assert!(part.asked.is_empty() && part.batch.undecided.len() == 4);
        assert_eq!(part.batch.targets.len(), 4, "undecided deliveries stay targets");
    }
}
