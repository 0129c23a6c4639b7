//! Rows of lines that are in the table: which are to be read next, and what it means that they have been.

use super::*;

impl Lines {
    /// Lines that want rows and can have them, at most `max`; then [`loaded`](Self::loaded) must follow.
    pub fn next_load(&mut self, entries_confirmed: u64, max: usize) -> Vec<i64> {
        let mut keys = Vec::new();
        while self.loading.is_empty()
            && keys.len() < max
            && let Some(key) = self.wanting.front().copied()
        {
            let Some(line) = self.lines.get_mut(&key).filter(|line| line.wants(self.gathers)) else {
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

    /// Takes an answer for these lines; `false`: it was asked for under another order.
    pub fn take_answer(&mut self, mut order_keys: impl Iterator<Item = i64>) -> bool {
        let is_ours =
            !self.loading.is_empty() && self.loading.iter().all(|key| order_keys.next() == Some(*key));
        if is_ours {
            self.loading.clear();
        }
        is_ours
    }

    /// The table was asked for a line's rows when everything up to `entries_confirmed` was committed; `is_end`: there were
    /// no more than those that have been inserted since.
    pub fn loaded(&mut self, key: i64, is_end: bool, entries_confirmed: u64) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.is_wanting = false;
            line.is_fetched = true;
            if is_end && line.rows_after <= entries_confirmed {
                line.has_rows = false;
                // What did not come is not there any more, or not under this key.
                let before = line.places.len();
                line.places.retain(|(_, place)| !matches!(place, Place::Aside));
                self.asides -= before - line.places.len();
            }
        }
        self.update(key);
    }

    /// The load could not answer for this line: once more.
    pub fn not_loaded(&mut self, key: i64) {
        if let Some(line) = self.lines.get_mut(&key) {
            line.is_wanting = false;
        }
        self.update(key);
    }
}
