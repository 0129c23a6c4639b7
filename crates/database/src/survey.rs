//! Asks all servers of a connection string at the same time which of them accepts writes, and which
//! timeline each is on.
//!
//! After a failover, the former primary may come back and accept writes again. Its timeline is
//! lower than the new primary's. So a server that accepts writes is a former
//! primary if any server of the same cluster is on a higher timeline, or was at an earlier survey
//! of this process. A timeline is known only if its server answers.

use crate::{Target, failure};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_postgres::{Error, config::TargetSessionAttrs};

/// How long to wait for the other servers after one that accepts writes has answered.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(3);

/// How long [`connect`](super::connect) uses the last primary without a survey.
const PRIMARY_IS_KNOWN_FOR: Duration = Duration::from_secs(10);

/// A standby is on the highest timeline that it has received or replayed.
const STATE: &str = include_str!("sql/survey_state.sql");

/// The state of a server, as it reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub system_identifier: i64,
    pub is_standby: bool,
    /// First eight digits of its WAL file names. They rise with each promotion.
    pub timeline: String,
}

/// A server of the connection string, and its answer.
#[derive(Debug)]
pub struct Seen {
    pub server: Target,
    pub answer: Result<Server, Error>,
}

/// What this process knows about the servers of a connection string. All copies of a [`Target`]
/// share it.
#[derive(Debug, Default)]
pub struct Known {
    /// Highest timeline by cluster.
    timelines: Mutex<HashMap<i64, String>>,
    /// Place of the primary in the list, and when it was found.
    primary: Mutex<Option<(usize, Instant)>>,
}

impl Known {
    fn note(&self, server: &Server) {
        let mut timelines = self.timelines.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = timelines.entry(server.system_identifier).or_default();
        if *highest < server.timeline {
            highest.clone_from(&server.timeline);
        }
    }

    /// Returns the highest timeline that is known of a cluster.
    pub fn timeline(&self, system_identifier: i64) -> Option<String> {
        let timelines = self.timelines.lock().unwrap_or_else(PoisonError::into_inner);
        timelines.get(&system_identifier).cloned()
    }
}

/// Reports whether a server accepts writes although its cluster has a newer primary.
pub fn is_former(target: &Target, server: &Server) -> bool {
    let highest = target.known.timeline(server.system_identifier);
    !server.is_standby && highest.is_some_and(|highest| server.timeline < highest)
}

impl Target {
    /// Reports whether the connection string has one server.
    pub(super) fn is_single(&self) -> bool {
        self.config.get_hosts().len().max(self.config.get_hostaddrs().len()) < 2
    }

    /// Records the state of a server.
    pub fn note(&self, server: &Server) {
        self.known.note(server);
    }

    /// Returns the highest timeline of a cluster that this process knows.
    pub fn newest_timeline(&self, system_identifier: i64) -> Option<String> {
        self.known.timeline(system_identifier)
    }

    pub(super) fn note_primary(&self, server: &Self) {
        let place = self.in_order().iter().position(|one| one.is_same_server(server));
        let primary = place.map(|place| (place, Instant::now()));
        *self.known.primary.lock().unwrap_or_else(PoisonError::into_inner) = primary;
    }

    /// Returns the server that accepted writes a moment ago.
    pub(super) fn known_primary(&self) -> Option<Self> {
        let primary = *self.known.primary.lock().unwrap_or_else(PoisonError::into_inner);
        let (place, found_at) = primary?;
        if found_at.elapsed() > PRIMARY_IS_KNOWN_FOR {
            return None;
        }
        self.in_order().into_iter().nth(place)
    }

    fn is_same_server(&self, other: &Self) -> bool {
        let (one, other) = (&self.config, &other.config);
        (one.get_hosts(), one.get_hostaddrs(), one.get_ports())
            == (other.get_hosts(), other.get_hostaddrs(), other.get_ports())
    }
}

/// Asks all servers at the same time. Returns them in the order in which to try them. Ends when all
/// have answered or failed, or [`OTHERS_TIMEOUT`] after one that accepts writes has answered.
pub async fn survey(target: &Target) -> Vec<Seen> {
    let servers = target.servers();
    let mut answers: Vec<Option<Result<Server, Error>>> = servers.iter().map(|_| None).collect();
    let mut asked: FuturesUnordered<_> =
        servers.iter().enumerate().map(|(at, server)| async move { (at, ask(server).await) }).collect();
    let mut deadline = None;
    loop {
        let over = async move {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = asked.next() => match answer {
                Some((at, answer)) => {
                    if let Ok(server) = &answer {
                        target.known.note(server);
                        if !server.is_standby {
                            deadline.get_or_insert(Instant::now() + OTHERS_TIMEOUT);
                        }
                    }
                    answers[at] = Some(answer);
                }
                None => break,
            },
            () = over => break,
        }
    }
    drop(asked);
    let mut seen = Vec::new();
    for (server, answer) in servers.into_iter().zip(answers) {
        let answer = match answer {
            Some(answer) => answer,
            None => Err(failure::expired().await),
        };
        seen.push(Seen { server, answer });
    }
    seen
}

async fn ask(server: &Target) -> Result<Server, Error> {
    let question = async {
        let mut config = server.connection_config();
        config.application_name("webhookd survey").target_session_attrs(TargetSessionAttrs::Any);
        let (client, connection) = config.connect(server.tls()).await?;
        let carried = tokio::spawn(connection);
        let row = client.query_one(STATE, &[]).await;
        carried.abort();
        let row = row?;
        Ok(Server {
            system_identifier: row.try_get(0)?,
            is_standby: row.try_get(1)?,
            timeline: row.try_get::<_, Option<String>>(2)?.unwrap_or_default(),
        })
    };
    match timeout(server.connect_timeout(), question).await {
        Ok(answer) => answer,
        Err(_) => Err(failure::expired().await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(timeline: &str) -> Server {
        Server { system_identifier: 1, is_standby: false, timeline: timeline.to_owned() }
    }

    #[test]
    fn a_former_primary_is_behind_any_server_of_its_cluster() {
        let target: Target = "postgres://app@one,two/shop".parse().unwrap();
        assert!(!is_former(&target, &server("00000001")), "nothing is known");
        target.known.note(&Server { is_standby: true, ..server("00000002") });
        for server in target.servers() {
            assert_eq!(server.known.timeline(1).as_deref(), Some("00000002"), "they share it");
        }
        assert!(is_former(&target, &server("00000001")));
        assert!(!is_former(&target, &server("00000002")) && !is_former(&target, &server("0000000A")));
        let standby = Server { is_standby: true, ..server("00000001") };
        assert!(!is_former(&target, &standby), "it follows");
        let elsewhere = Server { system_identifier: 2, ..server("00000001") };
        assert!(!is_former(&target, &elsewhere));
        target.known.note(&server("00000001"));
        assert!(is_former(&target, &server("00000001")), "it stays known");
    }

    #[test]
    fn the_last_primary_is_tried_first_for_a_while() {
        let target: Target = "postgres://app@one,two/shop".parse().unwrap();
        assert!(target.known_primary().is_none());
        let second = target.in_order().remove(1);
        target.note_primary(&second);
        assert!(target.known_primary().is_some_and(|server| server.is_same_server(&second)));
    }
}
