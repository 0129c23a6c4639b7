//! Why the daemon does not deliver from a database.

use crate::schema::Schema;
use delivery::snapshot;
use std::time::Duration;
use thiserror::Error;

/// Why the daemon does not run. Each message says what to do. The source is the cause, if any.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot connect to Postgres; check --database-url and that the server is up")]
    Connect(#[source] tokio_postgres::Error),
    #[error("the extension is not in this database; run: create extension pg_webhook")]
    ExtensionMissing,
    #[error(
        "the database has pg_webhook {installed}, and webhookd {} delivers from {} and {}; \
         run: alter extension pg_webhook update, or install the webhookd that fits",
        env!("CARGO_PKG_VERSION"), Schema::ACCEPTED[0].1, Schema::ACCEPTED[1].1
    )]
    OtherVersion { installed: String },
    #[error("the database has pg_webhook {installed} still; this needs {}: alter extension pg_webhook update", Schema::ACCEPTED[1].1)]
    Outdated { installed: String },
    #[error("this Postgres is a standby and takes no writes; connect to the primary")]
    ReadOnly,
    #[error(
        "this server is on timeline {timeline}, and its cluster has come to {newest}: a former primary has come back; \
         shut it down, or make it a standby"
    )]
    FormerPrimary { timeline: String, newest: String },
    #[error(
        "there is a transaction pooler in between; connect to Postgres directly or through a session pool"
    )]
    TransactionPooler,
    #[error("role {role} lacks {missing}; run as the owner: select webhook_grant('{role}', 'dispatcher')")]
    Privileges { role: String, missing: String },
    #[error(
        "this database is a copy of another cluster's and stays silent; to deliver from here: select webhook_arm()"
    )]
    OtherCluster,
    #[error(
        "this database is armed for instance {armed}, and this daemon is instance {ours}; if it is a copy that is to deliver, \
         run: select webhook_arm(); if it is the same database under another name, start webhookd with --instance '{armed}'"
    )]
    OtherInstance { armed: String, ours: String },
    #[error("Postgres refused a statement of the daemon")]
    Database(#[source] tokio_postgres::Error),
    #[error("the server's snapshot could not be read")]
    Snapshot(#[source] snapshot::Invalid),
    #[error("the extension has been updated; starting a new session")]
    Updated,
    #[error("a connection to Postgres was lost")]
    ConnectionLost,
    #[error("the lock of the active daemon was lost")]
    LockLost,
    #[error("another daemon has taken over")]
    Superseded,
    #[error("the last results could not be written within {} s; those deliveries will be made again", .0.as_secs())]
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
            Self::Connect(cause) | Self::Database(cause) => crate::passes(cause),
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
