//! Decides which ports may be called. Pure.

use std::{fmt, ops::RangeInclusive};
use thiserror::Error;

/// A set of ports, stored as ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// A text that is not a port or a range of ports.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[error("invalid port `{0}`; --allow-port requires a port such as 443, or a range such as 8000-8999")]
pub struct InvalidPorts(pub String);

/// Ports from 1024 up that are never called by default. A POST could harm the services that listen
/// on them, and no receiver of webhooks uses them. The list holds databases, queues, cluster
/// control planes, and the "bad ports" of the Fetch standard.
const NEVER: [RangeInclusive<u16>; 39] = [
    1433..=1434,   // SQL Server
    1521..=1521,   // Oracle
    1719..=1720,   // H.323
    1723..=1723,   // PPTP
    2049..=2049,   // NFS
    2181..=2181,   // ZooKeeper
    2375..=2377,   // Docker
    2379..=2380,   // etcd
    3306..=3306,   // MySQL
    3389..=3389,   // RDP
    3659..=3659,   // Apple SASL
    4045..=4045,   // NPP
    4190..=4190,   // ManageSieve
    4369..=4369,   // Erlang's port mapper
    5060..=5061,   // SIP
    5432..=5432,   // Postgres
    5671..=5672,   // AMQP
    5900..=5900,   // VNC
    5984..=5986,   // CouchDB, WinRM
    6000..=6000,   // X11
    6379..=6379,   // Redis
    6432..=6432,   // PgBouncer
    6443..=6443,   // Kubernetes
    6566..=6566,   // SANE
    6665..=6669,   // IRC
    6679..=6679,   // IRC
    6697..=6697,   // IRC
    8086..=8086,   // InfluxDB
    8500..=8500,   // Consul
    9042..=9042,   // Cassandra
    9092..=9093,   // Kafka
    9200..=9200,   // Elasticsearch
    9300..=9300,   // Elasticsearch
    10080..=10080, // Amanda
    10250..=10259, // Kubernetes' nodes
    11211..=11211, // memcached
    25672..=25672, // RabbitMQ
    26379..=26379, // Redis Sentinel
    27017..=27019, // MongoDB
];

/// The default ports are 80, 443, and the ports from 1024 up that are not in [`NEVER`].
impl Default for Ports {
    fn default() -> Self {
        let mut ranges = vec![80..=80, 443..=443];
        let mut next = 1024;
        for never in &NEVER {
            ranges.push(next..=never.start() - 1);
            next = never.end() + 1;
        }
        ranges.push(next..=u16::MAX);
        Self(ranges)
    }
}

impl Ports {
    /// Parses ports (`443`) and ranges (`8000-8999`).
    ///
    /// # Errors
    /// Returns [`InvalidPorts`] with the first text that is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidPorts> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && digits(text));
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(port(first)?..=port(last)?).filter(|range| !range.is_empty())
        };
        let ranges = texts.into_iter().map(|text| range(text).ok_or_else(|| InvalidPorts(text.to_owned())));
        ranges.collect::<Result<_, _>>().map(Self)
    }

    pub fn contain(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().filter(|range| !range.is_empty()).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_ports_are_open_and_those_of_databases_are_not() {
        let ports = Ports::default();
        for port in [80, 443, 1024, 3000, 5000, 5431, 5433, 8000, 8080, 8443, 9000, 9201, 32768, 65535] {
            assert!(ports.contain(port), "{port}");
        }
        for port in [0, 1, 22, 25, 53, 79, 81, 110, 143, 389, 442, 444, 445, 465, 587, 636, 873, 993, 1023] {
            assert!(!ports.contain(port), "{port}");
        }
        for port in NEVER.iter().flat_map(|range| [*range.start(), *range.end()]) {
            assert!(!ports.contain(port), "{port}");
        }
        let open = (0..=u16::MAX).filter(|port| ports.contain(*port)).count();
        let never: usize = NEVER.iter().map(ExactSizeIterator::len).sum();
        assert_eq!(open, 2 + (65536 - 1024) - never, "every port once");
    }

    #[test]
    fn named_ports_are_the_only_ones() {
        let ports = Ports::parse(["443", "8000-8001"]).unwrap();
        let open: Vec<u16> = (0..=u16::MAX).filter(|port| ports.contain(*port)).collect();
        assert_eq!(open, [443, 8000, 8001]);
        assert_eq!(ports.to_string(), "443,8000-8001");
        for text in ["", "0", "65536", "https", "-1", "1-", "-", "9-8", "0-9", "1-2-3", "+1", " 1"] {
            assert_eq!(Ports::parse(["80", text]), Err(InvalidPorts(text.into())), "{text}");
        }
    }
}
