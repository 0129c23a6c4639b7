//! The backlog reader of one send queue: which backlog rows must still be read, and when there are
//! none left. Pure.
//!
//! It reads rows forward by event id, so that it does not scan the dead rows behind its position
//! again and again. A row may be committed after the reader has passed its id. So the reader goes
//! back once all spilled rows are committed.
//!
//! It only keeps the position. The scheduler requests the pages, and the ledger writes the rows.

/// Maximum number of rows per page.
pub const PAGE_ROWS: usize = 500;

/// The state of the backlog reader.
#[derive(Debug, Default)]
pub struct BacklogReader {
    /// The table may have rows that are not in memory.
    is_active: bool,
    /// The last event that has been read.
    after: i64,
    /// The next page begins with this event again.
    again_from: Option<i64>,
    is_loading: bool,
    /// Number of spilled rows that are not confirmed yet.
    unconfirmed: u64,
    /// The smallest event spilled since the last request of a page with everything committed.
    first_spilled: Option<i64>,
    /// The last page was the end. There is no next page until the unconfirmed rows are committed.
    is_waiting: bool,
}

impl BacklogReader {
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// Reads the backlog from its beginning. There may be earlier rows after a start, and when a
    /// paused subscription resumes.
    pub fn restart(&mut self) {
        self.is_active = true;
        self.is_waiting = false;
        self.again_from = Some(i64::MIN);
    }

    /// Goes back to this event: rows from there on have been read in vain, and are still in the
    /// table.
    pub fn again(&mut self, event_id: i64) {
        self.is_active = true;
        self.is_waiting = false;
        self.again_from = Some(self.again_from.map_or(event_id, |from| from.min(event_id)));
    }

    /// Reports whether rows before the present position must still be read.
    pub fn goes_back(&self) -> bool {
        self.again_from.is_some()
    }

    /// Records that a row is being written for the event.
    pub fn spilled(&mut self, event_id: i64) {
        self.is_active = true;
        self.unconfirmed += 1;
        self.first_spilled = Some(self.first_spilled.map_or(event_id, |first| first.min(event_id)));
    }

    /// Records that `rows` of the spilled rows are committed.
    pub fn confirmed(&mut self, rows: u64) {
        self.unconfirmed = self.unconfirmed.saturating_sub(rows);
        if self.unconfirmed == 0 {
            self.is_waiting = false;
        }
    }

    /// Returns the event after which to read, if a page should be read now. [`page`](Self::page)
    /// must follow.
    pub fn next_page(&mut self) -> Option<i64> {
        if !self.is_active || self.is_loading || self.is_waiting {
            return None;
        }
        if self.unconfirmed == 0
            && let Some(first) = self.first_spilled.take()
            && first <= self.after
        {
            self.again_from = Some(self.again_from.map_or(first, |from| from.min(first)));
        }
        if let Some(from) = self.again_from.take() {
            // It has gone back already if it is before that event.
            self.after = self.after.min(from.saturating_sub(1));
        }
        self.is_loading = true;
        Some(self.after)
    }

    /// Returns the event after which the present page begins.
    pub fn position(&self) -> i64 {
        self.after
    }

    /// Records that a page has been read: its last event, and whether it was the end.
    pub fn page(&mut self, last: Option<i64>, is_end: bool) {
        self.is_loading = false;
        self.after = last.unwrap_or(self.after).max(self.after);
        if !is_end || self.again_from.is_some() {
            return;
        }
        if self.unconfirmed > 0 {
            self.is_waiting = true;
        } else if self.first_spilled.is_none() {
            self.is_active = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_is_asked_of_an_idle_queue() {
        assert_eq!(BacklogReader::default().next_page(), None);
    }

    #[test]
    fn an_uncommitted_row_is_waited_for_then_looked_for() {
        let mut reader = BacklogReader::default();
        reader.spilled(7);
        assert_eq!(reader.next_page(), Some(0));
        assert_eq!(reader.next_page(), None, "one page at a time");
        reader.page(None, true);
        assert_eq!(reader.next_page(), None, "it cannot be there yet");
        reader.confirmed(1);
        assert_eq!(reader.next_page(), Some(0));
        reader.page(Some(7), true);
        assert!(!reader.is_active());
    }

    proptest! {
        /// The table gets a row when the row is confirmed. Rows that were read in vain are read
        /// again, even while the reader has gone back. Every row is read; then the reader rests.
        #[test]
        fn every_row_is_read(steps in proptest::collection::vec((0u8..5, 1i64..60), 0..200)) {
            let mut reader = BacklogReader::default();
            let (mut table, mut on_their_way, mut read) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
            let mut spilled = BTreeSet::new();
            let settle = (0..400).flat_map(|_| [(1u8, 0i64), (2, 0)]);
            for (step, id) in steps.into_iter().chain(settle) {
                match step {
                    0 if spilled.insert(id) => {
                        reader.spilled(id);
                        on_their_way.push(id);
                    }
                    1 if !on_their_way.is_empty() => {
                        table.insert(on_their_way.remove(0));
                        reader.confirmed(1);
                    }
                    2 => if let Some(after) = reader.next_page() {
                        let page: Vec<i64> = table.range(after + 1..).take(3).copied().collect();
                        for id in &page {
                            table.remove(id);
                            read.insert(*id);
                        }
                        reader.page(page.last().copied(), page.len() < 3);
                    },
                    3 if read.remove(&id) => {
                        table.insert(id);
                        reader.again(id);
                    }
                    4 => reader.restart(),
                    _ => {}
                }
            }
            prop_assert_eq!(read, spilled);
            prop_assert!(!reader.is_active());
        }
    }
}
