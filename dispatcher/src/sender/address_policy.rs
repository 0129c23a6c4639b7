//! Which addresses may be called. Pure: an address in, allowed or not.
//!
//! What IANA does not call globally reachable is refused, so a block that is assigned tomorrow is refused too; the
//! exceptions are the operator's (`--allow-net`, `--allow-http`). Addresses that carry an IPv4 address inside
//! (IPv4-mapped, NAT64, 6to4, ISATAP) are judged by both.

use ipnet::IpNet;
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
    /// Plain http to public addresses too.
    pub allow_http: bool,
}

impl AddressPolicy {
    /// Judges every address that a host has: one forbidden address refuses the host, because otherwise the order of
    /// a DNS answer would decide.
    ///
    /// # Errors
    /// [`Refusal`] tells which rule forbids it.
    pub fn check(&self, addresses: &[IpAddr], https: bool) -> Result<(), Refusal> {
        let refused = addresses.iter().filter(|ip| !self.may_call(**ip)).count();
        match refused {
            0 => {}
            n if n == addresses.len() => return Err(Refusal::Address),
            _ => return Err(Refusal::MixedAddresses),
        }
        if https || self.allow_http || addresses.iter().all(|ip| self.is_named(*ip)) {
            Ok(())
        } else {
            Err(Refusal::PlainHttp)
        }
    }

    fn may_call(&self, ip: IpAddr) -> bool {
        self.is_named(ip) || is_global(ip)
    }

    /// Whether an `--allow-net` range holds the address, or the IPv4 address inside it.
    fn is_named(&self, ip: IpAddr) -> bool {
        let named = |ip: &IpAddr| self.allow_nets.iter().any(|net| net.contains(ip));
        named(&ip)
            || match ip {
                IpAddr::V4(_) => false,
                IpAddr::V6(v6) => carried(v6).is_some_and(|v4| named(&IpAddr::V4(v4))),
            }
    }
}

/// Whether IANA's special-purpose registries call the address globally reachable.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_global_v4(v4),
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => is_global_v4(v4),
            None => is_global_v6(v6),
        },
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)              // this network, private, loopback
        | (100, 64..=127, _)            // carrier-grade NAT
        | (169, 254, _)                 // link-local, cloud metadata
        | (172, 16..=31, _)             // private
        | (192, 0, 0)                   // protocol assignments
        | (192, 0, 2)                   // documentation
        | (192, 88, 99)                 // former 6to4 relays
        | (192, 168, _)                 // private
        | (198, 18..=19, _)             // benchmarks
        | (198, 51, 100)                // documentation
        | (203, 0, 113)                 // documentation
        | (224.., ..) // multicast, reserved, broadcast
    )
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    // All global unicast is in 2000::/3; loopback, unique local, link-local, multicast, discard, SRv6 lie outside.
    a & 0xe000 == 0x2000
        && !(a == 0x2001 && b < 0x0200)      // protocol assignments: Teredo, benchmarks, ORCHID
        && !(a == 0x2001 && b == 0x0db8)     // documentation
        && !(a == 0x3fff && b < 0x1000) // documentation
}

/// The IPv4 address that a packet to this address ends at.
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low), // IPv4-mapped
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // NAT64
        [0x2002, high, low, ..] => v4(high, low),            // 6to4
        [a, .., 0 | 0x0200, 0x5efe, high, low] if a & 0xe000 == 0x2000 => v4(high, low), // ISATAP
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn policy(nets: &[&str], allow_http: bool) -> AddressPolicy {
        AddressPolicy { allow_nets: nets.iter().map(|net| net.parse().unwrap()).collect(), allow_http }
    }

    /// First and last address of each block that is refused.
    const REFUSED: [(&str, &str); 40] = [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.255.255"),
        ("169.254.169.254", "169.254.170.2"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("240.0.0.0", "255.255.255.255"),
        ("::", "::1"),
        ("::2", "::fffe:ffff:ffff"),
        ("::10.0.0.1", "::8.8.8.8"),
        ("::ffff:10.0.0.0", "::ffff:10.255.255.255"),
        ("::ffff:127.0.0.1", "::ffff:169.254.169.254"),
        ("::ffff:0:8.8.8.8", "::ffff:0:127.0.0.1"),
        ("64:ff9b::10.0.0.0", "64:ff9b::10.255.255.255"),
        ("64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
        ("100::", "100::ffff:ffff:ffff:ffff"),
        ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002:a00::", "2002:aff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2002:7f00:1::", "2002:a9fe:a9fe::"),
        ("2002:c0a8::", "2002:c0a8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("4000::", "5f00::1"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fd00:ec2::254", "fd00:ec2::23"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("1000::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ];

    /// The neighbours of those blocks, and public addresses in the carriers.
    const ALLOWED: [&str; 36] = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "8.8.8.8",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2000::",
        "2001:200::",
        "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2002:808:808::1",
        "2606:4700::5efe:8.8.8.8",
        "3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "3fff:1000::",
    ];

    #[test]
    fn special_blocks_are_refused_and_their_neighbours_are_not() {
        let policy = AddressPolicy::default();
        for text in REFUSED.iter().flat_map(|(first, last)| [*first, *last]) {
            assert_eq!(policy.check(&[ip(text)], true), Err(Refusal::Address), "{text}");
        }
        for text in ALLOWED {
            assert_eq!(policy.check(&[ip(text)], true), Ok(()), "{text}");
        }
    }

    #[test]
    fn one_forbidden_address_refuses_the_host() {
        let policy = AddressPolicy::default();
        for mixed in [["8.8.8.8", "10.0.0.1"], ["::1", "8.8.8.8"]] {
            assert_eq!(policy.check(&mixed.map(ip), true), Err(Refusal::MixedAddresses));
        }
        assert_eq!(policy.check(&["10.0.0.1", "::1"].map(ip), true), Err(Refusal::Address));
        assert_eq!(policy.check(&["8.8.8.8", "2606:4700::1"].map(ip), true), Ok(()));
    }

    #[test]
    fn a_named_range_opens_exactly_itself() {
        let policy = policy(&["10.1.0.0/16", "fd00::/64"], false);
        for (text, want) in [
            ("10.1.0.0", Ok(())),
            ("10.1.255.255", Ok(())),
            ("10.0.255.255", Err(Refusal::Address)),
            ("10.2.0.0", Err(Refusal::Address)),
            ("::ffff:10.1.2.3", Ok(())),
            ("64:ff9b::10.1.2.3", Ok(())),
            ("64:ff9b::10.2.2.3", Err(Refusal::Address)),
            ("fd00::ffff", Ok(())),
            ("fd00:0:0:1::", Err(Refusal::Address)),
        ] {
            assert_eq!(policy.check(&[ip(text)], true), want, "{text}");
        }
    }

    #[test]
    fn plain_http_stays_in_named_ranges_unless_allowed() {
        let closed = policy(&["10.0.0.0/8"], false);
        assert_eq!(closed.check(&[ip("10.0.0.1")], false), Ok(()));
        assert_eq!(closed.check(&[ip("8.8.8.8")], false), Err(Refusal::PlainHttp));
        assert_eq!(closed.check(&["10.0.0.1", "8.8.8.8"].map(ip), false), Err(Refusal::PlainHttp));
        let open = policy(&[], true);
        assert_eq!(open.check(&[ip("8.8.8.8")], false), Ok(()));
        assert_eq!(open.check(&[ip("10.0.0.1")], false), Err(Refusal::Address));
    }
}
