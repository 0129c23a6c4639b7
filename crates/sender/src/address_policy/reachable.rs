//! Decides which addresses are globally reachable, after IANA's special-purpose address registries
//! (RFC 6890). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reports whether an address is globally reachable.
///
/// The result differs from the registries in three ways. The few anycast addresses in 192.0.0.0/24
/// and 2001::/23 that the registries call reachable are rejected: they serve NAT traversal and
/// similar purposes, and no receiver uses them. 168.63.129.16 is rejected, because every Azure
/// machine reaches its host agent there. An IPv4-mapped or NAT64 address is judged by the IPv4
/// address inside, a 6to4 or ISATAP address by both.
pub fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => match (translated(v6), carried(v6)) {
            (Some(v4), _) => is_global_v4(v4),
            // Where there is no tunnel, the packet goes to the IPv6 address itself.
            (None, Some(v4)) => is_global_v4(v4) && is_global_v6(v6),
            (None, None) => is_global_v6(v6),
        },
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    !matches!(
        ip.octets(),
        [0 | 10 | 127, ..]              // this network, private, loopback
        | [100, 64..=127, ..]           // carrier-grade NAT
        | [168, 63, 129, 16]            // Azure's host agent: inside every machine there, at a public address
        | [169, 254, ..]                // link-local, cloud metadata
        | [172, 16..=31, ..]            // private
        | [192, 0, 0, _]                // protocol assignments
        | [192, 0, 2, _]                // documentation
        | [192, 88, 99, _]              // former 6to4 relays
        | [192, 168, ..]                // private
        | [198, 18..=19, ..]            // benchmarks
        | [198, 51, 100, _]             // documentation
        | [203, 0, 113, _]              // documentation
        | [224..=255, ..] // multicast, reserved, broadcast
    )
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // All global unicast addresses are in 2000::/3. Loopback, unique local, link-local, multicast,
    // discard, and SRv6 addresses lie outside.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)      // protocol assignments: Teredo, benchmarks, ORCHID
        && !(a == 0x2001 && b == 0x0db8)     // documentation
        && !(a == 0x3fff && b < 0x1000) // documentation
}

/// Returns the IPv4 address that a packet to this address always ends at.
pub fn translated(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)), // IPv4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)), // NAT64
        _ => None,
    }
}

/// Returns the IPv4 address that a packet to this address can end at: the translated one, or the
/// other end of a tunnel.
pub fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    translated(ip).or_else(|| match ip.segments() {
        [0x2002, high, low, ..] => Some(v4(high, low)), // 6to4
        [a, .., 0 | 0x0200, 0x5efe, high, low] if a & 0xe000 == 0x2000 => Some(v4(high, low)), // ISATAP
        _ => None,
    })
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}
