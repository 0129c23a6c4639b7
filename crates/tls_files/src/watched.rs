//! Notices that files have changed: another file at the path, another time of change, or another
//! length. A mounted secret is often a link, so links are followed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// What distinguishes two versions of a file: device, inode, time of change (s, ns), and length.
/// `None` if the file cannot be examined.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// Files that are read again when they change.
#[derive(Debug, Default)]
pub struct Watched {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Stamp>>,
}

impl Watched {
    /// Returns a watch that knows the present versions. Call it before the files are read, so that
    /// no change is missed.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = Mutex::new(stamps(&paths));
        Self { paths, seen }
    }

    /// Reports whether a file has changed since the last call, or since the start.
    pub fn have_changed(&self) -> bool {
        let now = stamps(&self.paths);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    paths.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_change_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), "1").unwrap();
        symlink(path("a"), path("link")).unwrap();
        let watched = Watched::new([path("link"), path("missing")]);
        assert!(!watched.have_changed());
        fs::write(path("a"), "12").unwrap();
        assert!(watched.have_changed() && !watched.have_changed(), "another length");
        fs::write(path("b"), "12").unwrap();
        fs::rename(path("b"), path("a")).unwrap();
        assert!(watched.have_changed() && !watched.have_changed(), "another file of this length");
        fs::write(path("missing"), "").unwrap();
        assert!(watched.have_changed(), "a file appears");
        fs::remove_file(path("missing")).unwrap();
        assert!(watched.have_changed() && !watched.have_changed(), "and disappears");
        assert!(!Watched::default().have_changed());
    }
}
