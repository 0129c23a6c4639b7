//! The history of the database that a session reads. After a failover, the new primary continues
//! from the position that it had reached, and uses the transaction ids again that the former
//! primary went on to use.

use database::{Error, Server, Target, is_former, preflight::Identity, survey};
use std::time::Duration;
use tokio::time::sleep;

/// The interval at which a daemon with several servers compares their timelines.
const SURVEY_INTERVAL: Duration = Duration::from_secs(30);

/// A cluster, a database in it, and how often the cluster has changed its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    pub identity: Identity,
    /// First eight digits of the WAL file name; they rise with each promotion.
    pub timeline: String,
}

impl History {
    #[cfg(test)]
    pub fn sample(timeline: &str) -> Self {
        let identity = Identity { system_identifier: 1, database_oid: 2 };
        Self { identity, timeline: timeline.to_owned() }
    }
}

/// Rejects a server that this process knows to be behind the timeline of its cluster.
pub(super) fn check_timeline(server: &Target, history: &History) -> Result<(), Error> {
    let state = Server {
        system_identifier: history.identity.system_identifier,
        is_standby: false,
        timeline: history.timeline.clone(),
    };
    server.note(&state);
    if is_former(server, &state) { Err(former(server, &state)) } else { Ok(()) }
}

/// Returns the error of a former primary.
pub(super) fn former(database: &Target, state: &Server) -> Error {
    let newest = database.newest_timeline(state.system_identifier).unwrap_or_default();
    Error::FormerPrimary { timeline: state.timeline.clone(), newest }
}

/// Waits until another server of the list is on a higher timeline: this one has become a former
/// primary.
pub(super) async fn left_behind(database: &Target, history: &History) -> Error {
    if database.servers().len() < 2 {
        return std::future::pending().await;
    }
    loop {
        sleep(SURVEY_INTERVAL).await;
        survey(database).await;
        if let Err(error) = check_timeline(database, history) {
            return error;
        }
    }
}
