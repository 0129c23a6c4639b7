//! The parameters of a simulated world.

use crate::{scheduler::tests::world::*, scope::Scope};

/// The parameters of a world.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub memory_bytes_max: usize,
    pub max_in_flight: usize,
    pub max_in_flight_per_host: usize,
    pub timers_max: usize,
    pub order_groups_max: usize,
    pub keys: u64,
    /// The first subscription has id 1.
    pub subscriptions: Vec<Options>,
    /// Share of attempts that succeed.
    pub success_percent: u8,
    /// Share of the other attempts that are answered with 410. `quiet_percent` is the share of the
    /// rest that is answered with 429 and Retry-After.
    pub gone_percent: u8,
    pub quiet_percent: u8,
    /// Receivers reject each event whose number is a multiple of this, and every batch with one.
    /// `None`: they reject none.
    pub rejects: Option<i64>,
}

/// The options of a subscription.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub ordering: Ordering,
    pub batch_size: usize,
    pub batch_window_ms: u64,
    pub compact: bool,
    pub rate_limit: Option<f64>,
    pub max_in_flight: usize,
    pub owner: &'static str,
    pub scope: Scope,
}

pub const PLAIN: Options = Options {
    ordering: Ordering::None,
    batch_size: 1,
    batch_window_ms: 0,
    compact: false,
    rate_limit: None,
    max_in_flight: 3,
    owner: "a",
    scope: Scope::All,
};

impl Plan {
    /// Returns a plan with three subscriptions without options.
    pub fn plain(seed: u64) -> Self {
        Self {
            seed,
            memory_bytes_max: 1 << 20,
            max_in_flight: 6,
            max_in_flight_per_host: 512,
            timers_max: 1000,
            order_groups_max: 1000,
            keys: 3,
            subscriptions: vec![PLAIN; 3],
            success_percent: 50,
            gone_percent: 0,
            quiet_percent: 0,
            rejects: None,
        }
    }
}
