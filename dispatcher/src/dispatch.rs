//! The task that runs the scheduler: it connects channels and the clock to the pure state machine.
//!
//! It passes events, outcomes, confirmations, and rows to the scheduler, and wakes it at its
//! deadline. It sends attempts to the workers, records to the ledger, and loads to the queue
//! reader. It decides nothing about deliveries. When it stops, it waits for attempts in flight and
//! for the ledger.

use crate::local_senders::{Finished, LocalSenders};
use delivery::{
    Now,
    feed::Feed,
    message::Budget,
    queue_rows::{Load, Loaded},
    record::{Confirmed, Record},
    scheduler::{Limits, Scheduler},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};
use tracing::{debug, info};

/// The channels of the task.
pub struct Wiring {
    pub feed: mpsc::Receiver<Feed>,
    pub finished: mpsc::UnboundedReceiver<Vec<Finished>>,
    pub confirmed: mpsc::UnboundedReceiver<Confirmed>,
    pub loaded: mpsc::UnboundedReceiver<Loaded>,
    pub local_senders: LocalSenders,
    pub records: mpsc::UnboundedSender<Vec<Record>>,
    pub loads: mpsc::UnboundedSender<Load>,
    pub stop: oneshot::Receiver<Stop>,
}

/// The order to start nothing more, and to end.
#[derive(Debug, Clone, Copy)]
pub struct Stop {
    /// Maximum time for attempts in flight to finish.
    pub drain_timeout: Duration,
    /// Whether the remaining deliveries go into the queue. If not, they are read again from the
    /// checkpoint, perhaps by another daemon.
    pub spills: bool,
}

struct Dispatch {
    scheduler: Scheduler,
    local_senders: LocalSenders,
    records: mpsc::UnboundedSender<Vec<Record>>,
    loads: mpsc::UnboundedSender<Load>,
    epoch: Instant,
}

/// Runs the scheduler until `stop`. Then waits for attempts in flight, up to the timeout, and until
/// everything is written.
pub async fn run(wiring: Wiring, limits: Limits, budget: Arc<Budget>) {
    let Wiring { mut feed, mut finished, mut confirmed, mut loaded, local_senders, records, loads, mut stop } =
        wiring;
    let mut dispatch = Dispatch {
        scheduler: Scheduler::new(limits, budget),
        local_senders,
        records,
        loads,
        epoch: Instant::now(),
    };
    let mut done = Vec::new();
    let stop = loop {
        dispatch.carry_out();
        let now = dispatch.now();
        let deadline = dispatch.scheduler.deadline(now).map(|at| dispatch.epoch + at);
        tokio::select! {
            Ok(stop) = &mut stop => break stop,
            _ = finished.recv_many(&mut done, 16) => dispatch.finish(&mut done),
            Some(some) = confirmed.recv() => dispatch.scheduler.confirmed(&some),
            Some(some) = loaded.recv() => dispatch.scheduler.loaded(some),
            Some(some) = feed.recv(), if dispatch.scheduler.is_hungry() => dispatch.scheduler.feed(some, now),
            () = wait(deadline) => {}
        }
    };
    drop(feed);
    dispatch.scheduler.close();
    if stop.spills {
        dispatch.scheduler.spill();
    }
    let in_flight = dispatch.scheduler.in_flight();
    info!(in_flight, timeout_ms = stop.drain_timeout.as_millis() as u64, "deliveries.drain");
    let deadline = Instant::now() + stop.drain_timeout;
    while dispatch.scheduler.in_flight() > 0 {
        dispatch.carry_out();
        tokio::select! {
            received = timeout_at(deadline, finished.recv_many(&mut done, 16)) => match received {
                Ok(n) if n > 0 => dispatch.finish(&mut done),
                _ => break,
            },
            Some(some) = confirmed.recv() => dispatch.scheduler.confirmed(&some),
        }
    }
    if stop.spills {
        dispatch.scheduler.spill_flights();
    }
    dispatch.carry_out();
    // The ledger closes the channel once everything is written or cannot be written.
    let Dispatch { mut scheduler, records, epoch, .. } = dispatch;
    while scheduler.unconfirmed() > 0 {
        let Some(some) = confirmed.recv().await else { break };
        scheduler.confirmed(&some);
    }
    scheduler.advance(now(epoch));
    let _ = records.send(std::mem::take(&mut scheduler.out().records));
    debug!(unconfirmed = scheduler.unconfirmed(), "deliveries.drained");
}

/// Sleeps until the deadline, or forever without one.
async fn wait(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn now(epoch: Instant) -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { at: epoch.elapsed(), wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX) }
}

impl Dispatch {
    fn now(&self) -> Now {
        now(self.epoch)
    }

    fn finish(&mut self, done: &mut Vec<Vec<Finished>>) {
        let now = self.now();
        for (key, outcome) in done.drain(..).flatten() {
            self.scheduler.finished(key, outcome, now, fastrand::f64());
        }
    }

    /// Advances the scheduler and passes its effects on. If a channel is closed, the session ends
    /// elsewhere.
    fn carry_out(&mut self) {
        self.scheduler.advance(self.now());
        let out = self.scheduler.out();
        self.local_senders.make(&mut out.starts);
        if !out.records.is_empty() {
            let _ = self.records.send(std::mem::take(&mut out.records));
        }
        for load in out.loads.drain(..) {
            let _ = self.loads.send(load);
        }
    }
}
