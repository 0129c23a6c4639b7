//! Why the daemon does not deliver from a database.

use crate::{cannot_connect::CannotConnect, schema::Schema};
use delivery::snapshot;
use std::time::Duration;
use thiserror::Error;

/// Why the daemon does not run. Each message says what to do. The source is the cause, if any.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Connect(CannotConnect),
    #[error("the extension is not installed in this database; run: create extension pg_webhook")]
    ExtensionMissing,
    #[error(
        "the database has pg_webhook {installed}, and webhookd {} delivers from {} and {}; \
         run: alter extension pg_webhook update, or install the webhookd that fits",
        env!("CARGO_PKG_VERSION"), Schema::ACCEPTED[0].1, Schema::ACCEPTED[1].1
    )]
    OtherVersion { installed: String },
    #[error("the database has pg_webhook {installed} still; this needs {}: alter extension pg_webhook update", Schema::ACCEPTED[1].1)]
    Outdated { installed: String },
    #[error("this server is a standby and accepts no writes; connect to the primary")]
    ReadOnly,
    #[error(
        "this server is on timeline {timeline}, but its cluster has reached timeline {newest}: the server is a former primary; \
         shut it down, or make it a standby"
    )]
    FormerPrimary { timeline: String, newest: String },
    #[error(
        "a transaction pooler is between webhookd and Postgres; connect directly or through a session pool"
    )]
    TransactionPooler,
    #[error("role {role} lacks {missing}; run as the owner: select webhook_grant('{role}', 'dispatcher')")]
    Privileges { role: String, missing: String },
    #[error(
        "this database is a copy from another cluster, so webhookd does not deliver; to deliver from here, run: select webhook_arm()"
    )]
    OtherCluster,
    #[error(
        "this database is armed for instance {armed}, but this daemon is instance {ours}; to deliver from a copy, \
         run: select webhook_arm(); if it is the same database under another name, start webhookd with --instance '{armed}'"
    )]
    OtherInstance { armed: String, ours: String },
    #[error("Postgres rejected a statement of webhookd")]
    Database(#[source] tokio_postgres::Error),
    #[error("cannot read the server's snapshot")]
    Snapshot(#[source] snapshot::Invalid),
    #[error("the extension was updated; starting a new session")]
    Updated,
    #[error("a connection to Postgres was lost")]
    ConnectionLost,
    #[error("the leader's lock was lost")]
    LockLost,
    #[error("another daemon has taken over")]
    Superseded,
    #[error("the last results could not be written within {} s; webhookd will repeat those deliveries", .0.as_secs())]
    Unwritten(Duration),
}

impl Error {
    /// Returns the error for a failed statement. The cause may be its connection.
    pub fn of_statement(error: tokio_postgres::Error) -> Self {
        if error.is_closed() { Self::ConnectionLost } else { Self::Database(error) }
    }

    /// Reports whether waiting may help: the server is away, starting or full, or a standby that
    /// may be promoted.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::ReadOnly
            | Self::FormerPrimary { .. }
            | Self::ConnectionLost
            | Self::LockLost
            | Self::Superseded
            | Self::Updated => true,
            Self::Connect(failure) => crate::passes(failure.cause()),
            Self::Database(cause) => crate::passes(cause),
            Self::ExtensionMissing
            | Self::OtherVersion { .. }
            | Self::Outdated { .. }
            | Self::TransactionPooler
            | Self::Privileges { .. }
            | Self::OtherCluster
            | Self::OtherInstance { .. }
            | Self::Snapshot(_)
            | Self::Unwritten(_) => false,
        }
    }
}
