//! The arguments of `keygen` and `rekey`.

use super::{Database, Keys};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct Keygen {
    /// The file to create, readable only by its owner. It must not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Create nothing: print the public key of the first key in FILE, which must exist
    #[arg(long)]
    pub public: bool,
}

#[derive(Debug, Args)]
pub struct Rekey {
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub keys: Keys,
    /// Print what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
