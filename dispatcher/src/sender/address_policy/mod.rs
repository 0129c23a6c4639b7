//! Which addresses may be called. Pure: addresses and a port in, allowed or not.
//!
//! What IANA does not call globally reachable is refused, so a block that is assigned tomorrow is refused too; the
//! exceptions are the operator's (`--allow-net`, `--deny-net`, `--allow-port`, `--allow-http`). Addresses that carry an
//! IPv4 address inside (IPv4-mapped, NAT64, 6to4, ISATAP) are judged by both.

mod ports;
mod reachable;
#[cfg(test)]
mod tests;

pub use ports::{InvalidPorts, Ports};

use ipnet::IpNet;
use reachable::{carried, is_global, translated};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Why nothing is sent. The addresses themselves stay out of the text: attempts are read by others than operators.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    #[error(
        "the host's address is private or reserved (to call it, start webhookd with --allow-net and its range)"
    )]
    Address,
    #[error(
        "one of the host's addresses is private or reserved (to call it, start webhookd with --allow-net and its range)"
    )]
    MixedAddresses,
    #[error("the operator of webhookd does not let it call this host (--deny-net)")]
    Denied,
    #[error("port {0} is not among those that may be called (see --allow-port)")]
    Port(u16),
    #[error("plain http goes only to ranges named with --allow-net (or everywhere with --allow-http)")]
    PlainHttp,
    #[error("only http and https URLs with a host can be called")]
    Url,
}

/// The operator's exceptions.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    /// Ranges that may be called although they are private, and over plain http.
    pub allow_nets: Vec<IpNet>,
    /// Ranges that may not be called, whatever else is said of them.
    pub deny_nets: Vec<IpNet>,
    /// Ports that may be called, of private and of public addresses.
    pub ports: Ports,
    /// Plain http to public addresses too.
    pub allow_http: bool,
}

impl AddressPolicy {
    /// Judges a port.
    ///
    /// # Errors
    /// [`Refusal::Port`].
    pub fn check_port(&self, port: u16) -> Result<(), Refusal> {
        if self.ports.contain(port) { Ok(()) } else { Err(Refusal::Port(port)) }
    }

    /// Judges every address that a host has: one forbidden address refuses the host, because otherwise the order of
    /// a DNS answer would decide.
    ///
    /// # Errors
    /// [`Refusal`] tells which rule forbids it.
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

/// Reports whether one of the ranges holds the address, or the IPv4 address that `inner` finds in it.
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
