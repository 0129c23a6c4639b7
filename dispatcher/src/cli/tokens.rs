//! The arguments of the commands that let others use the admin server: tokens, and links to the
//! page of an owner.

use crate::cli::Database;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Create a token, and print it on standard output. It is shown only once
    Create(CreateToken),
    /// List the tokens, without their secrets
    List(TokenDatabase),
    /// Revoke a token immediately
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
pub struct TokenDatabase {
    #[command(flatten)]
    pub database: Database,
}

#[derive(Debug, Args)]
pub struct CreateToken {
    #[command(flatten)]
    pub database: Database,
    /// The role of its requests. The daemon's role must be a member of it
    #[arg(long, value_name = "ROLE")]
    pub role: String,
    /// The owner whose subscriptions the token can see and change: a role, or a tenant of the
    /// application [default: all that the role can see and change]
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// What the token is for
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// Number of days until the token expires [default: it does not expire]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(1..=3650))]
    pub days: Option<i32>,
}

#[derive(Debug, Args)]
pub struct RevokeToken {
    #[command(flatten)]
    pub database: Database,
    /// The number of the token, as list shows it
    #[arg(value_name = "ID")]
    pub id: i64,
}

#[derive(Debug, Args)]
pub struct PortalLink {
    #[command(flatten)]
    pub database: Database,
    /// The owner whose page it opens: a role, or a tenant of the application
    #[arg(value_name = "OWNER")]
    pub owner: String,
    /// Number of minutes until the link and its session expire
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(i32).range(1..=1440))]
    pub minutes: i32,
    /// The role of the page's requests, which is only a subscriber. The daemon's role must be a
    /// member of it [default: role in [portal] of the configuration file]
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
}
