//! A throw-away Postgres cluster with the extension at hand.
//!
//! `PGW_BIN` names the bin directory of a Postgres that has the extension (`scripts/sandbox.sh` makes one). The data
//! lies in a temporary directory; server and directory go when the value is dropped. As root the server runs as the
//! user `postgres`, since it refuses root.

use crate::{
    clock::Clock,
    process::{Process, lock},
    small_disk,
};
use std::{
    ffi::CString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

/// Another user to run as: uid and gid.
#[derive(Debug, Clone, Copy)]
struct Account(u32, u32);

impl Account {
    /// `postgres` if we are root; `None`: stay who we are.
    fn for_server() -> Option<Self> {
        // SAFETY: getuid has no preconditions.
        if unsafe { libc::getuid() } != 0 {
            return None;
        }
        let name = CString::new("postgres").expect("no NUL in it");
        // SAFETY: the name is a C string; the result is read before any other call of the family. Tests of one
        // binary start clusters one at a time (STARTING is held).
        let entry = unsafe { libc::getpwnam(name.as_ptr()) };
        assert!(!entry.is_null(), "running as root, but there is no user postgres to run the server as");
        // SAFETY: checked for null just above.
        let entry = unsafe { &*entry };
        Some(Self(entry.pw_uid, entry.pw_gid))
    }

    fn apply(account: Option<Self>, command: &mut Command) {
        if let Some(Self(uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
    }
}

/// A cluster of its own: one postmaster, its data directory and its port.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    dir: tempfile::TempDir,
    account: Option<Account>,
    port: u16,
    settings: Vec<String>,
    /// `None`: the server's clock is ours.
    clock: Option<Clock>,
    /// Size of tablespace `small`, which is a disk of its own.
    small_disk_mib: Option<u32>,
    postmaster: Mutex<Option<Process>>,
}

/// Held while a port is chosen, so that two clusters of one test binary do not choose the same.
static STARTING: Mutex<()> = Mutex::new(());

impl Cluster {
    /// Makes a cluster and starts it.
    ///
    /// # Panics
    /// If `PGW_BIN` is not set or the server does not start.
    pub async fn start() -> Arc<Self> {
        Self::start_with(&[]).await
    }

    /// The same with settings such as `fsync=off`, which come after the usual ones.
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

    /// The same with a clock of the server's own, so far from ours (`-100d`, `+2h`): see [`Cluster::set_clock`].
    ///
    /// # Panics
    /// As [`Cluster::start`], and without libfaketime (`make test` installs it).
    pub async fn start_with_clock(offset: &str) -> Arc<Self> {
        let mut cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        cluster.clock = Some(Clock::new(cluster.dir.path(), "clock", offset));
        cluster.boot().await;
        Arc::new(cluster)
    }

    /// The same with a tablespace `small` on a disk of so many MiB, which is empty after each start.
    ///
    /// # Panics
    /// As [`Cluster::start`], and where no disk can be mounted ([`small_disk`]).
    pub async fn start_with_small_disk(mib: u32) -> Arc<Self> {
        let mut cluster = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        cluster.small_disk_mib = Some(mib);
        std::fs::create_dir(cluster.small_disk()).expect("a folder");
        cluster.boot().await;
        let cluster = Arc::new(cluster);
        let location = cluster.small_disk();
        cluster
            .existing("postgres")
            .run(&format!("create tablespace small location '{}'", location.display()))
            .await;
        cluster
    }

    fn small_disk(&self) -> PathBuf {
        self.dir.path().join("small")
    }

    /// The same whose next transaction id is this one.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub async fn start_at_xid(xid: u32) -> Arc<Self> {
        let cluster = {
            let _one_at_a_time = lock(&STARTING);
            Arc::new(Self::init(&[]))
        };
        // Nothing may be older than half the circle of ids: in three steps, with everything frozen before each.
        for next in [xid / 3, xid / 3 * 2, xid] {
            cluster.boot().await;
            cluster.existing("postgres").run("alter database template0 allow_connections true").await;
            cluster.complete(
                "vacuumdb",
                &[
                    "-h",
                    "127.0.0.1",
                    "-U",
                    "postgres",
                    "-p",
                    &cluster.port.to_string(),
                    "--all",
                    "--freeze",
                    "-q",
                ],
            );
            cluster.stop().await;
            let data = cluster.dir.path().join("data");
            cluster.complete("pg_resetwal", &["-x", &next.to_string(), "-D", &data.to_string_lossy()]);
            // The commit log of the id: a segment has 32 pages, a page 32 768 transactions.
            let segment = data.join(format!("pg_xact/{:04X}", next / 32_768 / 32));
            std::fs::write(&segment, vec![0; 32 * 8192]).expect("the segment can be written");
            if let Some(Account(uid, gid)) = cluster.account {
                std::os::unix::fs::chown(&segment, Some(uid), Some(gid)).expect("root may chown");
            }
        }
        cluster.boot().await;
        cluster
    }

    /// The same of another version: that of the programs in `bin`.
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

    /// What `pg_upgrade` makes of this cluster, which it shuts down for good: one of the version of `PGW_BIN`, up and running.
    ///
    /// # Panics
    /// If `pg_upgrade` fails, with what it said.
    pub async fn upgraded(self: &Arc<Self>) -> Arc<Self> {
        // Debian's 15.20 notes an option with every column that no later pg_dump leaves out and no later server takes, so that
        // pg_upgrade fails for whatever table there is.
        let names = "select string_agg(datname, ' ') from pg_database where datallowconn";
        for name in self.existing("postgres").text(names).await.unwrap_or_default().split(' ') {
            self.existing(name)
                .run(
                    "set allow_system_table_mods = on;
                     update pg_attribute set attoptions = null where attrelid >= 16384 and attoptions::text like '{pg_attver=%'",
                )
                .await;
        }
        self.stop().await;
        let new = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        let mut upgrade = new.program("pg_upgrade");
        upgrade.arg("-b").arg(&self.bin).arg("-B").arg(&new.bin).args(["-U", "postgres"]);
        upgrade.arg("-d").arg(self.dir.path().join("data")).arg("-D").arg(new.dir.path().join("data"));
        upgrade
            .args(["-p", &self.port.to_string(), "-P", &new.port.to_string()])
            .env_remove("RUST_BACKTRACE");
        let done = upgrade.output().expect("pg_upgrade can be started");
        if !done.status.success() {
            let said = Command::new("grep")
                .args(["-rhE", "ERROR|error:", "pg_upgrade_output.d", "--include=*.log"])
                .current_dir(new.dir.path().join("data"))
                .output();
            let said = said.map(|grep| grep.stdout).unwrap_or_default();
            panic!("pg_upgrade: {}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&said));
        }
        new.boot().await;
        Arc::new(new)
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
    /// If it has none of its own.
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
        let mut initdb = Command::new(bin.join("initdb"));
        // Checksums are there by default or not, depending on the version.
        initdb.args(["--no-sync", "-k", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"]);
        initdb.arg(dir.path().join("data")).current_dir(dir.path());
        Account::apply(account, &mut initdb);
        let done = initdb.output().expect("initdb can be started");
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
        let port = free_port();
        let settings = settings.iter().map(|&s| s.to_owned()).collect();
        Self {
            bin,
            dir,
            account,
            port,
            settings,
            clock: None,
            small_disk_mib: None,
            postmaster: Mutex::new(None),
        }
    }

    /// Starts the postmaster over the existing data (after [`Cluster::kill9`], recovery included) and waits until it
    /// takes connections.
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
            // The views span all slots of the ring: for a handful of rows, half a second of compiling.
            "jit=off",
        ]
        .into_iter()
        .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        // A developer's shell may ask for backtraces, which pgrx would put into the details of errors.
        command.env_remove("RUST_BACKTRACE");
        if let Some(clock) = &self.clock {
            command.envs(clock.environment());
        }
        if let Some(mib) = self.small_disk_mib {
            let account = self.account.map(|Account(uid, gid)| (uid, gid));
            command = small_disk::within(&command, &self.small_disk(), mib, account);
        } else {
            Account::apply(self.account, &mut command);
        }
        // SIGQUIT: an immediate shutdown that takes the backends along.
        let postmaster = Process::spawn("postgres", command, libc::SIGQUIT);
        postmaster.wait_for_line(|line| line.contains("ready to accept"), Duration::from_secs(120)).await;
        *lock(&self.postmaster) = Some(postmaster);
    }

    /// Kills the postmaster as a power failure would; its backends notice and leave. Returns when all are gone, so
    /// that the data directory can be opened again.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill9(&self) {
        let postmaster = lock(&self.postmaster).take().expect("the postmaster runs");
        let backends = children(postmaster.pid());
        postmaster.signal(libc::SIGKILL);
        postmaster.wait(Duration::from_secs(10)).await;
        for pid in backends {
            // SAFETY: backends of our own postmaster, listed a moment ago; a stopped one is gone or ours still.
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

    /// The directory of the cluster, writable for the server's user.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's log so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.postmaster).as_ref().map(Process::log).unwrap_or_default()
    }

    /// Makes a database of that name with the extension in it.
    ///
    /// # Panics
    /// If either fails.
    pub async fn database(self: &Arc<Self>, name: &str) -> Database {
        let database = self.empty_database(name).await;
        database.run("create extension pg_webhook").await;
        database
    }

    /// Makes a database without the extension.
    ///
    /// # Panics
    /// If it fails.
    pub async fn empty_database(self: &Arc<Self>, name: &str) -> Database {
        self.existing("postgres").run(&format!("create database {name}")).await;
        self.existing(name)
    }

    /// A standby that follows this cluster by streaming replication, up and readable.
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn standby(&self) -> Arc<Self> {
        self.standby_through(self.port).await
    }

    /// The same, which is told of another port that leads here, such as that of a [`Link`](crate::link::Link).
    ///
    /// # Panics
    /// If it cannot be made.
    pub async fn standby_through(&self, port: u16) -> Arc<Self> {
        let mut standby = {
            let _one_at_a_time = lock(&STARTING);
            Self::init(&[])
        };
        let data = standby.dir.path().join("data");
        std::fs::remove_dir_all(&data).expect("it was made a moment ago");
        standby.settings = self.settings.clone();
        let mut copy = self.program("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-c",
            "fast",
            "-X",
            "stream",
            "--no-sync",
            "-R",
            "-p",
        ]);
        copy.arg(port.to_string()).arg("-D").arg(data);
        // Not in this task's thread: what leads here may be carried by it.
        let done = tokio::task::spawn_blocking(move || copy.output()).await.expect("it ends");
        let done = done.expect("pg_basebackup can be started");
        assert!(done.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&done.stderr));
        standby.boot().await;
        Arc::new(standby)
    }

    /// A database of this cluster that exists already.
    pub fn existing(self: &Arc<Self>, name: &str) -> Database {
        Database { cluster: self.clone(), name: name.to_owned() }
    }

    /// Starts a server program of somebody else beside the cluster, as the server's user.
    pub fn spawn(&self, name: &str, mut command: Command) -> Process {
        command.current_dir(self.dir.path());
        Account::apply(self.account, &mut command);
        Process::spawn(name, command, libc::SIGKILL)
    }

    /// A program of this Postgres (`pg_basebackup`, `pg_dump`), to be run as the server's user.
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

/// The Postgres that the tests are about.
fn own_bin() -> PathBuf {
    std::env::var_os("PGW_BIN").map(PathBuf::from).unwrap_or_else(|| {
        panic!("PGW_BIN is not set: run `make test`, or export PGW_BIN=$(scripts/sandbox.sh)")
    })
}

fn children(parent: i32) -> Vec<i32> {
    let of_parent = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rfind(')').map_or("", |at| &stat[at + 1..]);
        after_name.split_whitespace().nth(1).and_then(|ppid| ppid.parse().ok()) == Some(parent)
    };
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(of_parent).collect()
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it has to stay free while the
/// server is down.
fn free_port() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    let candidates = std::iter::repeat_with(|| LAST.fetch_add(1, Ordering::Relaxed))
        .map(|n| 10_000 + first.wrapping_mul(61).wrapping_add(n.wrapping_mul(7)) % 20_000);
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(1000).find(is_free).expect("a free port")
}

/// One database of a cluster.
#[derive(Debug, Clone)]
pub struct Database {
    pub cluster: Arc<Cluster>,
    pub name: String,
}

impl Database {
    /// For the daemon: `postgresql://postgres@127.0.0.1:port/name`.
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    pub fn url_as(&self, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{}", self.cluster.port, self.name)
    }

    /// A session.
    ///
    /// # Panics
    /// If it cannot connect.
    pub async fn client(&self) -> Client {
        self.try_client("postgres").await.unwrap_or_else(|e| panic!("cannot connect to {}: {e}", self.url()))
    }

    /// A session of another role.
    ///
    /// # Errors
    /// Why it cannot connect.
    pub async fn try_client(&self, role: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.cluster.port).user(role).dbname(&self.name);
        let (client, connection) = config.application_name("e2e").connect(NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// Runs statements in a session of their own.
    ///
    /// # Panics
    /// If one fails.
    pub async fn run(&self, statements: &str) {
        let client = self.client().await;
        if let Err(e) = client.batch_execute(statements).await {
            panic!("{statements}\n{}", describe(&e));
        }
    }

    /// The single value of a query, as text; `None`: null or no row.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn text(&self, query: &str) -> Option<String> {
        value(&self.client().await, query).await
    }

    /// The single number of a query.
    ///
    /// # Panics
    /// If the query fails or gives none.
    pub async fn number(&self, query: &str) -> i64 {
        let text = self.text(query).await.unwrap_or_else(|| panic!("no value: {query}"));
        text.parse().unwrap_or_else(|_| panic!("not a number: {text} from {query}"))
    }

    /// Waits until a query gives true: for states of the database that nothing announces.
    ///
    /// # Panics
    /// If it has not within `deadline`.
    pub async fn until(&self, query: &str, deadline: Duration) {
        assert!(self.becomes(query, deadline).await, "not true within {deadline:?}: {query}");
    }

    /// Whether a query gives true within `deadline`.
    ///
    /// # Panics
    /// If the query fails.
    pub async fn becomes(&self, query: &str, deadline: Duration) -> bool {
        let client = self.client().await;
        let end = Instant::now() + deadline;
        loop {
            let asked = Instant::now();
            if value(&client, query).await.as_deref() == Some("t") {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            // At most half of the time is spent on asking: the answer is to come from others.
            tokio::time::sleep(asked.elapsed().max(Duration::from_millis(5))).await;
        }
    }
}

/// The single value of a query, as text.
///
/// # Panics
/// If the query fails.
pub async fn value(client: &Client, query: &str) -> Option<String> {
    use tokio_postgres::SimpleQueryMessage::Row;
    let answer = client.simple_query(query).await.unwrap_or_else(|e| panic!("{query}\n{}", describe(&e)));
    answer
        .iter()
        .find_map(|message| if let Row(row) = message { Some(row.get(0)) } else { None })?
        .map(str::to_owned)
}

/// An error with the server's words in it, which `Display` leaves out.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => format!(
            "{} {}{}",
            db.code().code(),
            db.message(),
            db.hint().map(|hint| format!(" HINT: {hint}")).unwrap_or_default()
        ),
        None => error.to_string(),
    }
}
