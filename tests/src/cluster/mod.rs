//! A throw-away Postgres cluster with the extension installed.
//!
//! `PGW_BIN` names the bin directory of a Postgres that has the extension (`scripts/sandbox.sh`
//! makes one). The data is in a temporary directory. Dropping the value ends the server and removes
//! the directory. Under root the server runs as the user `postgres`, because it refuses root.

mod database;
mod origin;
mod recovery;
mod system;
mod template;

use crate::{
    clock::Clock,
    process::{Process, lock},
    small_disk::SmallDisk,
};
pub use database::{Database, describe, value};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};
use system::{Account, children, free_port, is_zombie, own_bin};

/// A cluster of its own: one postmaster, its data directory and its port.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    account: Option<Account>,
    port: u16,
    settings: Vec<String>,
    /// `None` if the server uses the machine's clock.
    clock: Option<Clock>,
    /// The limited disk of tablespace `small`.
    small_disk: Option<SmallDisk>,
    postmaster: Mutex<Option<Process>>,
}

/// Held while a port is chosen, so that two clusters of one test binary choose different ports.
static STARTING: Mutex<()> = Mutex::new(());

impl Cluster {
    /// Creates a cluster and starts it.
    ///
    /// # Panics
    /// If `PGW_BIN` is not set or the server does not start.
    pub async fn start() -> Arc<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a cluster with settings such as `fsync=off`, which come after the usual ones.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_with(settings: &[&str]) -> Arc<Self> {
        let cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(settings)
        };
        cluster.boot().await;
        Arc::new(cluster)
    }

    /// Starts a cluster with a clock of its own, at this offset from ours (`-100d`, `+2h`); see
    /// [`Cluster::set_clock`].
    ///
    /// # Panics
    /// As [`Cluster::start`], and without libfaketime (`make test` installs it).
    pub async fn start_with_clock(offset: &str) -> Arc<Self> {
        Self::start_with_clock_and(offset, &[]).await
    }

    /// Starts a cluster with a clock of its own and with settings.
    ///
    /// # Panics
    /// As [`Cluster::start_with_clock`].
    pub async fn start_with_clock_and(offset: &str, settings: &[&str]) -> Arc<Self> {
        let mut cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(settings)
        };
        cluster.clock = Some(Clock::new(cluster.dir.path(), "clock", offset));
        cluster.boot().await;
        Arc::new(cluster)
    }

    /// Starts a cluster with a tablespace `small` on a disk of this many MiB.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_with_small_disk(mib: u32) -> Arc<Self> {
        let mut cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        let location = cluster.dir.path().join("small");
        std::fs::create_dir(&location).expect("a folder");
        if let Some(Account(uid, gid)) = cluster.account {
            std::os::unix::fs::chown(&location, Some(uid), Some(gid)).expect("root may chown");
        }
        cluster.small_disk = Some(SmallDisk::new(&location, mib, cluster.dir.path()));
        cluster.boot().await;
        let cluster = Arc::new(cluster);
        cluster
            .existing("postgres")
            .run(&format!("create tablespace small location '{}'", location.display()))
            .await;
        cluster
    }

    /// Starts a cluster of another version, with the programs in `bin`.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_of(bin: &Path) -> Arc<Self> {
        let cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init_of(bin, &[])
        };
        cluster.boot().await;
        Arc::new(cluster)
    }

    /// Shuts the server down as an operator does.
    ///
    /// # Panics
    /// If it does not run, or does not end within half a minute.
    pub async fn stop(&self) {
        let postmaster = lock(&self.postmaster).take().expect("the postmaster runs");
        postmaster.signal(libc::SIGINT);
        postmaster.wait(Duration::from_secs(30)).await;
    }

    /// Runs a program of this Postgres to its end.
    fn complete(&self, name: &str, arguments: &[&str]) {
        let done = self.program(name).args(arguments).output();
        let done = done.unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
        assert!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Sets the server's clock.
    ///
    /// # Panics
    /// If the cluster has no clock of its own.
    pub fn set_clock(&self, offset: &str) {
        self.clock.as_ref().expect("started with a clock").set(offset);
    }

    fn init(settings: &[&str]) -> Self {
        Self::init_of(&own_bin(), settings)
    }

    fn init_of(bin: &Path, settings: &[&str]) -> Self {
        let bin = bin.to_owned();
        assert!(bin.join("postgres").exists(), "PGW_BIN={} holds no postgres", bin.display());
        let account = Account::for_server();
        let dir = tempfile::Builder::new().prefix("pgw-e2e-").tempdir().expect("a temporary directory");
        if let Some(Account(uid, gid)) = account {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(gid)).expect("root may chown");
        }
        template::create(&bin, account, &dir.path().join("data"));
        let port = free_port();
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        Self {
            bin,
            dir,
            account,
            port,
            settings,
            clock: None,
            small_disk: None,
            postmaster: Mutex::new(None),
        }
    }

    /// Starts the postmaster on the existing data (after [`Cluster::kill9`] with recovery) and
    /// waits until it accepts connections.
    ///
    /// # Panics
    /// If it has ended, or does not answer in time.
    pub async fn boot(&self) {
        let mut command = Command::new(self.bin.join("postgres"));
        command.arg("-D").arg(self.dir.path().join("data")).args(["-p", &self.port.to_string()]);
        command.arg("-k").arg(self.dir.path()).current_dir(self.dir.path());
        for setting in [
            "listen_addresses=127.0.0.1",
            "max_connections=120",
            "max_prepared_transactions=64",
            "shared_buffers=128MB",
            "max_wal_size=2GB",
            "log_line_prefix=%m [%p] %d ",
            // The views span all slots of the ring, so JIT would compile for half a second for a
            // handful of rows.
            "jit=off",
        ]
        .into_iter()
        .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        // A developer's shell may request backtraces, which pgrx would add to the details of
        // errors.
        command.env_remove("RUST_BACKTRACE");
        if let Some(clock) = &self.clock {
            command.envs(clock.environment());
        }
        if let Some(disk) = &self.small_disk {
            disk.apply(&mut command);
        }
        Account::apply(self.account, &mut command);
        // SIGQUIT is an immediate shutdown, which also ends the backends.
        let postmaster = Process::spawn("postgres", command, libc::SIGQUIT);
        postmaster.wait_for_line(|line| line.contains("ready to accept"), Duration::from_secs(120)).await;
        *lock(&self.postmaster) = Some(postmaster);
    }

    /// Kills the postmaster like a power failure. Returns when all backends have ended, so that the
    /// data directory can be opened again.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill9(&self) {
        let postmaster = lock(&self.postmaster).take().expect("the postmaster runs");
        let backends = children(postmaster.pid());
        postmaster.signal(libc::SIGKILL);
        postmaster.wait(Duration::from_secs(10)).await;
        for pid in backends {
            // SAFETY: these are backends of our own postmaster, listed a moment ago. A pid among
            // them has either ended or is still ours.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            while Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(pid) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns the directory of the cluster, writable for the server's user.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.postmaster).as_ref().map(Process::log).unwrap_or_default()
    }

    /// Creates a database of this name with the extension.
    ///
    /// # Panics
    /// If either fails.
    pub async fn database(self: &Arc<Self>, name: &str) -> Database {
        let database = self.empty_database(name).await;
        database.run("create extension pg_webhook").await;
        database
    }

    /// Creates a database of another encoding, without the extension.
    ///
    /// # Panics
    /// If it fails.
    pub async fn database_in(self: &Arc<Self>, name: &str, encoding: &str) -> Database {
        let create = format!(
            "create database {name} template template0 encoding '{encoding}' lc_collate 'C' lc_ctype 'C'"
        );
        self.existing("postgres").run(&create).await;
        self.existing(name)
    }

    /// Creates a database without the extension.
    ///
    /// # Panics
    /// If it fails.
    pub async fn empty_database(self: &Arc<Self>, name: &str) -> Database {
        self.existing("postgres").run(&format!("create database {name}")).await;
        self.existing(name)
    }

    /// Returns an existing database of this cluster.
    pub fn existing(self: &Arc<Self>, name: &str) -> Database {
        Database { cluster: self.clone(), name: name.to_owned() }
    }

    /// Starts another server program beside the cluster, as the server's user.
    pub fn spawn(&self, name: &str, mut command: Command) -> Process {
        command.current_dir(self.dir.path());
        Account::apply(self.account, &mut command);
        Process::spawn(name, command, libc::SIGKILL)
    }

    /// Returns the command for a program of this Postgres (`pg_basebackup`, `pg_dump`), as the
    /// server's user.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(self.dir.path());
        Account::apply(self.account, &mut command);
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(postmaster) = lock(&self.postmaster).take() {
            postmaster.signal(libc::SIGQUIT);
            postmaster.wait_blocking(Duration::from_secs(10));
        }
    }
}
