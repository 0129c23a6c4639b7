//! Rows of order groups in the table: which to read next, and the effect of each read.

use crate::send_queue::order::*;

impl OrderGroups {
    /// Returns up to `max` groups that want rows and can be read now. The caller reads them and
    /// passes the answer to [`take_answer`](Self::take_answer), and then each group to
    /// [`loaded`](Self::loaded) or [`not_loaded`](Self::not_loaded).
    pub fn next_load(&mut self, entries_confirmed: u64, max: usize) -> Vec<i64> {
        let mut keys = Vec::new();
        while self.loading.is_empty()
            && keys.len() < max
            && let Some(key) = self.wanting.front().copied()
        {
            let Some(line) = self.groups.get_mut(&key).filter(|line| line.wants(self.gathers)) else {
                self.wanting.pop_front();
                self.not_loaded(key);
                continue;
            };
            if line.rows_after > entries_confirmed {
                break;
            }
            self.wanting.pop_front();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        if !keys.is_empty() {
            self.loading.clone_from(&keys);
        }
        keys
    }

    /// Accepts an answer for these groups. Returns `false` if it was requested under another order.
    pub fn take_answer(&mut self, mut order_keys: impl Iterator<Item = i64>) -> bool {
        let is_ours =
            !self.loading.is_empty() && self.loading.iter().all(|key| order_keys.next() == Some(*key));
        if is_ours {
            self.loading.clear();
        }
        is_ours
    }

    /// Records that a group's rows up to the event `upto` have been read, after all ledger entries
    /// up to `entries_confirmed` were committed. `is_end` means that the table had no further rows.
    pub fn loaded(&mut self, key: i64, upto: Option<i64>, is_end: bool, entries_confirmed: u64) {
        if let Some(line) = self.groups.get_mut(&key) {
            line.is_wanting = false;
            line.is_fetched = true;
            if line.rows_after <= entries_confirmed {
                line.has_rows &= !is_end;
                // Each backlog place that remains has lost its row, or its row has another key.
                let is_read = |event_id: &i64| is_end || upto.is_some_and(|upto| *event_id <= upto);
                let before = line.places.len();
                line.places.retain(|(id, place)| !(matches!(place, GroupPlace::Aside) && is_read(id)));
                self.asides -= before - line.places.len();
            }
        }
        self.update(key);
    }

    /// Records that the load had no answer for this group, or that not all of its rows could enter.
    /// The group is read again if it still wants rows.
    pub fn not_loaded(&mut self, key: i64) {
        if let Some(line) = self.groups.get_mut(&key) {
            line.is_wanting = false;
        }
        self.update(key);
    }
}
