//! Who sends a request, and how many requests each may have at once.

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// The role and owner that a request acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub role: String,
    /// The owner that the caller is limited to. `None` means all owners that the role may see.
    pub owner: Option<String>,
    /// OID of the role that `owner` names. `None`: it is not a role.
    pub owner_role: Option<u32>,
}

impl Caller {
    /// Returns the name that people read: the role, and the owner if there is one.
    pub fn name(&self) -> String {
        match &self.owner {
            Some(owner) => format!("{}/{owner}", self.role),
            None => self.role.clone(),
        }
    }

    /// Returns the caller's key in `webhook.idempotency`. No two callers share a key.
    pub fn key(&self) -> String {
        serde_json::json!([self.role, self.owner, self.owner_role]).to_string()
    }
}

/// The source of a request: an IPv4 address, or the /64 network of an IPv6 address, because one
/// customer usually has a whole /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Returns the client's address behind our proxies. Reads `X-Forwarded-For` from the right, up to
/// the first address that is not a trusted proxy. The client can forge all entries to its left. If
/// there is no such address, or an entry is not an address, returns the last proxy before it, or
/// `None`.
pub fn forwarded_for(headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let lines: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let mut farthest = None;
    for hop in lines.iter().flat_map(|line| line.split(',')).rev() {
        let Some(ip) = address_of(hop.trim()) else { break };
        farthest = Some(ip);
        if !is_within(proxies, ip) {
            break;
        }
    }
    farthest
}

/// Parses an address with or without a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let ip = text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// Reports whether an address belongs to one of these networks.
pub fn is_within(nets: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    nets.iter().any(|net| net.contains(&ip))
}

/// Limits how many [`Permit`]s of each key exist at the same time.
#[derive(Debug)]
pub struct ConcurrencyLimit<K: Eq + Hash> {
    max: usize,
    present: Mutex<HashMap<K, Present>>,
}

/// The permits of one key.
#[derive(Debug)]
struct Present {
    count: usize,
    turns: Arc<Semaphore>,
}

/// How many permits of one key may have a turn at the same time.
const TURNS_MAX: usize = 2;

impl<K: Eq + Hash + Clone> ConcurrencyLimit<K> {
    pub fn of_at_most(max: usize) -> Arc<Self> {
        Arc::new(Self { max, present: Mutex::default() })
    }

    /// Takes a place, which is free again when the [`Permit`] is dropped. Returns `None` if all
    /// places of the key are taken.
    pub fn enter(self: &Arc<Self>, key: &K) -> Option<Permit<K>> {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Present { count: 0, turns: Arc::new(Semaphore::new(TURNS_MAX)) };
        let own = present.entry(key.clone()).or_insert_with(new);
        if own.count >= self.max {
            return None;
        }
        own.count += 1;
        let turns = Arc::clone(&own.turns);
        Some(Permit { limit: Arc::clone(self), key: key.clone(), turns })
    }
}

/// A place of one key in a [`ConcurrencyLimit`].
#[derive(Debug)]
pub struct Permit<K: Eq + Hash> {
    limit: Arc<ConcurrencyLimit<K>>,
    key: K,
    turns: Arc<Semaphore>,
}

impl<K: Eq + Hash> Permit<K> {
    /// Returns the turns that the permits of this key share.
    pub fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }
}

impl<K: Eq + Hash> Drop for Permit<K> {
    fn drop(&mut self) {
        let mut present = self.limit.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = present.get_mut(&self.key) {
            own.count -= 1;
            if own.count == 0 {
                present.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_for_each_key_and_forgets_it() {
        let limit = ConcurrencyLimit::of_at_most(2);
        let one = (limit.enter(&1).unwrap(), limit.enter(&1).unwrap());
        assert!(limit.enter(&1).is_none());
        assert!(limit.enter(&2).is_some());
        drop(one);
        assert!(limit.enter(&1).is_some());
        assert!(limit.present.lock().unwrap().is_empty(), "no key is left");
    }

    #[test]
    fn callers_are_told_apart() {
        let key = |role: &str, owner: Option<&str>| {
            Caller { role: role.to_owned(), owner: owner.map(str::to_owned), owner_role: None }.key()
        };
        assert_ne!(key("a/b", None), key("a", Some("b")));
        assert_ne!(key("a", Some("")), key("a", None));
    }
}
