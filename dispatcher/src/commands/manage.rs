//! `webhookd subscription`, `event` and `delivery`: print rows, and call functions of the SQL API.
//! Postgres decides what the role that connects may see and do.

use crate::{
    cli::{
        Database,
        manage::{DeliveryAction, DeliveryList, EventAction, Output, SubscriptionAction},
    },
    commands::{
        Error, deliveries,
        output::print,
        session::{Argument, ClientSession},
        terminal::{clean, table},
    },
};
use database::Target;
use serde_json::value::RawValue;
use std::{fmt::Write as _, process::ExitCode};
use subscription_options::OPTIONS;

const SUBSCRIPTIONS: &str = include_str!("sql/manage_subscriptions.sql");
const SUBSCRIPTION: &str = include_str!("sql/manage_subscription.sql");
/// The slots limit the search to the partitions of that time. Their index has the order, so the
/// search ends after enough rows.
const EVENTS: &str = include_str!("sql/manage_events.sql");
const EVENT: &str = include_str!("sql/manage_event.sql");
/// Prints lines of JSON, or a table with a column for each heading.
fn list(rows: &[String], headings: &[&str], output: Output) -> Result<ExitCode, Error> {
    if output.json {
        return print(&lines(rows));
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let row: Columns = serde_json::from_str(row).unwrap_or_default();
            let value = |heading: &&str| row.0.iter().find(|(name, _)| name == heading);
            headings
                .iter()
                .map(|heading| value(heading).map_or("-".to_owned(), |(_, value)| cell(value)))
                .collect()
        })
        .collect();
    print(&table(headings, &cells))
}

/// Prints one row, with a line for each column that has a value. `None` means that there is no such
/// row.
fn show(row: Option<&String>, what: &str, output: Output) -> Result<ExitCode, Error> {
    let Some(row) = row else {
        return Err(Error::Refused { message: format!("{what} does not exist, or this role cannot see it") });
    };
    if output.json {
        return print(&lines(std::slice::from_ref(row)));
    }
    let columns: Columns = serde_json::from_str(row).unwrap_or_default();
    let width = columns.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let shown = columns.0.iter().filter(|(_, value)| value.get() != "null");
    // A string without its quotes. Other values stay as they were written, in particular numbers.
    let text: String = shown
        .map(|(name, value)| {
            let value = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
            format!("{name:<width$}  {}\n", clean(&value))
        })
        .collect();
    print(&text)
}

/// Postgres prints JSON on one line, unless a stored json has line breaks of its own.
fn lines(rows: &[String]) -> String {
    rows.iter().map(|row| row.replace(['\n', '\r'], " ") + "\n").collect()
}

/// Texts without quotes, and simple arrays without brackets. Other values stay as they were
/// written.
fn cell(value: &RawValue) -> String {
    let json = value.get();
    match json.as_bytes() {
        b"null" => "-".to_owned(),
        [b'"', ..] => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
        [b'[', ..] => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(items) if items.iter().all(|item| !item.get().starts_with('{')) => {
                items.into_iter().map(cell).collect::<Vec<_>>().join(",")
            }
            _ => json.to_owned(),
        },
        _ => json.to_owned(),
    }
}

/// Members in their order.
#[derive(Default)]
struct Columns(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Columns;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl SubscriptionAction {
    pub fn database(&self) -> &Database {
        match self {
            Self::List { database, .. }
            | Self::Show { database, .. }
            | Self::Create { database, .. }
            | Self::Alter { database, .. }
            | Self::Delete { database, .. }
            | Self::Pause { database, .. }
            | Self::Resume { database, .. }
            | Self::Rotate { database, .. }
            | Self::Ping { database, .. } => database,
        }
    }
}

impl EventAction {
    pub fn database(&self) -> &Database {
        match self {
            Self::List { database, .. } | Self::Show { database, .. } => database,
        }
    }
}

impl DeliveryAction {
    pub fn database(&self) -> &Database {
        match self {
            Self::List(DeliveryList { database, .. })
            | Self::Show { database, .. }
            | Self::Redeliver { database, .. } => database,
        }
    }
}

/// # Errors
/// The database cannot be reached, or rejects the request.
pub async fn subscription(action: SubscriptionAction, target: Target) -> Result<ExitCode, Error> {
    let session = ClientSession::open(&target).await?;
    match action {
        SubscriptionAction::List { output, .. } => {
            const HEADINGS: [&str; 9] =
                ["id", "name", "owner", "url", "events", "state", "circuit", "queued", "delivered_1h"];
            list(&session.rows(SUBSCRIPTIONS, &[]).await?, &HEADINGS, output)
        }
        SubscriptionAction::Show { id, output, .. } => {
            show(session.rows(SUBSCRIPTION, &[&id]).await?.first(), &format!("subscription {id}"), output)
        }
        SubscriptionAction::Create { url, set, output, .. } => {
            let (arguments, values) = options(&set, 2)?;
            let statement =
                format!("select id, secret from {}.webhook_subscribe(url => $1{arguments})", session.schema);
            let values: Vec<Argument<'_>> =
                std::iter::once(&url as Argument<'_>).chain(values.iter().map(|value| value as _)).collect();
            let made = session.rows(&statement, &values).await?;
            show(made.first(), "subscription", output)
        }
        SubscriptionAction::Alter { id, set, clear, .. } => {
            let (arguments, values) = options(&set, 3)?;
            let clear = (!clear.is_empty()).then_some(clear);
            let mut all: Vec<Argument<'_>> = vec![&id, &clear];
            all.extend(values.iter().map(|value| value as Argument<'_>));
            session.call(&format!("webhook_alter(id => $1, clear => $2{arguments})::text"), &all).await?;
            Ok(ExitCode::SUCCESS)
        }
        SubscriptionAction::Delete { id, .. } => {
            session.call("webhook_unsubscribe($1)::text", &[&id]).await?;
            Ok(ExitCode::SUCCESS)
        }
        SubscriptionAction::Pause { id, reason, .. } => {
            session.call("webhook_pause($1, $2)::text", &[&id, &reason]).await?;
            Ok(ExitCode::SUCCESS)
        }
        SubscriptionAction::Resume { id, skip_backlog, .. } => {
            session.call("webhook_resume($1, $2)::text", &[&id, &skip_backlog]).await?;
            Ok(ExitCode::SUCCESS)
        }
        SubscriptionAction::Rotate { id, overlap, .. } => {
            let secret =
                session.call("webhook_rotate_secret($1, $2::text::interval)", &[&id, &overlap]).await?;
            print(&format!("{}\n", secret.unwrap_or_default()))
        }
        SubscriptionAction::Ping { id, .. } => {
            let event = session.call("webhook_ping($1)", &[&id]).await?;
            print(&format!("{}\n", event.unwrap_or_default()))
        }
    }
}

/// Returns named arguments, each with a comma before it and cast by Postgres, and their values as
/// parameters from `$first` on.
fn options(set: &[(String, String)], first: usize) -> Result<(String, Vec<&str>), Error> {
    let (mut sql, mut values) = (String::new(), Vec::new());
    for (name, value) in set {
        let Some(option) = subscription_options::find(name) else {
            let known: Vec<&str> = OPTIONS.iter().map(|option| option.name).collect();
            let message = format!("unknown option {name}; the options are {}", known.join(", "));
            return Err(Error::Usage(clean(&message)));
        };
        let _ = write!(sql, ", {name} => ${}::text::{}", first + values.len(), option.kind.sql_type());
        values.push(value.as_str());
    }
    Ok((sql, values))
}

/// # Errors
/// The database cannot be reached, or rejects the request.
pub async fn event(action: EventAction, target: Target) -> Result<ExitCode, Error> {
    let session = ClientSession::open(&target).await?;
    match action {
        EventAction::List { types, key, within, since, until, limit, output, .. } => {
            const HEADINGS: [&str; 6] = ["id", "created_at", "type", "table", "key", "actor"];
            let arguments: [Argument<'_>; 6] = [&types, &since, &within, &until, &key, &limit];
            list(&session.rows(EVENTS, &arguments).await?, &HEADINGS, output)
        }
        EventAction::Show { id, output, .. } => {
            show(session.rows(EVENT, &[&id]).await?.first(), &format!("event {id}"), output)
        }
    }
}

/// # Errors
/// The database cannot be reached, or rejects the request.
pub async fn delivery(action: DeliveryAction, target: Target) -> Result<ExitCode, Error> {
    let session = ClientSession::open(&target).await?;
    match action {
        DeliveryAction::List(flags) => {
            const HEADINGS: [&str; 9] = [
                "event_id",
                "subscription",
                "type",
                "key",
                "state",
                "attempts",
                "status",
                "next_attempt_at",
                "error",
            ];
            list(&deliveries::list(&session, &flags).await?, &HEADINGS, flags.output)
        }
        DeliveryAction::Show { event, subscription, output, .. } => {
            const HEADINGS: [&str; 9] = [
                "subscription",
                "attempt",
                "started_at",
                "outcome",
                "status",
                "duration_ms",
                "next_at",
                "error",
                "response",
            ];
            list(&deliveries::attempts(&session, &event, subscription).await?, &HEADINGS, output)
        }
        DeliveryAction::Redeliver { event, subscription, .. } => {
            session.call("webhook_redeliver($1, $2)::text", &[&event, &subscription]).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
