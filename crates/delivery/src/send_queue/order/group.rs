//! One order group: the deliveries of one key, by event.

use crate::queue_rows::Item;
use std::collections::VecDeque;

/// A delivery's place in its group.
#[derive(Debug)]
pub enum GroupPlace {
    /// In flight.
    Flying,
    /// Waiting for its time, or being read.
    Timed,
    /// A row of the backlog that will be read in its turn.
    Aside,
    Here(Item),
}

#[derive(Debug, Default)]
pub struct OrderGroup {
    /// Ascending by event.
    pub places: VecDeque<(i64, GroupPlace)>,
    /// Number of places that wait for their time.
    pub timed: usize,
    /// The table may have rows behind these places.
    pub has_rows: bool,
    /// All rows of the group are in the table once this ledger entry is committed.
    pub rows_after: u64,
    pub is_ready: bool,
    pub is_wanting: bool,
    /// The rows that are sent together with the head have been read.
    pub is_fetched: bool,
}

impl OrderGroup {
    pub fn find(&self, event_id: i64) -> Result<usize, usize> {
        self.places.binary_search_by_key(&event_id, |(event_id, _)| *event_id)
    }

    /// Reports whether a delivery of the group waits for its time.
    pub fn is_standing(&self) -> bool {
        self.timed > 0
    }

    pub fn wants(&self, gathers: bool) -> bool {
        match self.places.front() {
            None => self.has_rows,
            Some((_, GroupPlace::Here(_))) => self.has_rows && gathers && !self.is_fetched,
            // The row may lie far back in the backlog, and rows before it may have to wait for it.
            Some((_, GroupPlace::Aside)) => true,
            Some((_, GroupPlace::Flying | GroupPlace::Timed)) => false,
        }
    }
}
