//! The servers of a connection string. It may name several, of which one accepts writes.
//!
//! The servers are tried one by one. So each gets its own time for the whole greeting: a server
//! that accepts a connection and then says nothing is as good as away. And the caller knows which
//! server answered: all connections of one session lead to one server, even if
//! the primary changes meanwhile.

use crate::Target;
use std::time::Duration;
use tokio_postgres::{
    Config,
    config::{Host, LoadBalanceHosts},
};

/// Time limit for a server, including TLS, password and session settings.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Target {
    /// Returns each server of the connection string, in the order in which to try them.
    pub fn servers(&self) -> Vec<Self> {
        let mut servers = self.in_order();
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut servers);
        }
        servers
    }

    /// Returns each server, in the order of the connection string.
    pub(super) fn in_order(&self) -> Vec<Self> {
        let count = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        (0..count).map(|at| Self { config: only(&self.config, at), ..self.clone() }).collect()
    }

    /// Returns the time limit for one server.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT)
    }
}

/// Returns the same configuration with one of its servers.
fn only(all: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    // A single port applies to all servers.
    if let Some(port) = all.get_ports().get(at).or_else(|| all.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(timeout) = all.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    one.ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};

    fn servers(text: &str) -> Vec<Config> {
        let target: Target = text.parse().unwrap();
        target.servers().into_iter().map(|server| server.config).collect()
    }

    #[test]
    fn each_belongs_to_the_instance_of_all() {
        let target: Target = "postgres://app@one,two/shop".parse().unwrap();
        for server in target.servers() {
            assert_eq!(server.instance, target.instance);
        }
    }

    #[test]
    fn each_has_its_host_and_port_and_all_the_rest() {
        let configs = servers(
            "postgresql://app:word@one:5433,two:5434/shop?target_session_attrs=read-write&connect_timeout=3&sslmode=require\
             &channel_binding=require&options=-c%20geqo=off",
        );
        let places: Vec<_> = configs.iter().map(|config| (config.get_hosts(), config.get_ports())).collect();
        let (one, two) = ([Host::Tcp("one".into())], [Host::Tcp("two".into())]);
        assert_eq!(places, [(&one[..], &[5433][..]), (&two[..], &[5434][..])]);
        for config in &configs {
            assert_eq!((config.get_user(), config.get_password()), (Some("app"), Some(&b"word"[..])));
            assert_eq!((config.get_dbname(), config.get_options()), (Some("shop"), Some("-c geqo=off")));
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
            assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
            assert_eq!(
                (config.get_ssl_mode(), config.get_channel_binding()),
                (SslMode::Require, ChannelBinding::Require)
            );
        }
    }

    #[test]
    fn one_port_is_everybodys_and_addresses_go_with_their_names() {
        let configs = servers("host=one,two hostaddr=10.0.0.1,10.0.0.2 port=5433 user=u");
        let ports: Vec<_> = configs.iter().flat_map(|config| config.get_ports().to_vec()).collect();
        let addresses: Vec<_> = configs.iter().map(|config| config.get_hostaddrs()[0].to_string()).collect();
        assert_eq!(
            (ports, addresses),
            (vec![5433, 5433], vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()])
        );
        assert!(
            matches!(&servers("host=/tmp user=u")[0].get_hosts()[0], Host::Unix(path) if path.to_str() == Some("/tmp"))
        );
        assert_eq!(servers("host=one").len(), 1);
    }
}
