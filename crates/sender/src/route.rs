//! Where a connection leads to, and where a new one would lead to. Pure.

use std::net::IpAddr;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The receiver's address. `None` if the proxy has resolved the name.
    pub receiver: Option<IpAddr>,
    /// The proxy's address. `None` if there is no proxy in between.
    pub proxy: Option<IpAddr>,
}

/// The addresses that a new connection could have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `None` if the proxy would resolve the name.
    pub receiver: Option<Vec<IpAddr>>,
    /// `None` if no proxy would be in between.
    pub proxy: Option<Vec<IpAddr>>,
}

impl Route {
    /// Returns a route that leads to no peer.
    pub fn nowhere() -> Self {
        Self { receiver: Some(Vec::new()), proxy: None }
    }

    /// Reports whether a new connection could lead to the same place.
    pub fn leads_to(&self, peer: &Peer) -> bool {
        let contains = |found: &Option<Vec<IpAddr>>, ip: Option<IpAddr>| match (found, ip) {
            (None, None) => true,
            (Some(found), Some(ip)) => found.iter().any(|found| found.to_canonical() == ip.to_canonical()),
            _ => false,
        };
        contains(&self.receiver, peer.receiver) && contains(&self.proxy, peer.proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiver_and_proxy_must_both_be_found() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let route = |receiver: Option<&[u8]>, proxy: Option<&[u8]>| {
            let ips = |lasts: &[u8]| lasts.iter().map(|last| ip(*last)).collect();
            Route { receiver: receiver.map(ips), proxy: proxy.map(ips) }
        };
        let direct = Peer { receiver: Some(ip(1)), proxy: None };
        let proxied = Peer { receiver: Some(ip(1)), proxy: Some(ip(9)) };
        let named = Peer { receiver: None, proxy: Some(ip(9)) };
        for (route, leads) in [
            (route(Some(&[2, 1]), None), [true, false, false]),
            (route(Some(&[2]), None), [false, false, false]),
            (route(Some(&[1]), Some(&[8, 9])), [false, true, false]),
            (route(Some(&[1]), Some(&[8])), [false, false, false]),
            (route(None, Some(&[9])), [false, false, true]),
        ] {
            assert_eq!([direct, proxied, named].map(|peer| route.leads_to(&peer)), leads, "{route:?}");
        }
        let mapped = Route { receiver: Some(vec!["::ffff:10.0.0.1".parse().unwrap()]), proxy: None };
        assert!(mapped.leads_to(&direct));
    }
}
