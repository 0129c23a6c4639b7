//! The command line: its arguments, and their help texts. Parses, and decides nothing.
//!
//! A setting without an argument may come from the environment or the configuration file: see
//! `config`. Values that may contain a password or a key are parsed as plain text, because clap
//! prints values that it cannot parse.

mod keys;
pub mod manage;
pub mod schema;
mod tokens;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use std::{net::SocketAddr, path::PathBuf};

pub use keys::{Keygen, Rekey};
pub use tokens::{CreateToken, PortalLink, RevokeToken, Token, TokenAction, TokenDatabase};

#[derive(Debug, Parser)]
#[command(
    name = "webhookd",
    version,
    about = "Sends the committed events of pg_webhook to receivers, as signed POST requests",
    after_help = "Settings come from flags, then the environment (WEBHOOKD_…), then the file given with --config.\n\
                  Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 this database cannot be worked with."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon, which delivers events
    Run(Box<Run>),
    /// Run a local receiver that verifies signatures and prints webhooks
    Listen(Listen),
    /// Show the state of delivery: health and subscriptions
    Status(Status),
    /// Check whether this machine can deliver from a database. Prints one line for each requirement
    Check(Check),
    /// Verify the signature of one webhook, whose body is on standard input
    Verify(Verify),
    /// Create the key that secrets are sealed for. Writes the private key to a file. Prints the
    /// public key, with a proof of the private key, as webhook_seal() takes it
    Keygen(Keygen),
    /// Seal every secret of the database for the current key (the first in the key file)
    Rekey(Rekey),
    /// Create, list and revoke tokens of the admin server
    Token(Token),
    /// Create a link that opens the webhook page of an owner, and print its URL. The link can be
    /// opened once
    PortalLink(PortalLink),
    /// Subscriptions: create, list, show, alter, pause, resume, rotate, ping, delete
    Subscription(manage::Subscription),
    /// Events: list, show
    Event(manage::Event),
    /// Deliveries: list, show, redeliver
    Delivery(manage::Delivery),
    /// Print attempts as they finish
    Tail(manage::Tail),
    /// Deliver the events of a time range to a subscription again, and show the progress
    Replay(manage::Replay),
    /// Test a receiver against common mistakes and report the results
    Conform(Conform),
    /// Print the schemas of events, or compare two versions of them for receivers
    Schema(schema::Schema),
    /// Print a script that completes commands in a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page (roff)
    Man,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Configuration file (TOML)
    #[arg(long, env = "WEBHOOKD_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Format of log lines on standard error [default: text]
    #[arg(long, env = "WEBHOOKD_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// Log level: error, warn, info, debug or trace. Also by module, as in
    /// warn,webhookd_sender=debug
    /// [default: info]
    #[arg(long, env = "WEBHOOKD_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Arguments of every command that connects to Postgres.
#[derive(Debug, Args)]
pub struct Database {
    /// The database with the extension, as postgres://user:password@host/database or host=…
    /// dbname=… (also from DATABASE_URL)
    #[arg(long, env = "WEBHOOKD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A file that contains the database URL. The password can also come from PGPASSWORD, or from
    /// PGPASSFILE (~/.pgpass)
    #[arg(long, env = "WEBHOOKD_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
}

/// Arguments of the commands that deliver, or check whether they can.
#[derive(Debug, Args)]
pub struct Delivers {
    /// The instance that this database is armed for, the same for all its daemons. A daemon with
    /// another instance, such as that of a copy, does not deliver [default: servers and database of
    /// the URL, and this machine's id if a server runs on it]
    #[arg(long, env = "WEBHOOKD_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
}

/// Arguments of every command that reads secrets.
#[derive(Debug, Args)]
pub struct Keys {
    /// The private key that secrets are sealed for (see keygen), followed by former keys.
    /// Alternatively, set WEBHOOKD_KEY
    #[arg(long, env = "WEBHOOKD_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// The directory of the files of secrets that have the form file:NAME
    #[arg(long, env = "WEBHOOKD_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub delivers: Delivers,
    /// A private range to allow, also over plain http. May be repeated
    #[arg(long, env = "WEBHOOKD_ALLOW_NET", value_name = "CIDR", value_delimiter = ',')]
    pub allow_net: Vec<String>,
    /// A range to deny. It takes precedence over all other rules. May be repeated
    #[arg(long, env = "WEBHOOKD_DENY_NET", value_name = "CIDR", value_delimiter = ',')]
    pub deny_net: Vec<String>,
    /// A port or a range such as 8000-8999 to allow. Other ports are then denied. May be repeated
    /// [default: 80, 443, and ports from 1024 on, except the usual ports of databases and similar
    /// services]
    #[arg(long, env = "WEBHOOKD_ALLOW_PORT", value_name = "PORTS", value_delimiter = ',')]
    pub allow_port: Vec<String>,
    /// Allow plain http also outside the ranges of --allow-net
    #[arg(
        long,
        env = "WEBHOOKD_ALLOW_HTTP",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub allow_http: Option<bool>,
    /// The forward proxy for receivers: http://… (with CONNECT) or socks5://…
    #[arg(long, env = "WEBHOOKD_PROXY", value_name = "URL", hide_env_values = true)]
    pub proxy: Option<String>,
    /// Receivers to call without the proxy: a range (CIDR), a host, or .example.com for all hosts
    /// of a domain. May be repeated
    #[arg(long, env = "WEBHOOKD_PROXY_BYPASS", value_name = "WHO", value_delimiter = ',')]
    pub proxy_bypass: Vec<String>,
    /// Let the proxy resolve names. The proxy then decides which addresses a name may have
    #[arg(
        long,
        env = "WEBHOOKD_PROXY_RESOLVES",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub proxy_resolves: Option<bool>,
    /// Certificate authorities (PEM) to trust, in addition to the ones of the machine
    #[arg(long, env = "WEBHOOKD_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
    /// Time between two polls while no commit wakes the daemon. 0 disables polls [default: 1000]
    #[arg(long, env = "WEBHOOKD_SAFETY_POLL_MS", value_name = "MS")]
    pub safety_poll_ms: Option<u64>,
    /// Deliver only events whose commits are on the server's disk. For applications that commit
    /// with synchronous_commit = off
    #[arg(
        long,
        env = "WEBHOOKD_DURABLE_READS",
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub durable_reads: Option<bool>,
    /// How long to wait for attempts in flight at shutdown [default: 10000]
    #[arg(long, env = "WEBHOOKD_DRAIN_TIMEOUT_MS", value_name = "MS")]
    pub drain_timeout_ms: Option<u64>,
    /// Maximum size of the events in memory, for all subscriptions together [default: 32]
    #[arg(long, env = "WEBHOOKD_MEMORY_MB", value_name = "MB")]
    pub memory_mb: Option<u64>,
    /// Maximum number of requests at once to one host, for all subscriptions of an owner together
    /// [default: 512]
    #[arg(long, env = "WEBHOOKD_MAX_IN_FLIGHT_PER_HOST", value_name = "N")]
    pub max_in_flight_per_host: Option<u64>,
    /// The source in the CloudEvents formats: a URI reference, to which each table is appended
    /// [default: / and the database's name]
    #[arg(long, env = "WEBHOOKD_SOURCE", value_name = "URI")]
    pub source: Option<String>,
    /// The sender in the CloudEvents handshake: a DNS name [default: the name of this machine]
    #[arg(long, env = "WEBHOOKD_ORIGIN", value_name = "NAME")]
    pub origin: Option<String>,
    /// Address of the admin server, with REST, page, /metrics and /healthz, such as 127.0.0.1:8080
    /// [default: no admin server]
    #[arg(long, env = "WEBHOOKD_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Postgres role of requests without a token. Requires a loopback address
    #[arg(long, env = "WEBHOOKD_ADMIN_OPEN_AS", value_name = "ROLE")]
    pub admin_open_as: Option<String>,
    /// A proxy in front of the admin server, whose X-Forwarded-For names the client: a range
    /// (CIDR). May be repeated [default: none; the header is ignored]
    #[arg(long, env = "WEBHOOKD_ADMIN_TRUST_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub admin_trust_proxy: Vec<String>,
    /// The OpenTelemetry collector for spans of attempts, over OTLP/HTTP: its base URL, to which
    /// /v1/traces is appended (also from OTEL_EXPORTER_OTLP_ENDPOINT) [default: none; no spans]
    #[arg(long, env = "WEBHOOKD_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    /// Share of the events without a trace for which a trace is started: 0 to 1 [default: 0]
    #[arg(long, env = "WEBHOOKD_OTLP_RATIO", value_name = "SHARE")]
    pub otlp_ratio: Option<f64>,
    #[command(flatten)]
    pub periods: Periods,
}

/// Periods for tests that cannot wait for days. In milliseconds.
#[derive(Debug, Args)]
pub struct Periods {
    /// Time between two probes of a receiver whose circuit is open [default: one minute]
    #[arg(long, env = "WEBHOOKD_PROBE_INTERVAL", value_name = "MS", hide = true)]
    pub probe_interval_ms: Option<u64>,
    /// How long a receiver must fail before webhook.subscription.failing is emitted [default: one
    /// day]
    #[arg(long, env = "WEBHOOKD_FAILING_AFTER", value_name = "MS", hide = true)]
    pub failing_after_ms: Option<u64>,
    /// How long a receiver must fail before its subscription is disabled [default: five days]
    #[arg(long, env = "WEBHOOKD_DISABLE_AFTER", value_name = "MS", hide = true)]
    pub disable_after_ms: Option<u64>,
    /// Maximum time between two searches for expired slots of the ring [default: ten minutes]
    #[arg(long, env = "WEBHOOKD_RETIRE_INTERVAL", value_name = "MS", hide = true)]
    pub retire_interval_ms: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub database: Database,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub delivers: Delivers,
    #[command(flatten)]
    pub keys: Keys,
    /// Also check the requirements of the admin server (as for run)
    #[arg(long, env = "WEBHOOKD_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Postgres role of requests without a token (as for run)
    #[arg(long, env = "WEBHOOKD_ADMIN_OPEN_AS", value_name = "ROLE")]
    pub admin_open_as: Option<String>,
}

#[derive(Debug, Args)]
pub struct Conform {
    /// URL of the receiver, such as http://127.0.0.1:8080/hooks
    #[arg(value_name = "URL")]
    pub url: String,
    /// The secret that the receiver verifies with, whsec_…
    #[arg(long, env = "WEBHOOKD_LISTEN_SECRET", value_name = "WHSEC", hide_env_values = true)]
    pub secret: String,
    /// Time limit for an answer
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..=300_000))]
    pub timeout_ms: u64,
    #[command(flatten)]
    pub output: manage::Output,
}

#[derive(Debug, Args)]
pub struct Listen {
    /// Do not listen. Send the events of a database, as they are committed, to this URL (http://…).
    /// Requires the privileges of a reader, and no subscription. Writes nothing to the database.
    /// Signs with --secret, or with a generated secret, which is printed
    #[arg(long, value_name = "URL", conflicts_with_all = ["bind", "status"])]
    pub forward_to: Option<String>,
    /// Events to forward: a type, or a pattern such as order.*. May be repeated
    #[arg(long, value_name = "PATTERN", default_value = "*", requires = "forward_to")]
    pub events: Vec<String>,
    #[command(flatten)]
    pub database: Database,
    /// Address or port to listen on. Port 0 chooses a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = parse_bind)]
    pub bind: SocketAddr,
    /// The subscription's secret, whsec_…, or its public key, whpk_…. May be repeated while it is
    /// rotated. Without a secret, signatures are not verified
    #[arg(
        long,
        env = "WEBHOOKD_LISTEN_SECRET",
        value_name = "WHSEC",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub secret: Vec<String>,
    /// HTTP status of the answers
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Exit after this many webhooks: with 0 if every signature was valid, otherwise with 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print one line for each webhook, without its data
    #[arg(long)]
    pub quiet: bool,
    /// Print one line of JSON for each webhook
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The subscription's secret, whsec_…, or its public key, whpk_…
    #[arg(long, env = "WEBHOOKD_LISTEN_SECRET", value_name = "WHSEC", hide_env_values = true)]
    pub secret: String,
    /// Value of the header webhook-id
    #[arg(long)]
    pub id: Option<String>,
    /// Value of the header webhook-timestamp
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub timestamp: Option<String>,
    /// Value of the header webhook-signature
    #[arg(long)]
    pub signature: Option<String>,
    /// A header as copied from a log, 'webhook-id: evt_…'. May be repeated. Other headers are
    /// ignored
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Maximum age of the timestamp, in seconds, or `any`
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = parse_tolerance)]
    pub tolerance: Tolerance,
}

/// Maximum difference between a timestamp and the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    Any,
    Seconds(u32),
}

fn parse_tolerance(text: &str) -> Result<Tolerance, String> {
    if text == "any" {
        return Ok(Tolerance::Any);
    }
    text.parse().map(Tolerance::Seconds).map_err(|_| "must be a number of seconds, or `any`".to_owned())
}

fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(([127, 0, 0, 1], port).into());
    }
    text.parse().map_err(|_| "must be an address with a port, such as 127.0.0.1:8080, or a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn bind_takes_a_port_or_an_address() {
        for (text, want) in [
            ("8080", "127.0.0.1:8080"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:2", "[::1]:2"),
            ("0", "127.0.0.1:0"),
        ] {
            assert_eq!(parse_bind(text), Ok(want.parse().unwrap()));
        }
        for text in ["localhost:1", "70000", "", "127.0.0.1"] {
            assert!(parse_bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn allow_http_can_be_said_and_unsaid() {
        for (flag, want) in [
            ("", None),
            (" --allow-http", Some(true)),
            (" --allow-http=false", Some(false)),
            (" --allow-http=1", Some(true)),
        ] {
            let Command::Run(run) = parse(&format!("webhookd run{flag}")).unwrap().command else {
                unreachable!()
            };
            assert_eq!(run.allow_http, want, "{flag}");
        }
    }

    #[test]
    fn ranges_may_be_repeated() {
        let line = "webhookd run --allow-net 10.0.0.0/8 --allow-net 127.0.0.1,::1";
        let Command::Run(run) = parse(line).unwrap().command else { unreachable!() };
        assert_eq!(run.allow_net, ["10.0.0.0/8", "127.0.0.1", "::1"]);
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        for line in [
            "webhookd",
            "webhookd walk",
            "webhookd run --nope",
            "webhookd listen --status 42",
            "webhookd verify",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
