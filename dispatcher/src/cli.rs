//! The command line: what can be said, and how it is explained. Parses; decides nothing.
//!
//! A setting that is not given here may come from the environment or the configuration file: see `config`. Values that may hold
//! a password or a key are taken as plain text, because clap repeats what it cannot parse.

pub mod schema;
pub mod steer;

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, Parser)]
#[command(
    name = "webhookd",
    version,
    about = "The dispatcher of pg_webhook: committed events out of Postgres, signed POSTs to their receivers",
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
    /// Deliver: the daemon
    Run(Box<Run>),
    /// A local receiver that checks signatures and prints what arrives
    Listen(Listen),
    /// How delivery stands: health and subscriptions
    Status(Status),
    /// Can this machine deliver from that database? One line for each thing that must be so
    Check(Check),
    /// Check the signature of one webhook, its body on standard input
    Verify(Verify),
    /// Make a key that secrets are sealed for: the private half into a file, the public half on standard output
    Keygen(Keygen),
    /// Seal every secret of the database for the key in use (the first of the key file)
    Rekey(Rekey),
    /// Who may use the admin server: make, list and revoke tokens
    Token(Token),
    /// Subscriptions: create, list, show, alter, pause, resume, rotate, ping, delete
    Subscription(steer::Subscription),
    /// Events: list, show
    Event(steer::Event),
    /// Deliveries: list, show, redeliver
    Delivery(steer::Delivery),
    /// Follow attempts as they are made
    Tail(steer::Tail),
    /// Deliver the events of a range of time to a subscription once more, and show how far that is
    Replay(steer::Replay),
    /// Send a receiver what receivers get wrong, and tell what it made of it
    Conform(Conform),
    /// What the events are made of: take it down, and tell what a change of it means to receivers
    Schema(schema::Schema),
    /// A script that completes commands in a shell, on standard output
    Completions { shell: clap_complete::Shell },
    /// The manual page (roff), on standard output
    Man,
}

/// For every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Configuration file (TOML)
    #[arg(long, env = "WEBHOOKD_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// How log lines look on standard error [default: text]
    #[arg(long, env = "WEBHOOKD_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace; or by module, as in warn,webhookd::sender=debug [default: info]
    #[arg(long, env = "WEBHOOKD_LOG_LEVEL", value_name = "LEVEL", global = true)]
    pub log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// For every command that talks to Postgres.
#[derive(Debug, Args)]
pub struct Database {
    /// Where the extension is installed, as postgres://user:password@host/database or host=… dbname=…
    /// (DATABASE_URL is read too)
    #[arg(long, env = "WEBHOOKD_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A file that holds it; the password may also come from PGPASSWORD, or PGPASSFILE (~/.pgpass)
    #[arg(long, env = "WEBHOOKD_DATABASE_URL_FILE", value_name = "FILE")]
    pub database_url_file: Option<PathBuf>,
}

/// For the commands that deliver, or say whether they could.
#[derive(Debug, Args)]
pub struct Delivers {
    /// The name that this database is armed for, the same for all of its daemons; a daemon of another name, such as one of a
    /// copy, does not deliver [default: servers and database of the URL, and this machine's id if a server is on it]
    #[arg(long, env = "WEBHOOKD_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
}

/// For every command that reads secrets.
#[derive(Debug, Args)]
pub struct Keys {
    /// The private key that secrets are sealed for (see keygen), and former ones after it; or give it in WEBHOOKD_KEY
    #[arg(long, env = "WEBHOOKD_KEY_FILE", value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Where the files are that secrets of the form file:NAME are read from
    #[arg(long, env = "WEBHOOKD_SECRETS_DIR", value_name = "DIR")]
    pub secrets_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub delivers: Delivers,
    /// A private range that may be called, also over plain http; may be repeated
    #[arg(long, env = "WEBHOOKD_ALLOW_NET", value_name = "CIDR", value_delimiter = ',')]
    pub allow_net: Vec<String>,
    /// A range that may not be called, whatever else is allowed; may be repeated
    #[arg(long, env = "WEBHOOKD_DENY_NET", value_name = "CIDR", value_delimiter = ',')]
    pub deny_net: Vec<String>,
    /// A port, or a range as in 8000-8999; may be repeated. Only these are called then [default: 80, 443, and from
    /// 1024 on those where no database or the like is usual]
    #[arg(long, env = "WEBHOOKD_ALLOW_PORT", value_name = "PORTS", value_delimiter = ',')]
    pub allow_port: Vec<String>,
    /// Allow plain http outside those ranges too
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
    /// The forward proxy that receivers are called through: http://… (with CONNECT) or socks5://…
    #[arg(long, env = "WEBHOOKD_PROXY", value_name = "URL", hide_env_values = true)]
    pub proxy: Option<String>,
    /// Who is called without it: a range (CIDR), a host, or .example.com for all within a domain; may be repeated
    #[arg(long, env = "WEBHOOKD_PROXY_BYPASS", value_name = "WHO", value_delimiter = ',')]
    pub proxy_bypass: Vec<String>,
    /// Give the proxy names to resolve; it then decides which addresses a name may have
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
    /// Certificate authorities (PEM) that are trusted beside the machine's
    #[arg(long, env = "WEBHOOKD_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
    /// While asleep, look for events this often even if nobody rang; 0: never [default: 1000]
    #[arg(long, env = "WEBHOOKD_SAFETY_POLL_MS", value_name = "MS")]
    pub safety_poll_ms: Option<u64>,
    /// Deliver only what is on the server's disk: for applications that commit with synchronous_commit = off
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
    /// At shutdown, how long attempts under way may take to finish [default: 10000]
    #[arg(long, env = "WEBHOOKD_DRAIN_TIMEOUT_MS", value_name = "MS")]
    pub drain_timeout_ms: Option<u64>,
    /// Events held in memory, for all subscriptions together [default: 32]
    #[arg(long, env = "WEBHOOKD_MEMORY_MB", value_name = "MB")]
    pub memory_mb: Option<u64>,
    /// Where events come from, for the formats of CloudEvents: a URI reference, to which each table is added
    /// [default: / and the database's name]
    #[arg(long, env = "WEBHOOKD_SOURCE", value_name = "URI")]
    pub source: Option<String>,
    /// Who sends them, for the handshake of CloudEvents: a DNS name [default: this machine's]
    #[arg(long, env = "WEBHOOKD_ORIGIN", value_name = "NAME")]
    pub origin: Option<String>,
    /// Where the admin server answers: REST, page, /metrics, /healthz; for example 127.0.0.1:8080 [default: nowhere]
    #[arg(long, env = "WEBHOOKD_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// Let requests without a token act as this role of Postgres; on a loopback address only
    #[arg(long, env = "WEBHOOKD_ADMIN_OPEN_AS", value_name = "ROLE")]
    pub admin_open_as: Option<String>,
    /// A proxy in front of the admin server, whose X-Forwarded-For says who asks; a range (CIDR), may be repeated
    /// [default: none, and the header means nothing]
    #[arg(long, env = "WEBHOOKD_ADMIN_TRUST_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub admin_trust_proxy: Vec<String>,
    /// The OpenTelemetry collector that spans of attempts go to, over OTLP/HTTP: its base URL, to which /v1/traces is added
    /// (OTEL_EXPORTER_OTLP_ENDPOINT is read too) [default: none, and so there are no spans]
    #[arg(long, env = "WEBHOOKD_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    /// Which share of the events that belong to no trace get one of their own: 0 to 1 [default: 0]
    #[arg(long, env = "WEBHOOKD_OTLP_RATIO", value_name = "SHARE")]
    pub otlp_ratio: Option<f64>,
    #[command(flatten)]
    pub periods: Periods,
}

/// For those who cannot wait for days: tests. In milliseconds.
#[derive(Debug, Args)]
pub struct Periods {
    /// Between two probes of a receiver whose circuit is open [default: one minute]
    #[arg(long, env = "WEBHOOKD_PROBE_INTERVAL", value_name = "MS", hide = true)]
    pub probe_interval_ms: Option<u64>,
    /// Of nothing but failures, before webhook.subscription.failing is told [default: one day]
    #[arg(long, env = "WEBHOOKD_FAILING_AFTER", value_name = "MS", hide = true)]
    pub failing_after_ms: Option<u64>,
    /// Of nothing but failures, before the subscription is disabled [default: five days]
    #[arg(long, env = "WEBHOOKD_DISABLE_AFTER", value_name = "MS", hide = true)]
    pub disable_after_ms: Option<u64>,
    /// Most between two looks for slots of the ring whose time is over [default: ten minutes]
    #[arg(long, env = "WEBHOOKD_RETIRE_INTERVAL", value_name = "MS", hide = true)]
    pub retire_interval_ms: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub database: Database,
    /// One JSON object instead of tables
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
    /// With an admin server (as of run): what that needs too
    #[arg(long, env = "WEBHOOKD_ADMIN", value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// As of run: the role of requests without a token
    #[arg(long, env = "WEBHOOKD_ADMIN_OPEN_AS", value_name = "ROLE")]
    pub admin_open_as: Option<String>,
}

#[derive(Debug, Args)]
pub struct Keygen {
    /// The file to write, which must not be there yet; only its owner may read it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Rekey {
    #[command(flatten)]
    pub database: Database,
    #[command(flatten)]
    pub keys: Keys,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make one, and print it on standard output: it is shown here and nowhere else
    Create(CreateToken),
    /// Those there are, without what is secret of them
    List(TokenDatabase),
    /// End one, at once
    Revoke(RevokeToken),
}

#[derive(Debug, Args)]
pub struct TokenDatabase {
    #[command(flatten)]
    pub database: Database,
}

#[derive(Debug, Args)]
pub struct CreateToken {
    #[command(flatten)]
    pub database: Database,
    /// The role that its requests are made in; the daemon's role must be a member of it
    #[arg(long, value_name = "ROLE")]
    pub role: String,
    /// The one owner whose subscriptions it sees and changes: a role, or a tenant of the application [default: those that
    /// the role sees and changes]
    #[arg(long, value_name = "NAME")]
    pub owner: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub name: String,
    /// How long it is good for [default: until it is revoked]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(1..=3650))]
    pub days: Option<i32>,
}

#[derive(Debug, Args)]
pub struct RevokeToken {
    #[command(flatten)]
    pub database: Database,
    /// Its number, as list shows it
    #[arg(value_name = "ID")]
    pub id: i64,
}

#[derive(Debug, Args)]
pub struct Conform {
    /// Where it listens, as in http://127.0.0.1:8080/hooks
    #[arg(value_name = "URL")]
    pub url: String,
    /// The secret it verifies with, whsec_…
    #[arg(long, env = "WEBHOOKD_LISTEN_SECRET", value_name = "WHSEC", hide_env_values = true)]
    pub secret: String,
    /// How long an answer may take
    #[arg(long, value_name = "MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..=300_000))]
    pub timeout_ms: u64,
    #[command(flatten)]
    pub output: steer::Output,
}

#[derive(Debug, Args)]
pub struct Listen {
    /// Instead of listening: send the events of a database, as they are committed, to this address (http://…). Reads only;
    /// needs a reader's rights, and no subscription. Signed with --secret, or one that is made up and shown
    #[arg(long, value_name = "URL", conflicts_with_all = ["bind", "status"])]
    pub forward_to: Option<String>,
    /// Which events are forwarded: a type, or a pattern such as order.*; may be repeated
    #[arg(long, value_name = "PATTERN", default_value = "*", requires = "forward_to")]
    pub events: Vec<String>,
    #[command(flatten)]
    pub database: Database,
    /// Address or port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0", value_parser = parse_bind)]
    pub bind: SocketAddr,
    /// The subscription's secret, whsec_…, or its public key, whpk_…; may be repeated while it is rotated. Without it
    /// nothing is verified
    #[arg(
        long,
        env = "WEBHOOKD_LISTEN_SECRET",
        value_name = "WHSEC",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub secret: Vec<String>,
    /// Status to answer with
    #[arg(long, value_name = "CODE", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: u16,
    /// Exit after so many webhooks: with 0 if every signature held, else with 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// One line for each webhook, without its data
    #[arg(long)]
    pub quiet: bool,
    /// One line of JSON for each webhook
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// The subscription's secret, whsec_…, or its public key, whpk_…
    #[arg(long, env = "WEBHOOKD_LISTEN_SECRET", value_name = "WHSEC", hide_env_values = true)]
    pub secret: String,
    /// Header webhook-id
    #[arg(long)]
    pub id: Option<String>,
    /// Header webhook-timestamp
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub timestamp: Option<String>,
    /// Header webhook-signature
    #[arg(long)]
    pub signature: Option<String>,
    /// A header as copied from a log, 'webhook-id: evt_…'; may be repeated, other headers are passed over
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How old the timestamp may be, in seconds, or `any`
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = parse_tolerance)]
    pub tolerance: Tolerance,
}

/// How far a timestamp may be from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    Any,
    Seconds(u32),
}

fn parse_tolerance(text: &str) -> Result<Tolerance, String> {
    if text == "any" {
        return Ok(Tolerance::Any);
    }
    text.parse().map(Tolerance::Seconds).map_err(|_| "a number of seconds, or `any`".to_owned())
}

fn parse_bind(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(([127, 0, 0, 1], port).into());
    }
    text.parse().map_err(|_| "an address with a port as in 127.0.0.1:8080, or a port".to_owned())
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
