//! Decides which addresses and ports may be called.
//!
//! The default policy allows the addresses that IANA's registries call globally reachable, as the
//! list in `reachable` has them. The operator adds exceptions with `--allow-net`, `--deny-net`,
//! `--allow-port`, and `--allow-http`.
//!
//! The list is a copy of the registries. A block that IANA reserves later passes until the list
//! contains it, and so do unassigned blocks in 2000::/3. IPv6 addresses outside 2000::/3 are
//! rejected.
//!
//! Some IPv6 addresses carry an IPv4 address. A packet to an IPv4-mapped or NAT64 address always
//! ends at the IPv4 address, so that address alone decides. A packet to a 6to4 or ISATAP address
//! ends there only where a tunnel exists, so both addresses must be globally reachable. Denied
//! ranges are compared with both addresses in all four cases, allowed ranges only in the first two.
//!
//! The module is pure. It resolves no names and opens no connections.

mod ports;
mod reachable;
#[cfg(test)]
mod tests;

pub use ports::{InvalidPorts, Ports};

use ipnet::IpNet;
use reachable::{carried, is_global, translated};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// The reason why a request is blocked. The text never contains the addresses, because attempts
/// have readers other than the operator.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    #[error(
        "the host's address is private or reserved (to allow it, start webhookd with --allow-net and its range)"
    )]
    Address,
    #[error(
        "one of the host's addresses is private or reserved (to allow it, start webhookd with --allow-net and its range)"
    )]
    MixedAddresses,
    #[error("webhookd's configuration denies this host (--deny-net)")]
    Denied,
    #[error("port {0} is not allowed (see --allow-port)")]
    Port(u16),
    #[error("plain http is allowed only for the ranges of --allow-net (or everywhere with --allow-http)")]
    PlainHttp,
    #[error("the URL must be http or https and have a host")]
    Url,
}

/// The operator's exceptions.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    /// Ranges that may be called although they are private, and over plain http.
    pub allow_nets: Vec<IpNet>,
    /// Ranges that must not be called. They take precedence over every other rule.
    pub deny_nets: Vec<IpNet>,
    /// Ports that may be called, on private and on public addresses.
    pub ports: Ports,
    /// Allows plain http to public addresses too.
    pub allow_http: bool,
}

impl AddressPolicy {
    /// Checks a port.
    ///
    /// # Errors
    /// Returns [`Refusal::Port`] if the port must not be called.
    pub fn check_port(&self, port: u16) -> Result<(), Refusal> {
        if self.ports.contain(port) { Ok(()) } else { Err(Refusal::Port(port)) }
    }

    /// Checks all addresses of a host.
    ///
    /// One forbidden address blocks the host. Otherwise the order of a DNS response would decide.
    ///
    /// # Errors
    /// Returns [`Refusal`], which names the broken rule.
    pub fn check(&self, addresses: &[IpAddr], https: bool) -> Result<(), Refusal> {
        if addresses.iter().any(|ip| is_in(&self.deny_nets, *ip, carried)) {
            return Err(Refusal::Denied);
        }
        let refused = addresses.iter().filter(|ip| !self.may_call(**ip)).count();
        match refused {
            0 => {}
            n if n == addresses.len() => return Err(Refusal::Address),
            _ => return Err(Refusal::MixedAddresses),
        }
        if https || self.allow_http || addresses.iter().all(|ip| is_in(&self.allow_nets, *ip, translated)) {
            Ok(())
        } else {
            Err(Refusal::PlainHttp)
        }
    }

    fn may_call(&self, ip: IpAddr) -> bool {
        is_in(&self.allow_nets, ip, translated) || is_global(ip)
    }
}

/// Reports whether one of the ranges holds the address, or the IPv4 address that `inner` finds in
/// it.
///
/// A range that is allowed counts for translated addresses alone: without a tunnel, a packet to a
/// 6to4 or ISATAP address goes to the IPv6 host, whose owner chooses the IPv4 address inside.
fn is_in(nets: &[IpNet], ip: IpAddr, inner: impl Fn(Ipv6Addr) -> Option<Ipv4Addr>) -> bool {
    let named = |ip: &IpAddr| nets.iter().any(|net| net.contains(ip));
    named(&ip)
        || match ip {
            IpAddr::V4(_) => false,
            IpAddr::V6(v6) => inner(v6).is_some_and(|v4| named(&IpAddr::V4(v4))),
        }
}
