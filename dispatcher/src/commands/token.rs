//! `webhookd token`: creates, lists and revokes tokens of the admin server. Writes `webhook.token`,
//! which contains only the hash of a token.

use crate::{
    cli::{CreateToken, TokenAction},
    commands::{Error, exit, output::print},
};
use admin::token::{Token, TokenKind};
use database::{self, Client, Purpose, Target, Watch};
use std::{fmt::Write as _, process::ExitCode};
use tokio_postgres::error::SqlState;

const CREATE: &str = "select webhook.create_token($1, $2, $3, $4, now() + make_interval(days => $5))";
const LIST: &str = include_str!("sql/token_list.sql");

/// Executes the action.
///
/// # Errors
/// The database is away, or rejects the request.
pub async fn run(action: &TokenAction, database: Target) -> Result<ExitCode, Error> {
    let client = database::open_session(&database, Purpose::Command, Watch::default()).await?;
    match action {
        TokenAction::Create(flags) => create(&client, flags).await,
        TokenAction::List(_) => print(&list(&client).await.map_err(explain)?),
        TokenAction::Revoke(flags) => {
            let revoked = client
                .execute("delete from webhook.token where id = $1", &[&flags.id])
                .await
                .map_err(explain)?;
            if revoked == 0 {
                eprintln!("webhookd: token {} does not exist", flags.id);
            }
            Ok(exit(revoked == 1))
        }
    }
}

async fn create(client: &Client, flags: &CreateToken) -> Result<ExitCode, Error> {
    let token = Token::generate(TokenKind::Bearer).map_err(Error::NoRandomness)?;
    let sha256 = token.sha256();
    client
        .execute(CREATE, &[&flags.name, &sha256.as_slice(), &flags.role, &flags.owner, &flags.days])
        .await
        .map_err(explain)?;
    print(&format!("{}\n", token.reveal()))
}

async fn list(client: &Client) -> Result<String, tokio_postgres::Error> {
    let mut text = "id\tname\trole\towner\tcreated\texpires\n".to_owned();
    for row in client.query(LIST, &[]).await? {
        let id: i64 = row.try_get(0)?;
        let texts = (1..6).map(|at| row.try_get(at)).collect::<Result<Vec<String>, _>>()?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{id}\t{}", texts.join("\t"));
    }
    Ok(text)
}

/// Turns an error of a statement about tokens or links into one for the terminal.
pub fn explain(error: tokio_postgres::Error) -> Error {
    match error.code() {
        // The functions check the arguments of the command.
        Some(&SqlState::INVALID_PARAMETER_VALUE) => {
            let Some(database) = error.as_db_error() else {
                return Error::App(database::Error::of_statement(error));
            };
            // A sentence after a semicolon, as in other errors of commands.
            let mut hint = database.hint().unwrap_or_default().trim_end_matches('.').chars();
            let first = hint.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
            Error::Usage(format!("{}; {first}{}", database.message(), hint.as_str()))
        }
        Some(&SqlState::UNDEFINED_FUNCTION) => {
            Error::Usage("the extension is outdated; run: alter extension pg_webhook update".to_owned())
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Usage(
            "permission denied; as the extension's owner, run: select webhook_grant('…', 'admin')".to_owned(),
        ),
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => {
            Error::App(database::Error::ExtensionMissing)
        }
        _ => Error::App(database::Error::of_statement(error)),
    }
}
