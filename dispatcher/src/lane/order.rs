//! Who waits for whom in a lane with an order: one line per order key, and only its head goes. Pure.
//!
//! A line knows its deliveries in memory, under way, or waiting for their time; those further back may be rows of the
//! queue in state `blocked`. What fails sends everything behind it there, so that a key whose receiver fails costs a few
//! bytes and holds up nobody else.

mod rows;

use super::lane::{Item, RowState};
use std::collections::{HashMap, HashSet, VecDeque};

/// Most lines of one lane; beyond that no new key is taken up until one is free.
pub const LINES_MAX: usize = 50_000;

/// A delivery's place in its line.
#[derive(Debug)]
enum Place {
    /// Under way.
    Flying,
    /// Waiting for its time, or being read.
    Timed,
    /// A row of the backlog that will be read in its turn.
    Aside,
    Here(Item),
}

#[derive(Debug, Default)]
struct Line {
    /// Ascending by event.
    places: VecDeque<(i64, Place)>,
    /// How many of them wait for their time.
    timed: usize,
    /// There may be rows behind them in the table.
    has_rows: bool,
    /// What is in the table is known to be there once this entry of the ledger is committed.
    rows_after: u64,
    is_ready: bool,
    is_wanting: bool,
    /// The rows behind a head that is to be sent together with them have been read.
    is_fetched: bool,
}

/// The lines of one lane.
#[derive(Debug)]
pub struct Lines {
    lines: HashMap<i64, Line>,
    /// Lines whose head is here, in turn.
    ready: VecDeque<i64>,
    /// Lines that want rows from the table.
    wanting: VecDeque<i64>,
    /// Lines that are being read.
    loading: Vec<i64>,
    /// All deliveries are in one line, and none becomes `blocked`: the backlog itself waits.
    pub is_strict: bool,
    /// A head goes with those behind it: batches, compaction.
    gathers: bool,
    max: usize,
    /// Deliveries here, without and with a row.
    fresh: usize,
    queued: usize,
    asides: usize,
}

/// What becomes of a new delivery.
#[derive(Debug, PartialEq, Eq)]
pub enum Entrance {
    Open,
    /// It goes to the rows behind its line.
    Blocked,
    /// Nothing goes on now: too many lines, or the only one stands still.
    Shut,
}

impl Lines {
    pub fn new(is_strict: bool, gathers: bool, max: usize) -> Self {
        Self {
            lines: HashMap::new(),
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

    /// Deliveries here that have no row.
    pub fn fresh(&self) -> usize {
        self.fresh
    }

    /// Deliveries here that have one.
    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn is_wanting(&self) -> bool {
        !self.wanting.is_empty() && self.loading.is_empty()
    }

    /// The first item of the line whose turn is next.
    pub fn front(&self) -> Option<&Item> {
        match self.lines.get(self.ready.front()?)?.places.front() {
            Some((_, Place::Here(item))) => Some(item),
            _ => None,
        }
    }

    /// Whether a later delivery of the key may come in.
    pub fn entrance(&self, key: i64) -> Entrance {
        match self.lines.get(&key) {
            None if self.lines.len() >= self.max && !self.is_strict => Entrance::Shut,
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

    /// Whether a row of the backlog may come in. One that has a place may, and one that is older than another that has one:
    /// the rows behind its line are younger than all of those.
    pub fn entrance_again(&self, key: i64, event_id: i64) -> Entrance {
        match self.lines.get(&key).and_then(|line| line.places.back()) {
            Some((last, _)) if event_id <= *last => Entrance::Open,
            _ => self.entrance(key),
        }
    }

    /// Whether backlog can be taken up.
    pub fn takes_pages(&self) -> bool {
        if self.is_strict { !self.lines.values().any(Line::is_standing) } else { self.lines.len() < self.max }
    }

    pub fn contains(&self, key: i64, event_id: i64) -> bool {
        self.lines.get(&key).is_some_and(|line| line.find(event_id).is_ok())
    }

    /// Puts a delivery into its line, at its place.
    pub fn insert(&mut self, key: i64, item: Item) {
        let event_id = item.message.event().id;
        self.count(&item, true);
        self.place(key, event_id, Place::Here(item));
    }

    /// A delivery that waits for its time, from the table.
    pub fn restore_timed(&mut self, key: i64, event_id: i64) {
        self.place(key, event_id, Place::Timed);
    }

    /// A row of the backlog that is older than one that waits for its time, from the table.
    pub fn restore_backlog(&mut self, key: i64, event_id: i64) {
        self.place(key, event_id, Place::Aside);
    }

    /// Rows of the key from the table are blocked.
    pub fn restore_rows(&mut self, key: i64) {
        self.lines.entry(key).or_default().has_rows = true;
        self.update(key);
    }

    fn place(&mut self, key: i64, event_id: i64, place: Place) {
        let line = self.lines.entry(key).or_default();
        self.asides += usize::from(matches!(place, Place::Aside));
        line.timed += usize::from(matches!(place, Place::Timed));
        line.is_fetched &= !matches!(place, Place::Aside);
        match line.find(event_id) {
            Ok(at) => {
                let former = std::mem::replace(&mut line.places[at].1, place);
                self.asides -= usize::from(matches!(former, Place::Aside));
                line.timed -= usize::from(matches!(former, Place::Timed));
            }
            Err(at) => line.places.insert(at, (event_id, place)),
        }
        self.update(key);
    }

    /// A row has been made `blocked` by this entry of the ledger, or is on its way to it.
    pub fn blocked(&mut self, key: i64, entry: u64) {
        let line = self.lines.entry(key).or_default();
        line.has_rows = true;
        line.rows_after = line.rows_after.max(entry);
        self.update(key);
    }

    /// The head of the next line, and what may go with it, at most `max` deliveries: they are under way now.
    pub fn take(
        &mut self,
        max: usize,
        mut goes_too: impl FnMut(&Item, &Item) -> bool,
    ) -> Option<(i64, Vec<Item>)> {
        let key = self.ready.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        line.is_ready = false;
        line.is_fetched = false;
        let mut taken: Vec<Item> = Vec::new();
        for (_, place) in &mut line.places {
            let Place::Here(item) = place else { break };
            if taken.len() >= max || taken.last().is_some_and(|last| !goes_too(last, item)) {
                break;
            }
            if let Place::Here(item) = std::mem::replace(place, Place::Flying) {
                taken.push(item);
            }
        }
        taken.iter().for_each(|item| self.count(item, false));
        Some((key, taken))
    }

    /// A delivery is final; `entry` says so in the ledger.
    pub fn finish(&mut self, key: i64, event_id: i64, entry: u64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        if let Ok(at) = line.find(event_id)
            && let Some((_, place)) = line.places.remove(at)
        {
            match place {
                Place::Here(item) => self.count(&item, false),
                Place::Aside => self.asides -= 1,
                Place::Timed => line.timed -= 1,
                Place::Flying => {}
            }
        }
        if let Some(line) = self.lines.get_mut(&key) {
            line.rows_after = line.rows_after.max(entry);
        }
        self.update(key);
    }

    /// A delivery has failed and waits for its time. What is here behind it leaves the line, and will be younger than
    /// whatever keeps a place: those that went with it in one request, and what is here between them, stay.
    #[must_use]
    pub fn fail(&mut self, key: i64, event_id: i64) -> Vec<Item> {
        if !self.contains(key, event_id) {
            return Vec::new();
        }
        self.place(key, event_id, Place::Timed);
        let Some(line) = self.lines.get(&key) else { return Vec::new() };
        let is_busy = |(_, place): &&(i64, Place)| matches!(place, Place::Flying | Place::Timed);
        let last = line.places.iter().rev().find(is_busy).map_or(event_id, |(last, _)| *last);
        let items = self.leave(key, last);
        if self.is_strict {
            self.update(key);
        } else {
            self.forget_asides_behind(key, last);
        }
        items
    }

    /// What has a place behind this one and lies in the backlog counts among the rows behind the line from here on.
    pub fn forget_asides_behind(&mut self, key: i64, event_id: i64) {
        if let Some(line) = self.lines.get_mut(&key) {
            let before = line.places.len();
            line.places.retain(|(other, place)| *other <= event_id || !matches!(place, Place::Aside));
            self.asides -= before - line.places.len();
            line.has_rows |= before > line.places.len();
        }
        self.update(key);
    }

    /// Takes everything that is here behind an event out of its line.
    fn leave(&mut self, key: i64, behind: i64) -> Vec<Item> {
        let Some(line) = self.lines.get_mut(&key) else { return Vec::new() };
        let mut items = Vec::new();
        for (event_id, place) in std::mem::take(&mut line.places) {
            match place {
                Place::Here(item) if event_id > behind => items.push(item),
                place => line.places.push_back((event_id, place)),
            }
        }
        items.iter().for_each(|item| self.count(item, false));
        items
    }

    /// A delivery becomes a row of the backlog with this entry of the ledger, and keeps its place until that is read.
    pub fn put_aside(&mut self, key: i64, event_id: i64, entry: u64) {
        if self.contains(key, event_id) {
            self.restore_aside(key, event_id, entry);
        }
    }

    /// Whether any delivery that is here is such a one.
    pub fn any_here(&self, which: impl Fn(&Item) -> bool) -> bool {
        let places = self.lines.values().flat_map(|line| &line.places);
        places.into_iter().any(|(_, place)| matches!(place, Place::Here(item) if which(item)))
    }

    /// A delivery that is here begins its schedule anew; `false`: it is not here.
    pub fn begin_anew(&mut self, key: i64, event_id: i64) -> bool {
        let Some(line) = self.lines.get_mut(&key) else { return false };
        let at = line.find(event_id).ok();
        let Some((_, Place::Here(item))) = at.and_then(|at| line.places.get_mut(at)) else { return false };
        item.retry_from = item.attempts;
        item.row = match item.row {
            RowState::Backlog | RowState::Blocked => RowState::Waiting,
            row => row,
        };
        true
    }

    /// A delivery that has left keeps a place: its row in the backlog will be read. Not in a line that has rows behind it,
    /// or will have: there it would be younger than some of them.
    pub fn restore_aside(&mut self, key: i64, event_id: i64, entry: u64) {
        let may = |line: &Line| line.find(event_id).is_ok() || !(line.has_rows || line.is_standing());
        if self.is_strict || self.lines.get(&key).map_or(self.lines.len() < self.max, may) {
            let line = self.lines.entry(key).or_default();
            line.rows_after = line.rows_after.max(entry);
            self.place(key, event_id, Place::Aside);
        }
    }

    /// All deliveries that wait for their time have become rows of the backlog.
    pub fn park(&mut self) {
        for line in self.lines.values_mut() {
            for (_, place) in &mut line.places {
                if matches!(place, Place::Timed) {
                    *place = Place::Aside;
                    self.asides += 1;
                }
            }
            line.timed = 0;
        }
        for key in self.lines.keys().copied().collect::<Vec<_>>() {
            self.update(key);
        }
    }

    /// Takes out what is here and has no row, ascending by event; it keeps its place.
    pub fn take_fresh(&mut self) -> Vec<Item> {
        self.take_here(|item| matches!(item.row, RowState::None { .. }))
    }

    /// Takes out what is here and has a row, ascending by event; it keeps its place.
    pub fn take_queued(&mut self) -> Vec<Item> {
        self.take_here(|item| !matches!(item.row, RowState::None { .. }))
    }

    fn take_here(&mut self, which: impl Fn(&Item) -> bool) -> Vec<Item> {
        if self.fresh + self.queued == 0 {
            return Vec::new();
        }
        let mut items = Vec::new();
        for key in self.lines.keys().copied().collect::<Vec<_>>() {
            for item in self.leave(key, i64::MIN) {
                if which(&item) {
                    self.place(key, item.message.event().id, Place::Aside);
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

    /// The backlog has been read to its end: rows of it that did not come are gone.
    pub fn forget_asides(&mut self) {
        if self.asides == 0 {
            return;
        }
        self.asides = 0;
        for key in self.lines.keys().copied().collect::<Vec<_>>() {
            if let Some(line) = self.lines.get_mut(&key) {
                line.places.retain(|(_, place)| !matches!(place, Place::Aside));
            }
            self.update(key);
        }
    }

    /// A page of the backlog has been read, behind one event up to another, with these rows in it. What keeps a place for its
    /// row between the two and is not among them has been deleted by somebody, if all that was said of its line was
    /// committed before the page was read (`confirmed`).
    pub fn forget_missing(&mut self, (behind, upto): (i64, i64), found: &HashSet<i64>, confirmed: u64) {
        if self.asides == 0 {
            return;
        }
        for key in self.lines.keys().copied().collect::<Vec<_>>() {
            let Some(line) = self.lines.get_mut(&key).filter(|line| line.rows_after <= confirmed) else {
                continue;
            };
            let before = line.places.len();
            line.places.retain(|(event_id, place)| {
                !matches!(place, Place::Aside)
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

    /// Draws the conclusions for one line: whether it is ready, wants rows, or is empty.
    fn update(&mut self, key: i64) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        if line.places.is_empty() && !line.has_rows {
            if line.is_ready {
                self.ready.retain_key(key);
            }
            self.lines.remove(&key);
            return;
        }
        if line.wants(self.gathers) {
            if !line.is_wanting {
                line.is_wanting = true;
                self.wanting.push_back(key);
            }
        } else if !line.is_ready && matches!(line.places.front(), Some((_, Place::Here(_)))) {
            line.is_ready = true;
            self.ready.push_back(key);
        }
        if let Some(line) = self.lines.get_mut(&key)
            && line.is_ready
            && !matches!(line.places.front(), Some((_, Place::Here(_))))
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
        self.lines.is_empty()
    }
}

trait RetainKey {
    fn retain_key(&mut self, key: i64);
}

impl RetainKey for VecDeque<i64> {
    /// Takes a key out; it is nearly always in front.
    fn retain_key(&mut self, key: i64) {
        if self.front() == Some(&key) {
            self.pop_front();
        } else {
            self.retain(|other| *other != key);
        }
    }
}

impl Line {
    fn find(&self, event_id: i64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&event_id, |(event_id, _)| *event_id)
    }

    /// Something of it waits for its time.
    fn is_standing(&self) -> bool {
        self.timed > 0
    }

    fn wants(&self, gathers: bool) -> bool {
        match self.places.front() {
            None => self.has_rows,
            Some((_, Place::Here(_))) => self.has_rows && gathers && !self.is_fetched,
            // It may lie far back in the backlog, and what is before it may have to wait for it.
            Some((_, Place::Aside)) => !self.is_fetched,
            Some((_, Place::Flying | Place::Timed)) => false,
        }
    }
}
