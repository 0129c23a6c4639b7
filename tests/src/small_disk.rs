//! A disk that is soon full, for one folder of a server: a write that would make its files too
//! large in sum fails with ENOSPC.
//!
//! A preloaded library (`small_disk.c`) wraps the calls with which Postgres makes files larger.
//! They fail as the kernel's would, and Postgres itself is unchanged. This leaves nothing behind.
//! RLIMIT_FSIZE would not do: it bounds each file, and its error is a different one (EFBIG).

use crate::preloaded;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A folder with room for this many MiB.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    mib: u32,
    library: PathBuf,
    counts: PathBuf,
}

impl SmallDisk {
    /// Limits an existing folder. The library and its counters go into `beside`, which the server
    /// can read.
    ///
    /// # Panics
    /// If there is no C compiler, which building needs too.
    pub fn new(folder: &Path, mib: u32, beside: &Path) -> Self {
        let (library, counts) =
            (preloaded::compile("small_disk.c", beside), beside.join("small_disk.counts"));
        std::fs::write(&counts, [0; 16]).expect("it can be written");
        std::fs::set_permissions(&counts, PermissionsExt::from_mode(0o666)).expect("it is ours");
        // The path as the server's processes see it.
        let folder = folder.canonicalize().expect("the folder is there");
        Self { folder, mib, library, counts }
    }

    /// Adds the variables that the limited program needs to its environment.
    pub fn apply(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("SMALL_DISK_FOLDER", &self.folder)
            .env("SMALL_DISK_BYTES", (u64::from(self.mib) << 20).to_string())
            .env("SMALL_DISK_COUNTS", &self.counts);
    }
}
