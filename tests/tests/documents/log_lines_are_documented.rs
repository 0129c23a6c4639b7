//! Promise: the table of log lines in `docs/OPERATIONS.md` has every event name that the daemon
//! logs, and no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const PAGE: &str = include_str!("../../../docs/OPERATIONS.md");
/// The macros that log at a level that the daemon shows by default.
const MACROS: [&str; 3] = ["error!(", "warn!(", "info!("];

/// Returns the text of every source of the daemon, without its tests.
fn sources() -> Vec<(String, String)> {
    fn gather(folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            if path.is_dir() && !["tests", "benches"].contains(&name) {
                gather(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
                let text = fs::read_to_string(&path).expect("a text");
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
                into.push((path.display().to_string(), code));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut all = Vec::new();
    for folder in ["dispatcher/src", "crates"] {
        gather(&root.join(folder), &mut all);
    }
    all
}

/// Returns the arguments of a macro's call, up to the closing parenthesis.
fn call(text: &str) -> &str {
    let mut depth = 1;
    let mut in_text = false;
    let mut chars = text.char_indices();
    while let Some((at, character)) = chars.next() {
        match character {
            '\\' if in_text => drop(chars.next()),
            '"' => in_text = !in_text,
            '(' if !in_text => depth += 1,
            ')' if !in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// Returns the event name with which a text begins: `noun.happening`, then an end, `;` or a space.
fn name(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == '.')).unwrap_or(text.len());
    let name = &text[..end];
    let parts: Vec<&str> = name.split('.').collect();
    (parts.len() == 2 && parts.iter().all(|part| !part.is_empty())).then_some(name)
}

/// Returns the event names of all calls, with the place of one.
fn logged() -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (path, text) in sources() {
        for start in MACROS {
            for (at, _) in text.match_indices(start) {
                // Each text between quotes, for a call may choose between two names.
                let arguments = call(&text[at + start.len()..]);
                let found: Vec<&str> = arguments.split('"').skip(1).step_by(2).filter_map(name).collect();
                assert!(!found.is_empty(), "{path}: {start}{arguments}) has no event name");
                names.extend(found.into_iter().map(|name| (name.to_owned(), path.clone())));
            }
        }
    }
    names
}

/// Returns the event names of the table. `.other` stands for the noun before it.
fn documented() -> BTreeSet<String> {
    let table = PAGE.split("\n## Logs\n").nth(1).expect("a chapter").split("\n## ").next().expect("a text");
    let mut names = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split('|').nth(1).expect("a cell");
        let mut noun = "";
        for quoted in cell.split('`').skip(1).step_by(2) {
            let (before, happening) = quoted.split_once('.').expect("noun.happening");
            noun = if before.is_empty() { noun } else { before };
            names.insert(format!("{noun}.{happening}"));
        }
    }
    names
}

#[test]
fn every_name_is_in_the_table() {
    let (logged, documented) = (logged(), documented());
    assert!(logged.len() > 40, "{logged:?}");
    let missing: Vec<_> = logged.iter().filter(|(name, _)| !documented.contains(*name)).collect();
    let invented: Vec<_> = documented.iter().filter(|name| !logged.contains_key(*name)).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md lacks {missing:#?}");
    assert!(invented.is_empty(), "nothing logs {invented:#?}");
}
