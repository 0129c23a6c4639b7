//! `webhookd schema`: the arguments of the commands that print and compare event schemas.
//!
//! The doc comments of this module are the commands' help.

use crate::cli::Database;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Schema {
    #[command(subcommand)]
    pub action: SchemaAction,
}

#[derive(Debug, Subcommand)]
pub enum SchemaAction {
    /// Print the events of a database as an OpenAPI document: the result of webhook_openapi()
    Dump {
        #[command(flatten)]
        database: Database,
    },
    /// Print the changes from OLD to NEW, and which of them break receivers. Exit codes: 0 if none
    /// does, 1 if one does, 2 if they cannot be compared
    Diff(Diff),
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A file with a document, - for standard input, or a database: postgres://… or host=… dbname=…
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The same for the new version
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}
