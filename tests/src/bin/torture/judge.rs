//! Compares the outbox with the audit. Pure: works on the rows of both.
//!
//! Each version of a row has its own number (column `v`), which identifies the change that an event
//! reports. Each change must have one event of its kind, in the same transaction, with the same
//! key, and with `data` and `previous` equal byte by byte. Each event must have a change. A *line*
//! is the history of one key, or of one row where the key is not unique. The events of a line must
//! be in the order of its changes.
//!
//! **True order.** Within a transaction, the audit's clock at the moment of each change gives the
//! order. A transaction that has changed a row keeps it locked until it ends, so each transaction's
//! changes of a line are contiguous, and the times of their records give the order of transactions.
//!
//! **Changes of a key** become one update, or a deletion and a creation. Both are accepted, but
//! each table must use one form. The change is in the lines of both keys.

mod audit;
mod object;

pub use audit::{Change, Note, Table};
use object::{changed, difference, short, version};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Created,
    Updated,
    Deleted,
    Truncated,
}

impl Kind {
    pub fn of_verb(verb: &str) -> Option<Self> {
        match verb {
            "created" => Some(Self::Created),
            "updated" => Some(Self::Updated),
            "deleted" => Some(Self::Deleted),
            "truncated" => Some(Self::Truncated),
            _ => None,
        }
    }
}

/// A row of the outbox.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub id: i64,
    pub xid: i64,
    pub noun: String,
    pub kind: Option<Kind>,
    pub key: Option<String>,
    pub data: String,
    pub previous: Option<String>,
}

/// What is wrong with a line, a change or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    NotCaptured,
    NotCommitted,
    /// A move between partitions became a deletion and a creation.
    OtherKind,
    /// A change of a key became one event, while others of the same table become two.
    OtherForm,
    Doubled,
    OtherTransaction,
    OtherKey,
    OtherData,
    OtherPrevious,
    OutOfOrder,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub fault: Fault,
    pub noun: String,
    /// The transactions involved.
    pub tags: BTreeSet<String>,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Report {
    pub changes: usize,
    pub events: usize,
    pub lines: usize,
    pub moves: usize,
    /// Changes of a key that became one event, and those that became two.
    pub key_updates: usize,
    pub key_splits: usize,
    /// Tables whose changes of a key become two events.
    split: BTreeSet<String>,
    pub findings: Vec<Finding>,
}

impl Report {
    /// Counts the findings by kind.
    pub fn counts(&self) -> BTreeMap<Fault, usize> {
        self.findings.iter().fold(BTreeMap::new(), |mut counts, finding| {
            *counts.entry(finding.fault).or_default() += 1;
            counts
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, events, lines, moves, key_updates, key_splits, .. } = self;
        write!(
            f,
            "{changes} changes, {events} events, {lines} lines, {moves} moves, {} changes of a key ({key_updates} as one event)",
            key_updates + key_splits
        )
    }
}

/// Identifies the change that an event reports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    Created(i64),
    Updated(i64),
    Deleted(i64),
    /// Noun, transaction, and a count within both.
    Truncated(String, i64, usize),
}

pub fn judge(notes: &[Note], events: &[Event], tables: &HashMap<String, Table>) -> Report {
    let changes = audit::changes(notes, tables);
    let mut report = Report { changes: changes.len(), events: events.len(), ..Report::default() };
    report.moves = notes.iter().filter(|n| !n.is_made && n.operation == 'I' && n.given_v.is_some()).count();

    let mut by_identity: HashMap<Identity, Vec<&Event>> = HashMap::new();
    let mut truncated: HashMap<(String, i64), usize> = HashMap::new();
    for event in events {
        match event_identity(event, &mut truncated) {
            Some(identity) => by_identity.entry(identity).or_default().push(event),
            None => report.findings.push(Finding {
                fault: Fault::OtherData,
                noun: event.noun.clone(),
                tags: BTreeSet::new(),
                text: format!("an event without the number of a version: {}", line_of_event(event)),
            }),
        }
    }

    truncated.clear();
    let mut as_one = Vec::new();
    // For each change, its events: one per key that it touches.
    let mut told: Vec<Vec<(Option<String>, i64)>> = Vec::with_capacity(changes.len());
    for change in &changes {
        let mut found = take(&mut by_identity, change_identity(change, &mut truncated));
        let mut places = Vec::new();
        if found.is_empty() && change.kind == Kind::Updated {
            found = take_split(&mut by_identity, change, &mut report, &mut places);
        }
        if let Some((first, rest)) = found.split_first() {
            compare(change, first, &mut report);
            if change.kind == Kind::Updated && change.key != change.former_key {
                report.key_updates += 1;
                as_one.push((change, *first));
            }
            for event in rest {
                report.find(Fault::Doubled, change, &line_of_event(event));
            }
            places = [&change.former_key, &change.key].map(|key| (key.clone(), first.id)).into();
        } else if places.is_empty() {
            report.find(Fault::NotCaptured, change, "");
        }
        told.push(places);
    }
    as_one.retain(|(change, _)| report.split.contains(&change.noun));
    for (change, event) in as_one {
        report.find(Fault::OtherForm, change, &line_of_event(event));
    }
    let by_xid: HashMap<i64, &str> = changes.iter().map(|c| (c.xid, c.tag.as_str())).collect();
    let mut left: Vec<&Event> = by_identity.into_values().flatten().collect();
    left.sort_by_key(|event| event.id);
    for event in left {
        report.findings.push(Finding {
            fault: Fault::NotCommitted,
            noun: event.noun.clone(),
            tags: by_xid.get(&event.xid).map(|&tag| tag.to_owned()).into_iter().collect(),
            text: line_of_event(event),
        });
    }
    check_order(&changes, &told, tables, &mut report);
    report
}

impl Report {
    fn find(&mut self, fault: Fault, change: &Change, more: &str) {
        self.findings.push(Finding {
            fault,
            noun: change.noun.clone(),
            tags: BTreeSet::from([change.tag.clone()]),
            text: format!(
                "{}{}{more}",
                line_of_change(change),
                if more.is_empty() { "" } else { "\n      " }
            ),
        });
    }
}

fn take<'a>(events: &mut HashMap<Identity, Vec<&'a Event>>, identity: Option<Identity>) -> Vec<&'a Event> {
    identity.and_then(|identity| events.remove(&identity)).unwrap_or_default()
}

/// Takes the two events of an update that became a deletion and a creation, which is right only if
/// the key has changed.
fn take_split<'a>(
    events: &mut HashMap<Identity, Vec<&'a Event>>,
    change: &Change,
    report: &mut Report,
    places: &mut Vec<(Option<String>, i64)>,
) -> Vec<&'a Event> {
    let (Some(former), Some(v)) = (change.former_v, change.v) else { return Vec::new() };
    let (gone, new) = (Identity::Deleted(former), Identity::Created(v));
    if !events.contains_key(&gone) || !events.contains_key(&new) {
        return Vec::new();
    }
    let (gone, new) = (take(events, Some(gone)), take(events, Some(new)));
    if change.key == change.former_key {
        let text = gone.iter().chain(&new).map(|e| line_of_event(e)).collect::<Vec<_>>().join("\n      ");
        report.find(Fault::OtherKind, change, &text);
    } else {
        report.key_splits += 1;
        report.split.insert(change.noun.clone());
        let half = |kind, key: &Option<String>, data: &Option<String>| Change {
            kind,
            key: key.clone(),
            former_key: key.clone(),
            data: data.clone(),
            former: data.clone(),
            ..change.clone()
        };
        compare(&half(Kind::Deleted, &change.former_key, &change.former), gone[0], report);
        compare(&half(Kind::Created, &change.key, &change.data), new[0], report);
    }
    places.push((change.former_key.clone(), gone[0].id));
    places.push((change.key.clone(), new[0].id));
    Vec::new()
}

/// Compares the contents of an event with its change.
fn compare(change: &Change, event: &Event, report: &mut Report) {
    let (key, data, previous) = match change.kind {
        Kind::Created => (&change.key, change.data.clone(), None),
        Kind::Updated => {
            let (former, data) = (change.former.as_deref(), change.data.as_deref());
            (&change.key, change.data.clone(), Some(changed(former.unwrap_or("{}"), data.unwrap_or("{}"))))
        }
        Kind::Deleted => (&change.former_key, change.former.clone(), None),
        Kind::Truncated => (&None, Some("{}".to_owned()), None),
    };
    if change.xid != event.xid || change.noun != event.noun {
        report.find(Fault::OtherTransaction, change, &line_of_event(event));
    }
    if *key != event.key {
        report.find(Fault::OtherKey, change, &format!("the event's key is {:?}", event.key));
    }
    if data.as_deref() != Some(event.data.as_str()) {
        let difference = difference(data.as_deref().unwrap_or(""), &event.data);
        report.find(Fault::OtherData, change, &difference);
    }
    if previous != event.previous {
        let difference =
            difference(previous.as_deref().unwrap_or("null"), event.previous.as_deref().unwrap_or("null"));
        report.find(Fault::OtherPrevious, change, &difference);
    }
}

/// Checks that the events of each line are in the order of its changes.
fn check_order(
    changes: &[Change],
    told: &[Vec<(Option<String>, i64)>],
    tables: &HashMap<String, Table>,
    report: &mut Report,
) {
    type Place<'a> = (&'a Change, i64);
    let mut lines: BTreeMap<(String, String), Vec<Place<'_>>> = BTreeMap::new();
    let mut roots: HashMap<i64, i64> = HashMap::new();
    let mut in_order: Vec<usize> = (0..changes.len()).collect();
    // A row's versions have rising numbers, so a version is processed after the one before it.
    in_order.sort_by_key(|&at| (changes[at].v.unwrap_or(i64::MAX), changes[at].place));
    for at in in_order {
        let (change, places) = (&changes[at], &told[at]);
        let table = tables.get(&change.noun);
        if change.kind == Kind::Truncated {
            continue;
        }
        if table.is_some_and(|table| table.is_key_unique) {
            let mut seen = HashSet::new();
            for (key, id) in places {
                if let Some(key) = key
                    && seen.insert(key)
                {
                    lines.entry((change.noun.clone(), key.clone())).or_default().push((change, *id));
                }
            }
        } else if let Some((_, id)) = places.last() {
            let own = change.v.or(change.former_v).unwrap_or(0);
            let root = change.former_v.map_or(own, |former| *roots.get(&former).unwrap_or(&former));
            roots.insert(own, root);
            lines.entry((change.noun.clone(), format!("row {root}"))).or_default().push((change, *id));
        }
    }
    for (change, places) in changes.iter().zip(told).filter(|(change, _)| change.kind == Kind::Truncated) {
        for ((noun, _), line) in &mut lines {
            if *noun == change.noun
                && let Some((_, id)) = places.first()
            {
                line.push((change, *id));
            }
        }
    }
    report.lines = lines.len();
    for ((noun, key), mut line) in lines {
        let mut began: HashMap<i64, i64> = HashMap::new();
        for (change, _) in &line {
            let first = began.entry(change.xid).or_insert(change.noted);
            *first = change.noted.min(*first);
        }
        line.sort_by_key(|(change, _)| (began[&change.xid], change.place));
        let Some(at) = line.windows(2).position(|two| two[0].1 > two[1].1) else { continue };
        // Show only the transactions at fault.
        let wrong: HashSet<i64> = line
            .windows(2)
            .filter(|two| two[0].1 > two[1].1)
            .flat_map(|two| [two[0].0.xid, two[1].0.xid])
            .collect();
        let shown: Vec<_> = line.iter().filter(|(change, _)| wrong.contains(&change.xid)).collect();
        let is_last_wrong = line.iter().map(|(_, id)| id).max() != line.last().map(|(_, id)| id);
        let text = shown
            .iter()
            .take(12)
            .map(|(change, id)| format!("\n      sequence {id}: {}", line_of_change(change)))
            .collect::<String>();
        report.findings.push(Finding {
            fault: Fault::OutOfOrder,
            tags: shown.iter().map(|(change, _)| change.tag.clone()).collect(),
            text: format!(
                "{noun} {key}: change {} of {} has a lower sequence than the one before{}; in true order:{text}",
                at + 2,
                line.len(),
                if is_last_wrong { ", and the last event is not the last change" } else { "" },
            ),
            noun,
        });
    }
}

fn change_identity(change: &Change, truncated: &mut HashMap<(String, i64), usize>) -> Option<Identity> {
    Some(match change.kind {
        Kind::Created => Identity::Created(change.v?),
        Kind::Updated => Identity::Updated(change.v?),
        Kind::Deleted => Identity::Deleted(change.former_v?),
        Kind::Truncated => next_truncated(&change.noun, change.xid, truncated),
    })
}

fn event_identity(event: &Event, truncated: &mut HashMap<(String, i64), usize>) -> Option<Identity> {
    let v = || version(&event.data);
    Some(match event.kind? {
        Kind::Created => Identity::Created(v()?),
        Kind::Updated => Identity::Updated(v()?),
        Kind::Deleted => Identity::Deleted(v()?),
        Kind::Truncated => next_truncated(&event.noun, event.xid, truncated),
    })
}

fn next_truncated(noun: &str, xid: i64, truncated: &mut HashMap<(String, i64), usize>) -> Identity {
    let count = truncated.entry((noun.to_owned(), xid)).or_default();
    *count += 1;
    Identity::Truncated(noun.to_owned(), xid, *count)
}

fn line_of_change(change: &Change) -> String {
    let Change { tag, noun, kind, place, former_v, v, former_key, key, .. } = change;
    let number = |v: &Option<i64>| v.map_or("-".to_owned(), |v| v.to_string());
    let key = match (former_key, key) {
        (Some(former), Some(key)) if former != key => format!("{former} → {key}"),
        (former, key) => key.clone().or_else(|| former.clone()).unwrap_or_else(|| "no key".to_owned()),
    };
    format!("{noun} {kind:?} {key}, version {} → {}, at {place}, by {tag}", number(former_v), number(v))
}

fn line_of_event(event: &Event) -> String {
    let kind = event.kind.map_or("?".to_owned(), |kind| format!("{kind:?}"));
    let key = event.key.as_deref().unwrap_or("no key");
    format!("sequence {}: {} {kind} {key} {}", event.id, event.noun, short(&event.data))
}

#[cfg(test)]
mod tests;
