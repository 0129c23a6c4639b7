//! A clock of a process's own, which can be set while the process runs (libfaketime). The monotonic
//! clock continues unchanged; only the time of day moves.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The offset from our clock for the processes that are started with it.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Creates a clock. `offset` is as in `-100d`, `+2h`, `+1.5`; a file in `folder` holds it.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn new(folder: &Path, name: &str, offset: &str) -> Self {
        let clock = Self { file: folder.join(name) };
        clock.set(offset);
        clock
    }

    /// Sets the offset for the running processes.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set(&self, offset: &str) {
        // The rename is atomic: a process that read a half-written file would use our time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, offset)
            .and_then(|()| std::fs::rename(&new, &self.file))
            .expect("it can be written");
    }

    /// Returns the environment for the process.
    ///
    /// # Panics
    /// If libfaketime is not installed (`make test` installs it).
    pub fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", libfaketime().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.exists()).expect("libfaketime is installed; `make test` does it")
}
