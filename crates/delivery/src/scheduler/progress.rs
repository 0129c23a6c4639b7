//! The windows that are not resolved yet. Pure.
//!
//! A window is resolved once it has been read to its end, and each of its deliveries has a recorded
//! attempt or a queue row. The checkpoint is the newest snapshot up to which no window is open. So
//! a later window that is done waits for the earlier ones.
//!
//! This module counts deliveries per window. It must never return a snapshot that covers an open
//! delivery.

use crate::snapshot::Snapshot;
use std::{collections::VecDeque, time::Duration};

/// Windows after the checkpoint, oldest first.
#[derive(Debug, Default)]
pub struct Progress {
    /// Number of the first window in `windows`. Windows are numbered without gaps.
    first: u64,
    windows: VecDeque<OpenWindow>,
    /// The end of the last window that has been resolved, until it is taken.
    resolved: Option<Snapshot>,
}

#[derive(Debug)]
struct OpenWindow {
    /// Number of deliveries that are not recorded yet.
    open: u64,
    /// `None` while the window is being read.
    end: Option<Snapshot>,
    since: Duration,
}

impl Progress {
    /// Adds the windows up to this one, unless they are known.
    pub fn open(&mut self, window: u64, now: Duration) {
        while self.first + self.windows.len() as u64 <= window {
            self.windows.push_back(OpenWindow { open: 0, end: None, since: now });
        }
    }

    fn at(&mut self, window: u64) -> Option<&mut OpenWindow> {
        self.windows.get_mut(usize::try_from(window.checked_sub(self.first)?).ok()?)
    }

    /// Adds deliveries to a window.
    pub fn add(&mut self, window: u64, deliveries: u64) {
        if let Some(window) = self.at(window) {
            window.open += deliveries;
        }
    }

    /// Resolves deliveries of a window.
    pub fn resolve(&mut self, window: u64, deliveries: u64) {
        if let Some(window) = self.at(window) {
            window.open = window.open.saturating_sub(deliveries);
        }
        self.leave();
    }

    /// Records that a window has been read to its end.
    pub fn close(&mut self, window: u64, end: Snapshot) {
        if let Some(window) = self.at(window) {
            window.end = Some(end);
        }
        self.leave();
    }

    fn leave(&mut self) {
        while let Some(OpenWindow { open: 0, end: Some(_), .. }) = self.windows.front() {
            self.resolved = self.windows.pop_front().and_then(|window| window.end);
            self.first += 1;
        }
    }

    /// Reports whether the checkpoint can move.
    pub fn has_moved(&self) -> bool {
        self.resolved.is_some()
    }

    /// Returns the snapshot that the checkpoint can move to, once.
    pub fn take_resolved(&mut self) -> Option<Snapshot> {
        self.resolved.take()
    }

    /// Returns the time at which the oldest window was opened.
    pub fn oldest_since(&self) -> Option<Duration> {
        self.windows.front().map(|window| window.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn end(window: u64) -> Snapshot {
        format!("{0}:{0}:", 100 + window).parse().unwrap()
    }

    #[test]
    fn a_window_waits_for_those_before_it() {
        let mut progress = Progress::default();
        for window in 0..3 {
            progress.open(window, Duration::from_secs(window));
            progress.add(window, 2);
            progress.close(window, end(window));
        }
        progress.resolve(1, 2);
        assert_eq!(progress.take_resolved(), None);
        assert_eq!(progress.oldest_since(), Some(Duration::ZERO));
        progress.resolve(0, 2);
        assert_eq!(progress.take_resolved(), Some(end(1)), "both at once");
        assert_eq!(progress.take_resolved(), None, "told once");
        assert_eq!(progress.oldest_since(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_window_that_is_still_read_is_not_resolved() {
        let mut progress = Progress::default();
        progress.open(0, Duration::ZERO);
        progress.add(0, 1);
        progress.resolve(0, 1);
        assert!(!progress.has_moved());
        progress.close(0, end(0));
        assert!(progress.has_moved());
    }

    proptest! {
        /// In any order of events, the checkpoint never passes an open delivery.
        #[test]
        fn never_passes_what_is_open(counts in proptest::collection::vec(0u64..4, 1..8), order in any::<u64>()) {
            let mut progress = Progress::default();
            let mut steps: Vec<(u64, bool)> = Vec::new();
            for (window, count) in (0..).zip(&counts) {
                progress.open(window, Duration::ZERO);
                progress.add(window, *count);
                steps.extend((0..*count).map(|_| (window, false)));
                steps.push((window, true));
            }
            let mut open = counts.iter().map(|count| count + 1).collect::<Vec<_>>();
            let mut rng = order;
            while !steps.is_empty() {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (window, closes) = steps.swap_remove((rng >> 33) as usize % steps.len());
                if closes { progress.close(window, end(window)) } else { progress.resolve(window, 1) }
                open[window as usize] -= 1;
                let done = open.iter().take_while(|left| **left == 0).count() as u64;
                prop_assert_eq!(progress.first, done);
                if let Some(resolved) = progress.take_resolved() {
                    prop_assert_eq!(resolved, end(done - 1));
                }
            }
            prop_assert!(progress.windows.is_empty());
        }
    }
}
