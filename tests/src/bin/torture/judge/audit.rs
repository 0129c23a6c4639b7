//! Turns the audit's notes into changes with their place in true order.

use super::Kind;
use std::collections::{HashMap, HashSet};

/// A row of the audit table.
#[derive(Debug, Clone, Default)]
pub struct Note {
    pub at: i64,
    pub xid: i64,
    pub tag: String,
    pub noun: String,
    pub is_made: bool,
    /// `I`, `U`, `D`, `T`.
    pub operation: char,
    pub former_v: Option<i64>,
    pub given_v: Option<i64>,
    pub v: Option<i64>,
    pub former_key: Option<String>,
    pub key: Option<String>,
    pub former: Option<String>,
    pub data: Option<String>,
}

/// One change of one row.
#[derive(Debug, Clone)]
pub struct Change {
    pub xid: i64,
    pub tag: String,
    pub noun: String,
    pub kind: Kind,
    /// When the change was made, on the audit's clock.
    pub place: i64,
    /// When the AFTER trigger recorded it.
    pub noted: i64,
    pub former_v: Option<i64>,
    pub v: Option<i64>,
    pub former_key: Option<String>,
    pub key: Option<String>,
    pub former: Option<String>,
    pub data: Option<String>,
}

/// How a table is audited.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// A BEFORE trigger records when each change is made.
    pub is_stamped: bool,
    pub is_key_unique: bool,
}

/// Returns the changes that were made.
pub fn changes(notes: &[Note], tables: &HashMap<String, Table>) -> Vec<Change> {
    let about = |operation: char| notes.iter().filter(move |n| !n.is_made && n.operation == operation);
    // Former version to the stamp of its deletion.
    let mut deleted: HashMap<i64, i64> = HashMap::new();
    for note in about('D') {
        let at = deleted.entry(note.former_v.unwrap_or(0)).or_default();
        *at = note.at.max(*at);
    }
    let begun: HashMap<i64, i64> = about('U').filter_map(|note| Some((note.v?, note.former_v?))).collect();
    // Rows that moved to another partition: new version to former version.
    let arrived: HashMap<i64, i64> =
        about('I').filter_map(|note| Some((note.v?, *begun.get(&note.given_v?)?))).collect();
    let made = |operation: char| notes.iter().filter(move |n| n.is_made && n.operation == operation);
    let left: HashMap<i64, &Note> = made('D').filter_map(|note| Some((note.former_v?, note))).collect();
    let moved: HashSet<i64> = made('I')
        .filter_map(|note| arrived.get(&note.v?).copied())
        .filter(|v| left.contains_key(v))
        .collect();

    let change = |note: &Note| -> Option<Change> {
        let is_stamped = tables.get(&note.noun).is_some_and(|table| table.is_stamped);
        let mut change = Change {
            xid: note.xid,
            tag: note.tag.clone(),
            noun: note.noun.clone(),
            kind: match note.operation {
                'I' => Kind::Created,
                'U' => Kind::Updated,
                'D' => Kind::Deleted,
                _ => Kind::Truncated,
            },
            place: note.at,
            noted: note.at,
            former_v: note.former_v,
            v: note.v,
            former_key: note.former_key.clone(),
            key: note.key.clone(),
            former: note.former.clone(),
            data: note.data.clone(),
        };
        if is_stamped {
            change.place = match (change.kind, note.v, note.former_v) {
                (Kind::Created | Kind::Updated, Some(v), _) => v,
                (Kind::Deleted, _, Some(former)) => deleted.get(&former).copied().unwrap_or(note.at),
                _ => note.at,
            };
        }
        if change.kind == Kind::Deleted && moved.contains(&note.former_v?) {
            return None;
        }
        if change.kind == Kind::Created
            && let Some(departure) = note.v.and_then(|v| arrived.get(&v)).and_then(|v| left.get(v))
        {
            change.kind = Kind::Updated;
            change.former_v = departure.former_v;
            change.former_key.clone_from(&departure.former_key);
            change.former.clone_from(&departure.former);
        }
        Some(change)
    };
    notes.iter().filter(|note| note.is_made).filter_map(change).collect()
}
