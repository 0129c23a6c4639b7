//! Settings out of flags, environment and file, in that order of precedence. Reads the file; connects to nothing.
//!
//! No message here repeats a value that may hold a password.

mod trust;

pub use trust::WayOut;

use crate::{
    admin,
    cli::{self, Cli, Common, Database, LogFormat, Run},
    delivery::{
        body::{BadSource, Source},
        identity::{BadOrigin, Identity},
    },
    lane::breaker::Periods,
    maintenance::RETIRE_INTERVAL,
    postgres::target::{self, Target},
    secret_store::SecretStore,
    sender::{
        address_policy::InvalidPorts,
        host_pattern::InvalidHost,
        proxy::InvalidProxy,
        tls::{self, CertificateSet},
    },
};
use hyper::header::HeaderValue;
use seal::InvalidRing;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use zeroize::Zeroizing;

/// What is wrong with the settings, and where.
#[derive(Debug, Error, PartialEq)]
pub enum Error {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::ErrorKind },
    #[error("{}, line {line}: {problem}", path.display())]
    File { path: PathBuf, line: usize, problem: String },
    #[error("no database; give --database-url postgres://user@host/database, or set DATABASE_URL")]
    NoDatabase,
    #[error(transparent)]
    Database(#[from] target::Invalid),
    #[error("`{range}` is no range; {flag} takes an address or CIDR such as 10.0.0.0/8")]
    Range { flag: &'static str, range: String },
    #[error(transparent)]
    Ports(#[from] InvalidPorts),
    #[error("this is no proxy: {0}")]
    Proxy(#[from] InvalidProxy),
    #[error("--proxy-bypass: {0}")]
    Bypass(#[from] InvalidHost),
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    #[error("the keys cannot be read: {0}; webhookd keygen makes one")]
    Keys(#[from] InvalidRing),
    #[error("{} holds no key; webhookd keygen makes one", .0.display())]
    NoKey(PathBuf),
    #[error("`{0}` is no log level; use error, warn, info, debug or trace")]
    LogLevel(String),
    #[error("`{0}`: {1}")]
    Source(String, BadSource),
    #[error("`{0}`: {1}")]
    Origin(String, BadOrigin),
    #[error("--admin-open-as needs --admin and a loopback address")]
    OpenWithoutAdmin,
    #[error("others reach {0}: without tokens the admin server answers on a loopback address only")]
    OpenToOthers(SocketAddr),
    #[error("{setting} must be {rule}")]
    OutOfRange { setting: &'static str, rule: &'static str },
}

/// The configuration file. A key that is not here is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    secrets_dir: Option<PathBuf>,
    proxy: Option<String>,
    proxy_bypass: Option<Vec<String>>,
    proxy_resolves: Option<bool>,
    ca_file: Option<PathBuf>,
    /// Certificates that subscriptions name.
    #[serde(default)]
    tls: BTreeMap<String, CertificateSet>,
    allow_net: Option<Vec<String>>,
    deny_net: Option<Vec<String>>,
    allow_port: Option<Vec<String>>,
    allow_http: Option<bool>,
    log_format: Option<LogFormat>,
    log_level: Option<String>,
    safety_poll_ms: Option<u64>,
    durable_reads: Option<bool>,
    drain_timeout_ms: Option<u64>,
    memory_mb: Option<u64>,
    source: Option<String>,
    origin: Option<String>,
    admin: Option<SocketAddr>,
    admin_open_as: Option<String>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    pub format: LogFormat,
    pub level: String,
}

/// What `webhookd run` works with.
pub struct Dispatch {
    pub database: Target,
    pub way_out: WayOut,
    pub secrets: Arc<SecretStore>,
    /// `None`: off.
    pub safety_poll: Option<Duration>,
    pub durable_reads: bool,
    pub drain_timeout: Duration,
    pub memory_bytes_max: usize,
    /// `None`: after the database.
    pub source: Option<Source>,
    /// `None`: after the machine.
    pub origin: Option<HeaderValue>,
    pub periods: Periods,
    pub retire_interval: Duration,
    /// `None`: there is no admin server.
    pub admin: Option<admin::Settings>,
}

/// The layers under the flags (clap has put the environment into those).
#[derive(Default)]
pub struct Layers {
    file: File,
    /// `DATABASE_URL` of the environment.
    database_url: Option<String>,
    /// `WEBHOOKD_KEY` of the environment.
    key: Option<Zeroizing<String>>,
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
        let key = variable("WEBHOOKD_KEY").map(Zeroizing::new);
        Ok(Self { file, database_url: variable("DATABASE_URL"), key })
    }

    /// The text of a configuration file alone.
    ///
    /// # Errors
    /// The line that is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        Ok(Self { file: parse(text)?, ..Self::default() })
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
    /// [`Error::NoDatabase`], [`Error::Unreadable`] and [`Error::Database`].
    pub fn database(&self, flags: &Database) -> Result<Target, Error> {
        let layers = [
            (flags.database_url.as_ref(), flags.database_url_file.as_deref()),
            (self.database_url.as_ref(), None),
            (self.file.database_url.as_ref(), self.file.database_url_file.as_deref()),
        ];
        for (url, path) in layers {
            if let Some(url) = url.filter(|url| !url.trim().is_empty()) {
                return Ok(Target::parse(url, &variable)?);
            }
            if let Some(path) = path {
                return Ok(Target::parse(&Zeroizing::new(read_text(path)?), &variable)?);
            }
        }
        Err(Error::NoDatabase)
    }

    /// All of `webhookd run`.
    ///
    /// # Errors
    /// [`Error`] names the setting.
    pub fn dispatch(&self, flags: &Run) -> Result<Dispatch, Error> {
        let file = &self.file;
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
            way_out: self.way_out(flags)?,
            secrets: self.secrets(&flags.keys)?,
            durable_reads: flags.durable_reads.or(file.durable_reads).unwrap_or_default(),
            safety_poll: (safety_poll_ms > 0).then(|| Duration::from_millis(safety_poll_ms)),
            drain_timeout: Duration::from_millis(drain_timeout_ms),
            periods: periods(&flags.periods),
            retire_interval: flags.periods.retire_interval_ms.map_or(RETIRE_INTERVAL, Duration::from_millis),
            admin: self.admin(flags)?,
            // On a 32-bit machine the bound is its address space.
            memory_bytes_max: usize::try_from(memory_mb << 20).unwrap_or(usize::MAX),
        })
    }
}

impl Layers {
    /// The admin server, if there is to be one.
    fn admin(&self, flags: &Run) -> Result<Option<admin::Settings>, Error> {
        let open_as = flags.admin_open_as.clone().or_else(|| self.file.admin_open_as.clone());
        let open_as = open_as.filter(|role| !role.is_empty());
        match flags.admin.or(self.file.admin) {
            None if open_as.is_some() => Err(Error::OpenWithoutAdmin),
            None => Ok(None),
            Some(address) if open_as.is_some() && !address.ip().is_loopback() => {
                Err(Error::OpenToOthers(address))
            }
            Some(address) => Ok(Some(admin::Settings { address, open_as })),
        }
    }
}

fn periods(flags: &cli::Periods) -> Periods {
    let default = Periods::default();
    let or = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
    Periods {
        probe_interval: or(flags.probe_interval_ms, default.probe_interval),
        failing_after: or(flags.failing_after_ms, default.failing_after),
        disable_after: or(flags.disable_after_ms, default.disable_after),
    }
}

/// What the flags say, else the file.
fn list<'a>(flags: &'a [String], file: &'a Option<Vec<String>>) -> &'a [String] {
    if flags.is_empty() { file.as_deref().unwrap_or_default() } else { flags }
}

/// A variable of the environment; an empty one counts as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn read_text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::Unreadable { path: path.to_owned(), cause: error.kind() })
}

fn read(path: &Path) -> Result<File, Error> {
    parse(&read_text(path)?).map_err(|(line, problem)| Error::File { path: path.to_owned(), line, problem })
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
    use crate::cli::{Command, Keys};
    use clap::Parser;

    const URL: &str = "postgres://app:hunter2@db.example/shop";

    fn layers(file: &str) -> Layers {
        Layers { file: parse(file).unwrap(), database_url: Some(URL.to_owned()), key: None }
    }

    fn database_url(url: &str) -> Database {
        Database { database_url: Some(url.to_owned()), database_url_file: None }
    }

    fn dispatch(flags: &str, file: &str) -> Result<Dispatch, Error> {
        let line = format!("webhookd run {flags}");
        let cli = Cli::parse_from(line.split_whitespace());
        let Command::Run(run) = &cli.command else { unreachable!() };
        layers(file).dispatch(run)
    }

    #[test]
    fn defaults_are_those_of_the_manual() {
        let dispatch = dispatch("", "").unwrap();
        assert_eq!(dispatch.safety_poll, Some(Duration::from_secs(1)));
        assert!(!dispatch.durable_reads);
        assert_eq!(dispatch.drain_timeout, Duration::from_secs(10));
        assert_eq!(dispatch.memory_bytes_max, 32 << 20);
        assert_eq!(dispatch.periods.probe_interval, Duration::from_secs(60));
        assert!(!dispatch.way_out.policy.allow_http && dispatch.way_out.policy.allow_nets.is_empty());
        assert_eq!(dispatch.database.config.get_dbname(), Some("shop"));
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file = "safety_poll_ms = 5\ndurable_reads = true\nallow_net = ['10.0.0.0/8']\nallow_http = true\nmemory_mb = 1\n\
                    database_url = 'postgres://file.example/file'";
        let from_file = dispatch("", file).unwrap();
        assert_eq!(from_file.safety_poll, Some(Duration::from_millis(5)));
        assert!(from_file.durable_reads);
        assert_eq!(from_file.way_out.policy.allow_nets, ["10.0.0.0/8".parse().unwrap()]);
        assert!(from_file.way_out.policy.allow_http);
        assert_eq!(from_file.memory_bytes_max, 1 << 20);
        assert_eq!(
            from_file.database.config.get_dbname(),
            Some("shop"),
            "the environment wins over the file too"
        );
        let from_flags = dispatch(
            "--probe-interval-ms 3 --safety-poll-ms 0 --allow-net 127.0.0.1 --allow-http=false --memory-mb 2 --database-url postgres://f/flag",
            file,
        )
        .unwrap();
        assert_eq!(from_flags.safety_poll, None);
        assert_eq!(from_flags.periods.probe_interval, Duration::from_millis(3));
        assert_eq!(from_flags.periods.failing_after, Duration::from_secs(86_400));
        assert_eq!(from_flags.way_out.policy.allow_nets, ["127.0.0.1/32".parse().unwrap()]);
        assert!(!from_flags.way_out.policy.allow_http);
        assert_eq!(from_flags.memory_bytes_max, 2 << 20);
        assert_eq!(from_flags.database.config.get_dbname(), Some("flag"));
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
    fn the_admin_server_is_asked_for() {
        assert_eq!(dispatch("", "").unwrap().admin, None);
        let file = "admin = '127.0.0.1:1'\nadmin_open_as = 'app'";
        let admin = dispatch("--admin [::1]:2", file).unwrap().admin.unwrap();
        assert_eq!((admin.address, admin.open_as), ("[::1]:2".parse().unwrap(), Some("app".to_owned())));
        assert_eq!(dispatch("--admin 10.0.0.1:3", "").unwrap().admin.unwrap().open_as, None);
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
            let flags = database_url(url);
            let text = Layers::default().database(&flags).unwrap_err().to_string();
            assert!(text.contains("cannot be read") && !text.contains("hunter2"), "{text}");
        }
        assert!(!format!("{:?}", dispatch("", "").unwrap().database).contains("hunter2"));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (flags, want) in [
            ("--memory-mb 0", "memory_mb"),
            ("--safety-poll-ms 3600001", "safety_poll_ms"),
            ("--drain-timeout-ms 99999999", "drain_timeout_ms"),
            ("--allow-net 10.0.0.0/33", "10.0.0.0/33"),
            ("--allow-net intranet", "intranet"),
            ("--deny-net 10.0.0.0/33", "--deny-net"),
            ("--allow-port 0", "`0` is no port"),
            ("--allow-port 443,http", "`http` is no port"),
            ("--source /shop?x", "/shop?x"),
            ("--origin https://hooks.example", "https://hooks.example"),
            ("--admin-open-as app", "needs --admin"),
            ("--admin 0.0.0.0:1 --admin-open-as app", "others reach 0.0.0.0:1"),
        ] {
            let text = dispatch(flags, "").map(|_| ()).unwrap_err().to_string();
            assert!(text.contains(want), "{flags}: {text}");
        }
    }

    #[test]
    fn the_url_may_lie_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        std::fs::write(&path, "postgres://app:hunter2@db.example/filed?sslmode=require\n").unwrap();
        let of = |flags: &str, file: &str| dispatch(flags, file).map(|dispatch| dispatch.database);
        let flag = format!("--database-url-file {}", path.display());
        let named = of(&flag, "").unwrap();
        assert_eq!(named.config.get_dbname(), Some("filed"), "a flag wins over the environment");
        assert!(!format!("{named:?}").contains("hunter2"));
        let within = format!("database_url_file = '{}'", path.display());
        let layers = Layers { file: parse(&within).unwrap(), ..Layers::default() };
        let flags = Database { database_url: None, database_url_file: None };
        assert_eq!(layers.database(&flags).unwrap().config.get_dbname(), Some("filed"));
        let error = of("--database-url-file /nowhere/url", "").unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/url: entity not found");
    }

    #[test]
    fn the_way_out_is_as_the_file_says() {
        let file = "proxy = 'http://user:hunter2@proxy.example:3128'\nproxy_bypass = ['10.0.0.0/8', '.corp.example']\n\
                    proxy_resolves = true\nallow_port = ['443', '8000-8999']\ndeny_net = ['8.8.8.8']";
        let from_file = dispatch("", file).unwrap().way_out;
        let proxy = from_file.proxy.unwrap();
        assert_eq!((format!("{proxy:?}").as_str(), proxy.resolves()), ("Http proxy.example:3128", true));
        assert_eq!(from_file.policy.ports.to_string(), "443,8000-8999");
        assert_eq!(from_file.policy.deny_nets, ["8.8.8.8/32".parse().unwrap()]);
        let flags =
            "--proxy socks5://other.example --proxy-resolves=false --allow-port 443 --deny-net 9.9.9.0/24";
        let from_flags = dispatch(flags, file).unwrap().way_out;
        let proxy = from_flags.proxy.unwrap();
        assert_eq!((format!("{proxy:?}").as_str(), proxy.resolves()), ("Socks5 other.example:1080", false));
        assert_eq!(from_flags.policy.ports.to_string(), "443");
        assert!(dispatch("", "").unwrap().way_out.proxy.is_none());
        for (flags, file, want) in [
            ("--proxy ftp://user:hunter2@a", "", "this is no proxy"),
            ("--proxy http://a --proxy-bypass a/b", "", "--proxy-bypass: `a/b`"),
            ("--ca-file /nowhere/ca.pem", "", "cannot read /nowhere/ca.pem"),
            ("", "[tls.partner]\nhosts = []", "tls.partner lists no hosts"),
            ("", "[tls.partner]\nhosts = ['a.example']", "tls.partner needs"),
            ("--key-file /nowhere/key", "", "cannot read /nowhere/key"),
            ("--secrets-dir /nowhere/secrets", "", "cannot read /nowhere/secrets"),
        ] {
            let text = dispatch(flags, file).map(drop).unwrap_err().to_string();
            assert!(text.contains(want) && !text.contains("hunter2"), "{want}: {text}");
        }
        assert_eq!(parse("[tls.partner]\nhosts = ['a']\nkey = 'x'").unwrap_err().0, 3);
    }

    #[test]
    fn keys_come_from_the_environment_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let [one, other] = std::array::from_fn(|_| seal::PrivateKey::generate().unwrap());
        std::fs::write(&path, format!("# mine\n{}\n", *one.reveal())).unwrap();
        let flags = Keys { key_file: Some(path.clone()), secrets_dir: None };
        assert_eq!(layers("").keys(&flags).unwrap().current(), Some(&one));
        let none = Keys { key_file: None, secrets_dir: None };
        let named = format!("key_file = '{}'", path.display());
        let with_variable = Layers { key: Some(other.reveal()), ..layers(&named) };
        assert_eq!(with_variable.keys(&flags).unwrap().current(), Some(&one), "a flag wins");
        assert_eq!(with_variable.keys(&none).unwrap().current(), Some(&other), "then the environment");
        assert_eq!(layers(&named).keys(&none).unwrap().current(), Some(&one), "then the configuration");
        assert!(layers("").keys(&none).unwrap().current().is_none());
        std::fs::write(&path, "# nothing yet\n").unwrap();
        assert_eq!(layers("").keys(&flags).unwrap_err(), Error::NoKey(path.clone()));
        std::fs::write(&path, format!("{} hunter2", *one.reveal())).unwrap();
        let text = layers("").keys(&flags).unwrap_err().to_string();
        assert!(text.contains("key 2") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn without_a_database_there_is_nothing_to_do() {
        let flags = database_url(" ");
        assert_eq!(Layers::default().database(&flags).map(drop), Err(Error::NoDatabase));
    }
}
