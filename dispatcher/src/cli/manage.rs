//! The arguments of the commands that show and change subscriptions, events and deliveries.
//!
//! The commands use only the SQL API, with the rights of the role that connects. The doc comments
//! of this module are the commands' help.

use crate::cli::Database;
use clap::{Args, Subcommand};

/// The output format.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// Parses `OPTION=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be OPTION=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub struct Subscription {
    #[command(subcommand)]
    pub action: SubscriptionAction,
}

#[derive(Debug, Subcommand)]
pub enum SubscriptionAction {
    /// List the subscriptions that this role can see
    List {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Show one subscription with all its options and the health of its receiver
    Show {
        id: i64,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Create a subscription. Prints its number, and its secret, which is shown only once
    Create {
        /// URL of the receiver
        url: String,
        /// An option of webhook_subscribe(), with its value as in Postgres: events={order.*},
        /// timeout=7 s. May be repeated
        #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Change options. Other options do not change
    Alter {
        id: i64,
        /// An option of webhook_alter(), with its value as in Postgres. May be repeated
        #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// An option to clear: name, filter, rate_limit, tls. May be repeated
        #[arg(long, value_name = "OPTION")]
        clear: Vec<String>,
        #[command(flatten)]
        database: Database,
    },
    /// Delete a subscription, with its secrets and its queued deliveries
    Delete {
        id: i64,
        #[command(flatten)]
        database: Database,
    },
    /// Pause a subscription. Matching events are kept until it resumes
    Pause {
        id: i64,
        /// The reason, for other operators
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        database: Database,
    },
    /// Resume a subscription. The kept events are delivered first
    Resume {
        id: i64,
        /// Discard the queued deliveries
        #[arg(long)]
        skip_backlog: bool,
        #[command(flatten)]
        database: Database,
    },
    /// Create a new secret and print it. The old secrets also sign for a while
    Rotate {
        id: i64,
        /// How long the old secrets also sign, as a Postgres interval
        #[arg(long, value_name = "INTERVAL", default_value = "24 hours")]
        overlap: String,
        #[command(flatten)]
        database: Database,
    },
    /// Send webhook.ping to this subscription only. Prints the event's id
    Ping {
        id: i64,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Debug, Args)]
pub struct Event {
    #[command(subcommand)]
    pub action: EventAction,
}

#[derive(Debug, Subcommand)]
pub enum EventAction {
    /// List events, newest first
    List {
        /// A type, or a pattern such as order.*. May be repeated
        #[arg(long = "type", value_name = "PATTERN", default_value = "*")]
        types: Vec<String>,
        /// The key: a value of the key column
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// How far back to search, as a Postgres interval
        #[arg(long, value_name = "INTERVAL", default_value = "1 day")]
        within: String,
        /// Start time, as in Postgres: '2026-11-22 03:00'. Replaces --within
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "within")]
        since: Option<String>,
        /// End time, exclusive
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: Option<String>,
        /// Maximum number of rows
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Show one event with its data
    Show {
        /// evt_…
        id: String,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
pub struct Delivery {
    #[command(subcommand)]
    pub action: DeliveryAction,
}

#[derive(Debug, Subcommand)]
pub enum DeliveryAction {
    /// List deliveries, newest events first
    List(DeliveryList),
    /// Show every attempt to deliver an event
    Show {
        /// evt_…
        event: String,
        /// Only deliveries to this subscription
        subscription: Option<i64>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Deliver an event to a subscription again, now and with the same id
    Redeliver {
        /// evt_…
        event: String,
        subscription: i64,
        #[command(flatten)]
        database: Database,
    },
}

#[derive(Debug, Args)]
pub struct DeliveryList {
    /// State: delivered, retrying, queued or exhausted. May be repeated
    #[arg(long, value_name = "STATE", value_parser = ["delivered", "retrying", "queued", "exhausted"])]
    pub state: Vec<String>,
    /// Only for this subscription
    #[arg(long, value_name = "ID")]
    pub subscription: Option<i64>,
    /// Only events of this type, or of a pattern such as order.*
    #[arg(long = "type", value_name = "PATTERN")]
    pub event_type: Option<String>,
    /// Only events with this key: a value of the key column
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only this event, evt_…
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Only events since this time, as in Postgres: '2026-11-22 03:00'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Maximum number of rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub limit: i64,
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Tail {
    #[command(flatten)]
    pub database: Database,
    /// Only for this subscription
    #[arg(long, value_name = "ID")]
    pub subscription: Option<i64>,
    /// Only failed attempts
    #[arg(long)]
    pub failed: bool,
    /// Time between two polls
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub every_ms: u64,
    /// Exit after this many attempts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// The number of the subscription
    pub id: i64,
    /// Start time, as in Postgres: '2026-11-22 03:00', or -infinity for all events that still exist
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, required_unless_present = "within")]
    pub since: Option<String>,
    /// Length of the range up to now, such as '1 hour'. Replaces --since
    #[arg(long, value_name = "INTERVAL", conflicts_with = "since")]
    pub within: Option<String>,
    /// End time, exclusive [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Patterns to use instead of the subscription's. May be repeated
    #[arg(long, value_name = "PATTERN")]
    pub events: Vec<String>,
    /// Do not wait for the deliveries
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub database: Database,
}
