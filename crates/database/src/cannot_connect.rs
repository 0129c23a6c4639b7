//! Why no session with Postgres could be opened, in words that say what to do.

use crate::Target;
use std::fmt;
use tokio_postgres::{
    Error,
    config::{Config, Host},
    error::SqlState,
};

/// A connection that could not be opened. The source is the cause.
#[derive(Debug)]
pub struct CannotConnect {
    /// The servers that were tried, as `host:port`.
    servers: String,
    user: String,
    cause: Error,
}

impl CannotConnect {
    /// Returns the cause.
    pub fn cause(&self) -> &Error {
        &self.cause
    }
}

impl Target {
    /// Returns the error for a connection to this target that failed.
    pub fn cannot_connect(&self, cause: Error) -> crate::Error {
        let user = self.config.get_user().unwrap_or("(none)").to_owned();
        crate::Error::Connect(CannotConnect { servers: servers(&self.config), user, cause })
    }
}

impl fmt::Display for CannotConnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, user, cause } = self;
        match cause.code() {
            None => write!(
                f,
                "cannot connect to Postgres at {servers}; check --database-url, and that the server is running"
            ),
            Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => write!(
                f,
                "cannot connect to Postgres at {servers} as {user}; check user and password in --database-url, \
                 or the server's pg_hba.conf"
            ),
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                write!(
                    f,
                    "cannot connect to Postgres at {servers}; check the database name in --database-url"
                )
            }
            Some(_) => write!(f, "Postgres at {servers} rejected the connection"),
        }
    }
}

impl std::error::Error for CannotConnect {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Names the servers of a target. Contains no password.
fn servers(config: &Config) -> String {
    let ports = config.get_ports();
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| match host {
        Host::Tcp(name) => format!("{name}:{}", port(at)),
        Host::Unix(folder) => format!("{}, port {}", folder.display(), port(at)),
    });
    let addresses =
        config.get_hostaddrs().iter().enumerate().map(|(at, address)| format!("{address}:{}", port(at)));
    let mut servers: Vec<String> = hosts.collect();
    if servers.is_empty() {
        servers = addresses.collect();
    }
    servers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_named_without_the_password() {
        let named = |url: &str| servers(&url.parse().expect("a URL"));
        assert_eq!(named("postgres://u:hunter2@db.example/shop"), "db.example:5432");
        assert_eq!(named("host=a,b port=5433,5434 user=u"), "a:5433, b:5434");
        assert_eq!(named("host=a,b port=5433"), "a:5433, b:5433");
        assert_eq!(named("host=/run/postgresql user=u"), "/run/postgresql, port 5432");
        assert_eq!(named("hostaddr=127.0.0.1 user=u"), "127.0.0.1:5432");
    }
}
