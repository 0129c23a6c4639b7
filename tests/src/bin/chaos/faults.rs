//! What can go wrong, and doing it.

use crate::daemon;
use e2e::{
    cluster::{Database, value},
    daemon::Daemon,
    link::Link,
};
use rand::{RngExt as _, rngs::StdRng};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of one of the two.
    KillDaemon(usize),
    /// SIGSTOP of one of the two, and SIGCONT after so long; the other stands by.
    FreezeDaemon(usize, Duration),
    /// pg_terminate_backend of a session of a daemon, the n-th of those there are.
    EndDaemonSession(u32),
    EndDaemonSessions,
    /// The same for one of the writers.
    EndWriterSession(u32),
    /// kill -9 of the postmaster, and recovery.
    KillServer,
    /// Every connection between daemons and server is closed.
    CutLink,
    /// Nothing passes for so long.
    HoldLink(Duration),
    /// So many requests get a reset instead of an answer.
    ResetRequests(u64),
}

impl Fault {
    pub fn pick(random: &mut StdRng) -> Self {
        let one = random.random_range(0..2);
        match random.random_range(0..100) {
            0..20 => Self::KillDaemon(one),
            20..24 => Self::FreezeDaemon(one, Duration::from_millis(random.random_range(500..3_000))),
            24..26 => Self::FreezeDaemon(one, Duration::from_millis(random.random_range(10_000..12_000))),
            26..46 => Self::EndDaemonSession(random.random_range(0..12)),
            46..52 => Self::EndDaemonSessions,
            52..64 => Self::EndWriterSession(random.random_range(0..4)),
            64..70 => Self::KillServer,
            70..82 => Self::CutLink,
            82..88 => Self::HoldLink(Duration::from_millis(random.random_range(100..2_000))),
            _ => Self::ResetRequests(random.random_range(1..200)),
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
        }
    }
}

/// What faults are done to.
pub struct Scene {
    database: Database,
    link: Link,
    resets: Arc<AtomicU64>,
    daemons: [Option<Daemon>; 2],
}

impl Scene {
    pub fn new(database: Database, link: Link, resets: Arc<AtomicU64>) -> Self {
        Self { database, link, resets, daemons: [None, None] }
    }

    /// As a supervisor does: who has ended is started again.
    pub fn keep_daemons(&mut self) {
        for place in &mut self.daemons {
            if place.as_ref().is_none_or(|daemon| daemon.process().has_ended()) {
                *place = Some(daemon(&self.link));
            }
        }
    }

    pub async fn perform(&mut self, fault: Fault) {
        match fault {
            Fault::KillDaemon(which) => {
                if let Some(daemon) = self.daemons[which].take() {
                    daemon.kill9().await;
                }
            }
            Fault::FreezeDaemon(which, long) => {
                if let Some(daemon) =
                    self.daemons[which].as_ref().filter(|daemon| !daemon.process().has_ended())
                {
                    daemon.process().signal(libc::SIGSTOP);
                    sleep(long).await;
                    daemon.process().signal(libc::SIGCONT);
                }
            }
            Fault::EndDaemonSession(which) => self.end_sessions("webhookd%", Some(which)).await,
            Fault::EndDaemonSessions => self.end_sessions("webhookd%", None).await,
            Fault::EndWriterSession(which) => self.end_sessions("e2e", Some(which)).await,
            Fault::KillServer => {
                self.database.cluster.kill9().await;
                self.database.cluster.boot().await;
            }
            Fault::CutLink => self.link.cut(),
            Fault::HoldLink(long) => {
                self.link.hold();
                sleep(long).await;
                self.link.release();
            }
            Fault::ResetRequests(count) => {
                self.resets.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    async fn end_sessions(&self, name: &str, only: Option<u32>) {
        let (offset, limit) = (only.unwrap_or(0), only.map_or("all", |_| "1"));
        let end = format!(
            "select count(pg_terminate_backend(pid)) from (
                 select pid, row_number() over (order by pid) as n, count(*) over () as all
                 from pg_stat_activity where application_name like '{name}' and pid <> pg_backend_pid()) s
             where '{limit}' = 'all' or n - 1 = {offset} % s.all"
        );
        value(&self.database.client().await, &end).await;
    }

    /// No more faults: whether everything gets delivered within `deadline`.
    pub async fn settle(&mut self, deadline: Duration) -> bool {
        self.resets.store(0, Ordering::Relaxed);
        let all = "select not exists (select from webhook.delivery where state <> 'delivered')";
        let end = tokio::time::Instant::now() + deadline;
        while tokio::time::Instant::now() < end {
            // One that had found no server at its start has ended.
            self.keep_daemons();
            if self.database.becomes(all, Duration::from_secs(2)).await {
                return true;
            }
        }
        false
    }

    pub async fn end(self) {
        for daemon in self.daemons.into_iter().flatten() {
            daemon.kill9().await;
        }
    }
}
