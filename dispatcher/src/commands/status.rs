//! `webhookd status`: prints `webhook.health` and `webhook.subscription_stats`, as tables or as
//! JSON. Reads only.

use crate::{
    cli,
    commands::{Error, output::print, terminal::table},
};
use database::{self, Client, Purpose, Target, Watch};
use std::process::ExitCode;
use tokio_postgres::{Row, error::SqlState};

const JSON: &str = include_str!("sql/status_json.sql");

const HEALTH: &str = include_str!("sql/status_health.sql");

const DISARMED: &str = "select disarmed_because from webhook.health";

const SUBSCRIPTIONS: &str = include_str!("sql/status_subscriptions.sql");

const HEADINGS: [&str; 12] = [
    "id",
    "name",
    "state",
    "delivered 1h",
    "failed 1h",
    "retrying",
    "queued",
    "next attempt",
    "p50 ms",
    "p99 ms",
    "last success",
    "last failure",
];

/// Prints the state.
///
/// # Errors
/// The database cannot be reached, lacks the extension, or does not grant the rights.
pub async fn run(flags: &cli::Status, database: Target) -> Result<ExitCode, Error> {
    let client = database::open_session(&database, Purpose::Command, Watch::default()).await?;
    let text = if flags.json { json(&client).await } else { tables(&client).await };
    print(&text.map_err(explain)?)
}

/// Explains the two mistakes that have a remedy.
fn explain(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME | &SqlState::UNDEFINED_FUNCTION) => {
            Error::App(database::Error::ExtensionMissing)
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::NotReader(error),
        _ => Error::App(database::Error::Database(error)),
    }
}

async fn json(client: &Client) -> Result<String, tokio_postgres::Error> {
    let text: String = client.query_one(JSON, &[]).await?.try_get(0)?;
    // json_agg() puts each element on a line. Within strings, newlines are escaped.
    Ok(text.replace('\n', "") + "\n")
}

async fn tables(client: &Client) -> Result<String, tokio_postgres::Error> {
    let health = client.query_one(HEALTH, &[]).await?;
    let disarmed = match health.try_get(0)? {
        true => None,
        false => client.query_one(DISARMED, &[]).await?.try_get(0)?,
    };
    let mut text = describe(&health, disarmed)?;
    let rows = client.query(SUBSCRIPTIONS, &[]).await?;
    if rows.is_empty() {
        text.push_str("\nno subscriptions; create one: select * from webhook_subscribe('https://…')\n");
        return Ok(text);
    }
    let cells = rows
        .iter()
        .map(|row| (0..HEADINGS.len()).map(|at| row.try_get(at)).collect())
        .collect::<Result<Vec<Vec<String>>, _>>()?;
    text.push('\n');
    text.push_str(&table(&HEADINGS, &cells));
    Ok(text)
}

fn describe(health: &Row, disarmed: Option<String>) -> Result<String, tokio_postgres::Error> {
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
    let (pending, queued): (i64, i64) = (health.try_get(3)?, health.try_get(4)?);
    let (lag, oldest, checkpoint): (&str, &str, &str) =
        (health.try_get(5)?, health.try_get(6)?, health.try_get(7)?);
    Ok(format!(
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
    ))
}
