//! One file for each command: what it does once the settings are known, and the exit code it ends with.

pub mod listen;
pub mod verify;

use crate::config;
use signature::InvalidSecret;
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
    Secret(#[from] InvalidSecret),
    #[error("{0}")]
    Usage(String),
    #[error("cannot listen on {address}")]
    Bind {
        address: std::net::SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("standard input cannot be read")]
    Input(#[source] io::Error),
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Secret(_) | Self::Usage(_) => USAGE,
            Self::Bind { .. } | Self::Input(_) | Self::Runtime(_) => FAILED,
        }
    }

    /// Itself and its causes in one line; a cause that is part of the text already is not said twice.
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line.replace('\n', " ")
    }
}

/// What a command that ran ends with.
pub fn exit(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
