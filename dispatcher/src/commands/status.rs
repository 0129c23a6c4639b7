//! `webhookd status`: prints the headline, `webhook.health` and `webhook.subscription_health`, as
//! text or as JSON. It has the words and the order of the page. Reads only.

use crate::{
    cli,
    commands::{
        Error,
        output::print,
        terminal::{clean, cut, table_of},
    },
};
use admin::receivers::{
    OVERVIEW, Overview, Receiver,
    headline::headline,
    words::{duration, grouped, state_of},
};
use database::{self, Client, Purpose, Target, Watch};
use std::process::ExitCode;
use tokio_postgres::{Row, error::SqlState};

const JSON: &str = include_str!("sql/status_json.sql");

const HEALTH: &str = include_str!("sql/status_health.sql");

const DISARMED: &str = "select disarmed_because from webhook.health";

const VERSION: &str = "select extversion from pg_extension where extname = 'pg_webhook'";

/// The columns of the table, and their largest widths. With two spaces between them, a line has at
/// most 79 columns.
const COLUMNS: [(&str, usize); 6] =
    [("state", 14), ("for", 7), ("receiver", 24), ("waiting", 8), ("oldest", 7), ("gave up", 8)];

/// Width of the lines under a row.
const LINE_COLUMNS_MAX: usize = 80;

/// Prints the state.
///
/// # Errors
/// The database cannot be reached, lacks the extension or has the previous version of it, or does
/// not grant the rights.
pub async fn run(flags: &cli::Status, database: Target) -> Result<ExitCode, Error> {
    let client = database::open_session(&database, Purpose::Command, Watch::default()).await?;
    let text = if flags.json { json(&client).await } else { text(&client).await };
    match text {
        Ok(text) => print(&text),
        Err(error) => Err(explain(&client, error).await),
    }
}

/// Explains the mistakes that have a remedy.
async fn explain(client: &Client, error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(
            &SqlState::UNDEFINED_TABLE
            | &SqlState::UNDEFINED_COLUMN
            | &SqlState::INVALID_SCHEMA_NAME
            | &SqlState::UNDEFINED_FUNCTION,
        ) => {
            let installed = client.query_opt(VERSION, &[]).await.ok().flatten();
            match installed.and_then(|row| row.try_get(0).ok()) {
                Some(installed) => Error::App(database::Error::Outdated { installed }),
                None => Error::App(database::Error::ExtensionMissing),
            }
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::NotReader(error),
        _ => Error::App(database::Error::Database(error)),
    }
}

/// Returns the receivers that the session's role sees, the most urgent first.
async fn receivers(client: &Client) -> Result<Overview, tokio_postgres::Error> {
    let (any, all): (Option<&str>, i64) = (None, i64::MAX);
    let text: String = client.query_one(OVERVIEW, &[&any, &any, &0_i64, &0_i64, &all]).await?.try_get(0)?;
    // The statement of this version decides the members.
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

async fn json(client: &Client) -> Result<String, tokio_postgres::Error> {
    let text: String = client.query_one(JSON, &[]).await?.try_get(0)?;
    let overview = receivers(client).await?;
    let said = serde_json::json!(headline(&overview.groups).sentences);
    let receivers = serde_json::json!(overview.receivers);
    // json_agg() puts each element on a line. Within strings, newlines are escaped.
    let rest = text.replace('\n', "");
    let rest = rest.trim_start().trim_start_matches('{');
    Ok(format!("{{\"headline\":{said},\"receivers\":{receivers},{rest}\n"))
}

async fn text(client: &Client) -> Result<String, tokio_postgres::Error> {
    let health = client.query_one(HEALTH, &[]).await?;
    let disarmed = match health.try_get(0)? {
        true => None,
        false => client.query_one(DISARMED, &[]).await?.try_get(0)?,
    };
    let overview = receivers(client).await?;
    let (is_delivering, described) = describe(&health, disarmed)?;
    let mut text = if is_delivering { String::new() } else { "Nothing is delivered now.\n".to_owned() };
    text.push_str(&headline(&overview.groups).sentences.join("\n"));
    text.push_str("\n\n");
    text.push_str(&described);
    if overview.receivers.is_empty() {
        text.push_str("\nno subscriptions; create one: select * from webhook_subscribe('https://…')\n");
        return Ok(text);
    }
    text.push('\n');
    text.push_str(&list(&overview.receivers));
    Ok(text)
}

/// Returns a table of receivers. A row that is not healthy has its last error below it.
fn list(receivers: &[Receiver]) -> String {
    let rows: Vec<Vec<String>> = receivers.iter().map(cells).collect();
    let lines = table_of(&COLUMNS, &rows);
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        text.push_str(line);
        text.push('\n');
        if let Some(below) = at.checked_sub(1).and_then(|at| receivers.get(at)).and_then(below) {
            text.push_str(&cut(&clean(&below), LINE_COLUMNS_MAX));
            text.push('\n');
        }
    }
    text
}

fn cells(one: &Receiver) -> Vec<String> {
    let age = |age: Option<f64>| age.map_or_else(|| "-".to_owned(), duration);
    // The number of the subscription stays visible if the name is cut.
    let number = format!(" (#{})", one.id);
    let name = cut(&clean(&one.title()), COLUMNS[2].1.saturating_sub(number.len()));
    vec![
        state_of(&one.state).label.to_owned(),
        age(one.ages.since),
        name + &number,
        grouped(one.waiting),
        age(one.ages.oldest_waiting),
        grouped(one.redeliverable),
    ]
}

/// Returns the last error and the next attempt.
fn below(one: &Receiver) -> Option<String> {
    if one.state == "healthy" {
        return None;
    }
    let reason = one.reason.clone().map(|reason| format!("reason: {reason}"));
    let error = one.last_error_words().map(|error| match one.ages.last_failure {
        Some(age) => format!("{error}, {} ago", duration(age)),
        None => error,
    });
    let next = one.next_attempt_words().map(|words| format!("next attempt {words}"));
    let parts: Vec<String> = [next, reason, error].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("  {}", parts.join("; ")))
}

/// Returns whether a daemon delivers, and the state of delivery in lines.
fn describe(health: &Row, disarmed: Option<String>) -> Result<(bool, String), tokio_postgres::Error> {
    let (armed, running): (bool, bool) = (health.try_get(0)?, health.try_get(1)?);
    let silent_for: Option<&str> = health.try_get(8)?;
    let delivering = match (armed, running, silent_for) {
        (false, ..) => {
            let because = disarmed.unwrap_or_else(|| database::Error::OtherCluster.to_string());
            format!("no: {because}")
        }
        (true, false, _) => "no: no daemon is running; start webhookd run".to_owned(),
        (true, true, Some(_)) => {
            "no: the daemon is frozen or disconnected from the server; start another daemon, which takes over"
                .to_owned()
        }
        (true, true, None) => "yes".to_owned(),
    };
    let gate: &str = health.try_get(2)?;
    let (pending, queued): (&str, &str) = (health.try_get(3)?, health.try_get(4)?);
    let (lag, oldest, checkpoint): (&str, &str, &str) =
        (health.try_get(5)?, health.try_get(6)?, health.try_get(7)?);
    let is_delivering = armed && running && silent_for.is_none();
    let lines = format!(
        "delivering   {delivering}\n\
         daemon       {}\n\
         pending      {pending} past the checkpoint, lag {lag}\n\
         queued       {queued} waiting for another attempt or for their receiver\n\
         oldest       {oldest}\n\
         checkpoint   {checkpoint}\n",
        match silent_for {
            _ if !running => "-".to_owned(),
            Some(time) => format!("silent for {time}"),
            None => gate.to_owned(),
        }
    );
    Ok((is_delivering, lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use admin::receivers::Ages;
    use unicode_width::UnicodeWidthStr;

    #[test]
    fn every_line_fits_80_columns() {
        let long = Receiver {
            id: 123_456,
            name: Some("漢字 a name that is much longer than its column".to_owned()),
            state: "rejecting".to_owned(),
            last_outcome: Some("connect".to_owned()),
            last_error: Some("x".repeat(500)),
            waiting: 100_000,
            redeliverable: 100_000,
            ages: Ages {
                since: Some(1e9),
                last_failure: Some(1e9),
                next_attempt: Some(-50.0),
                oldest_waiting: Some(1e9),
            },
            ..Receiver::default()
        };
        let fine = Receiver {
            id: 2,
            url: "https://a.example/x".to_owned(),
            state: "healthy".to_owned(),
            ..Receiver::default()
        };
        let text = list(&[long, fine]);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[1].contains("(#123456)")
                && lines[2].starts_with("  next attempt in 50 s; cannot connect: xxx"),
            "{text}"
        );
        assert!(lines[3].starts_with("healthy") && lines[3].contains("a.example (#2)"), "{text}");
    }
}
