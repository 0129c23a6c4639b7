//! The commands, one file each. A command gets its settings and returns its exit code.

pub mod check;
mod client;
pub mod conform;
mod deliveries;
pub mod forward;
pub mod keygen;
pub mod listen;
pub mod manage;
pub mod manual;
mod output;
pub mod portal_link;
pub mod rekey;
pub mod replay;
pub mod run;
pub mod schema;
mod session;
pub mod status;
pub mod tail;
mod terminal;
pub mod token;
pub mod verify;

use crate::config;
use signature::InvalidVerifier;
use std::{error::Error as StdError, io, process::ExitCode};
use thiserror::Error;

/// The work failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration. Other arguments would help.
pub const USAGE: u8 = 2;
/// The daemon cannot deliver from this database.
pub const DATABASE: u8 = 3;

/// Why a command ends. `main` prints it once, with its causes, in one line.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("invalid secret: {0}; use whsec_ followed by the base64 of 24 to 64 bytes")]
    Secret(#[from] InvalidVerifier),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    App(#[from] database::Error),
    #[error(
        "permission denied to read the state of delivery; as the extension's owner, run: select webhook_grant('…', 'reader')"
    )]
    NotReader(#[source] tokio_postgres::Error),
    #[error(transparent)]
    Seal(#[from] seal::CannotSeal),
    #[error("cannot write {}", path.display())]
    KeyFile {
        path: std::path::PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot listen on {address}")]
    Bind {
        address: std::net::SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Admin(#[from] admin::Error),
    #[error(transparent)]
    Traces(#[from] traces::Error),
    #[error("cannot generate random numbers")]
    NoRandomness(#[source] getrandom::Error),
    /// The database rejected the request.
    #[error("{message}")]
    Refused { message: String },
    /// One of the two documents cannot be read.
    #[error("{which}")]
    Schema {
        which: String,
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The reader of standard output has closed it, as in `webhookd tail | head`. This is not a
    /// failure.
    #[error("standard output was closed")]
    ReaderGone,
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            // The exit code 1 means that a change breaks receivers.
            Self::Config(_) | Self::Secret(_) | Self::Traces(_) | Self::Usage(_) | Self::Schema { .. } => {
                USAGE
            }
            Self::App(error) => database_exit_code(error),
            Self::Admin(admin::Error::App(error)) => database_exit_code(error),
            Self::Admin(_) | Self::NoRandomness(_) => FAILED,
            Self::NotReader(_) => DATABASE,
            Self::Bind { .. }
            | Self::Input(_)
            | Self::Output(_)
            | Self::ReaderGone
            | Self::Refused { .. }
            | Self::Runtime(_)
            | Self::Seal(_)
            | Self::KeyFile { .. } => FAILED,
        }
    }
}

/// Returns the exit code: the database is not available or rejects us (another attempt may help),
/// or the daemon cannot deliver from it (an operator must act).
fn database_exit_code(error: &database::Error) -> u8 {
    match error {
        database::Error::Connect(_)
        | database::Error::Database(_)
        | database::Error::ConnectionLost
        | database::Error::Snapshot(_)
        | database::Error::LockLost
        | database::Error::Superseded
        | database::Error::Updated
        | database::Error::Unwritten(_) => FAILED,
        database::Error::ExtensionMissing
        | database::Error::OtherVersion { .. }
        | database::Error::Outdated { .. }
        | database::Error::ReadOnly
        | database::Error::FormerPrimary { .. }
        | database::Error::TransactionPooler
        | database::Error::Privileges { .. }
        | database::Error::OtherCluster
        | database::Error::OtherInstance { .. } => DATABASE,
    }
}

/// Returns an error and its causes in one line.
pub fn one_line(error: &(dyn StdError + 'static)) -> String {
    database::chain(error).replace('\n', " ")
}

/// Returns the exit code of a command that ran.
pub fn exit(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
