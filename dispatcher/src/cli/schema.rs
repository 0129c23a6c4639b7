//! `webhookd schema`: the arguments of the commands that print and compare event schemas.
//!
//! The doc comments of this module are the commands' help.

use super::Database;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Schema {
    #[command(subcommand)]
    pub action: SchemaAction,
}

#[derive(Debug, Subcommand)]
pub enum SchemaAction {
    /// The events of a database as an OpenAPI document, on standard output: what webhook_openapi() returns
    Dump {
        #[command(flatten)]
        database: Database,
    },
    /// What has changed from OLD to NEW, and what of it breaks receivers. Exit codes: 0 nothing does, 1 something does,
    /// 2 they could not be compared
    Diff(Diff),
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A file with a document, - for standard input, or a database: postgres://… or host=… dbname=…
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Likewise
    #[arg(value_name = "NEW")]
    pub new: String,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}
