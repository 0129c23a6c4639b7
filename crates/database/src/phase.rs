//! What the daemon does with its database at present.

/// What the daemon does at present.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It has no session with Postgres.
    #[default]
    Connecting,
    /// Another daemon is the leader.
    Standby,
    /// It is the leader. The epoch is the number of its takeover.
    Active { epoch: i64 },
}

impl Phase {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Standby => "standby",
            Self::Active { .. } => "active",
        }
    }
}
