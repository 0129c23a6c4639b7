//! `webhookd portal-link`: creates a link to the page of an owner. Writes `webhook.portal_link`,
//! which contains only the hash of the link's token.

use crate::{
    cli::PortalLink,
    commands::{Error, output::print, token::explain},
};
use admin::{
    portal::PortalSettings,
    portal_links::url_of,
    token::{Token, TokenKind},
};
use database::{self, Purpose, Target, Watch};
use std::process::ExitCode;

const CREATE: &str = "select webhook.create_portal_link($1, $2, $3, $4) is not null";

/// Creates a link and prints its URL.
///
/// # Errors
/// A setting is missing, the database is away, or it rejects the request.
pub async fn run(
    flags: &PortalLink,
    database: Target,
    settings: &PortalSettings,
    url: Option<String>,
) -> Result<ExitCode, Error> {
    let missing = |text: &str| Error::Usage(text.to_owned());
    let url = url.ok_or_else(|| {
        missing(
            "no URL is set; set url in [portal] of the configuration file, as in https://hooks.example.com",
        )
    })?;
    let role = flags.role.as_deref().or(settings.role()).ok_or_else(|| {
        missing("no role is set; use --role, or set role in [portal] of the configuration file")
    })?;
    let client = database::open_session(&database, Purpose::Command, Watch::default()).await?;
    let token = Token::generate(TokenKind::Link).map_err(Error::NoRandomness)?;
    let sha256 = token.sha256();
    client
        .query_one(CREATE, &[&sha256.as_slice(), &role, &flags.owner, &flags.minutes])
        .await
        .map_err(explain)?;
    print(&format!("{}\n", url_of(&url, &token)))
}
