//! Which backfill makes the next step, and of how many rows. Pure.
//!
//! A step executes a condition that a user wrote, and all backfills share one session. So each role
//! that requested some has its turn, and a role whose steps take long rests while others have work.
//! A step that takes too long is repeated with fewer rows.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// Maximum number of rows of one step. They are locked against changes during the step, about 20
/// ms.
const ROWS_MAX: i32 = 500;

/// A role rests this many times as long as its step took, if other roles have backfills.
const REST: u32 = 4;

/// How often a step of one row may take too long before the backfill has failed. The server may
/// have been busy.
const STRIKES_MAX: u32 = 3;

/// A running backfill.
#[derive(Debug, Clone)]
pub struct Running {
    pub id: i64,
    /// Its receiver has capacity.
    pub has_room: bool,
    /// The role that requested it.
    pub requested_by: String,
}

/// What is known of one backfill.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rows: i32,
    strikes: u32,
    /// When it made its last step.
    stepped_at: Option<Instant>,
}

/// The state of the turns.
#[derive(Debug, Default)]
pub struct Turns {
    paces: HashMap<i64, Pace>,
    rests_until: HashMap<String, Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: ROWS_MAX, strikes: 0, stepped_at: None }
    }
}

impl Turns {
    /// Returns the next backfill of each role that has one with capacity and does not rest.
    pub fn next(&mut self, running: &[Running], now: Instant) -> Vec<Running> {
        self.paces.retain(|id, _| running.iter().any(|backfill| backfill.id == *id));
        self.rests_until.retain(|_, until| *until > now);
        let mut next: BTreeMap<&str, &Running> = BTreeMap::new();
        let last = |id: i64| self.paces.get(&id).and_then(|pace| pace.stepped_at);
        for backfill in running.iter().filter(|backfill| backfill.has_room) {
            if self.rests_until.contains_key(&backfill.requested_by) {
                continue;
            }
            let first = next.entry(&backfill.requested_by).or_insert(backfill);
            if last(backfill.id) < last(first.id) {
                *first = backfill;
            }
        }
        next.into_values().cloned().collect()
    }

    /// Returns the number of rows of the next step.
    pub fn rows(&self, id: i64) -> i32 {
        self.paces.get(&id).copied().unwrap_or_default().rows
    }

    /// Records a step. `is_alone`: no other role has a backfill.
    pub fn stepped(&mut self, backfill: &Running, took: Duration, is_alone: bool, now: Instant) {
        let pace = self.paces.entry(backfill.id).or_default();
        pace.stepped_at = Some(now);
        if !is_alone {
            self.rests_until.insert(backfill.requested_by.clone(), now + took * REST);
        }
    }

    /// Records that the step was quick enough.
    pub fn was_quick(&mut self, id: i64) {
        let pace = self.paces.entry(id).or_default();
        *pace = Pace { rows: (pace.rows * 2).min(ROWS_MAX), strikes: 0, ..*pace };
    }

    /// Records that the step took too long. Returns `false` if the backfill cannot go on.
    pub fn was_slow(&mut self, id: i64) -> bool {
        let pace = self.paces.entry(id).or_default();
        if pace.rows <= 1 {
            pace.strikes += 1;
        }
        pace.rows = (pace.rows / 4).max(1);
        pace.strikes < STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(id: i64, role: &str) -> Running {
        Running { id, has_room: true, requested_by: role.to_owned() }
    }

    fn ids(next: &[Running]) -> Vec<i64> {
        next.iter().map(|backfill| backfill.id).collect()
    }

    #[test]
    fn each_role_has_its_turn_and_a_slow_one_rests() {
        let mut turns = Turns::default();
        let all = [running(1, "a"), running(2, "a"), running(3, "a"), running(4, "b")];
        let start = Instant::now();
        assert_eq!(ids(&turns.next(&all, start)), [1, 4]);
        turns.stepped(&all[0], Duration::from_secs(2), false, start);
        turns.stepped(&all[3], Duration::from_millis(20), false, start);
        assert!(turns.next(&all, start).is_empty());
        assert_eq!(ids(&turns.next(&all, start + Duration::from_millis(81))), [4]);
        assert_eq!(ids(&turns.next(&all, start + Duration::from_secs(9))), [2, 4]);
    }

    #[test]
    fn one_role_alone_does_not_rest() {
        let mut turns = Turns::default();
        let all = [running(1, "a"), running(2, "a")];
        let now = Instant::now();
        turns.stepped(&all[0], Duration::from_secs(2), true, now);
        assert_eq!(ids(&turns.next(&all, now)), [2]);
        turns.stepped(&all[1], Duration::from_secs(2), true, now + Duration::from_secs(1));
        assert_eq!(ids(&turns.next(&all, now)), [1]);
    }

    #[test]
    fn a_slow_step_is_repeated_with_fewer_rows() {
        let mut turns = Turns::default();
        let mut rows = Vec::new();
        while turns.was_slow(1) {
            rows.push(turns.rows(1));
        }
        assert_eq!(rows, [125, 31, 7, 1, 1, 1]);
        turns.was_quick(1);
        assert_eq!(turns.rows(1), 2);
        assert!(turns.was_slow(1));
    }
}
