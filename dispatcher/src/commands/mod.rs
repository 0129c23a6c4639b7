//! One file for each command: what it does once the settings are known, and the exit code it ends with.

pub mod check;
mod client;
pub mod conform;
mod deliveries;
pub mod forward;
pub mod keygen;
pub mod listen;
pub mod manual;
pub mod rekey;
pub mod replay;
pub mod run;
pub mod schema;
pub mod status;
pub mod steer;
pub mod tail;
mod terminal;
pub mod token;
pub mod verify;

use crate::{admin, app, config, postgres, trace};
use signature::InvalidVerifier;
use std::{error::Error as StdError, io, process::ExitCode};
use thiserror::Error;

/// The work failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration: saying it differently would help.
pub const USAGE: u8 = 2;
/// The database is not one that can be delivered from.
pub const DATABASE: u8 = 3;

/// Why a command ends. `main` prints it once, with its causes, in one line.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error("this is no secret: {0}; it looks like whsec_ followed by base64 of 24 to 64 bytes")]
    Secret(#[from] InvalidVerifier),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error("this role may not read how things stand; as the owner: select webhook_grant('…', 'reader')")]
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
    Traces(#[from] trace::Error),
    #[error("the machine has no random numbers")]
    NoRandomness(#[source] getrandom::Error),
    /// The database says no to what was asked of it.
    #[error("{message}")]
    Refused { message: String },
    /// One of the two that are compared cannot be had.
    #[error("{which}")]
    Schema {
        which: String,
        #[source]
        cause: Box<dyn StdError + Send + Sync>,
    },
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
    /// Whoever read standard output has had enough: `webhookd tail | head`. No failure.
    #[error("nobody reads standard output any more")]
    ReaderGone,
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            // 1 means that something breaks, which is another matter.
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

/// Whether the database is away or unwilling (trying again may help), or not one to deliver from (somebody must act).
fn database_exit_code(error: &app::Error) -> u8 {
    match error {
        app::Error::Connect(_)
        | app::Error::Database(_)
        | app::Error::ConnectionLost
        | app::Error::Snapshot(_)
        | app::Error::LockLost
        | app::Error::Superseded
        | app::Error::Updated
        | app::Error::Unwritten(_) => FAILED,
        app::Error::ExtensionMissing
        | app::Error::OtherVersion { .. }
        | app::Error::Outdated { .. }
        | app::Error::ReadOnly
        | app::Error::FormerPrimary { .. }
        | app::Error::TransactionPooler
        | app::Error::Privileges { .. }
        | app::Error::OtherCluster
        | app::Error::OtherInstance { .. } => DATABASE,
    }
}

/// An error and its causes in one line.
pub fn one_line(error: &(dyn StdError + 'static)) -> String {
    postgres::chain(error).replace('\n', " ")
}

/// What a command that ran ends with.
pub fn exit(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
