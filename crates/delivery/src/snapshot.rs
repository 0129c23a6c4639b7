//! Postgres snapshots, and the transactions between two of them. Pure.
//!
//! The cursor of the outbox is a snapshot and not a number. Ids are assigned before the commit. So
//! "greater than the last id" would lose rows, and waiting for the oldest running transaction would
//! stall behind every long one. A [`Window`] contains what a newer snapshot sees and an older one
//! does not. So a long transaction delays only its own events.

use std::{fmt, str::FromStr};
use thiserror::Error;

/// A `pg_snapshot`: the full transaction ids that had ended when it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    /// Transactions in progress when it was taken, ascending, each in `xmin..xmax`.
    running: Box<[u64]>,
}

/// The text is not a `pg_snapshot`.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a snapshot")]
pub struct Invalid(String);

impl Snapshot {
    /// Returns the oldest possible snapshot. It sees no transaction.
    pub fn beginning() -> Self {
        Self { xmin: 3, xmax: 3, running: Box::default() }
    }

    /// Returns the lowest id that had not ended. All lower ids had.
    pub fn xmin(&self) -> u64 {
        self.xmin
    }

    /// Returns the id from which on none had ended. Some of them may have begun.
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Returns the ids in progress when it was taken, ascending.
    pub fn running(&self) -> &[u64] {
        &self.running
    }

    /// Reports whether the transaction had ended when the snapshot was taken, as
    /// `pg_visible_in_snapshot` in SQL.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.running.binary_search(&xid).is_err())
    }
}

impl FromStr for Snapshot {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid(text.to_owned());
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or_else(invalid);
        let (xmin, xmax, running) = (part()?, part()?, part()?);
        let xmin: u64 = xmin.parse().map_err(|_| invalid())?;
        let xmax: u64 = xmax.parse().map_err(|_| invalid())?;
        let running = match running {
            "" => Box::default(),
            list => {
                list.split(',').map(str::parse).collect::<Result<Box<[u64]>, _>>().map_err(|_| invalid())?
            }
        };
        let ascending = running.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = running.iter().all(|xid| (xmin..xmax).contains(xid));
        if xmin == 0 || xmin > xmax || !ascending || !inside {
            return Err(invalid());
        }
        Ok(Self { xmin, xmax, running })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (i, xid) in self.running.iter().enumerate() {
            write!(f, "{}{xid}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The transactions that `upto` sees and `after` does not: those that ended in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    after: Snapshot,
    upto: Snapshot,
}

impl Window {
    /// Creates a window. `upto` is the later snapshot, and both are of the same cluster.
    pub fn new(after: Snapshot, upto: Snapshot) -> Self {
        Self { after, upto }
    }

    pub fn upto(&self) -> &Snapshot {
        &self.upto
    }

    /// Returns the first id of the main range `first..end`: transactions that began after the older
    /// snapshot.
    pub fn first(&self) -> u64 {
        self.after.xmax
    }

    /// Returns the end of the main range, exclusive.
    pub fn end(&self) -> u64 {
        self.upto.xmax.max(self.after.xmax)
    }

    /// Returns the ids in the main range that are still running in the newer snapshot. They belong
    /// to a later window.
    pub fn running(&self) -> impl Iterator<Item = u64> + '_ {
        self.upto.running.iter().copied().filter(|xid| *xid >= self.after.xmax)
    }

    /// Returns the transactions that were running in the older snapshot and have ended since.
    pub fn stragglers(&self) -> impl Iterator<Item = u64> + '_ {
        self.after.running.iter().copied().filter(|xid| self.upto.sees(*xid))
    }

    /// Reports whether a transaction's events belong to the window.
    pub fn contains(&self, xid: u64) -> bool {
        self.upto.sees(xid) && !self.after.sees(xid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::btree_set, prelude::*};

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_postgres_prints() {
        for text in ["3:3:", "736:736:", "736:740:736,738", "1:18446744073709551615:5"] {
            assert_eq!(snapshot(text).to_string(), text);
        }
        for bad in [
            "", "3", "3:3", "4:3:", "3:9:9", "3:9:2", "3:9:5,5", "3:9:6,5", "3:9:x", "a:9:", "0:1:", "-1:3:",
            "3:9:5,",
        ] {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_straggler_is_seen_in_the_window_in_which_it_ends() {
        let window = Window::new(snapshot("10:20:10,15"), snapshot("15:25:15,22"));
        assert_eq!(window.stragglers().collect::<Vec<_>>(), [10]);
        assert_eq!((window.first(), window.end()), (20, 25));
        assert_eq!(window.running().collect::<Vec<_>>(), [22]);
        let inside: Vec<u64> = (0..40).filter(|xid| window.contains(*xid)).collect();
        assert_eq!(inside, [10, 20, 21, 23, 24]);
    }

    /// A history: transactions begin in the order of their ids, and end at a later moment or never.
    fn history() -> impl Strategy<Value = (Vec<Option<u64>>, u64, u64)> {
        (proptest::collection::vec(proptest::option::weighted(0.9, 0u64..30), 1..60), 0u64..90, 0u64..90)
    }

    /// Returns the snapshot that a server would take at a moment. Transaction `i` has id `100 + i`
    /// and begins at moment `i`.
    fn taken_at(history: &[Option<u64>], moment: u64) -> Snapshot {
        let begun = (moment + 1).min(history.len() as u64);
        let running: Vec<u64> = (0..begun)
            .filter(|i| history[*i as usize].is_none_or(|lasts| i + lasts > moment))
            .map(|i| 100 + i)
            .collect();
        let xmax = 100 + begun;
        Snapshot { xmin: running.first().copied().unwrap_or(xmax), xmax, running: running.into() }
    }

    proptest! {
        #[test]
        fn text_goes_both_ways(xmin in 1u64..1000, span in 0u64..1000, picks in btree_set(0u64..1000, 0..20)) {
            let running: Box<[u64]> = picks.into_iter().filter(|p| *p < span).map(|p| xmin + p).collect();
            let one = Snapshot { xmin, xmax: xmin + span, running };
            prop_assert_eq!(one.to_string().parse::<Snapshot>().unwrap(), one);
        }

        /// The ranges that the SQL uses (main range without running ones, plus stragglers) equal
        /// the definition of a window.
        #[test]
        fn ranges_and_definition_agree((history, one, other) in history()) {
            let (a, b) = (taken_at(&history, one.min(other)), taken_at(&history, one.max(other)));
            let window = Window::new(a.clone(), b.clone());
            let running: Vec<u64> = window.running().collect();
            let stragglers: Vec<u64> = window.stragglers().collect();
            for xid in 90..200 {
                let by_ranges = ((window.first()..window.end()).contains(&xid) && !running.contains(&xid))
                    || stragglers.contains(&xid);
                prop_assert_eq!(by_ranges, window.contains(xid), "xid {}", xid);
                prop_assert_eq!(window.contains(xid), b.sees(xid) && !a.sees(xid));
            }
        }

        /// Consecutive windows contain every ended transaction exactly once.
        #[test]
        fn windows_partition_history((history, one, other) in history()) {
            let cuts = [0, one.min(other), one.max(other), 200].map(|moment| taken_at(&history, moment));
            for (i, lasts) in history.iter().enumerate() {
                let xid = 100 + i as u64;
                let times = usize::from(cuts[0].sees(xid))
                    + cuts.windows(2).filter(|w| Window::new(w[0].clone(), w[1].clone()).contains(xid)).count();
                prop_assert_eq!(times, usize::from(lasts.is_some()));
            }
        }
    }
}
