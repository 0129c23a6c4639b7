//! A model of Postgres, the writers and `sql/retention.sql`. With any order of their actions, and
//! any time at which the ring turns, a reader that reads the slots of its cursor finds every
//! committed event exactly once.

use crate::outbox::poll::*;
use database::Encoding;
use proptest::prelude::*;
use std::collections::BTreeSet;

const SLOTS: i16 = 4;
const WRITERS: usize = 5;
const FIRST_XID: u64 = 100;

/// `webhook.ring_head`.
#[derive(Debug, Clone)]
struct Head {
    changes: u64,
    present: i16,
    open: Vec<i16>,
}

impl Head {
    fn ring(&self) -> Ring {
        let open: Vec<String> = self.open.iter().map(i16::to_string).collect();
        Ring::of(Some(&format!("{}:{}:{}", self.changes, self.present, open.join(","))))
    }

    fn opened(&self, slot: i16) -> Self {
        let open = self.open.iter().copied().chain([slot]).collect();
        Self { changes: self.changes + 1, open, ..*self }
    }
}

/// A transaction, from its first event on. A prepared one is one that lasts long.
#[derive(Debug, Default)]
struct Transaction {
    xid: u64,
    /// Partitions it holds a lock on.
    locks: BTreeSet<i16>,
    rows: Vec<(i16, u64)>,
    /// The row of the ring as it leaves it. No other transaction can change it meanwhile.
    head: Option<Head>,
}

#[derive(Debug, Clone)]
enum Step {
    /// The writer captures an event.
    Capture(usize),
    /// The writer inserts into a slot of its choice.
    InsertInto(usize, i16),
    Commit(usize),
    Abort(usize),
    /// `webhook.turn_ring()` chooses the next slot, and is not committed yet.
    Turn,
    /// `webhook.close_slot()`.
    Close(i16),
    /// Either of these commits.
    Maintained,
    PollResult,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..WRITERS).prop_map(Step::Capture),
        1 => (0..WRITERS, 0..SLOTS).prop_map(|(writer, slot)| Step::InsertInto(writer, slot)),
        4 => (0..WRITERS).prop_map(Step::Commit),
        1 => (0..WRITERS).prop_map(Step::Abort),
        3 => Just(Step::Turn),
        4 => (0..SLOTS).prop_map(Step::Close),
        5 => Just(Step::Maintained),
        5 => Just(Step::PollResult),
    ]
}

struct World {
    next_xid: u64,
    /// Those that have ended, and what the committed ones have written: slot and event.
    ended: BTreeSet<u64>,
    rows: Vec<(u64, i16, u64)>,
    head: Head,
    open: Vec<Option<Transaction>>,
    /// A turn or a close under way, and the partition that it has in share mode.
    maintenance: Option<(Transaction, Option<i16>)>,
    events: u64,
    cursor: Cursor,
    /// The look before has not seen everything.
    goes_round: bool,
    read: Vec<u64>,
}

impl World {
    fn new() -> Self {
        let head = Head { changes: 0, present: 0, open: vec![0] };
        let snapshot = format!("{FIRST_XID}:{FIRST_XID}:").parse().unwrap();
        let cursor = Cursor::new(snapshot, head.ring());
        Self {
            next_xid: FIRST_XID,
            ended: BTreeSet::new(),
            rows: Vec::new(),
            head,
            open: (0..WRITERS).map(|_| None).collect(),
            maintenance: None,
            events: 0,
            cursor,
            goes_round: false,
            read: Vec::new(),
        }
    }

    fn begin(&mut self) -> Transaction {
        self.next_xid += 1;
        Transaction { xid: self.next_xid - 1, ..Transaction::default() }
    }

    fn snapshot(&self) -> Snapshot {
        let xmax = self.ended.last().map_or(FIRST_XID, |xid| xid + 1);
        let running: Vec<String> =
            (FIRST_XID..xmax).filter(|xid| !self.ended.contains(xid)).map(|xid| xid.to_string()).collect();
        let xmin = running.first().cloned().unwrap_or(xmax.to_string());
        format!("{xmin}:{xmax}:{}", running.join(",")).parse().unwrap()
    }

    /// Whether a transaction that has changed the row of the ring holds its lock.
    fn is_head_locked(&self) -> bool {
        self.maintenance.is_some() || self.open.iter().flatten().any(|t| t.head.is_some())
    }

    fn write(&mut self, writer: usize, slot: i16) {
        let shared = self.maintenance.as_ref().and_then(|(_, shared)| *shared);
        if self.open[writer].is_none() {
            self.open[writer] = Some(self.begin());
        }
        let Some(transaction) = self.open[writer].as_mut() else { return };
        if shared == Some(slot) && !transaction.locks.contains(&slot) {
            return; // It waits for the lock; another step may find it free.
        }
        transaction.locks.insert(slot);
        transaction.rows.push((slot, self.events));
        self.events += 1;
    }

    fn end(&mut self, transaction: Transaction, commits: bool) {
        self.ended.insert(transaction.xid);
        if commits {
            self.rows.extend(transaction.rows.into_iter().map(|(slot, id)| (transaction.xid, slot, id)));
            self.head = transaction.head.unwrap_or_else(|| self.head.clone());
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Capture(writer) => {
                // It believes what it knew of the ring as long as it holds the partition; else it
                // learns with the lock.
                let held = self.open[writer].as_ref().and_then(|t| t.locks.first().copied());
                let own =
                    self.open[writer].as_ref().and_then(|t| t.head.as_ref()).unwrap_or(&self.head).present;
                self.write(writer, held.filter(|_| self.events.is_multiple_of(2)).unwrap_or(own));
            }
            Step::InsertInto(writer, slot) => {
                let known =
                    self.open[writer].as_ref().and_then(|t| t.head.clone()).unwrap_or(self.head.clone());
                if !known.open.contains(&slot) {
                    let is_own = self.open[writer].as_ref().is_some_and(|t| t.head.is_some());
                    if self.is_head_locked() && !is_own {
                        return; // It waits for the row.
                    }
                    if self.open[writer].is_none() {
                        self.open[writer] = Some(self.begin());
                    }
                    if let Some(transaction) = self.open[writer].as_mut() {
                        transaction.head = Some(known.opened(slot));
                    }
                }
                self.write(writer, slot);
            }
            Step::Commit(writer) | Step::Abort(writer) => {
                if let Some(transaction) = self.open[writer].take() {
                    self.end(transaction, matches!(step, Step::Commit(_)));
                }
            }
            Step::Turn if !self.is_head_locked() => {
                let next = (self.head.present + 1..self.head.present + SLOTS)
                    .map(|slot| slot % SLOTS)
                    .find(|slot| !self.head.open.contains(slot));
                if let Some(next) = next {
                    let head = Head { present: next, ..self.head.opened(next) };
                    self.maintenance = Some((Transaction { head: Some(head), ..self.begin() }, None));
                }
            }
            Step::Close(slot) if !self.is_head_locked() => {
                let is_locked = self.open.iter().flatten().any(|t| t.locks.contains(&slot));
                if slot != self.head.present && self.head.open.contains(&slot) && !is_locked {
                    let open = self.head.open.iter().copied().filter(|open| *open != slot).collect();
                    let head = Head { changes: self.head.changes + 1, open, ..self.head };
                    self.maintenance = Some((Transaction { head: Some(head), ..self.begin() }, Some(slot)));
                }
            }
            Step::Turn | Step::Close(_) => {}
            Step::Maintained => {
                if let Some((transaction, _)) = self.maintenance.take() {
                    self.end(transaction, true);
                }
            }
            Step::PollResult => self.run(),
        }
    }

    fn run(&mut self) {
        let (snapshot, ring) = (self.snapshot(), self.head.ring());
        if snapshot == self.cursor.snapshot {
            return;
        }
        if !self.goes_round && !self.cursor.covers(&ring) {
            // The second look has a snapshot of its own.
            self.goes_round = true;
            return;
        }
        let slots = if self.goes_round { &[] } else { self.cursor.slots() };
        let is_new = |xid: u64| snapshot.sees(xid) && !self.cursor.snapshot.sees(xid);
        let found = self
            .rows
            .iter()
            .filter(|(xid, slot, _)| is_new(*xid) && (slots.is_empty() || slots.contains(slot)));
        self.read.extend(found.map(|(_, _, id)| *id));
        self.goes_round = false;
        self.cursor.advance(snapshot, ring);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_committed_event_is_read_once(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        for writer in 0..WRITERS {
            world.step(&Step::Commit(writer));
        }
        world.run();
        world.run();
        let mut committed: Vec<u64> = world.rows.iter().map(|(_, _, id)| *id).collect();
        committed.sort_unstable();
        world.read.sort_unstable();
        prop_assert_eq!(world.read, committed);
    }
}

/// In the normal case no other partition is opened.
#[test]
fn a_look_goes_into_one_slot() {
    let mut world = World::new();
    world.step(&Step::Capture(0));
    world.step(&Step::Commit(0));
    assert_eq!((world.cursor.slots(), world.cursor.covers(&world.head.ring())), (&[0][..], true));
    for step in [Step::Capture(1), Step::Turn, Step::Maintained, Step::PollResult, Step::PollResult] {
        world.step(&step);
    }
    assert_eq!(world.cursor.slots(), [0, 1], "a transaction that has written to the one before is open");
    for step in [Step::Close(0), Step::Maintained, Step::Commit(1), Step::Close(0), Step::Maintained] {
        world.step(&step);
    }
    world.run();
    world.run();
    assert_eq!((world.cursor.slots(), world.read.len()), (&[1][..], 2));
    let columns = Columns::new(Encoding::Utf8, Schema::V0_3);
    let sql = statement(&[1], columns);
    assert!(sql.contains("webhook.event_1 e") && !sql.contains("webhook.event e"));
    assert!(statement(&[], columns).contains("webhook.event e"));
    let of_previous = statement(&[1], Columns::new(Encoding::Utf8, Schema::V0_2));
    assert!(sql.contains("e.owner") && !of_previous.contains("e.owner"));
}
