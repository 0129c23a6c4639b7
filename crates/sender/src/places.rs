//! The places for lookups, and who may have one. Pure.
//!
//! A lookup has a place from its begin to its end. Each place is on the account of an owner, and an
//! owner may have as many places as are free. So one owner alone gets half of them, two get a third
//! each, and a place is free for an owner who has none, however many lookups never end.
//!
//! A free place goes to the owner with the fewest, and to the lookup that has waited longest.

use crate::failure::Failure;
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};
use tokio::sync::watch;

/// Places that only the daemon itself can have, for the name of its proxy.
const RESERVED: usize = 1;

/// Who has a place. `None` stands for the daemon itself.
pub type Owner = Option<Arc<str>>;

/// The addresses of a name, or why there are none.
pub type Answer = Result<Arc<[IpAddr]>, Failure>;

/// What callers see of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    Waits,
    Runs,
    Ended(Answer),
}

/// A lookup that has a place now and must be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub name: Arc<str>,
    pub owner: Owner,
}

/// A caller's view of a lookup.
pub struct Asked {
    pub progress: watch::Receiver<Progress>,
    /// Distinguishes the lookup from later ones of the same name.
    pub number: u64,
    /// The lookup that begins with this call.
    pub begun: Option<Begun>,
}

/// All lookups that run or wait.
#[derive(Debug)]
pub struct Places {
    free: usize,
    look_ups: HashMap<Arc<str>, LookUp>,
    shares: HashMap<Owner, Share>,
    last_number: u64,
}

#[derive(Debug)]
struct LookUp {
    number: u64,
    progress: watch::Sender<Progress>,
    is_running: bool,
    /// The callers that wait for it to begin.
    callers: usize,
    /// The owners on whose account it may begin, and its number among their lookups.
    waits_for: Vec<(Owner, u64)>,
}

/// What an owner has of the places.
#[derive(Debug, Default)]
struct Share {
    running: usize,
    /// Names that wait for a place, oldest first.
    waiting: BTreeMap<u64, Arc<str>>,
}

impl Places {
    pub fn new(count: usize) -> Self {
        Self { free: count, look_ups: HashMap::new(), shares: HashMap::new(), last_number: 0 }
    }

    /// Joins the running lookup of a name, begins one, or joins those who wait. Returns `None` if
    /// the owner may have no further place now and the caller does not wait.
    pub fn ask(&mut self, name: &str, owner: &Owner, waits: bool) -> Option<Asked> {
        let may_begin = self.may_begin(owner);
        let known = self.look_ups.get_key_value(name);
        let is_running = known.is_some_and(|(_, look_up)| look_up.is_running);
        if !is_running && !may_begin && !waits {
            return None;
        }
        let name = known.map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
        let number = self.next_number();
        let look_up = self.look_ups.entry(Arc::clone(&name)).or_insert_with(|| LookUp::new(number));
        let (progress, number) = (look_up.progress.subscribe(), look_up.number);
        let begun = (!is_running && may_begin).then(|| self.begin(name.clone(), owner.clone()));
        if !is_running && begun.is_none() {
            self.wait(name, owner);
        }
        Some(Asked { progress, number, begun })
    }

    /// Removes a caller that no longer waits. The lookup goes with its last caller.
    pub fn leave(&mut self, name: &str, number: u64) {
        let Some(look_up) = self.look_ups.get_mut(name) else { return };
        if look_up.is_running || look_up.number != number {
            return;
        }
        look_up.callers -= 1;
        if look_up.callers == 0
            && let Some(look_up) = self.look_ups.remove(name)
        {
            self.forget(look_up.waits_for);
        }
    }

    /// Ends a lookup, and returns those that begin in its place.
    pub fn end(&mut self, ended: &Begun, answer: Answer) -> Vec<Begun> {
        if let Some(look_up) = self.look_ups.remove(&ended.name) {
            look_up.progress.send_replace(Progress::Ended(answer));
        }
        self.free += 1;
        if let Some(share) = self.shares.get_mut(&ended.owner) {
            share.running -= 1;
        }
        self.drop_share(&ended.owner);
        let mut begun = Vec::new();
        while let Some((owner, name)) = self.next() {
            begun.push(self.begin(name, owner));
        }
        begun
    }

    fn may_begin(&self, owner: &Owner) -> bool {
        let running = self.shares.get(owner).map_or(0, |share| share.running);
        match owner {
            None => self.free > 0,
            Some(_) => running + RESERVED < self.free,
        }
    }

    /// Returns the lookup that begins next, if there is a place for it.
    fn next(&self) -> Option<(Owner, Arc<str>)> {
        let first = |(owner, share): (&Owner, &Share)| {
            let (number, name) = share.waiting.first_key_value()?;
            Some(((owner.is_some(), share.running, *number), owner.clone(), Arc::clone(name)))
        };
        let (_, owner, name) = self.shares.iter().filter_map(first).min_by_key(|(order, ..)| *order)?;
        self.may_begin(&owner).then_some((owner, name))
    }

    fn begin(&mut self, name: Arc<str>, owner: Owner) -> Begun {
        self.free -= 1;
        self.shares.entry(owner.clone()).or_default().running += 1;
        if let Some(look_up) = self.look_ups.get_mut(&name) {
            look_up.is_running = true;
            look_up.progress.send_replace(Progress::Runs);
            let waits_for = std::mem::take(&mut look_up.waits_for);
            self.forget(waits_for);
        }
        Begun { name, owner }
    }

    fn wait(&mut self, name: Arc<str>, owner: &Owner) {
        let number = self.next_number();
        let Some(look_up) = self.look_ups.get_mut(&name) else { return };
        look_up.callers += 1;
        if !look_up.waits_for.iter().any(|(waiting, _)| waiting == owner) {
            look_up.waits_for.push((owner.clone(), number));
            self.shares.entry(owner.clone()).or_default().waiting.insert(number, name);
        }
    }

    fn forget(&mut self, waits_for: Vec<(Owner, u64)>) {
        for (owner, number) in waits_for {
            if let Some(share) = self.shares.get_mut(&owner) {
                share.waiting.remove(&number);
            }
            self.drop_share(&owner);
        }
    }

    fn drop_share(&mut self, owner: &Owner) {
        if self.shares.get(owner).is_some_and(|share| share.running == 0 && share.waiting.is_empty()) {
            self.shares.remove(owner);
        }
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl LookUp {
    fn new(number: u64) -> Self {
        let (progress, _) = watch::channel(Progress::Waits);
        Self { number, progress, is_running: false, callers: 0, waits_for: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
