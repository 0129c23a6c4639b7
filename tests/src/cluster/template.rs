//! A data directory that new clusters are copied from. Copying takes a tenth of the time of
//! `initdb`. Each copy gets a system identifier of its own, because `initdb` would give it one.

use super::system::Account;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The offset of the system identifier on the first page of a WAL segment
/// (`XLogLongPageHeaderData`). In `pg_control` it comes first.
const WAL_IDENTIFIER_AT: usize = 24;

/// One thread at a time creates templates.
static CREATED: Mutex<()> = Mutex::new(());

/// Creates a data directory at `data`.
///
/// # Panics
/// If it fails.
pub fn create(bin: &Path, account: Option<Account>, data: &Path) {
    match template(bin, account) {
        Some(template) => run(Command::new("cp").arg("-a").arg(&template).arg(data)),
        None => initdb(bin, account, data),
    }
    identify(data);
}

/// Returns the template beside the programs of this Postgres, and creates it if it is not there.
/// Returns `None` if that directory is not ours to write to.
fn template(bin: &Path, account: Option<Account>) -> Option<PathBuf> {
    let path = bin.join("e2e-template");
    let _guard = CREATED.lock().unwrap_or_else(PoisonError::into_inner);
    if !path.exists() {
        let dir = tempfile::Builder::new().prefix("e2e-template-").tempdir_in(bin).ok()?;
        if let Some(Account(uid, gid)) = account {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("root may chown");
        }
        initdb(bin, account, &dir.path().join("data"));
        // Another process may have been faster. Its template is as good.
        if fs::rename(dir.path().join("data"), &path).is_err() {
            assert!(path.exists(), "{} cannot be created", path.display());
        }
    }
    Some(path)
}

fn initdb(bin: &Path, account: Option<Account>, data: &Path) {
    let mut initdb = Command::new(bin.join("initdb"));
    // The default for checksums depends on the version.
    initdb.args(["--no-sync", "-k", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]);
    initdb.arg(data).current_dir(data.parent().expect("it has a parent"));
    Account::apply(account, &mut initdb);
    run(&mut initdb);
}

fn run(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Replaces the system identifier in the control file and in the only WAL segment.
fn identify(data: &Path) {
    let identifier: u64 = rand::random();
    let control = data.join("global/pg_control");
    let mut bytes = fs::read(&control).expect("the control file");
    // The checksum follows the structure, whose size depends on the version.
    let checksum = |bytes: &[u8], size: usize| crc32c::crc32c(&bytes[..size]).to_ne_bytes();
    let size = (64..500).find(|size| bytes[*size..size + 4] == checksum(&bytes, *size)).expect("a checksum");
    bytes[..8].copy_from_slice(&identifier.to_ne_bytes());
    let sum = checksum(&bytes, size);
    bytes[size..size + 4].copy_from_slice(&sum);
    fs::write(&control, bytes).expect("the control file is writable");
    let segment = data.join("pg_wal/000000010000000000000001");
    let file = fs::OpenOptions::new().write(true).open(segment).expect("the first segment");
    std::os::unix::fs::FileExt::write_all_at(&file, &identifier.to_ne_bytes(), WAL_IDENTIFIER_AT as u64)
        .expect("the segment is writable");
}
