//! The system resources of a cluster: the user its server runs as, its port, its processes.

use std::{
    ffi::CString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
};

/// Another user to run as: uid and gid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account(pub u32, pub u32);

impl Account {
    /// Returns `postgres` if we are root, and `None` to stay the current user.
    pub(super) fn for_server() -> Option<Self> {
        // SAFETY: getuid has no preconditions.
        if unsafe { libc::getuid() } != 0 {
            return None;
        }
        let name = CString::new("postgres").expect("no NUL in it");
        // SAFETY: the name is a C string; the result is read before any other call of the family.
        // Tests of one binary start clusters one at a time (STARTING is held).
        let entry = unsafe { libc::getpwnam(name.as_ptr()) };
        assert!(!entry.is_null(), "running as root, but there is no user postgres to run the server as");
        // SAFETY: checked for null just above.
        let entry = unsafe { &*entry };
        Some(Self(entry.pw_uid, entry.pw_gid))
    }

    pub(super) fn apply(account: Option<Self>, command: &mut Command) {
        if let Some(Self(uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
    }
}

/// Returns the directory of the Postgres under test.
pub(super) fn own_bin() -> PathBuf {
    std::env::var_os("PGW_BIN").map(PathBuf::from).unwrap_or_else(|| {
        panic!("PGW_BIN is not set: run `make test`, or export PGW_BIN=$(scripts/sandbox.sh)")
    })
}

pub(super) fn children(parent: i32) -> Vec<i32> {
    let of_parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        after_name.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(of_parent).collect()
}

pub(super) fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// Returns a port on which no process listens, below the range that the kernel uses for outgoing
/// connections: it must stay free while the server is down.
pub(super) fn free_port() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    let candidates = std::iter::repeat_with(|| LAST.fetch_add(1, Ordering::Relaxed))
        .map(|n| 10_000 + first.wrapping_mul(61).wrapping_add(n.wrapping_mul(7)) % 20_000);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(1000).find(is_free).expect("a free port")
}
