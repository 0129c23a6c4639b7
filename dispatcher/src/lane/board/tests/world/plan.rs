//! What it is made of.

use super::*;

/// What a world is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub memory_bytes_max: usize,
    pub in_flight_max: usize,
    pub timers_max: usize,
    pub lines_max: usize,
    pub keys: u64,
    /// By subscription, from 1.
    pub subscriptions: Vec<Options>,
    /// Of a hundred attempts, so many succeed.
    pub success_percent: u8,
    /// Of the others, so many in a hundred are answered 410, and so many with Retry-After.
    pub gone_percent: u8,
    pub quiet_percent: u8,
}

/// What a subscription asks for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub ordering: Ordering,
    pub batch_size: usize,
    pub batch_window_ms: u64,
    pub compact: bool,
    pub rate_limit: Option<f64>,
    pub in_flight_max: usize,
}

pub const PLAIN: Options = Options {
    ordering: Ordering::None,
    batch_size: 1,
    batch_window_ms: 0,
    compact: false,
    rate_limit: None,
    in_flight_max: 3,
};

impl Plan {
    /// Three subscriptions that ask for nothing.
    pub fn plain(seed: u64) -> Self {
        Self {
            seed,
            memory_bytes_max: 1 << 20,
            in_flight_max: 6,
            timers_max: 1000,
            lines_max: 1000,
            keys: 3,
            subscriptions: vec![PLAIN; 3],
            success_percent: 50,
            gone_percent: 0,
            quiet_percent: 0,
        }
    }
}
