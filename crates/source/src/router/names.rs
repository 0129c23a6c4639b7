//! Numbers of names that are in use. Pure.

use std::{borrow::Borrow, collections::HashMap, hash::Hash};

/// Numbers of names that are in use, from 1.
#[derive(Debug, Clone)]
pub struct Names<T> {
    named: HashMap<T, Name>,
    /// Numbers below the highest that are not in use.
    free: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Name {
    number: u32,
    /// How often the name is in use.
    uses: u32,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { named: HashMap::new(), free: Vec::new() }
    }
}

impl<T: Hash + Eq> Names<T> {
    pub fn number<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
    {
        self.named.get(name).map(|name| name.number)
    }

    /// Adds one use of a name, and returns its number. `share` makes the key of a new one.
    pub fn take<Q: Hash + Eq + ?Sized>(&mut self, name: &Q, share: impl FnOnce() -> T) -> u32
    where
        T: Borrow<Q>,
    {
        if let Some(name) = self.named.get_mut(name) {
            name.uses += 1;
            return name.number;
        }
        let highest = || u32::try_from(self.named.len() + 1).unwrap_or(u32::MAX);
        let number = self.free.pop().unwrap_or_else(highest);
        self.named.insert(share(), Name { number, uses: 1 });
        number
    }

    /// Forgets one use.
    pub fn release<Q: Hash + Eq + ?Sized>(&mut self, name: &Q)
    where
        T: Borrow<Q>,
    {
        let Some(found) = self.named.get_mut(name) else { return };
        found.uses -= 1;
        if found.uses == 0 {
            self.free.push(found.number);
            self.named.remove(name);
        }
    }

    /// Returns a name by its number. This reads all of them.
    #[cfg(test)]
    pub fn name(&self, number: u32) -> Option<&T> {
        self.named.iter().find(|(_, name)| name.number == number).map(|(name, _)| name)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.named.len()
    }
}
