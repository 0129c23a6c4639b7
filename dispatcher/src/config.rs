//! The settings of the daemon. Flags and environment take precedence over the configuration file.
//!
//! Reads the environment, the configuration file, and the files that the settings name: keys,
//! certificates, a database URL. It makes no connections and writes nothing except warnings. No
//! message repeats a value that may contain a password.

mod portal;
mod traces;
mod trust;

pub use trust::{WayOut, key_file};

use crate::{
    cli::{self, Cli, Common, Database, Delivers, LogFormat, Run},
    maintenance::RETIRE_INTERVAL,
};
use database::{
    instance::{BadInstance, Instance},
    target::{self, Target},
};
use delivery::{
    body::{BadSource, Source},
    identity::{BadOrigin, Identity},
    send_queue::breaker::Periods,
};
use hyper::header::HeaderValue;
use seal::{InvalidRing, KeyRing};
use sender::{
    address_policy::InvalidPorts,
    host_pattern::InvalidHost,
    proxy::InvalidProxy,
    tls::{self, CertificateSet},
};
use serde::Deserialize;
use source::secret_store::SecretStore;
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

/// An invalid setting: which one, and why.
#[derive(Debug, Error, PartialEq)]
pub enum Error {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: std::io::ErrorKind },
    #[error("{}, line {line}: {problem}", path.display())]
    File { path: PathBuf, line: usize, problem: String },
    #[error("no database is set; use --database-url postgres://user@host/database, or set DATABASE_URL")]
    NoDatabase,
    #[error(transparent)]
    Database(#[from] target::Invalid),
    #[error("invalid range `{range}`; {flag} requires an address or a CIDR range such as 10.0.0.0/8")]
    Range { flag: &'static str, range: String },
    #[error(transparent)]
    Ports(#[from] InvalidPorts),
    #[error("invalid --proxy: {0}")]
    Proxy(#[from] InvalidProxy),
    #[error("--proxy-bypass: {0}")]
    Bypass(#[from] InvalidHost),
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    #[error("cannot read the keys: {0}; create a key with webhookd keygen")]
    Keys(#[from] InvalidRing),
    #[error("{} contains no key; create a key with webhookd keygen", .0.display())]
    NoKey(PathBuf),
    #[error("invalid log level `{0}`; use error, warn, info, debug or trace")]
    LogLevel(String),
    #[error("`{0}`: {1}")]
    Source(String, BadSource),
    #[error("`{0}`: {1}")]
    Origin(String, BadOrigin),
    #[error("`{0}`: {1}")]
    Instance(String, BadInstance),
    #[error("--admin-open-as requires --admin with a loopback address")]
    OpenWithoutAdmin,
    #[error("--admin-open-as requires a loopback address; {0} is not one")]
    OpenToOthers(SocketAddr),
    #[error(transparent)]
    Portal(#[from] admin::portal::Invalid),
    #[error("invalid --otlp-endpoint; use a URL such as http://127.0.0.1:4318")]
    Collector,
    #[error("{setting} must be {rule}")]
    OutOfRange { setting: &'static str, rule: &'static str },
}

/// The configuration file. An unknown key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    database_url_file: Option<PathBuf>,
    instance: Option<String>,
    key_file: Option<PathBuf>,
    secrets_dir: Option<PathBuf>,
    proxy: Option<String>,
    proxy_bypass: Option<Vec<String>>,
    proxy_resolves: Option<bool>,
    ca_file: Option<PathBuf>,
    /// The certificate sets that subscriptions can name.
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
    max_in_flight_per_host: Option<u64>,
    source: Option<String>,
    origin: Option<String>,
    admin: Option<SocketAddr>,
    admin_open_as: Option<String>,
    admin_trust_proxy: Option<Vec<String>>,
    otlp_endpoint: Option<String>,
    otlp_ratio: Option<f64>,
    /// The page of an owner.
    #[serde(default)]
    portal: portal::PortalTable,
}

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    pub format: LogFormat,
    pub level: String,
}

/// The settings of `webhookd run`.
pub struct DaemonConfig {
    pub database: Target,
    pub way_out: WayOut,
    pub secrets: Arc<SecretStore>,
    /// `None` turns the safety poll off.
    pub safety_poll: Option<Duration>,
    pub durable_reads: bool,
    pub drain_timeout: Duration,
    pub memory_bytes_max: usize,
    pub max_in_flight_per_host: usize,
    /// `None` means the default, which is derived from the database.
    pub source: Option<Source>,
    /// `None` means the default, which is derived from the machine.
    pub origin: Option<HeaderValue>,
    pub periods: Periods,
    pub retire_interval: Duration,
    /// `None` means that no admin server runs.
    pub admin: Option<admin::Settings>,
    /// `None` means that no spans are exported.
    pub traces: Option<::traces::Settings>,
}

/// The settings that come from files, read again.
pub struct Reread {
    pub database: Target,
    pub keys: KeyRing,
}

/// The settings below the flags. The flags include the environment variables that clap reads.
#[derive(Default)]
pub struct Layers {
    file: File,
    /// `DATABASE_URL` from the environment.
    database_url: Option<String>,
    /// `WEBHOOKD_KEY` from the environment.
    key: Option<Zeroizing<String>>,
}

impl Layers {
    /// Reads the configuration file, if the flags name one, and the environment variables that clap
    /// does not read.
    ///
    /// # Errors
    /// Returns [`Error::Unreadable`] or [`Error::File`].
    pub fn load(cli: &Cli) -> Result<Self, Error> {
        let file = match &cli.common.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let key = variable("WEBHOOKD_KEY").map(Zeroizing::new);
        Ok(Self { file, database_url: variable("DATABASE_URL"), key })
    }

    /// Parses the text of a configuration file, without the environment.
    ///
    /// # Errors
    /// Returns the number of the invalid line, and the reason.
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

    /// Returns the database to connect to.
    ///
    /// # Errors
    /// Returns [`Error::NoDatabase`], [`Error::Unreadable`] or [`Error::Database`].
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

    /// Returns the database for a command that delivers, with the instance name that the database
    /// must be armed for.
    ///
    /// # Errors
    /// Returns the errors of [`Layers::database`], and [`Error::Instance`].
    pub fn delivers(&self, database: &Database, flags: &Delivers) -> Result<Target, Error> {
        let mut target = self.database(database)?;
        // An empty variable counts as unset.
        let flag = flags.instance.as_ref().filter(|text| !text.is_empty());
        if let Some(text) = flag.or(self.file.instance.as_ref()) {
            target.instance = Instance::named(text).map_err(|error| Error::Instance(text.clone(), error))?;
        }
        Ok(target)
    }

    /// Returns all settings of `webhookd run`.
    ///
    /// # Errors
    /// Returns an [`Error`] that names the setting.
    pub fn dispatch(&self, flags: &Run) -> Result<DaemonConfig, Error> {
        let file = &self.file;
        let memory_mb = flags.memory_mb.or(file.memory_mb).unwrap_or(32);
        if !(1..=65_536).contains(&memory_mb) {
            return Err(Error::OutOfRange { setting: "memory_mb", rule: "between 1 and 65536" });
        }
        let per_host = flags.max_in_flight_per_host.or(file.max_in_flight_per_host).unwrap_or(512);
        if !(1..=65_536).contains(&per_host) {
            return Err(Error::OutOfRange { setting: "max_in_flight_per_host", rule: "between 1 and 65536" });
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
        Ok(DaemonConfig {
            source: source
                .map(|text| Source::parse(text).map_err(|error| Error::Source(text.clone(), error)))
                .transpose()?,
            origin: origin
                .map(|text| Identity::origin(text).map_err(|error| Error::Origin(text.clone(), error)))
                .transpose()?,
            database: self.delivers(&flags.database, &flags.delivers)?,
            way_out: self.way_out(flags)?,
            secrets: self.secrets(&flags.keys)?,
            durable_reads: flags.durable_reads.or(file.durable_reads).unwrap_or_default(),
            safety_poll: (safety_poll_ms > 0).then(|| Duration::from_millis(safety_poll_ms)),
            drain_timeout: Duration::from_millis(drain_timeout_ms),
            periods: periods(&flags.periods),
            retire_interval: flags.periods.retire_interval_ms.map_or(RETIRE_INTERVAL, Duration::from_millis),
            admin: self.admin(flags.admin, flags.admin_open_as.as_deref(), &flags.admin_trust_proxy)?,
            traces: self.traces(flags)?,
            max_in_flight_per_host: usize::try_from(per_host).unwrap_or(usize::MAX),
            // On a 32-bit machine, the limit is the address space.
            memory_bytes_max: usize::try_from(memory_mb << 20).unwrap_or(usize::MAX),
        })
    }
}

impl Layers {
    /// Reads the files of keys and of the database again.
    ///
    /// # Errors
    /// Returns an [`Error`] that names the file.
    pub fn reread(&self, flags: &Run) -> Result<Reread, Error> {
        Ok(Reread { database: self.database(&flags.database)?, keys: self.keys(&flags.keys)? })
    }

    /// Returns the base of the URLs that lead to the admin server: that of `[portal]`, or its
    /// address. `None` if neither is set.
    ///
    /// # Errors
    /// Returns the errors of [`Layers::portal`].
    pub fn public_url(&self) -> Result<Option<String>, Error> {
        let url = self.portal()?.url().map(str::to_owned);
        Ok(url.or_else(|| self.file.admin.map(|address| format!("http://{address}"))))
    }

    /// Returns the settings of the admin server, or `None` if no address is set.
    ///
    /// # Errors
    /// Returns [`Error::OpenWithoutAdmin`], [`Error::OpenToOthers`], [`Error::Range`], or the
    /// errors of [`Layers::portal`].
    pub fn admin(
        &self,
        address: Option<SocketAddr>,
        open_as: Option<&str>,
        trust_proxy: &[String],
    ) -> Result<Option<admin::Settings>, Error> {
        let open_as = open_as.map(str::to_owned).or_else(|| self.file.admin_open_as.clone());
        let open_as = open_as.filter(|role| !role.is_empty());
        let trust_proxy =
            trust::ranges("--admin-trust-proxy", list(trust_proxy, &self.file.admin_trust_proxy))?;
        match address.or(self.file.admin) {
            None if open_as.is_some() => Err(Error::OpenWithoutAdmin),
            None => Ok(None),
            Some(address) if open_as.is_some() && !address.ip().is_loopback() => {
                Err(Error::OpenToOthers(address))
            }
            Some(address) => {
                Ok(Some(admin::Settings { address, open_as, trust_proxy, portal: self.portal()? }))
            }
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

/// Returns the values of the flags, or the values of the file if the flags give none.
fn list<'a>(flags: &'a [String], file: &'a Option<Vec<String>>) -> &'a [String] {
    if flags.is_empty() { file.as_deref().unwrap_or_default() } else { flags }
}

/// Returns an environment variable. An empty one counts as unset.
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
        // Messages such as `invalid type: string "postgres://…", expected u64` contain the value,
        // so only the expected type is kept.
        let message = error.message();
        let problem = match message.split_once(", expected ") {
            Some((found, expected)) if !found.starts_with("unknown field") => format!("expected {expected}"),
            _ => message.replace('\n', " "),
        };
        (line, problem)
    })
}

#[cfg(test)]
mod tests;
