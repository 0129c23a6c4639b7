//! Which send queues have something to do, and when. Pure.
//!
//! Each list holds ids of subscriptions. A send queue knows which of the lists it is on
//! ([`Listed`](crate::send_queue::Listed)), so it is never listed twice.

use crate::{scheduler::turns::Turns, send_queue::SendQueue};
use std::{collections::BTreeSet, time::Duration};

/// The lists of the scheduler. See the module.
#[derive(Debug, Default)]
pub struct Agenda {
    /// Send queues with deliveries to start.
    pub ready: Turns,
    /// Send queues that may want rows: a page of their backlog, or rows of order groups.
    pub asking: Turns,
    /// Send queues with due retries to read.
    pub due: Turns,
    /// Send queues that can continue at a known time.
    wakes: BTreeSet<(Duration, i64)>,
    /// Send queues that wait for the rate of all backlogs, and when a rate allows the next start.
    pub waiting: Vec<i64>,
    pub waiting_until: Option<Duration>,
}

impl Agenda {
    /// Lists a send queue that has deliveries to start. Reports whether it was added.
    pub fn add_ready(&mut self, queue: &mut SendQueue) -> bool {
        let is_new = !queue.listed.ready && queue.has_work();
        if is_new {
            queue.listed.ready = true;
            self.ready.push_back(queue.shares.owner, queue.subscription.id);
        }
        is_new
    }

    /// Lists a send queue before all others, whether or not it has deliveries to start.
    pub fn add_ready_first(&mut self, queue: &mut SendQueue) {
        if !queue.listed.ready {
            queue.listed.ready = true;
            self.ready.push_front(queue.shares.owner, queue.subscription.id);
        }
    }

    /// Notes when a rate allows the next start.
    pub fn wait_until(&mut self, at: Duration) {
        self.waiting_until = Some(self.waiting_until.map_or(at, |before| before.min(at)));
    }

    /// Lists a send queue that may want rows.
    pub fn add_asking(&mut self, queue: &mut SendQueue) {
        if !queue.listed.asking
            && (queue.backlog.is_active() || queue.groups.as_ref().is_some_and(|groups| groups.is_wanting()))
        {
            queue.listed.asking = true;
            self.asking.push_back(queue.shares.owner, queue.subscription.id);
        }
    }

    /// Schedules a check of a send queue at this time, unless an earlier check is scheduled.
    pub fn wake_at(&mut self, queue: &mut SendQueue, at: Duration) {
        let id = queue.subscription.id;
        if queue.wake_at.is_none_or(|before| at < before)
            && let Some(before) = queue.wake_at.replace(at)
        {
            self.wakes.remove(&(before, id));
        }
        if queue.wake_at == Some(at) {
            self.wakes.insert((at, id));
        }
    }

    /// Returns the next send queue whose check is due.
    pub fn pop_wake(&mut self, now: Duration) -> Option<i64> {
        let (at, id) = *self.wakes.first().filter(|(at, _)| *at <= now)?;
        self.wakes.remove(&(at, id));
        Some(id)
    }

    /// Forgets the check of a send queue that is removed.
    pub fn forget(&mut self, queue: &SendQueue) {
        if let Some(at) = queue.wake_at {
            self.wakes.remove(&(at, queue.subscription.id));
        }
    }

    /// Returns when the next check is due.
    pub fn next_at(&self) -> Option<Duration> {
        self.wakes.first().map(|(at, _)| *at).into_iter().chain(self.waiting_until).min()
    }
}
