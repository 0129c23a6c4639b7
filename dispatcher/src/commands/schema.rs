//! `webhookd schema`: prints the events of a database as a document, or the changes between two
//! documents. Reads only.

use crate::{
    cli::schema::Diff,
    commands::{Error, FAILED, terminal::whole_table},
    schema::{Change, Events},
};
use database::{self, Purpose, Target, Watch};
use serde_json::json;
use std::{
    error::Error as StdError,
    io::{self, Write as _},
    process::ExitCode,
};
use tokio_postgres::error::SqlState;

/// Prints the result of `webhook_openapi()`.
///
/// # Errors
/// The database is away, lacks the extension, or rejects the request.
pub async fn dump(database: Target) -> Result<ExitCode, Error> {
    let document = document(&database).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "{document}").and_then(|()| out.flush()).map_err(Error::Output)?;
    Ok(ExitCode::SUCCESS)
}

async fn document(database: &Target) -> Result<String, Error> {
    let client = database::open_session(database, Purpose::Command, Watch::default()).await?;
    let explain = |error: tokio_postgres::Error| {
        match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::Refused {
            message:
                "permission denied to read the documentation; as the extension's owner, run: select webhook_grant('…', 'reader')"
                    .to_owned(),
        },
        _ => Error::App(database::Error::of_statement(error)),
    }
    };
    let schema = client.query_opt(database::EXTENSION_SCHEMA, &[]).await.map_err(explain)?;
    let schema: String = schema.ok_or(database::Error::ExtensionMissing)?.try_get(0).map_err(explain)?;
    let call = format!("select {schema}.webhook_openapi()::text");
    client.query_one(&call, &[]).await.and_then(|row| row.try_get(0)).map_err(explain)
}

/// Compares two documents, and prints the changes.
///
/// # Errors
/// [`Error::Schema`] if one of them cannot be read. The exit code is 2 then.
pub async fn diff(flags: &Diff) -> Result<ExitCode, Error> {
    if flags.old == "-" && flags.new == "-" {
        return Err(Error::Usage("only one of the two can be standard input".to_owned()));
    }
    let (old, new) = (events("OLD", &flags.old).await?, events("NEW", &flags.new).await?);
    let changes = old.changes(&new);
    let breaking = changes.iter().filter(|change| change.breaking).count();
    let text = if flags.json {
        format!("{}\n", json!({ "breaking": breaking, "changes": changes }))
    } else {
        readable(&changes, breaking)
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output)?;
    Ok(if breaking == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn readable(changes: &[Change], breaking: usize) -> String {
    if changes.is_empty() {
        return "no change\n".to_owned();
    }
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|change| {
            let field = if change.field.is_empty() { "-" } else { &change.field };
            let kind = if change.breaking { "BREAKING" } else { "compatible" };
            vec![kind.to_owned(), change.event_type.clone(), field.to_owned(), change.message.clone()]
        })
        .collect();
    let rest = changes.len() - breaking;
    whole_table(&["", "event type", "field", "change"], &rows)
        + &format!("\n{breaking} breaking, {rest} compatible\n")
}

/// Reports whether a text is a connection string. If not, it is the name of a file.
fn is_database(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    matches!(scheme, Some("postgres" | "postgresql"))
        || (text.contains('=') && !std::path::Path::new(text).exists())
}

async fn events(which: &str, text: &str) -> Result<Events, Error> {
    // The connection string is not repeated, because it may contain a password.
    let (name, document) = if is_database(text) {
        (format!("{which}, a database, cannot be read"), of_database(text).await)
    } else if text == "-" {
        let read = io::read_to_string(io::stdin()).map_err(Into::into);
        (format!("{which}, standard input, cannot be read"), read)
    } else {
        (
            format!("{which}, the file {text}, cannot be read"),
            std::fs::read_to_string(text).map_err(Into::into),
        )
    };
    let events = document.and_then(|document| Events::parse(&document).map_err(Into::into));
    events.map_err(|cause| Error::Schema { which: name, cause })
}

async fn of_database(text: &str) -> Result<String, Box<dyn StdError + Send + Sync>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Ok(document(&Target::parse(text, &variable)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_told_from_files() {
        for text in
            ["postgres://localhost/shop", "postgresql://u:p@h/d", "host=/tmp dbname=shop", "dbname=shop"]
        {
            assert!(is_database(text), "{text}");
        }
        for text in ["openapi.json", "./a/b", "-", "https://example.com/openapi.json"] {
            assert!(!is_database(text), "{text}");
        }
    }

    #[test]
    fn the_table_begins_with_what_breaks() {
        let change = |breaking, field: &str| Change {
            breaking,
            event_type: "order.created".to_owned(),
            field: field.to_owned(),
            rule: "field-removed",
            message: "field removed".to_owned(),
        };
        assert_eq!(readable(&[], 0), "no change\n");
        assert_eq!(
            readable(&[change(true, "data.x"), change(false, "")], 1),
            "            event type     field   change\n\
             BREAKING    order.created  data.x  field removed\n\
             compatible  order.created  -       field removed\n\n1 breaking, 1 compatible\n"
        );
    }
}
