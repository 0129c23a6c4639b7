//! The server, the role, and the trust in the server: parses a connection string as libpq does,
//! together with the environment.
//!
//! The module removes the parameters that tokio-postgres does not know: `sslmode=verify-ca` and
//! `verify-full`, `sslrootcert`, `sslcert`, `sslkey`, `passfile`. It reads the password file and
//! the certificates, and connects to nothing. No message repeats a value that may contain a
//! password.

use crate::{
    instance::Instance,
    machine::Machine,
    passfile,
    survey::Known,
    tls::{self, Mode},
    variables::Variables,
};
use percent_encoding::percent_decode_str;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};
use thiserror::Error;
use tokio_postgres::config::{Config, Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

/// The target of connections, with everything that is needed to open them.
#[derive(Clone)]
pub struct Target {
    pub config: Config,
    /// The name of the database's instance. See [`super::instance`].
    pub instance: Instance,
    pub(super) live: Arc<RwLock<Live>>,
    /// What this process knows about its servers.
    pub(super) known: Arc<Known>,
}

/// What files provide. The copies of a target share it.
pub(super) struct Live {
    tls: MakeRustlsConnect,
    /// A password that [`Target::adopt`] has brought. `None`: the configuration has it.
    password: Option<Zeroizing<Vec<u8>>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The Debug output of Config omits the password.
        self.config.fmt(f)
    }
}

/// Why a connection string is not valid.
#[derive(Debug, Error, PartialEq)]
pub enum Invalid {
    #[error("invalid database URL ({0}); use postgres://user:password@host:5432/database")]
    Url(String),
    #[error("sslmode must be disable, prefer, require, verify-ca or verify-full")]
    SslMode,
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
}

/// The parameters of libpq that tokio-postgres lacks, or has in part.
const OURS: [&str; 5] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "passfile"];

impl Target {
    /// Parses `postgres://user@host/database?sslmode=verify-full` or `host=… dbname=…`. Missing
    /// parts come from `PGHOST`, `PGUSER`, `PGPASSWORD`, `PGPASSFILE` (or `~/.pgpass`),
    /// `PGSSLMODE`, `PGSSLROOTCERT`, `PGSSLCERT` and `PGSSLKEY`.
    ///
    /// # Errors
    /// [`Invalid`] names what is wrong, and repeats no password.
    pub fn parse(text: &str, variables: Variables<'_>) -> Result<Self, Invalid> {
        let (rest, ours) = split(text.trim());
        let mut config: Config = rest.parse().map_err(|error| Invalid::Url(reason(&error)))?;
        let setting = |name: &str| {
            let given = ours.iter().rev().find(|(found, _)| found == name).map(|(_, value)| value.clone());
            given.or_else(|| variables(&format!("PG{}", name.to_uppercase())))
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(default_host(variables));
        }
        if config.get_user().is_none()
            && let Some(user) = variables("PGUSER")
        {
            config.user(user);
        }
        if config.get_password().is_none()
            && let Some(password) = password(&config, setting("passfile"), variables)
        {
            config.password(password);
        }
        let home = variables("HOME").map(PathBuf::from);
        let path = |name: &str| setting(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = path("sslrootcert");
        // As in libpq: a root certificate implies verification.
        let mode = match setting("sslmode").as_deref() {
            Some("disable") => Mode::Disable,
            None | Some("prefer") => Mode::Prefer,
            Some("require") if root.is_some() => Mode::VerifyCa,
            Some("require") => Mode::Require,
            Some("verify-ca") => Mode::VerifyCa,
            Some("verify-full") => Mode::VerifyFull,
            Some(_) => return Err(Invalid::SslMode),
        };
        config.ssl_mode(match mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        let root = root.or_else(|| default_root(home.as_deref()));
        let tls =
            tls::connector(mode, root.as_deref(), path("sslcert").as_deref(), path("sslkey").as_deref())?;
        let database = config.get_dbname().or(config.get_user()).map(str::to_owned);
        let database = database.or_else(|| variables("USER")).unwrap_or_default();
        let instance = Instance::derived(&config, &database, &Machine::here(variables));
        let live = Arc::new(RwLock::new(Live { tls, password: None }));
        Ok(Self { config, instance, live, known: Arc::default() })
    }

    /// Takes certificates and password of a target that was parsed again. The next connections use
    /// them, also those of copies of this target.
    pub fn adopt(&self, fresh: &Self) {
        let password = fresh.config.get_password().map(|password| Zeroizing::new(password.to_vec()));
        let live = Live { tls: fresh.tls(), password };
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Returns the configuration of a new connection.
    pub(super) fn connection_config(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(password) = &self.live.read().unwrap_or_else(PoisonError::into_inner).password {
            config.password(password.as_slice());
        }
        config
    }

    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.live.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }
}

/// Parses without an environment.
impl std::str::FromStr for Target {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text, &|_| None)
    }
}

/// Returns the password of the environment, or else of the password file.
fn password(config: &Config, passfile: Option<String>, variables: Variables<'_>) -> Option<String> {
    if let Some(password) = variables("PGPASSWORD") {
        return Some(password);
    }
    let in_home = || variables("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let text = passfile::read(&passfile.map(PathBuf::from).or_else(in_home)?)?;
    let user = config.get_user().map(str::to_owned).or_else(|| variables("USER")).unwrap_or_default();
    let database = config.get_dbname().unwrap_or(&user);
    let ports = config.get_ports();
    config.get_hosts().iter().enumerate().find_map(|(i, host)| {
        let host = match host {
            Host::Tcp(name) => name.as_str(),
            // libpq uses this name for the host of the default socket.
            Host::Unix(_) => "localhost",
        };
        let port = ports.get(i).or(ports.first()).copied().unwrap_or(5432);
        passfile::find(&text, &[host, &port.to_string(), database, &user])
    })
}

/// Returns the default host. Like libpq, it uses `PGHOST`, or else the socket directory: Debian's,
/// or the source code's.
fn default_host(variables: Variables<'_>) -> String {
    let debian = "/var/run/postgresql";
    let socket = || if Path::new(debian).is_dir() { debian } else { "/tmp" }.to_owned();
    variables("PGHOST").unwrap_or_else(socket)
}

fn default_root(home: Option<&Path>) -> Option<PathBuf> {
    Some(home?.join(".postgresql/root.crt")).filter(|path| path.exists())
}

/// Returns the reason from tokio_postgres, unless it quotes more than the name of an option. A URL
/// with a mistyped scheme is an "unknown option", including its password.
fn reason(error: &tokio_postgres::Error) -> String {
    let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let quoted = text.split('`').nth(1).unwrap_or_default();
    let is_name = quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name { text } else { "unknown scheme or option".to_owned() }
}

type Settings = Vec<(String, String)>;

/// Removes [`OURS`] from a connection string.
fn split(text: &str) -> (String, Settings) {
    if ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
        split_url(text)
    } else {
        split_words(text)
    }
}

fn split_url(text: &str) -> (String, Settings) {
    let Some((url, query)) = text.split_once('?') else { return (text.to_owned(), Vec::new()) };
    let (mut rest, mut ours) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((name, value)) if OURS.contains(&name) => {
                ours.push((name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()));
            }
            _ => rest.push(pair),
        }
    }
    let rest = if rest.is_empty() { url.to_owned() } else { format!("{url}?{}", rest.join("&")) };
    (rest, ours)
}

/// Parses `name=value name='a value' …`. A backslash escapes the next character.
fn split_words(text: &str) -> (String, Settings) {
    let (mut rest, mut ours) = (String::with_capacity(text.len()), Vec::new());
    let mut left = text;
    while let Some((name, value)) = left.split_once('=') {
        let name = name.trim();
        let (decoded, length) = word(value.trim_start());
        let spaces = value.len() - value.trim_start().len();
        if OURS.contains(&name) {
            ours.push((name.to_owned(), decoded));
        } else {
            rest.push_str(&left[..left.len() - value.len() + spaces + length]);
            rest.push(' ');
        }
        left = &value[spaces + length..];
    }
    rest.push_str(left);
    (rest, ours)
}

/// Returns the value at the start of a text, decoded, and the number of its bytes.
fn word(text: &str) -> (String, usize) {
    let is_quoted = text.starts_with('\'');
    let mut decoded = String::new();
    let mut chars = text.char_indices().skip(usize::from(is_quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => decoded.extend(chars.next().map(|(_, c)| c)),
            '\'' if is_quoted => return (decoded, at + 1),
            c if c.is_whitespace() && !is_quoted => return (decoded, at),
            c => decoded.push(c),
        }
    }
    (decoded, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Target, Invalid> {
        Target::parse(text, &|_| None)
    }

    #[test]
    fn what_tokio_postgres_does_not_know_is_taken_out() {
        for (text, rest, ours) in [
            ("postgres://a/b", "postgres://a/b", &[][..]),
            ("postgres://a/b?sslmode=verify-full", "postgres://a/b", &[("sslmode", "verify-full")]),
            (
                "postgresql://a/b?connect_timeout=5&sslrootcert=%2Fetc%2Fa%20b.pem&options=-c%20x",
                "postgresql://a/b?connect_timeout=5&options=-c%20x",
                &[("sslrootcert", "/etc/a b.pem")],
            ),
            (
                r"host=a sslmode = verify-ca password='it\'s' sslkey='/a b' dbname=d",
                r"host=a  password='it\'s'  dbname=d ",
                &[("sslmode", "verify-ca"), ("sslkey", "/a b")],
            ),
            (r"passfile=a\ b\'c user=u", " user=u ", &[("passfile", "a b'c")]),
            ("sslmode='", "", &[("sslmode", "")]),
            ("sslmode", "sslmode", &[]),
        ] {
            let (got, settings) = split(text);
            let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            assert_eq!((got.as_str(), &settings[..]), (rest, ours), "{text}");
        }
    }

    #[test]
    fn ssl_modes_are_libpqs() {
        for (text, want) in [
            ("postgres://a/b", SslMode::Prefer),
            ("postgres://a/b?sslmode=disable", SslMode::Disable),
            ("postgres://a/b?sslmode=require", SslMode::Require),
            ("postgres://a/b?sslmode=verify-full&sslrootcert=system", SslMode::Require),
            ("host=a sslmode=verify-ca sslrootcert=system", SslMode::Require),
            ("host=a sslmode=disable sslmode=require", SslMode::Require),
        ] {
            match parse(text) {
                Ok(target) => assert_eq!(target.config.get_ssl_mode(), want, "{text}"),
                // A machine without certificate authorities cannot verify.
                Err(Invalid::Tls(_)) => assert!(text.contains("system")),
                Err(error) => panic!("{text}: {error}"),
            }
        }
        for text in ["postgres://a/b?sslmode=allow", "host=a sslmode=''"] {
            assert!(matches!(parse(text), Err(Invalid::SslMode)), "{text}");
        }
        let missing = parse("postgres://a/b?sslmode=verify-full&sslrootcert=/nowhere/root.crt").unwrap_err();
        assert!(missing.to_string().contains("/nowhere/root.crt"), "{missing}");
    }

    #[test]
    fn the_environment_fills_in() {
        let dir = tempfile::tempdir().unwrap();
        let pgpass = dir.path().join("pgpass");
        std::fs::write(&pgpass, "other:*:*:*:no\ndb.example:5433:shop:app:hunter2\n*:*:*:*:last\n").unwrap();
        std::os::unix::fs::chown(&pgpass, None, None).unwrap();
        let mut permissions = std::fs::metadata(&pgpass).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        std::fs::set_permissions(&pgpass, permissions).unwrap();
        let with = |text: &str, variables: &[(&str, &str)]| {
            let variables = |name: &str| {
                variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned())
            };
            let target = Target::parse(text, &variables).unwrap();
            target.config.get_password().map(|p| String::from_utf8_lossy(p).into_owned())
        };
        let path = pgpass.to_str().unwrap();
        let passfile = [("PGPASSFILE", path)];
        for (text, variables, want) in [
            ("postgres://app:own@db.example/shop", &[("PGPASSWORD", "env")][..], Some("own")),
            ("postgres://app@db.example/shop", &[("PGPASSWORD", "env"), ("PGPASSFILE", path)], Some("env")),
            ("postgres://app@db.example:5433/shop", &passfile, Some("hunter2")),
            ("postgres://app@db.example:5432/shop", &passfile, Some("last")),
            ("postgres://db.example:5433/shop", &[("PGPASSFILE", path), ("PGUSER", "app")], Some("hunter2")),
            ("postgres://app@db.example/shop", &[], None),
        ] {
            assert_eq!(with(text, variables).as_deref(), want, "{text}");
        }
        let named = format!("host=db.example port=5433 user=app dbname=shop passfile='{path}'");
        assert_eq!(with(&named, &[]).as_deref(), Some("hunter2"));
        assert!(!format!("{:?}", Target::parse(&named, &|_| None).unwrap()).contains("hunter2"));
    }

    #[test]
    fn without_a_host_the_server_is_on_this_machine() {
        for text in ["postgres://app@/shop", "postgres:///shop", "dbname=shop user=app"] {
            let target = parse(text).unwrap();
            assert_eq!(
                (target.config.get_hosts().len(), target.config.get_dbname()),
                (1, Some("shop")),
                "{text}"
            );
            let named = Target::parse(text, &|name| (name == "PGHOST").then(|| "db.example".into())).unwrap();
            assert_eq!(named.config.get_hosts(), [Host::Tcp("db.example".into())]);
        }
    }

    proptest! {
        /// All other text reaches tokio-postgres unchanged.
        #[test]
        fn other_words_are_left_alone(text in "[a-z]{1,5}( ?= ?('[a-z\\\\ ]{0,5}'|[a-z\\\\]{0,5}) ?){0,3}\\PC{0,20}") {
            let (rest, ours) = split(&text);
            if ours.is_empty() {
                prop_assert_eq!(rest.replace(' ', ""), text.replace(' ', ""));
            }
        }

        #[test]
        fn no_text_is_worse_than_an_error(text in "\\PC{0,60}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}?sslmode={text}"));
        }
    }
}
