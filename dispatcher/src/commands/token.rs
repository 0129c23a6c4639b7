//! `webhookd token`: creates, lists and revokes tokens of the admin server. Writes `webhook.token`,
//! which contains only the hash of a token.

use crate::{
    cli::{CreateToken, TokenAction},
    commands::{Error, exit, output::print},
};
use admin::token::Token;
use database::{self, Client, Purpose, Target, Watch};
use std::{fmt::Write as _, process::ExitCode};
use tokio_postgres::error::SqlState;

const CREATE: &str = "
    insert into webhook.token (name, token_sha256, role, owner, expires_at)
    values ($1, $2, $3::text::name, $4, now() + make_interval(days => $5)) returning id";
/// Whether a role is limited to the rows of its owner: row-level security applies, and the role
/// cannot read the outbox.
const ROLE: &str = "
    select not (r.rolsuper or r.rolbypassrls or has_table_privilege(r.oid, 'webhook.event', 'select'))
    from pg_roles r where r.rolname = $1";
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
    let role = client.query_opt(ROLE, &[&flags.role]).await.map_err(explain)?;
    let Some(role) = role else {
        return Err(Error::Usage(format!("role {} does not exist", flags.role)));
    };
    if flags.owner.is_some() && !role.try_get::<_, bool>(0).map_err(explain)? {
        return Err(Error::Usage(format!(
            "role {} can see other owners; a token with --owner requires a role that is only a subscriber",
            flags.role
        )));
    }
    let token = Token::generate().map_err(Error::NoRandomness)?;
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

fn explain(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Usage(
            "permission denied; as the extension's owner, run: select webhook_grant('…', 'admin')".to_owned(),
        ),
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => {
            Error::App(database::Error::ExtensionMissing)
        }
        _ => Error::App(database::Error::of_statement(error)),
    }
}
