//! Signs of life of the daemon: the time of the reader's last poll, and whether the control session
//! sleeps. Pure, apart from the monotonic clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The interval of the heartbeat. Standbys and `webhook.health` expect a sign at least this often.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// The time of the reader's last poll.
#[derive(Debug)]
pub struct Liveness {
    began: Instant,
    polled_ms: AtomicU64,
    is_asleep: AtomicBool,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { began: Instant::now(), polled_ms: AtomicU64::new(0), is_asleep: AtomicBool::new(false) }
    }
}

impl Liveness {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Records a poll of the reader.
    pub fn polled(&self) {
        self.polled_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Records that the control connection sleeps in a statement, until the result is dropped.
    /// Other sessions see the statement, and a heartbeat would end the sleep.
    pub fn sleeps(self: &Arc<Self>) -> Sleeping {
        self.is_asleep.store(true, Ordering::Relaxed);
        Sleeping(Arc::clone(self))
    }

    /// Reports whether the control connection sleeps in a statement.
    pub fn is_asleep(&self) -> bool {
        self.is_asleep.load(Ordering::Relaxed)
    }

    /// Returns the time since the last poll.
    pub fn silent_for(&self) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.polled_ms.load(Ordering::Relaxed)))
    }
}

/// While this value lives, the control connection sleeps in a statement.
#[derive(Debug)]
pub struct Sleeping(Arc<Liveness>);

impl Drop for Sleeping {
    fn drop(&mut self) {
        self.0.is_asleep.store(false, Ordering::Relaxed);
    }
}
