//! Settings out of flags, environment and file, in that order of precedence. Reads the file; connects to nothing.
//!
//! No message here repeats a value that may hold a password.

use crate::{
    cli::{self, Cli, Common, Database, LogFormat, Run},
    delivery::{
        body::{BadSource, Source},
        identity::{BadOrigin, Identity},
    },
    lane::breaker::Periods,
    sender::address_policy::AddressPolicy,
};
use hyper::header::HeaderValue;
use ipnet::IpNet;
use serde::Deserialize;
use std::{
    env,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// What is wrong with the settings, and where.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::ErrorKind },
    #[error("{}, line {line}: {problem}", path.display())]
    File { path: PathBuf, line: usize, problem: String },
    #[error("no database; give --database-url postgres://user@host/database, or set DATABASE_URL")]
    NoDatabase,
    #[error(
        "the database URL cannot be read ({0}); it looks like postgres://user:password@host:5432/database"
    )]
    DatabaseUrl(String),
    #[error("`{0}` is no range; --allow-net takes an address or CIDR such as 10.0.0.0/8")]
    AllowNet(String),
    #[error("`{0}` is no log level; use error, warn, info, debug or trace")]
    LogLevel(String),
    #[error("`{0}`: {1}")]
    Source(String, BadSource),
    #[error("`{0}`: {1}")]
    Origin(String, BadOrigin),
    #[error("{setting} must be {rule}")]
    OutOfRange { setting: &'static str, rule: &'static str },
}

/// The configuration file. A key that is not here is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    allow_net: Option<Vec<String>>,
    allow_http: Option<bool>,
    log_format: Option<LogFormat>,
    log_level: Option<String>,
    safety_poll_ms: Option<u64>,
    drain_timeout_ms: Option<u64>,
    memory_mb: Option<u64>,
    source: Option<String>,
    origin: Option<String>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    pub format: LogFormat,
    pub level: String,
}

/// What `webhookd run` works with.
#[derive(Debug, Clone)]
pub struct Dispatch {
    pub database: tokio_postgres::Config,
    pub policy: AddressPolicy,
    /// `None`: off.
    pub safety_poll: Option<Duration>,
    pub drain_timeout: Duration,
    pub memory_bytes_max: usize,
    /// `None`: after the database.
    pub source: Option<Source>,
    /// `None`: after the machine.
    pub origin: Option<HeaderValue>,
    pub periods: Periods,
}

/// The layers under the flags (clap has put the environment into those).
#[derive(Debug, Default)]
pub struct Layers {
    file: File,
    /// `DATABASE_URL` of the environment.
    database_url: Option<String>,
}

impl Layers {
    /// Reads the configuration file, if one is named, and `DATABASE_URL`.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::File`].
    pub fn load(cli: &Cli) -> Result<Self, Error> {
        let file = match &cli.common.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let database_url = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        Ok(Self { file, database_url })
    }

    pub fn logging(&self, common: &Common) -> Logging {
        Logging {
            format: common.log_format.or(self.file.log_format).unwrap_or(LogFormat::Text),
            level: common
                .log_level
                .clone()
                .or_else(|| self.file.log_level.clone())
                .unwrap_or_else(|| "info".into()),
        }
    }

    /// Where the database is.
    ///
    /// # Errors
    /// [`Error::NoDatabase`] and [`Error::DatabaseUrl`].
    pub fn database(&self, flags: &Database) -> Result<tokio_postgres::Config, Error> {
        let url = [&flags.database_url, &self.database_url, &self.file.database_url]
            .into_iter()
            .flatten()
            .find(|url| !url.trim().is_empty())
            .ok_or(Error::NoDatabase)?;
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|error| Error::DatabaseUrl(reason(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(default_host());
        }
        Ok(config)
    }

    /// All of `webhookd run`.
    ///
    /// # Errors
    /// [`Error`] names the setting.
    pub fn dispatch(&self, flags: &Run) -> Result<Dispatch, Error> {
        let file = &self.file;
        let ranges = match &flags.allow_net[..] {
            [] => file.allow_net.as_deref().unwrap_or_default(),
            given => given,
        };
        let memory_mb = flags.memory_mb.or(file.memory_mb).unwrap_or(32);
        if !(1..=65_536).contains(&memory_mb) {
            return Err(Error::OutOfRange { setting: "memory_mb", rule: "between 1 and 65536" });
        }
        let safety_poll_ms = flags.safety_poll_ms.or(file.safety_poll_ms).unwrap_or(1000);
        if safety_poll_ms > 3_600_000 {
            return Err(Error::OutOfRange { setting: "safety_poll_ms", rule: "0 (off) or at most 3600000" });
        }
        let drain_timeout_ms = flags.drain_timeout_ms.or(file.drain_timeout_ms).unwrap_or(10_000);
        if drain_timeout_ms > 3_600_000 {
            return Err(Error::OutOfRange { setting: "drain_timeout_ms", rule: "at most 3600000" });
        }
        let source = flags.source.as_ref().or(file.source.as_ref());
        let origin = flags.origin.as_ref().or(file.origin.as_ref());
        Ok(Dispatch {
            source: source
                .map(|text| Source::parse(text).map_err(|error| Error::Source(text.clone(), error)))
                .transpose()?,
            origin: origin
                .map(|text| Identity::origin(text).map_err(|error| Error::Origin(text.clone(), error)))
                .transpose()?,
            database: self.database(&flags.database)?,
            policy: AddressPolicy {
                allow_nets: ranges.iter().map(|range| parse_range(range.trim())).collect::<Result<_, _>>()?,
                allow_http: flags.allow_http.or(file.allow_http).unwrap_or(false),
            },
            safety_poll: (safety_poll_ms > 0).then(|| Duration::from_millis(safety_poll_ms)),
            drain_timeout: Duration::from_millis(drain_timeout_ms),
            periods: periods(&flags.periods),
            // On a 32-bit machine the bound is its address space.
            memory_bytes_max: usize::try_from(memory_mb << 20).unwrap_or(usize::MAX),
        })
    }
}

fn periods(flags: &cli::Periods) -> Periods {
    let default = Periods::default();
    let or = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
    Periods {
        probe_interval: or(flags.probe_interval, default.probe_interval),
        failing_after: or(flags.failing_after, default.failing_after),
        disable_after: or(flags.disable_after, default.disable_after),
    }
}

/// Without a host libpq takes `PGHOST`, else the server's socket: Debian's directory, else the one of the source code.
fn default_host() -> String {
    let given = env::var("PGHOST").ok().filter(|host| !host.is_empty());
    let socket =
        || if Path::new("/var/run/postgresql").is_dir() { "/var/run/postgresql" } else { "/tmp" }.to_owned();
    given.unwrap_or_else(socket)
}

/// A CIDR, or one address.
fn parse_range(text: &str) -> Result<IpNet, Error> {
    let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    range.map(|range| range.trunc()).map_err(|_| Error::AllowNet(text.to_owned()))
}

/// What tokio_postgres found wrong, unless it quotes more than the name of an option: a URL with a mistyped scheme is an
/// "unknown option", password and all.
fn reason(error: &tokio_postgres::Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let quoted = text.split('`').nth(1).unwrap_or_default();
    let is_name = quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name { text } else { "unknown scheme or option".to_owned() }
}

fn read(path: &Path) -> Result<File, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Unreadable { path: path.to_owned(), cause: error.kind() })?;
    parse(&text).map_err(|(line, problem)| Error::File { path: path.to_owned(), line, problem })
}

fn parse(text: &str) -> Result<File, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        // "invalid type: string "postgres://…", expected u64" repeats the value.
        let message = error.message();
        let problem = match message.split_once(", expected ") {
            Some((found, expected)) if !found.starts_with("unknown field") => format!("expected {expected}"),
            _ => message.replace('\n', " "),
        };
        (line, problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Command;
    use clap::Parser;

    const URL: &str = "postgres://app:hunter2@db.example/shop";

    fn dispatch(flags: &str, file: &str) -> Result<Dispatch, Error> {
        let line = format!("webhookd run {flags}");
        let cli = Cli::parse_from(line.split_whitespace());
        let Command::Run(run) = &cli.command else { unreachable!() };
        Layers { file: parse(file).unwrap(), database_url: Some(URL.to_owned()) }.dispatch(run)
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let dispatch = dispatch("", "").unwrap();
        assert_eq!(dispatch.safety_poll, Some(Duration::from_secs(1)));
        assert_eq!(dispatch.drain_timeout, Duration::from_secs(10));
        assert_eq!(dispatch.memory_bytes_max, 32 << 20);
        assert_eq!(dispatch.periods.probe_interval, Duration::from_secs(60));
        assert!(!dispatch.policy.allow_http && dispatch.policy.allow_nets.is_empty());
        assert_eq!(dispatch.database.get_dbname(), Some("shop"));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "safety_poll_ms = 5\nallow_net = ['10.0.0.0/8']\nallow_http = true\nmemory_mb = 1\n\
                    database_url = 'postgres://file.example/file'";
        let from_file = dispatch("", file).unwrap();
        assert_eq!(from_file.safety_poll, Some(Duration::from_millis(5)));
        assert_eq!(from_file.policy.allow_nets, ["10.0.0.0/8".parse().unwrap()]);
        assert!(from_file.policy.allow_http);
        assert_eq!(from_file.memory_bytes_max, 1 << 20);
        assert_eq!(from_file.database.get_dbname(), Some("shop"), "the environment wins over the file too");
        let from_flags = dispatch(
            "--probe-interval 3 --safety-poll-ms 0 --allow-net 127.0.0.1 --allow-http=false --memory-mb 2 --database-url postgres://f/flag",
            file,
        )
        .unwrap();
        assert_eq!(from_flags.safety_poll, None);
        assert_eq!(from_flags.periods.probe_interval, Duration::from_millis(3));
        assert_eq!(from_flags.periods.failing_after, Duration::from_secs(86_400));
        assert_eq!(from_flags.policy.allow_nets, ["127.0.0.1/32".parse().unwrap()]);
        assert!(!from_flags.policy.allow_http);
        assert_eq!(from_flags.memory_bytes_max, 2 << 20);
        assert_eq!(from_flags.database.get_dbname(), Some("flag"));
    }

    #[test]
    fn the_daemon_has_names() {
        let named =
            dispatch("--origin hooks.example", "source = 'https://shop.example'\norigin = 'x.example'")
                .unwrap();
        assert_eq!(named.source, Source::parse("https://shop.example").ok());
        assert_eq!(named.origin.unwrap(), "hooks.example");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let (line, problem) = parse("allow_http = true\nsafty_poll_ms = 5\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(problem.starts_with("unknown field `safty_poll_ms`"), "{problem}");
    }

    #[test]
    fn nothing_repeats_a_password() {
        for file in [
            format!("memory_mb = '{URL}'"),
            format!("database_url = ['{URL}']"),
            format!("database_url = {URL}"),
            format!("database_url = '{URL}"),
            format!("database_url = '{URL}' x"),
            format!("log_format = '{URL}'"),
            format!("allow_http = '{URL}'"),
        ] {
            let (line, problem) = parse(&file).unwrap_err();
            assert_eq!(line, 1, "{problem}");
            assert!(!problem.contains("hunter2") && !problem.is_empty(), "{problem}");
        }
        for url in [
            "postgres://app:hunter2@db.example:port/shop",
            "hunter2",
            "host=a hunter2=b",
            "postgresq://app:hunter2@db.example/shop?connect_timeout=5",
        ] {
            let flags = Database { database_url: Some(url.to_owned()) };
            let text = Layers::default().database(&flags).unwrap_err().to_string();
            assert!(text.contains("cannot be read") && !text.contains("hunter2"), "{text}");
        }
        assert!(!format!("{:?}", dispatch("", "").unwrap()).contains("hunter2"));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (flags, want) in [
            ("--memory-mb 0", "memory_mb"),
            ("--safety-poll-ms 3600001", "safety_poll_ms"),
            ("--drain-timeout-ms 99999999", "drain_timeout_ms"),
            ("--allow-net 10.0.0.0/33", "10.0.0.0/33"),
            ("--allow-net intranet", "intranet"),
            ("--source /shop?x", "/shop?x"),
            ("--origin https://hooks.example", "https://hooks.example"),
        ] {
            let text = dispatch(flags, "").map(|_| ()).unwrap_err().to_string();
            assert!(text.contains(want), "{flags}: {text}");
        }
    }

    #[test]
    fn without_a_host_the_server_is_on_this_machine() {
        for url in ["postgres://app@/shop", "postgres:///shop", "dbname=shop user=app"] {
            let database =
                Layers::default().database(&Database { database_url: Some(url.to_owned()) }).unwrap();
            assert_eq!((database.get_hosts().len(), database.get_dbname()), (1, Some("shop")), "{url}");
        }
    }

    #[test]
    fn without_a_database_there_is_nothing_to_do() {
        let flags = Database { database_url: Some(" ".into()) };
        assert_eq!(Layers::default().database(&flags).map(|_| ()), Err(Error::NoDatabase));
    }
}
