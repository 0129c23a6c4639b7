//! The sockets that races use beyond the first of each attempt, and who may have one.
//!
//! A host with eight dead addresses makes an attempt use eight sockets at once. Descriptors are
//! limited, and all owners share them. So an owner may have as many of these sockets as are free,
//! and a race without one tries the addresses one after another.

use crate::places::Owner;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Maximum number of such sockets at once.
pub const EXTRAS_MAX: usize = 1024;

/// The sockets that are in use.
#[derive(Debug)]
pub struct Extras {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    used: HashMap<Owner, usize>,
}

/// The right to one socket. Dropping it frees the socket.
#[derive(Debug)]
pub struct Extra<'a> {
    extras: &'a Extras,
    owner: Owner,
}

impl Extras {
    pub fn new(count: usize) -> Self {
        Self { state: Mutex::new(State { free: count, used: HashMap::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the right to a further socket, or `None` if the owner has as many as are free.
    pub fn take(&self, owner: &Owner) -> Option<Extra<'_>> {
        let mut state = self.state();
        let used = state.used.get(owner).copied().unwrap_or_default();
        if used >= state.free {
            return None;
        }
        state.free -= 1;
        state.used.insert(owner.clone(), used + 1);
        Some(Extra { extras: self, owner: owner.clone() })
    }
}

impl Drop for Extra<'_> {
    fn drop(&mut self) {
        let mut state = self.extras.state();
        state.free += 1;
        if let Some(used) = state.used.get_mut(&self.owner) {
            *used -= 1;
            if *used == 0 {
                state.used.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_as_many_as_are_free() {
        let extras = Extras::new(9);
        let owner = |name: &str| Some(name.into());
        let take_all = |name: &str| std::iter::from_fn(|| extras.take(&owner(name))).collect::<Vec<_>>();
        let first = take_all("a");
        assert_eq!(first.len(), 5);
        let second = take_all("b");
        assert_eq!((second.len(), take_all("a").len()), (2, 0));
        drop(first);
        assert_eq!(take_all("b").len(), 3, "five of nine, with those it has");
        drop(second);
        let state = extras.state();
        assert_eq!((state.free, state.used.len()), (9, 0));
    }
}
