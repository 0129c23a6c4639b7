//! The health of a receiver, as the table has it. Pure.

/// A row of `webhook.receiver`, without the rate that the receiver has allowed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ReceiverHealth {
    pub is_open: bool,
    pub consecutive_failures: i32,
    /// Microseconds since 1970.
    pub failing_since_us: Option<i64>,
    pub warned_at_us: Option<i64>,
    /// Time between two probes while the circuit is open.
    pub probe_interval_us: Option<i64>,
}
