//! The arguments of the commands that show and change subscriptions, events and deliveries.
//!
//! The commands use only the SQL API, with the rights of the role that connects. The doc comments
//! of this module are the commands' help.

use super::Database;
use clap::{Args, Subcommand};

/// How rows are shown.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// Parses `OPTION=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it must be OPTION=VALUE")?;
    Ok((name.trim().to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub struct Subscription {
    #[command(subcommand)]
    pub action: SubscriptionAction,
}

#[derive(Debug, Subcommand)]
pub enum SubscriptionAction {
    /// All that this role may see
    List {
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// One with all its options, and how its receiver is doing
    Show {
        id: i64,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Subscribe a receiver; prints its number and, this once, its secret
    Create {
        /// Where requests go
        url: String,
        /// An option of webhook_subscribe(), its value as Postgres spells it: events={order.*}, timeout=7 s; may be
        /// repeated
        #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Change options; the others stay
    Alter {
        id: i64,
        /// An option of webhook_alter(), its value as Postgres spells it; may be repeated
        #[arg(long = "set", value_name = "OPTION=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// An option that is to have no value any more: name, filter, rate_limit, tls; may be repeated
        #[arg(long, value_name = "OPTION")]
        clear: Vec<String>,
        #[command(flatten)]
        database: Database,
    },
    /// End it, with its secrets and what is queued for it
    Delete {
        id: i64,
        #[command(flatten)]
        database: Database,
    },
    /// Send nothing more; what matches meanwhile is kept
    Pause {
        id: i64,
        /// Why, for others to read
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        database: Database,
    },
    /// Send again, what was kept first
    Resume {
        id: i64,
        /// Drop what is queued instead
        #[arg(long)]
        skip_backlog: bool,
        #[command(flatten)]
        database: Database,
    },
    /// Make a new secret and print it; the old ones sign beside it for a while
    Rotate {
        id: i64,
        /// How long the old ones go on signing, as Postgres spells intervals
        #[arg(long, value_name = "INTERVAL", default_value = "24 hours")]
        overlap: String,
        #[command(flatten)]
        database: Database,
    },
    /// Send webhook.ping to it alone; prints the event's id
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
    /// The newest first
    List {
        /// A type or a pattern such as order.*; may be repeated
        #[arg(long = "type", value_name = "PATTERN", default_value = "*")]
        types: Vec<String>,
        /// About this: a value of the key column
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
        /// How far back to look, as Postgres spells intervals
        #[arg(long, value_name = "INTERVAL", default_value = "1 day")]
        within: String,
        /// From this moment on, as Postgres spells it: '2026-11-22 03:00', in place of --within
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with = "within")]
        since: Option<String>,
        /// Before this moment
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        until: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// One with its data
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
    /// The newest events first
    List(DeliveryList),
    /// Every attempt to deliver an event
    Show {
        /// evt_…
        event: String,
        /// To this subscription alone
        subscription: Option<i64>,
        #[command(flatten)]
        database: Database,
        #[command(flatten)]
        output: Output,
    },
    /// Deliver an event to a subscription once more, now and under the same id
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
    /// delivered, retrying, queued or exhausted; may be repeated
    #[arg(long, value_name = "STATE", value_parser = ["delivered", "retrying", "queued", "exhausted"])]
    pub state: Vec<String>,
    /// Of this subscription
    #[arg(long, value_name = "ID")]
    pub subscription: Option<i64>,
    /// Of events of this type, or of a pattern such as order.*
    #[arg(long = "type", value_name = "PATTERN")]
    pub event_type: Option<String>,
    /// Of events about this: a value of the key column
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Of this event, evt_…
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,
    /// Of events from this moment on, as Postgres spells it: '2026-11-22 03:00'
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Of events before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// At most so many
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
    /// Of this subscription
    #[arg(long, value_name = "ID")]
    pub subscription: Option<i64>,
    /// Only attempts that failed
    #[arg(long)]
    pub failed: bool,
    /// How often to look
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    pub every_ms: u64,
    /// Exit after so many attempts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Replay {
    /// Subscription
    pub id: i64,
    /// From this moment on, as Postgres spells it: '2026-11-22 03:00', or -infinity for all there still is
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: String,
    /// Before this moment [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Patterns to take the place of the subscription's; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub events: Vec<String>,
    /// Do not wait until they have been delivered
    #[arg(long)]
    pub no_wait: bool,
    #[command(flatten)]
    pub database: Database,
}
