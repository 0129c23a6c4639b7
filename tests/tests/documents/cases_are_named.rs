//! Promise: every test that `CASES.md` names exists.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../CASES.md");

/// Finds a file in a folder or in one of its folders.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().find(|path| path.file_name().is_some_and(|file| file == name));
    here.or_else(|| folders.iter().find_map(|folder| find(folder, name)))
}

/// Returns the file that holds a test's module, as the page spells it.
fn file(modules: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match modules {
        ["sender", file] => root.join(format!("../crates/sender/tests/sender/{file}.rs")),
        [file] => find(&root.join("tests"), &format!("{file}.rs")).unwrap_or_default(),
        [first, rest @ ..] if root.join(format!("../crates/{first}/src")).is_dir() => {
            root.join(format!("../crates/{first}/src/{}.rs", rest.join("/")))
        }
        path => root.join(format!("../dispatcher/src/{}.rs", path.join("/"))),
    }
}

/// Returns what is wrong with a reference. `last` is the file that the line named before.
fn wrong(reference: &str, last: &mut PathBuf) -> Option<String> {
    let function = if let Some(function) = reference.strip_prefix('…') {
        function
    } else {
        let parts: Vec<&str> = reference.split("::").collect();
        // `sender::tls` is a file; `a::b` is a test in one.
        let (modules, function) = match parts[..] {
            ["sender", _] => (&parts[..], ""),
            _ => (&parts[..parts.len() - 1], parts[parts.len() - 1]),
        };
        *last = file(modules);
        function
    };
    let text = std::fs::read_to_string(&*last).unwrap_or_default();
    let is_there =
        if function.is_empty() { !text.is_empty() } else { text.contains(&format!("fn {function}(")) };
    (!is_there).then(|| format!("{reference}: not in {}", last.display()))
}

#[test]
fn every_one_of_them_is_there() {
    let mut found = 0;
    let mut missing = Vec::new();
    for line in PAGE.lines().filter(|line| line.starts_with('|')) {
        let mut last = PathBuf::new();
        for quoted in line.split('`').skip(1).step_by(2) {
            let is_file = file(&[quoted]).exists();
            if quoted.ends_with(".sql") {
                found += 1;
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                if !root.join("../extension/tests/pg_regress/sql").join(quoted).exists() {
                    missing.push(format!("{quoted}: no such file of pg_regress"));
                }
            } else if quoted.contains("::") || quoted.starts_with('…') {
                found += 1;
                missing.extend(wrong(quoted, &mut last));
            } else if is_file {
                found += 1;
                last = file(&[quoted]);
            } else if quoted.matches('_').count() > 1 {
                missing.push(format!("{quoted}: no such file of tests"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 80, "{found} references");
}
