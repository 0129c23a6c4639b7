//! Every end-to-end test, in one program. It is linked once, and runs many tests at a time, because
//! they mostly wait. The folders are subjects.

mod admin;
mod capture;
mod delivery;
mod documents;
mod isolation;
mod operation;
mod outbox;
mod subscriptions;
mod support_tells_the_truth;
mod trust;

use std::path::Path;

/// Appends the files of a folder that `index` does not name. Cargo would ignore them.
fn unnamed(folder: &Path, index: &Path, missing: &mut Vec<String>) {
    let names = std::fs::read_to_string(index).expect("a list of modules");
    for entry in std::fs::read_dir(folder).expect("a folder of tests") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if path == index || !(path.is_dir() || path.extension().is_some_and(|name| name == "rs")) {
            continue;
        }
        if !names.contains(&format!("mod {name};")) {
            missing.push(path.display().to_string());
        }
        let inner = [path.join("mod.rs"), path.with_extension("rs")];
        if path.is_dir() {
            let index = inner.iter().find(|index| index.exists()).expect("a folder has a module");
            unnamed(&path, index, missing);
        }
    }
}

#[test]
fn every_file_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut missing = Vec::new();
    unnamed(&folder, &folder.join("all.rs"), &mut missing);
    assert!(missing.is_empty(), "not compiled: {missing:#?}");
}
