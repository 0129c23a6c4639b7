//! How long a connection is used, and where it leads to.

use crate::route::Peer;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection is used. After it, certificates and load balancers get a new choice.
pub const AGE_MAX: Duration = Duration::from_secs(300);
/// How long an unused connection is kept. Many servers close earlier, which is noticed; few keep
/// connections longer.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection is used until its address is compared with the host's name, and minimum
/// time between two lookups of an origin's name.
pub const ROUTE_VALID: Duration = Duration::from_secs(30);

/// The times of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    pub peer: Peer,
    opened: Instant,
    /// When the host's name led to the peer.
    confirmed: Instant,
    idle_since: Instant,
}

impl Age {
    /// Returns the age of a connection that is new now.
    pub fn new(peer: Peer) -> Self {
        let now = Instant::now();
        Self { peer, opened: now, confirmed: now, idle_since: now }
    }

    /// Reports whether the connection has served long enough.
    pub fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.opened) >= AGE_MAX
    }

    /// Reports whether an unused connection can be kept.
    pub fn is_idle_too_long(&self, now: Instant) -> bool {
        now.duration_since(self.idle_since) >= IDLE_TIMEOUT
    }

    pub fn rest(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// Reports whether the host's name led to the peer recently.
    pub fn is_confirmed(&self, now: Instant) -> bool {
        now.duration_since(self.confirmed) < ROUTE_VALID
    }

    pub fn confirm(&mut self, at: Instant) {
        self.confirmed = at;
    }
}
