//! The requests in flight to each destination host, for each owner. Pure.
//!
//! Many subscriptions of one owner can lead to one host. Each has a limit of its own; together they
//! have this one. Send queues that it stops wait here, and go on as requests to the host end.

use slab::Slab;
use std::collections::{HashMap, VecDeque};

/// An owner's number, and the host.
type Key = (usize, Box<str>);

/// The hosts of all send queues.
#[derive(Debug, Default)]
pub struct Destinations {
    numbers: HashMap<Key, usize>,
    hosts: Slab<Host>,
}

#[derive(Debug)]
struct Host {
    key: Key,
    /// Send queues that lead here.
    queues: usize,
    in_flight: usize,
    waiting: VecDeque<i64>,
}

impl Destinations {
    /// Returns the number of an owner's host, for a send queue that leads there.
    pub fn join(&mut self, owner: usize, host: &str) -> usize {
        let key = (owner, Box::from(host));
        let Self { numbers, hosts } = self;
        let number = *numbers
            .entry(key.clone())
            .or_insert_with(|| hosts.insert(Host { key, queues: 0, in_flight: 0, waiting: VecDeque::new() }));
        hosts[number].queues += 1;
        number
    }

    /// Forgets a send queue that leads to a host.
    pub fn leave(&mut self, number: usize) {
        self.hosts[number].queues -= 1;
        self.forget_unused(number);
    }

    fn forget_unused(&mut self, number: usize) {
        let host = &self.hosts[number];
        if host.queues == 0 && host.in_flight == 0 {
            let host = self.hosts.remove(number);
            self.numbers.remove(&host.key);
        }
    }

    /// Returns how many more requests may start.
    pub fn allowance(&self, number: usize, max: usize) -> usize {
        max.saturating_sub(self.hosts[number].in_flight)
    }

    /// Reports whether several send queues share the host, and half of its limit is in use.
    pub fn is_crowded(&self, number: usize, max: usize) -> bool {
        let host = &self.hosts[number];
        host.queues > 1 && host.in_flight >= max / 2
    }

    /// Lets a send queue wait until a request to the host ends.
    pub fn wait(&mut self, number: usize, id: i64) {
        self.hosts[number].waiting.push_back(id);
    }

    /// Takes the next send queue that waits for the host.
    pub fn next(&mut self, number: usize) -> Option<i64> {
        self.hosts.get_mut(number)?.waiting.pop_front()
    }

    /// Counts a request in.
    pub fn begin(&mut self, number: usize) {
        self.hosts[number].in_flight += 1;
    }

    /// Counts a request out.
    pub fn end(&mut self, number: usize) {
        self.hosts[number].in_flight -= 1;
        self.forget_unused(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_queues_to_one_host_share_its_limit() {
        let mut all = Destinations::default();
        let host = all.join(0, "a.example");
        assert_eq!(all.join(0, "a.example"), host);
        let other = all.join(1, "a.example");
        assert_ne!(host, other, "each owner has a limit of its own");
        all.begin(host);
        all.begin(host);
        assert_eq!((all.allowance(host, 2), all.allowance(other, 2)), (0, 2));
        assert!(all.is_crowded(host, 4) && !all.is_crowded(host, 6) && !all.is_crowded(other, 0));
        all.wait(host, 7);
        all.wait(host, 8);
        all.end(host);
        assert_eq!((all.next(host), all.next(host), all.next(host)), (Some(7), Some(8), None));
        all.leave(host);
        all.leave(host);
        all.end(host);
        assert_eq!(all.next(host), None);
        all.leave(other);
        assert!(all.hosts.is_empty() && all.numbers.is_empty());
    }
}
