//! A model of Postgres: nested statements whose BEFORE and AFTER triggers change the same table.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const KEYS: u8 = 4;

/// A statement of a random, finite program.
#[derive(Debug, Clone)]
struct Statement {
    rows: Vec<Row>,
    /// True if it runs in a subtransaction that is rolled back afterwards.
    is_undone: bool,
}

/// A row of a statement, and the actions of its triggers.
#[derive(Debug, Clone)]
struct Row {
    action: Action,
    before: Vec<Statement>,
    after_ahead: Vec<Statement>,
    after_behind: Vec<Statement>,
    /// The action of a foreign key on another row. Its events join those of this statement.
    cascade: Option<Action>,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Insert(u8),
    Update(u8),
    Rename(u8, u8),
    Delete(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..KEYS).prop_map(Action::Insert),
        (0..KEYS).prop_map(Action::Update),
        (0..KEYS, 0..KEYS).prop_map(|(from, to)| Action::Rename(from, to)),
        (0..KEYS).prop_map(Action::Delete),
    ]
}

fn statement() -> impl Strategy<Value = Statement> {
    let no_triggers = action().prop_map(|action| Row {
        action,
        before: Vec::new(),
        after_ahead: Vec::new(),
        after_behind: Vec::new(),
        cascade: None,
    });
    let leaf = (prop::collection::vec(no_triggers, 1..4), prop::bool::weighted(0.1))
        .prop_map(|(rows, is_undone)| Statement { rows, is_undone });
    leaf.prop_recursive(4, 40, 4, |inner| {
        let some = || prop::collection::vec(inner.clone(), 0..2);
        let row = (action(), some(), some(), some(), prop::option::weighted(0.2, action())).prop_map(
            |(action, before, after_ahead, after_behind, cascade)| Row {
                action,
                before,
                after_ahead,
                after_behind,
                cascade,
            },
        );
        (prop::collection::vec(row, 1..4), prop::bool::weighted(0.1))
            .prop_map(|(rows, is_undone)| Statement { rows, is_undone })
    })
}

/// The live row version of each key: its number and the command that made it.
type Live = BTreeMap<u8, (u32, u32)>;

#[derive(Debug, Clone)]
struct Event {
    number: u64,
    keys: [Option<u8>; 2],
    change: Change,
}

struct Level {
    list: List,
    command: u32,
    /// The command of a foreign key action in progress.
    part: Option<u32>,
    is_firing: bool,
    last: Version,
}

/// Runs a program and passes the events on as `super::super` does.
struct Server {
    live: Live,
    command: u32,
    versions: u32,
    /// The command that ended each version.
    ended: BTreeMap<u32, u32>,
    subtransaction: u32,
    subtransactions: u32,
    /// Events in the order of their changes.
    happened: Vec<Event>,
    levels: Vec<Level>,
    /// Events in the order in which they get their numbers, with their subtransactions.
    sent: Vec<(u64, u32)>,
    next: u64,
}

fn version(number: u32) -> Version {
    Version { relation: 1, block: number, offset: 1 }
}

fn hash(key: u8) -> u64 {
    u64::from(key) + 1
}

impl Server {
    fn run(&mut self, statement: &Statement) {
        let outer = self.subtransaction;
        let before = (self.live.clone(), self.happened.len(), self.ended.clone());
        if statement.is_undone {
            self.subtransactions += 1;
            self.subtransaction = self.subtransactions;
        }
        self.execute(statement);
        if statement.is_undone {
            self.levels.iter_mut().for_each(|level| {
                level.list.abort(self.subtransaction);
            });
            self.sent.retain(|(_, subtransaction)| *subtransaction < self.subtransaction);
            (self.live, self.ended) = (before.0, before.2);
            self.happened.truncate(before.1);
            self.subtransaction = outer;
        }
    }

    fn execute(&mut self, statement: &Statement) {
        self.command += 1;
        let (command, seen) = (self.command, self.live.clone());
        self.levels.push(Level {
            list: List::new(),
            command,
            part: None,
            is_firing: false,
            last: Version::NONE,
        });
        let mut queue = Vec::new();
        for row in &statement.rows {
            row.before.iter().for_each(|inner| self.run(inner));
            if let Some(event) = self.act(row.action, command, &seen) {
                queue.push((event, Some(row)));
            }
        }
        let own = self.levels.len() - 1;
        self.levels[own].is_firing = true;
        let mut at = 0;
        while at < queue.len() {
            let (event, row) = queue[at].clone();
            if let Some(row) = row {
                row.after_ahead.iter().for_each(|inner| self.run(inner));
            }
            if let Some(action) = row.and_then(|row| row.cascade) {
                self.command += 1;
                let (command, seen) = (self.command, self.live.clone());
                self.levels[own].part = Some(command);
                row.into_iter().flat_map(|row| &row.before).for_each(|inner| self.run(inner));
                queue.extend(self.act(action, command, &seen).map(|event| (event, None)));
                self.levels[own].part = None;
            }
            self.fire(own, event);
            if let Some(row) = row {
                row.after_behind.iter().for_each(|inner| self.run(inner));
            }
            at += 1;
        }
        let mut ended = self.levels.pop().unwrap();
        while let Some(entry) = ended.list.pop_front() {
            if !List::is_taken(&entry) {
                self.pass_on(own, entry.change, entry.place);
            }
        }
    }

    /// Applies a command to one row. Does nothing if Postgres would not find the row, or would
    /// fail.
    fn act(&mut self, action: Action, command: u32, seen: &Live) -> Option<Event> {
        let found = |live: &Live, key: u8| live.get(&key).copied().filter(|row| seen.get(&key) == Some(row));
        let (former_key, key) = match action {
            Action::Insert(key) => (None, Some(key)),
            Action::Update(key) => (Some(key), Some(key)),
            Action::Rename(from, to) => (Some(from), Some(to)),
            Action::Delete(key) => (Some(key), None),
        };
        let former = match former_key {
            Some(key) => Some(found(&self.live, key)?),
            None => None,
        };
        if key != former_key && key.is_some_and(|key| self.live.contains_key(&key)) {
            return None;
        }
        if let Some((number, _)) = former_key.and_then(|key| self.live.remove(&key)) {
            self.ended.insert(number, command);
        }
        self.versions += 1;
        let now = key.map(|key| {
            self.live.insert(key, (self.versions, command));
            version(self.versions)
        });
        self.next += 1;
        let change = Change {
            root: 1,
            command,
            former: former.map_or(Version::NONE, |(number, _)| version(number)),
            now: now.unwrap_or(Version::NONE),
            key: key.or(former_key).map_or(0, hash),
            former_key: former_key.filter(|_| key.is_some() && key != former_key).map_or(0, hash),
            ended_by: NO_COMMAND,
        };
        let event = Event { number: self.next, keys: [former_key, key], change };
        self.happened.push(event.clone());
        Some(event)
    }

    fn fire(&mut self, own: usize, mut event: Event) {
        let change = &mut event.change;
        change.ended_by = self.ended.get(&change.now.block).copied().unwrap_or(NO_COMMAND);
        let count = self.levels[own].list.before(change);
        for _ in 0..count {
            if let Some(entry) = self.levels[own].list.pop_front()
                && !List::is_taken(&entry)
            {
                self.pass_on(own, entry.change, entry.place);
            }
        }
        self.levels[own].last = event.change.now;
        self.pass_on(own, event.change, event.number);
        loop {
            let level = &mut self.levels[own];
            let Some(entry) = level.list.take_next(level.last) else { break };
            level.last = entry.change.now;
            self.pass_on(own, entry.change, entry.place);
        }
    }

    fn pass_on(&mut self, from: usize, change: Change, number: u64) {
        let mut below = from;
        loop {
            let Some(at) = below.checked_sub(1) else { break };
            let level = &mut self.levels[at];
            if level.list.is_empty() && change.follows(level.last) {
                level.last = change.now;
                below = at;
                continue;
            }
            let running = if level.is_firing { NO_COMMAND } else { level.command };
            let during = level.part.unwrap_or(running);
            level.list.push(Entry::new(change, during, self.subtransaction, number)).unwrap();
            return;
        }
        self.sent.push((number, self.subtransaction));
    }
}

/// Returns the events of each key, in the order of the iterator.
fn by_key<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<u8, Vec<u64>> {
    let mut keys = BTreeMap::<u8, Vec<u64>>::new();
    for event in events {
        let [former, now] = event.keys;
        for key in former.into_iter().chain(now.filter(|_| now != former)) {
            keys.entry(key).or_default().push(event.number);
        }
    }
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn events_of_a_row_are_numbered_in_the_order_of_its_changes(
        program in prop::collection::vec(statement(), 1..4)
    ) {
        let mut server = Server {
            live: (0..KEYS / 2).map(|key| (key, (1000 + u32::from(key), 0))).collect(),
            command: 0,
            versions: 0,
            ended: BTreeMap::new(),
            subtransaction: 1,
            subtransactions: 1,
            happened: Vec::new(),
            levels: Vec::new(),
            sent: Vec::new(),
            next: 0,
        };
        program.iter().for_each(|statement| server.run(statement));
        let sent: Vec<_> = server.sent.iter().map(|(number, _)| {
            server.happened.iter().find(|event| event.number == *number).unwrap()
        }).collect();
        prop_assert_eq!(sent.len(), server.happened.len());
        prop_assert_eq!(by_key(sent.into_iter()), by_key(server.happened.iter()));
    }
}

fn change(command: u32, former: u32, now: u32, key: u8) -> Change {
    let some = |number| if number == 0 { Version::NONE } else { version(number) };
    Change {
        root: 1,
        command,
        former: some(former),
        now: some(now),
        key: hash(key),
        former_key: 0,
        ended_by: NO_COMMAND,
    }
}

#[test]
fn a_change_that_ends_an_inserted_version_comes_after_the_insert() {
    let mut list = List::new();
    // A BEFORE INSERT trigger deletes the former row of the key, and later updates the new one.
    list.push(Entry::new(change(6, 1, 0, 7), 5, 1, 0)).unwrap();
    list.push(Entry::new(change(7, 2, 3, 7), 5, 1, 1)).unwrap();
    let insert = Change { ended_by: 7, ..change(5, 0, 2, 7) };
    assert_eq!(list.before(&insert), 1);
    // If no command of the outer statement was running, both changes come after the insert.
    let mut list = List::new();
    list.push(Entry::new(change(6, 1, 0, 7), NO_COMMAND, 1, 0)).unwrap();
    list.push(Entry::new(change(7, 2, 3, 7), NO_COMMAND, 1, 1)).unwrap();
    assert_eq!(list.before(&insert), 0);
}

#[test]
fn an_inserted_row_that_has_gone_unseen_comes_before_the_last_change_of_its_key() {
    let mut list = List::new();
    list.push(Entry::new(change(6, 1, 0, 7), 5, 1, 0)).unwrap();
    list.push(Entry::new(change(8, 3, 0, 7), 5, 1, 1)).unwrap();
    assert_eq!(list.before(&Change { ended_by: 7, ..change(5, 0, 2, 7) }), 1);
    assert_eq!(list.before(&change(5, 0, 2, 7)), 2);
}

#[test]
fn what_a_foreign_key_does_comes_after_what_was_held_before() {
    let mut list = List::new();
    list.push(Entry::new(change(6, 1, 2, 7), NO_COMMAND, 1, 0)).unwrap();
    list.push(Entry::new(change(8, 4, 5, 8), NO_COMMAND, 1, 1)).unwrap();
    assert_eq!(list.before(&change(7, 2, 0, 7)), 1);
    assert_eq!(list.before(&change(5, 9, 0, 9)), 0);
}

#[test]
fn a_row_that_its_own_trigger_changes_is_not_held_longer_than_its_event() {
    let mut list = List::new();
    list.push(Entry::new(change(6, 9, 10, 1), NO_COMMAND, 1, 0)).unwrap();
    list.push(Entry::new(change(7, 2, 3, 7), NO_COMMAND, 1, 1)).unwrap();
    list.push(Entry::new(change(8, 3, 4, 7), NO_COMMAND, 1, 2)).unwrap();
    assert_eq!(list.take_next(version(2)).map(|entry| entry.place), Some(1));
    assert_eq!(list.take_next(version(3)).map(|entry| entry.place), Some(2));
    assert!(list.take_next(version(4)).is_none());
    assert_eq!(list.entries.len(), 1);
}

#[test]
fn an_abort_forgets_the_keys_of_what_it_removes() {
    let mut list = List::new();
    list.push(Entry::new(change(6, 1, 0, 7), 5, 1, 0)).unwrap();
    list.push(Entry::new(change(7, 0, 3, 7), 5, 2, 16)).unwrap();
    list.push(Entry::new(change(8, 3, 0, 7), 5, 3, 32)).unwrap();
    assert_eq!(list.abort(2), Some(16));
    assert_eq!(list.before(&change(5, 0, 2, 7)), 1);
    list.release(1, 1);
    assert_eq!(list.abort(1), Some(0));
    assert!(list.is_empty() && list.last.is_empty());
}
