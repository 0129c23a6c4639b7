//! Order groups of one send queue: which delivery waits for which. Pure.
//!
//! There is one group (`OrderGroup`) per order key, and only its head is sent. A group knows its
//! deliveries in memory, in flight, or waiting for a retry. Each of them has a *place*. Deliveries
//! further back may be rows of the queue in state `blocked`.
//!
//! If a delivery fails, the deliveries behind it leave memory and become such rows. So a key whose
//! events fail costs a few bytes, and delays no other key.
//!
//! The module counts and orders places. It does not write rows: the scheduler writes them and
//! reports the ledger entry here, so that a read of the table never misses an uncommitted row.

mod group;
mod rows;

use crate::queue_rows::{Item, RowState};
use group::{GroupPlace, OrderGroup};
use std::collections::{HashMap, HashSet, VecDeque};

/// Maximum number of groups per send queue. Beyond it, no new key is admitted until a group is
/// free.
pub const ORDER_GROUPS_MAX: usize = 50_000;

/// The order groups of one send queue.
#[derive(Debug)]
pub struct OrderGroups {
    groups: HashMap<i64, OrderGroup>,
    /// Groups whose head is in memory, in turn.
    ready: VecDeque<i64>,
    /// Groups that want rows from the table.
    wanting: VecDeque<i64>,
    /// Groups that are being read.
    loading: Vec<i64>,
    /// All deliveries are in one group, and none becomes `blocked`: the backlog itself waits.
    pub is_strict: bool,
    /// A head is sent together with deliveries behind it (batches, compaction).
    gathers: bool,
    max: usize,
    /// Deliveries in memory, without a row and with one.
    fresh: usize,
    queued: usize,
    asides: usize,
}

/// Whether a delivery may enter its group.
#[derive(Debug, PartialEq, Eq)]
pub enum Entrance {
    Open,
    /// It becomes a row behind its group.
    Blocked,
    /// It must wait: there are too many groups, or the only group waits for a retry.
    Shut,
}

impl OrderGroups {
    pub fn new(is_strict: bool, gathers: bool, max: usize) -> Self {
        Self {
            groups: HashMap::new(),
            ready: VecDeque::new(),
            wanting: VecDeque::new(),
            loading: Vec::new(),
            is_strict,
            gathers,
            max,
            fresh: 0,
            queued: 0,
            asides: 0,
        }
    }

    /// Returns the number of deliveries in memory without a row.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// Returns the number of deliveries in memory with a row.
    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn is_wanting(&self) -> bool {
        !self.wanting.is_empty() && self.loading.is_empty()
    }

    /// Returns the head of the group whose turn is next.
    pub fn front(&self) -> Option<&Item> {
        match self.groups.get(self.ready.front()?)?.places.front() {
            Some((_, GroupPlace::Here(item))) => Some(item),
            _ => None,
        }
    }

    /// Returns whether a later delivery of the key may enter.
    pub fn entrance(&self, key: i64) -> Entrance {
        match self.groups.get(&key) {
            None if self.groups.len() >= self.max && !self.is_strict => Entrance::Shut,
            None => Entrance::Open,
            Some(line) if self.is_strict => {
                if line.is_standing() {
                    Entrance::Shut
                } else {
                    Entrance::Open
                }
            }
            Some(line) if line.has_rows || line.is_standing() => Entrance::Blocked,
            Some(_) => Entrance::Open,
        }
    }

    /// Returns whether a row of the backlog may enter. A row that has a place may enter, and so may
    /// a row that is older than another place: the rows behind the group are younger than all
    /// places.
    pub fn entrance_again(&self, key: i64, event_id: i64) -> Entrance {
        match self.groups.get(&key).and_then(|line| line.places.back()) {
            Some((last, _)) if event_id <= *last => Entrance::Open,
            _ => self.entrance(key),
        }
    }

    /// Reports whether pages of the backlog can be taken.
    pub fn takes_pages(&self) -> bool {
        if self.is_strict {
            !self.groups.values().any(OrderGroup::is_standing)
        } else {
            self.groups.len() < self.max
        }
    }

    pub fn contains(&self, key: i64, event_id: i64) -> bool {
        self.groups.get(&key).is_some_and(|line| line.find(event_id).is_ok())
    }

    /// Puts a delivery into its group, in order of events.
    pub fn insert(&mut self, key: i64, item: Item) {
        let event_id = item.message.event().id;
        self.count(&item, true);
        self.place(key, event_id, GroupPlace::Here(item));
    }

    /// Restores a delivery that waits for its time, as read from the table.
    pub fn restore_timed(&mut self, key: i64, event_id: i64) {
        self.place(key, event_id, GroupPlace::Timed);
    }

    /// Restores a row of the backlog that is older than a delivery that waits for its time, as read
    /// from the table.
    pub fn restore_backlog(&mut self, key: i64, event_id: i64) {
        self.place(key, event_id, GroupPlace::Aside);
    }

    /// Records that the table has blocked rows of the key.
    pub fn restore_rows(&mut self, key: i64) {
        self.groups.entry(key).or_default().has_rows = true;
        self.update(key);
    }

    fn place(&mut self, key: i64, event_id: i64, place: GroupPlace) {
        let line = self.groups.entry(key).or_default();
        self.asides += usize::from(matches!(place, GroupPlace::Aside));
        line.timed += usize::from(matches!(place, GroupPlace::Timed));
        match line.find(event_id) {
            Ok(at) => {
                let former = std::mem::replace(&mut line.places[at].1, place);
                self.asides -= usize::from(matches!(former, GroupPlace::Aside));
                line.timed -= usize::from(matches!(former, GroupPlace::Timed));
            }
            Err(at) => line.places.insert(at, (event_id, place)),
        }
        self.update(key);
    }

    /// Records that a row is `blocked`, or will be once this ledger entry is committed.
    pub fn blocked(&mut self, key: i64, entry: u64) {
        let line = self.groups.entry(key).or_default();
        line.has_rows = true;
        line.rows_after = line.rows_after.max(entry);
        self.update(key);
    }

    /// Takes the head of the next group and the deliveries that may go with it, at most `max` in
    /// total. They are in flight from then on.
    pub fn take(
        &mut self,
        max: usize,
        mut goes_too: impl FnMut(&Item, &Item) -> bool,
    ) -> Option<(i64, Vec<Item>)> {
        let key = self.ready.pop_front()?;
        let line = self.groups.get_mut(&key)?;
        line.is_ready = false;
        line.is_fetched = false;
        let mut taken: Vec<Item> = Vec::new();
        for (_, place) in &mut line.places {
            let GroupPlace::Here(item) = place else { break };
            if taken.len() >= max || taken.last().is_some_and(|last| !goes_too(last, item)) {
                break;
            }
            if let GroupPlace::Here(item) = std::mem::replace(place, GroupPlace::Flying) {
                taken.push(item);
            }
        }
        taken.iter().for_each(|item| self.count(item, false));
        Some((key, taken))
    }

    /// Removes a delivery that is final or gone. `entry` is the ledger entry that says so.
    pub fn finish(&mut self, key: i64, event_id: i64, entry: u64) {
        let Some(line) = self.groups.get_mut(&key) else { return };
        if let Ok(at) = line.find(event_id)
            && let Some((_, place)) = line.places.remove(at)
        {
            match place {
                GroupPlace::Here(item) => self.count(&item, false),
                GroupPlace::Aside => self.asides -= 1,
                GroupPlace::Timed => line.timed -= 1,
                GroupPlace::Flying => {}
            }
        }
        if let Some(line) = self.groups.get_mut(&key) {
            line.rows_after = line.rows_after.max(entry);
        }
        self.update(key);
    }

    /// Records that a delivery has failed and waits for its time. Returns the deliveries that leave
    /// the group.
    ///
    /// These are the deliveries in memory behind the last place that is in flight or waits for its
    /// time. The other deliveries of the same request stay, and so do deliveries in memory between
    /// them. So each delivery that leaves is younger than all of these.
    #[must_use]
    pub fn fail(&mut self, key: i64, event_id: i64) -> Vec<Item> {
        if !self.contains(key, event_id) {
            return Vec::new();
        }
        self.place(key, event_id, GroupPlace::Timed);
        let Some(line) = self.groups.get(&key) else { return Vec::new() };
        let is_busy =
            |(_, place): &&(i64, GroupPlace)| matches!(place, GroupPlace::Flying | GroupPlace::Timed);
        let last = line.places.iter().rev().find(is_busy).map_or(event_id, |(last, _)| *last);
        let items = self.leave(key, last);
        if self.is_strict {
            self.update(key);
        } else {
            self.forget_asides_behind(key, last);
        }
        items
    }

    /// Drops the backlog places behind an event. From then on, their rows count as rows behind the
    /// group.
    pub fn forget_asides_behind(&mut self, key: i64, event_id: i64) {
        if let Some(line) = self.groups.get_mut(&key) {
            let before = line.places.len();
            line.places.retain(|(other, place)| *other <= event_id || !matches!(place, GroupPlace::Aside));
            self.asides -= before - line.places.len();
            line.has_rows |= before > line.places.len();
        }
        self.update(key);
    }

    /// Removes and returns all deliveries in memory behind an event.
    fn leave(&mut self, key: i64, behind: i64) -> Vec<Item> {
        let Some(line) = self.groups.get_mut(&key) else { return Vec::new() };
        let mut items = Vec::new();
        for (event_id, place) in std::mem::take(&mut line.places) {
            match place {
                GroupPlace::Here(item) if event_id > behind => items.push(item),
                place => line.places.push_back((event_id, place)),
            }
        }
        items.iter().for_each(|item| self.count(item, false));
        items
    }

    /// Records that a delivery becomes a row of the backlog with this ledger entry. It keeps its
    /// place until the row is read.
    pub fn put_aside(&mut self, key: i64, event_id: i64, entry: u64) {
        if self.contains(key, event_id) {
            self.restore_aside(key, event_id, entry);
        }
    }

    /// Reports whether a delivery in memory meets the condition.
    pub fn any_here(&self, which: impl Fn(&Item) -> bool) -> bool {
        let places = self.groups.values().flat_map(|line| &line.places);
        places.into_iter().any(|(_, place)| matches!(place, GroupPlace::Here(item) if which(item)))
    }

    /// Restarts the retry schedule of a delivery in memory. Returns `false` if it is not in memory.
    pub fn begin_anew(&mut self, key: i64, event_id: i64) -> bool {
        let Some(line) = self.groups.get_mut(&key) else { return false };
        let at = line.find(event_id).ok();
        let Some((_, GroupPlace::Here(item))) = at.and_then(|at| line.places.get_mut(at)) else {
            return false;
        };
        item.retry_from = item.attempts;
        item.row = match item.row {
            RowState::Backlog | RowState::Blocked => RowState::Waiting,
            row => row,
        };
        true
    }

    /// Gives a delivery that has left memory a place, because its row in the backlog will be read.
    /// A group that has rows behind it, or will have, gets no new place: the delivery would be
    /// younger than some of those rows.
    pub fn restore_aside(&mut self, key: i64, event_id: i64, entry: u64) {
        let may = |line: &OrderGroup| line.find(event_id).is_ok() || !(line.has_rows || line.is_standing());
        if self.is_strict || self.groups.get(&key).map_or(self.groups.len() < self.max, may) {
            let line = self.groups.entry(key).or_default();
            line.rows_after = line.rows_after.max(entry);
            self.place(key, event_id, GroupPlace::Aside);
        }
    }

    /// Records that all deliveries that wait for their time become rows of the backlog. Their last
    /// attempts are in the table once this ledger entry is committed.
    pub fn park(&mut self, entry: u64) {
        for line in self.groups.values_mut().filter(|line| line.is_standing()) {
            for (_, place) in &mut line.places {
                if matches!(place, GroupPlace::Timed) {
                    *place = GroupPlace::Aside;
                    self.asides += 1;
                }
            }
            line.timed = 0;
            line.rows_after = line.rows_after.max(entry);
        }
        for key in self.groups.keys().copied().collect::<Vec<_>>() {
            self.update(key);
        }
    }

    /// Takes out the deliveries in memory without a row, ascending by event. They keep their
    /// places.
    pub fn take_fresh(&mut self) -> Vec<Item> {
        self.take_here(|item| matches!(item.row, RowState::None { .. }))
    }

    /// Takes out the deliveries in memory with a row, ascending by event. They keep their places.
    pub fn take_queued(&mut self) -> Vec<Item> {
        self.take_here(|item| !matches!(item.row, RowState::None { .. }))
    }

    fn take_here(&mut self, which: impl Fn(&Item) -> bool) -> Vec<Item> {
        if self.fresh + self.queued == 0 {
            return Vec::new();
        }
        let mut items = Vec::new();
        for key in self.groups.keys().copied().collect::<Vec<_>>() {
            for item in self.leave(key, i64::MIN) {
                if which(&item) {
                    self.place(key, item.message.event().id, GroupPlace::Aside);
                    items.push(item);
                } else {
                    self.insert(key, item);
                }
            }
            self.update(key);
        }
        items.sort_unstable_by_key(|item| item.message.event().id);
        items
    }

    /// Drops all backlog places after the backlog has been read to its end. Rows that were not
    /// found are gone.
    pub fn forget_asides(&mut self) {
        if self.asides == 0 {
            return;
        }
        self.asides = 0;
        for key in self.groups.keys().copied().collect::<Vec<_>>() {
            if let Some(line) = self.groups.get_mut(&key) {
                line.places.retain(|(_, place)| !matches!(place, GroupPlace::Aside));
            }
            self.update(key);
        }
    }

    /// Drops the backlog places whose rows were missing from a page. The page held the rows
    /// `found`, after the event `behind` and up to the event `upto`.
    ///
    /// A row that is missing there has been deleted, if all ledger entries about its group were
    /// committed before the page was read (`confirmed`).
    pub fn forget_missing(&mut self, (behind, upto): (i64, i64), found: &HashSet<i64>, confirmed: u64) {
        if self.asides == 0 {
            return;
        }
        for key in self.groups.keys().copied().collect::<Vec<_>>() {
            let Some(line) = self.groups.get_mut(&key).filter(|line| line.rows_after <= confirmed) else {
                continue;
            };
            let before = line.places.len();
            line.places.retain(|(event_id, place)| {
                !matches!(place, GroupPlace::Aside)
                    || *event_id <= behind
                    || *event_id > upto
                    || found.contains(event_id)
            });
            let missing = before - line.places.len();
            if missing > 0 {
                self.asides -= missing;
                self.update(key);
            }
        }
    }

    /// Updates the state of one group: whether it is ready, wants rows, or is empty.
    fn update(&mut self, key: i64) {
        let Some(line) = self.groups.get_mut(&key) else { return };
        if line.places.is_empty() && !line.has_rows {
            if line.is_ready {
                self.ready.retain_key(key);
            }
            self.groups.remove(&key);
            return;
        }
        if line.wants(self.gathers) {
            if !line.is_wanting {
                line.is_wanting = true;
                self.wanting.push_back(key);
            }
        } else if !line.is_ready && matches!(line.places.front(), Some((_, GroupPlace::Here(_)))) {
            line.is_ready = true;
            self.ready.push_back(key);
        }
        if let Some(line) = self.groups.get_mut(&key)
            && line.is_ready
            && !matches!(line.places.front(), Some((_, GroupPlace::Here(_))))
        {
            line.is_ready = false;
            self.ready.retain_key(key);
        }
    }

    fn count(&mut self, item: &Item, is_in: bool) {
        let count = match item.row {
            RowState::None { .. } => &mut self.fresh,
            _ => &mut self.queued,
        };
        if is_in {
            *count += 1;
        } else {
            *count -= 1;
        }
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

trait RetainKey {
    fn retain_key(&mut self, key: i64);
}

impl RetainKey for VecDeque<i64> {
    /// Removes a key, which is nearly always at the front.
    fn retain_key(&mut self, key: i64) {
        if self.front() == Some(&key) {
            self.pop_front();
        } else {
            self.retain(|other| *other != key);
        }
    }
}
