//! Merges the events of nested statements with the events of the statement around them. Pure.
//!
//! A [`List`] belongs to a statement in progress, the *outer* one. It holds the events of
//! statements that ran within it, in the order of their changes. The outer statement's own events
//! arrive one by one, also in the order of their changes. [`List::before`] merges the two: it
//! returns how many held events happened before the arriving one.
//!
//! Three facts about Postgres decide that; each is exact for one row:
//!
//! * **Command ids.** A held change with a lower command id than the arriving one is older. The
//!   arriving change then comes from a foreign key action that started after it.
//! * **Phase.** A change made while the outer command was complete is younger than every change of
//!   that command.
//! * **Row versions and keys.** The remaining case is a change that a BEFORE trigger or a function
//!   makes *during* the outer command. The outer command updates and deletes only versions that it
//!   found, and fails (27000) on a version that a nested statement has changed. Its UPDATE or
//!   DELETE is therefore older than every held change of the same key. Its INSERT is older than the
//!   held change that ends the inserted version, and younger than the held changes of the key
//!   before that one.

use std::collections::{HashMap, TryReserveError, VecDeque};
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::memory::fallible;

/// The number of latest held events that [`List::take_next`] searches. These suffice: it finds the
/// changes that a row's own trigger has just made.
const RECENT: usize = 16;

/// Stands for no command.
pub const NO_COMMAND: u32 = u32::MAX;
/// Stands for any command of the outer statement.
pub const ANY_COMMAND: u32 = u32::MAX - 1;

/// Stands for no position in a list.
const NOWHERE: u64 = u64::MAX;

/// The physical place of a row version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    pub relation: u32,
    pub block: u32,
    /// Counted from 1; 0 stands for no version.
    pub offset: u16,
}

impl Version {
    pub const NONE: Self = Self { relation: 0, block: 0, offset: 0 };

    pub fn is_some(self) -> bool {
        self.offset != 0
    }
}

/// A change of a row, reduced to the facts that its order depends on.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The watched table.
    pub root: u32,
    /// Command id of the change, or [`NO_COMMAND`] if it is unknown.
    pub command: u32,
    /// The version that the change ends; none for an INSERT.
    pub former: Version,
    /// The version that the change makes; none for a DELETE.
    pub now: Version,
    /// Hash of the table and the row's key; 0 if the row has no key.
    pub key: u64,
    /// The same hash of the former version if the change has changed the key; else 0.
    pub former_key: u64,
    /// The command that has since ended the new version, or [`NO_COMMAND`].
    pub ended_by: u32,
}

impl Change {
    /// Reports whether this change follows the change that made `version`. If so, no event that
    /// arrives later can belong between the two: both have the same key, and each key has one row
    /// at a time.
    pub fn follows(&self, version: Version) -> bool {
        version.is_some() && self.former == version && self.former_key == 0
    }

    /// Reports whether no row had this key before the change.
    fn arrives(&self) -> bool {
        self.now.is_some() && (!self.former.is_some() || self.former_key != 0)
    }
}

/// A held event.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub change: Change,
    /// The outer command that was running at the time, [`ANY_COMMAND`], or [`NO_COMMAND`].
    pub during: u32,
    pub subtransaction: u32,
    /// The place of the event in the store.
    pub place: u64,
    /// The latest earlier positions with the same key and with the same former key.
    earlier: [u64; 2],
    is_indexed: bool,
    is_taken: bool,
}

impl Entry {
    pub fn new(change: Change, during: u32, subtransaction: u32, place: u64) -> Self {
        Self {
            change,
            during,
            subtransaction,
            place,
            earlier: [NOWHERE; 2],
            is_indexed: false,
            is_taken: false,
        }
    }

    /// Reports whether this change may have happened before the arriving change of a row with the
    /// same key. It must have happened while that change's command ran, and before the arriving row
    /// was gone again.
    fn may_precede(&self, arriving: &Change) -> bool {
        let is_within = self.during == arriving.command
            || self.during == ANY_COMMAND
            || self.during != NO_COMMAND && arriving.command == NO_COMMAND;
        is_within && self.change.command < arriving.ended_by
    }

    /// Returns the keys that find the entry; 0 stands for none.
    fn keys(&self) -> [u64; 2] {
        if self.is_indexed { [self.change.key, self.change.former_key] } else { [0; 2] }
    }
}

/// Held events in the order of their changes.
#[derive(Debug)]
pub struct List {
    entries: VecDeque<Entry>,
    /// Position of the first entry. The position of an entry never changes.
    first: u64,
    /// The last position of each key.
    last: HashMap<u64, u64, BuildHasherDefault<DefaultHasher>>,
    /// True from the first event that the phase does not place. Events from then on are found by
    /// their keys.
    is_indexed: bool,
    /// No entry has a lower command id.
    lowest: u32,
}

impl List {
    pub fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            first: 0,
            last: HashMap::default(),
            is_indexed: false,
            lowest: NO_COMMAND,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends an event. Its subtransaction must be the innermost one.
    ///
    /// # Errors
    /// Returns an error if there is no memory; the list then holds the same events as before.
    pub fn push(&mut self, mut entry: Entry) -> Result<(), TryReserveError> {
        fallible(|| self.entries.try_reserve(1))?;
        self.is_indexed |= entry.during != NO_COMMAND;
        entry.is_indexed = self.is_indexed;
        let keys = entry.keys();
        if keys != [0; 2] {
            fallible(|| self.last.try_reserve(2))?;
        }
        let position = self.first + self.entries.len() as u64;
        for (key, earlier) in keys.into_iter().zip(&mut entry.earlier) {
            if key != 0 {
                *earlier = self.last.insert(key, position).unwrap_or(NOWHERE);
            }
        }
        self.lowest = self.lowest.min(entry.change.command);
        self.entries.push_back(entry);
        Ok(())
    }

    /// Counts the leading events that happened before a change of the outer statement.
    pub fn before(&mut self, change: &Change) -> usize {
        let older = self.older(change);
        let placed = if change.arrives() && change.key != 0 { self.placed(change) } else { 0 };
        older.max(placed)
    }

    /// Counts the leading events that are older: each has a lower command id, or precedes one that
    /// has.
    fn older(&mut self, change: &Change) -> usize {
        if change.command >= ANY_COMMAND || change.command <= self.lowest {
            return 0;
        }
        let is_older = |entry: &Entry| !entry.is_taken && entry.change.command < change.command;
        let count = self.entries.iter().rposition(is_older).map_or(0, |at| at + 1);
        let rest = self.entries.iter().skip(count);
        self.lowest = rest.map(|entry| entry.change.command).min().unwrap_or(NO_COMMAND);
        count
    }

    /// Counts the leading events up to the last one that has the arriving row's key and happened
    /// before it.
    fn placed(&self, change: &Change) -> usize {
        let (mut at, mut last) = (self.last_of(change.key), None);
        while let Some(entry) = self.at(at) {
            if entry.is_taken {
                // Only a gap is left of this event.
            } else if entry.change.former == change.now {
                last = None;
            } else if last.is_none() && entry.may_precede(change) {
                last = Some(at);
            }
            at = entry.earlier[usize::from(entry.change.key != change.key)];
        }
        last.map_or(0, |at| (at - self.first) as usize + 1)
    }

    /// Removes the first event and returns it.
    pub fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        for key in entry.keys() {
            if key != 0 && self.last.get(&key) == Some(&self.first) {
                self.last.remove(&key);
            }
        }
        self.first += 1;
        self.start_over_if_empty();
        Some(entry)
    }

    /// Reports whether only a gap is left of an entry.
    pub fn is_taken(entry: &Entry) -> bool {
        entry.is_taken
    }

    /// Takes the event that follows a version whose own event has been passed on, if it is among
    /// the latest events.
    pub fn take_next(&mut self, version: Version) -> Option<Entry> {
        if self.entries.is_empty() || !version.is_some() {
            return None;
        }
        let from = self.entries.len().saturating_sub(RECENT);
        let follows = |entry: &Entry| !entry.is_taken && entry.change.follows(version);
        let at = from + self.entries.range(from..).position(follows)?;
        let entry = self.entries.get_mut(at)?;
        entry.is_taken = true;
        let taken = *entry;
        while self.entries.back().is_some_and(Self::is_taken) {
            self.pop_back();
        }
        while self.entries.front().is_some_and(Self::is_taken) {
            self.pop_front();
        }
        Some(taken)
    }

    /// Removes the last event. Does not allocate or fail.
    fn pop_back(&mut self) {
        let Some(entry) = self.entries.pop_back() else { return };
        for (key, earlier) in entry.keys().into_iter().zip(entry.earlier) {
            if key == 0 {
                continue;
            }
            match self.last.get_mut(&key) {
                Some(last) if earlier != NOWHERE && earlier >= self.first => *last = earlier,
                _ => {
                    self.last.remove(&key);
                }
            }
        }
        self.start_over_if_empty();
    }

    fn start_over_if_empty(&mut self) {
        if self.entries.is_empty() {
            self.lowest = NO_COMMAND;
            self.is_indexed = false;
        }
    }

    /// Removes the events of a subtransaction that was rolled back. Returns the place of the first
    /// of them. Does not allocate or fail.
    pub fn abort(&mut self, subtransaction: u32) -> Option<u64> {
        let mut place = None;
        while let Some(entry) = self.entries.back().filter(|entry| entry.subtransaction >= subtransaction) {
            place = place.into_iter().chain([entry.place]).min();
            self.pop_back();
        }
        place
    }

    /// Assigns the events of a released subtransaction to its parent. Does not allocate or fail.
    pub fn release(&mut self, subtransaction: u32, parent: u32) {
        let own = self.entries.iter_mut().rev().take_while(|entry| entry.subtransaction == subtransaction);
        own.for_each(|entry| entry.subtransaction = parent);
    }

    fn last_of(&self, key: u64) -> u64 {
        self.last.get(&key).copied().unwrap_or(NOWHERE)
    }

    fn at(&self, position: u64) -> Option<&Entry> {
        let at = position.checked_sub(self.first).filter(|_| position != NOWHERE)?;
        self.entries.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
