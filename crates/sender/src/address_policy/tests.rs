//! Tests the verdict on the first and last address of every block, on the neighbours that must
//! pass, and on the addresses that carry IPv4.

use crate::address_policy::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy(nets: &[&str], allow_http: bool) -> AddressPolicy {
    let allow_nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    AddressPolicy { allow_nets, allow_http, ..AddressPolicy::default() }
}

/// First and last address of each rejected block.
const REFUSED: &[(&str, &str)] = &[
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("169.254.169.254", "169.254.170.2"), // metadata: AWS, GCP, Azure; ECS
    ("100.100.100.200", "192.0.0.192"),   // Alibaba, Oracle
    ("168.63.129.16", "168.63.129.16"),   // Azure's host agent
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
    ("::ffff:0:0", "::ffff:0.255.255.255"),
    ("::ffff:240.0.0.0", "::ffff:255.255.255.255"),
    ("::ffff:0:8.8.8.8", "::ffff:0:127.0.0.1"),
    ("64:ff9b::10.0.0.0", "64:ff9b::10.255.255.255"),
    ("64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254"),
    ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
    ("100::", "100::ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::7f00:1", "2001:0:a9fe:a9fe::1"),               // Teredo
    ("2001:2::", "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff"), // benchmarks, ORCHID
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002:a00::", "2002:aff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002:7f00:1::", "2002:a9fe:a9fe::"),
    ("2002:a9fe:a9fe::1", "2002:7f00:1::1"),
    ("2002:c0a8::", "2002:c0a8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1"),
    ("2001:db8::5efe:8.8.8.8", "2001:db8::200:5efe:8.8.8.8"),
    ("3fff::5efe:8.8.8.8", "2001:2::5efe:8.8.8.8"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "5f00::1"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fd00:ec2::254", "fd00:ec2::23"),
    ("fd20:ce::254", "fd00:c1::a9fe:a9fe"), // GCP, Oracle
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("1000::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];

/// The neighbours of those blocks, and public addresses in each form that carries IPv4.
const ALLOWED: &[&str] = &[
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
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
    "2001:4860:4860::8888",
    "2002:808:808::1",
    "2003::",
    "2620:4f:8000::",
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
        // Who owns the IPv6 prefix chooses the IPv4 address inside.
        ("2002:a01:203::1", Err(Refusal::Address)),
        ("2606:4700::5efe:10.1.2.3", Err(Refusal::Address)),
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

#[test]
fn the_table_is_long_enough_to_be_worth_something() {
    let refused: std::collections::BTreeSet<_> = REFUSED.iter().flat_map(|(a, b)| [ip(a), ip(b)]).collect();
    assert!(refused.len() > 80 && ALLOWED.len() > 40);
}

#[test]
fn a_denied_range_is_denied_whatever_else_is_said() {
    let policy = AddressPolicy {
        deny_nets: vec!["8.8.8.0/24".parse().unwrap(), "10.1.0.0/16".parse().unwrap()],
        ..policy(&["10.0.0.0/8"], true)
    };
    for (text, want) in [
        ("8.8.7.255", Ok(())),
        ("8.8.8.0", Err(Refusal::Denied)),
        ("8.8.8.255", Err(Refusal::Denied)),
        ("8.8.9.0", Ok(())),
        ("::ffff:8.8.8.8", Err(Refusal::Denied)),
        ("64:ff9b::8.8.8.8", Err(Refusal::Denied)),
        ("2002:808:808::1", Err(Refusal::Denied)),
        ("10.0.0.1", Ok(())),
        ("10.1.0.1", Err(Refusal::Denied)),
        ("192.168.0.1", Err(Refusal::Address)),
    ] {
        assert_eq!(policy.check(&[ip(text)], true), want, "{text}");
    }
    assert_eq!(policy.check(&["9.9.9.9", "8.8.8.8"].map(ip), true), Err(Refusal::Denied));
}

proptest! {
    /// An address that the standard library calls private, loopback, or the like is never called.
    /// Every IPv6 address that carries it has the same verdict.
    #[test]
    fn carriers_are_judged_by_what_they_carry(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from(bits);
        let policy = AddressPolicy::default();
        let verdict = policy.check(&[v4.into()], true);
        if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
            || v4.is_documentation() || v4.is_unspecified()
        {
            prop_assert_eq!(verdict, Err(Refusal::Address));
        }
        let [a, b] = [(bits >> 16) as u16, bits as u16];
        for carrier in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
            Ipv6Addr::new(0x2002, a, b, 1, 2, 3, 4, 5),
            Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, a, b),
        ] {
            prop_assert_eq!(policy.check(&[carrier.into()], true), verdict, "{}", carrier);
        }
    }

    #[test]
    fn local_ipv6_is_never_called(bits in any::<u128>()) {
        for v6 in [Ipv6Addr::from(bits), Ipv6Addr::from(bits & (u128::MAX >> 3) | 0xf << 124)] {
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback() {
                prop_assert_eq!(AddressPolicy::default().check(&[v6.into()], true), Err(Refusal::Address));
            }
        }
    }
}
