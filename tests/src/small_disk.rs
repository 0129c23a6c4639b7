//! A disk that is soon full: a tmpfs of the server's own.
//!
//! It is mounted in a mount namespace that begins and ends with the postmaster: nobody else sees it, and nothing is left of it.
//! As root that needs no more than root; for others the kernel has to allow user namespaces (Debian does), and where it
//! does not, the server says so instead of starting.

use std::{path::Path, process::Command};

/// Mounts the disk on its last argument but the program's, and becomes the program.
const MOUNT_AND_BECOME: &str = r#"mount -t tmpfs -o "$0" tmpfs "$1" && shift && exec "$@""#;

/// The command, with so many MiB mounted on `folder`, which only it sees. `account`: uid and gid to run it as, being root.
pub fn within(command: &Command, folder: &Path, mib: u32, account: Option<(u32, u32)>) -> Command {
    let mut outer = Command::new("unshare");
    outer.arg("--mount");
    let options = match account {
        Some((uid, gid)) => format!("size={mib}m,mode=700,uid={uid},gid={gid}"),
        None => {
            outer.args(["--map-current-user", "--keep-caps"]);
            format!("size={mib}m,mode=700")
        }
    };
    outer.args(["sh", "-c", MOUNT_AND_BECOME, &options]).arg(folder);
    if let Some((uid, gid)) = account {
        // Another user's process no longer dies with us unless it asks for that anew.
        outer.args(["setpriv", "--clear-groups", "--pdeathsig", "QUIT"]);
        outer.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string()]);
    }
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}
