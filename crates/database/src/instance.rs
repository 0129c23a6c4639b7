//! The daemon's instance: a name for the database it delivers from, kept outside the data.
//!
//! A physical copy of a database has the system identifier and the OIDs of its original, and so has
//! a promoted standby. Nothing in the data tells the two apart; the place where the daemon finds
//! the database does. `webhook.cursor` stores the instance that the database was armed for, and a
//! daemon of another instance refuses to deliver.
//!
//! The default instance is the servers and the database of the connection string:
//! `db.example.com:5432/shop`. On every machine, `localhost` and a socket directory are other
//! servers, so the machine's id is added to them.

use crate::machine::Machine;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::{collections::BTreeSet, fmt, net::IpAddr, path::Path};
use thiserror::Error;
use tokio_postgres::config::{Config, Host};

/// The characters that separate the parts of a derived instance, and those that are hard to copy.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',').add(b'\'').add(b'"').add(b'\\');
const ENCODED_IN_DATABASE: &AsciiSet = &ENCODED.add(b'/');

const PORT: u16 = 5432;
const NAME_BYTES_MAX: usize = 1000;

/// An instance that the database cannot store.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("an instance must have 1 to {NAME_BYTES_MAX} bytes and no control characters")]
pub struct BadInstance;

/// What one daemon calls the database it delivers from. All daemons of a database need the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    name: String,
    rests_on_host_name: bool,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Instance {
    /// Takes the name from `--instance`.
    ///
    /// # Errors
    /// [`BadInstance`].
    pub fn named(text: &str) -> Result<Self, BadInstance> {
        let text = text.trim();
        if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(BadInstance);
        }
        Ok(Self { name: text.to_owned(), rests_on_host_name: false })
    }

    /// Derives the name from the servers of a connection string and the name of its database. The
    /// order of the servers does not count: which of them is the primary changes with every
    /// failover.
    pub fn derived(config: &Config, database: &str, machine: &Machine) -> Self {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let count = hosts.len().max(addresses.len());
        let mut rests_on_host_name = false;
        let servers: BTreeSet<String> = (0..count)
            .map(|at| {
                let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
                let place = match (addresses.get(at), hosts.get(at)) {
                    // The address decides where the connection leads; the name beside it is for the
                    // certificate.
                    (Some(address), _) => Place::of_address(*address),
                    (None, Some(Host::Tcp(name))) => Place::of_name(name, machine),
                    (None, Some(Host::Unix(directory))) => Place::of_directory(directory),
                    (None, None) => Place::Local("localhost".to_owned()),
                };
                let host = match place {
                    Place::Network(host) => host,
                    Place::Local(host) => {
                        rests_on_host_name |= machine.is_host_name();
                        format!("{host}@{}", encode(machine.id()))
                    }
                };
                format!("{host}:{port}")
            })
            .collect();
        let servers = servers.into_iter().collect::<Vec<_>>().join(",");
        let database = utf8_percent_encode(database, ENCODED_IN_DATABASE);
        Self { name: format!("{servers}/{database}"), rests_on_host_name }
    }

    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// Reports whether a new host name, which a container gets at every start, would make it
    /// another instance.
    pub fn rests_on_host_name(&self) -> bool {
        self.rests_on_host_name
    }

    /// Reports whether a daemon of this instance may deliver from a database that was armed for
    /// `armed`: the same name, or the same database with all of those servers and more. A list that
    /// lacks one of them may be that of a detached standby.
    pub fn may_deliver_from(&self, armed: &str) -> bool {
        let is_superset = || {
            let ((ours, here), (theirs, there)) = (servers(&self.name)?, servers(armed)?);
            Some(here == there && theirs.iter().all(|server| ours.contains(server)))
        };
        self.name == armed || is_superset().unwrap_or(false)
    }
}

/// Takes a derived instance apart. `None`: it is a name that an operator has chosen.
fn servers(name: &str) -> Option<(Vec<&str>, &str)> {
    let (list, database) = name.rsplit_once('/')?;
    let has_port = |server: &&str| {
        server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let servers: Vec<&str> = list.split(',').collect();
    servers.iter().all(has_port).then_some((servers, database))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The location of a server.
enum Place {
    /// The same server for all machines of a network.
    Network(String),
    /// A different server on each machine.
    Local(String),
}

impl Place {
    fn of_name(name: &str, machine: &Machine) -> Self {
        const LOCAL: [&str; 5] =
            ["localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"];
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
            return Self::of_address(address);
        }
        let name = name.trim_end_matches('.').to_lowercase();
        if LOCAL.contains(&name.as_str()) || name.ends_with(".localhost") {
            return Self::Local("localhost".to_owned());
        }
        match machine.domain() {
            Some(domain) if !name.contains('.') => Self::Network(encode(&format!("{name}.{domain}"))),
            _ => Self::Network(encode(&name)),
        }
    }

    fn of_address(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let text = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        // An unspecified address is an address of this machine.
        let is_usual = address.is_unspecified() || matches!(text.as_str(), "127.0.0.1" | "[::1]");
        match () {
            () if is_usual => Self::Local("localhost".to_owned()),
            () if address.is_loopback() => Self::Local(text),
            () => Self::Network(text),
        }
    }

    /// Two servers of one machine may use the same port in different directories.
    fn of_directory(directory: &Path) -> Self {
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        Self::Local(encode(&directory.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests;
