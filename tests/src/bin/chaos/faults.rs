//! The faults and their schedule, which depends on the seed alone.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{fmt, time::Duration};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of one of the two daemons.
    KillDaemon(usize),
    /// SIGSTOP of one of the two, and SIGCONT after this time; the other is the standby.
    FreezeDaemon(usize, Duration),
    /// pg_terminate_backend of the n-th session of the daemons.
    EndDaemonSession(u32),
    EndDaemonSessions,
    /// The same for one of the writers.
    EndWriterSession(u32),
    /// kill -9 of the postmaster, and recovery.
    KillServer,
    /// Every connection between daemons and server is closed.
    CutLink,
    /// No data passes between daemons and server for this time.
    HoldLink(Duration),
    /// This many requests get a reset instead of an answer.
    ResetRequests(u64),
    /// The server's clock is set this far from ours, in milliseconds.
    SetServerClock(i64),
    /// The same for one of the daemons.
    SetDaemonClock(usize, i64),
    /// ANALYZE of all tables, however full they are at the moment.
    Analyze,
    /// The statistics of our tables are deleted, and their sizes are said to be this.
    FalsifyStatistics(u64),
    /// A parameter of the server is set for the daemons' role: the n-th, to its least or greatest
    /// value.
    SetParameter(u32, bool),
    /// All parameters of the daemons' role are reset.
    ResetParameters,
    /// A row with bytes that UTF-8 lacks is written.
    WriteBytes,
    /// The cluster is recovered to where it was this long before.
    RecoverToPoint(Duration),
}

impl Fault {
    fn pick(random: &mut StdRng) -> Self {
        let one = random.random_range(0..2);
        match random.random_range(0..100) {
            0..16 => Self::KillDaemon(one),
            16..20 => Self::FreezeDaemon(one, Duration::from_millis(random.random_range(500..3_000))),
            20..22 => Self::FreezeDaemon(one, Duration::from_millis(random.random_range(10_000..12_000))),
            22..40 => Self::EndDaemonSession(random.random_range(0..12)),
            40..46 => Self::EndDaemonSessions,
            46..55 => Self::EndWriterSession(random.random_range(0..4)),
            55..60 => Self::KillServer,
            60..67 => Self::CutLink,
            67..71 => Self::HoldLink(Duration::from_millis(random.random_range(100..2_000))),
            71..74 => Self::Analyze,
            74..77 => Self::FalsifyStatistics([0, 1, 1_000_000_000][random.random_range(0..3)]),
            77..80 => Self::SetParameter(random.random_range(0..1_000), random.random_bool(0.5)),
            80 => Self::ResetParameters,
            81..83 => Self::WriteBytes,
            83 => Self::RecoverToPoint(Duration::from_millis(random.random_range(200..2_000))),
            // Up to three days to either side, mostly less than half an hour.
            84 => Self::SetServerClock(random.random_range(-259_200_000..259_200_000)),
            85 => Self::SetServerClock(random.random_range(-1_800_000..1_800_000)),
            // The daemon's clock decides when retries are due: those of half a second should come
            // within the run.
            86..90 => Self::SetDaemonClock(one, random.random_range(-2_000..2_000)),
            // More resets would leave the circuits open, and later faults would find nothing in
            // flight.
            _ => Self::ResetRequests(random.random_range(1..30)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillDaemon(which) => write!(f, "kill -9 of daemon {which}"),
            Self::FreezeDaemon(which, long) => {
                write!(f, "daemon {which} is frozen for {} ms", long.as_millis())
            }
            Self::EndDaemonSession(which) => write!(f, "a session of the daemons is ended ({which})"),
            Self::EndDaemonSessions => write!(f, "all sessions of the daemons are ended"),
            Self::EndWriterSession(which) => write!(f, "a session of the application is ended ({which})"),
            Self::KillServer => write!(f, "kill -9 of the postmaster"),
            Self::CutLink => write!(f, "all connections between daemons and server are cut"),
            Self::HoldLink(long) => {
                write!(f, "nothing passes between daemons and server for {} ms", long.as_millis())
            }
            Self::ResetRequests(count) => write!(f, "the receiver resets {count} requests"),
            Self::SetServerClock(ms) => write!(f, "the server's clock is set to {ms:+} ms"),
            Self::SetDaemonClock(which, ms) => write!(f, "the clock of daemon {which} is set to {ms:+} ms"),
            Self::Analyze => write!(f, "all tables are analyzed"),
            Self::FalsifyStatistics(rows) => write!(f, "all tables are said to have {rows} rows"),
            Self::SetParameter(which, is_least) => {
                write!(f, "a parameter of the daemons' role is set ({which}, {is_least})")
            }
            Self::ResetParameters => write!(f, "the parameters of the daemons' role are reset"),
            Self::WriteBytes => write!(f, "a row with bytes that UTF-8 lacks is written"),
            Self::RecoverToPoint(ago) => {
                write!(f, "the cluster is recovered to where it was {} ms before", ago.as_millis())
            }
        }
    }
}

/// The time between two faults. On a busy machine a daemon needs a second to come back: earlier
/// faults hit it while it starts, later ones while it works.
const GAP_MS: std::ops::Range<u64> = 50..1_500;

/// Returns `count` faults, each with the time to wait before it.
pub fn schedule(seed: u64, count: usize) -> Vec<(Duration, Fault)> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|_| (Duration::from_millis(random.random_range(GAP_MS)), Fault::pick(&mut random)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, mem::discriminant};

    #[test]
    fn the_seed_decides() {
        assert_eq!(schedule(7, 100), schedule(7, 100));
        assert_eq!(schedule(7, 100)[..40], schedule(7, 40), "a longer one begins like a shorter one");
        assert_ne!(schedule(7, 100), schedule(8, 100));
    }

    #[test]
    fn a_few_hundred_faults_are_of_every_kind() {
        let kinds = |seed| {
            schedule(seed, 500).iter().map(|(_, fault)| discriminant(fault)).collect::<HashSet<_>>().len()
        };
        assert_eq!((1..=5).map(kinds).collect::<Vec<_>>(), [17; 5]);
    }
}
