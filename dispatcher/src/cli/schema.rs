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
    /// Print the changes from OLD to NEW, and which of them break receivers. Exit codes: 0 if no
    /// change does, 1 if a change does, 2 if the documents cannot be compared
    Diff(Diff),
}

#[derive(Debug, Args)]
pub struct Diff {
    /// A file with a document, - for standard input, or a database: postgres://… or host=… dbname=…
    #[arg(value_name = "OLD")]
    pub old: String,
    /// The new version, in the same forms
    #[arg(value_name = "NEW")]
    pub new: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}
