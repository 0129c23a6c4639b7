//! The `webhookd` binary as a child process.
//!
//! `PGW_WEBHOOKD` names the binary. Without it, the newest of `target/release`, `target/quick` and
//! `target/debug` runs.

use crate::{PATIENCE, cluster::Database, name_server::NameServer, process::Process};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

/// Whether a daemon of the session's database sleeps: the same as `gate = 'asleep'` in
/// webhook.health, at a fraction of the cost.
pub const ASLEEP: &str = "select exists (select from pg_locks l join pg_database d on d.oid = l.database
    where d.datname = current_database() and l.locktype = 'advisory' and l.granted
      and l.mode = 'RowExclusiveLock' and l.classid = 1885820776 and l.objid = 2 and l.objsubid = 7)";

/// Returns the binary under test.
///
/// # Panics
/// If there is none.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PGW_WEBHOOKD") {
        let path = PathBuf::from(path);
        assert!(path.exists(), "PGW_WEBHOOKD={} does not exist", path.display());
        return path;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let built = ["release", "quick", "debug"].map(|profile| target.join(profile).join("webhookd"));
    let newest = built.into_iter().filter(|p| p.exists()).max_by_key(|p| {
        p.metadata().and_then(|file| file.modified()).expect("a file has a time of modification")
    });
    newest.unwrap_or_else(|| panic!("no webhookd in {}: run `make build`", target.display()))
}

/// A running daemon of one database.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
}

impl Daemon {
    /// Starts `webhookd run` on this database, allowed to call loopback.
    ///
    /// # Panics
    /// If the binary cannot be started.
    pub fn spawn(database: &Database) -> Self {
        Self::spawn_with(&database.url(), &["--allow-net", "127.0.0.0/8"])
    }

    /// Starts `webhookd run --database-url … <arguments>`.
    ///
    /// # Panics
    /// If the binary cannot be started.
    pub fn spawn_with(url: &str, arguments: &[&str]) -> Self {
        Self::spawn_in(url, arguments, &[])
    }

    /// Starts it with more variables in its environment.
    ///
    /// # Panics
    /// If the binary cannot be started.
    pub fn spawn_in(url: &str, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        Self::spawn_by(Command::new(binary()), url, arguments, environment)
    }

    /// Starts it with another name server, allowed to call loopback, and waits until it is the
    /// leader.
    ///
    /// # Panics
    /// If it is not within [`PATIENCE`].
    pub async fn start_with_names(database: &Database, names: &NameServer) -> Self {
        let command = names.command(binary());
        let daemon = Self::spawn_by(command, &database.url(), &["--allow-net", "127.0.0.0/8"], &[]);
        daemon.ready(database).await;
        daemon
    }

    fn spawn_by(mut command: Command, url: &str, arguments: &[&str], environment: &[(&str, &OsStr)]) -> Self {
        command.args(["run", "--database-url", url]).args(arguments);
        for variable in [
            "DATABASE_URL",
            "WEBHOOKD_INSTANCE",
            "RUST_LOG",
            "RUST_BACKTRACE",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ] {
            command.env_remove(variable);
        }
        command.envs(environment.iter().copied());
        Self { process: Process::spawn("webhookd", command, libc::SIGKILL) }
    }

    /// Starts it and waits until it is the leader of its database.
    ///
    /// # Panics
    /// If it is not within [`PATIENCE`].
    pub async fn start(database: &Database) -> Self {
        let daemon = Self::spawn(database);
        daemon.ready(database).await;
        daemon
    }

    /// Starts it with further flags, such as `--probe-interval-ms 1000`.
    ///
    /// # Panics
    /// If it is not the leader within [`PATIENCE`].
    pub async fn start_with(database: &Database, arguments: &[&str]) -> Self {
        let arguments = [&["--allow-net", "127.0.0.0/8"], arguments].concat();
        let daemon = Self::spawn_with(&database.url(), &arguments);
        daemon.ready(database).await;
        daemon
    }

    /// Waits until a daemon holds the leader's lock of the database.
    ///
    /// # Panics
    /// If none does within [`PATIENCE`].
    pub async fn ready(&self, database: &Database) {
        let active = "select exists (select from pg_locks l join pg_database d on d.oid = l.database
            where d.datname = current_database() and l.locktype = 'advisory' and l.granted
              and l.classid = 1885820776 and l.objid = 1)";
        database.until(active, PATIENCE).await;
        assert!(!self.process.has_ended(), "webhookd has ended");
    }

    /// Waits until the daemon sleeps: it holds the gate, and the next commit must wake it.
    ///
    /// # Panics
    /// If it does not within [`PATIENCE`].
    pub async fn asleep(database: &Database) {
        database.until(ASLEEP, PATIENCE).await;
    }

    /// Sends `kill -9`; returns when the process has ended.
    pub async fn kill9(self) {
        self.process.signal(libc::SIGKILL);
        self.process.wait(Duration::from_secs(10)).await;
    }

    /// Sends SIGTERM; returns the exit status.
    ///
    /// # Panics
    /// If it has not ended within `deadline`.
    pub async fn sigterm(&self, deadline: Duration) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.wait(deadline).await
    }

    /// Waits until it ends by itself; returns the exit status.
    ///
    /// # Panics
    /// If it has not ended within `deadline`.
    pub async fn ended(&self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline).await
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns its peak memory, in MiB.
    ///
    /// # Panics
    /// If it has ended.
    pub fn peak_mib(&self) -> f64 {
        self.process.status_kib("VmHWM") as f64 / 1024.0
    }
}

impl Drop for Daemon {
    /// Checks after every test that the daemon's log contains no secret.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let leak = self.process.log().into_iter().find(|line| line.contains("whsec_"));
            assert_eq!(leak, None, "a secret in the daemon's log");
        }
    }
}
