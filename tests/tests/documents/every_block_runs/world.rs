//! What the reader of a page has: a server with a database `shop`, a receiver, a terminal and a
//! psql session. Names of the page become those of this world before a block runs.

use super::{block::Block, interpreter::Interpreter, output, request};
use e2e::{
    PATIENCE,
    cluster::{Cluster, Database},
    daemon::{Daemon, binary},
    receiver::{Behaviour, Receiver},
};
use regex::Regex;
use std::{collections::HashMap, path::Path, process::Command, sync::Arc};

/// Ports that pages name, each replaced by a free one.
const PORTS: [&str; 3] = ["3000", "8080", "8090"];
/// Texts that a reader copies from the output before, where the page has a text with `…`.
const COPIED: [&str; 3] =
    [r"whsec_[A-Za-z0-9+/]{20,}=*", r"evt_[0-9a-f]{10,}", r"webhookd_public_[A-Za-z0-9+/.]{60,}"];
const TERMINAL: &str = include_str!("terminal.sh");

pub struct World {
    pub database: Database,
    pub cluster: Arc<Cluster>,
    pub receiver: Receiver,
    pub folder: tempfile::TempDir,
    daemon: Option<Daemon>,
    psql: Interpreter,
    bash: Interpreter,
    names: Vec<(Regex, String)>,
    copied: HashMap<&'static str, String>,
}

impl World {
    /// Starts it, with an empty database `shop`.
    pub async fn new() -> Self {
        let cluster = Cluster::start().await;
        let database = cluster.empty_database("shop").await;
        let receiver = Receiver::start().await;
        receiver.trust();
        receiver.behave("/ok/hooks", Behaviour::Status(204));
        let folder = tempfile::tempdir().expect("a folder");
        for part in ["etc/bash_completion.d", "etc/prometheus", "usr/local/share/man/man1", "secrets"] {
            std::fs::create_dir_all(folder.path().join(part)).expect("a folder");
        }
        let (psql, bash) = (psql(&database), bash(&database, folder.path()).await);
        let mut world = Self {
            names: Vec::new(),
            copied: HashMap::new(),
            daemon: None,
            cluster,
            database,
            receiver,
            folder,
            psql,
            bash,
        };
        world.name_the_parts();
        world
    }

    fn name_the_parts(&mut self) {
        let postgres = self.cluster.port();
        let folder = self.folder.path().to_str().expect("a path of text").to_owned();
        self.name(r"https://[a-z.]*example\.com/", &self.receiver.url("/ok/"));
        self.name(r"@(db\.example\.com|127\.0\.0\.1)/shop", &format!("@127.0.0.1:{postgres}/shop"));
        self.name(r"(^|[\s='\x22])/(etc|usr/local)/", &format!("${{1}}{folder}/${{2}}/"));
        self.name(" -g prometheus", "");
        for port in PORTS {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let free = listener.local_addr().expect("it is bound").port();
            self.name(&format!(r"\b{port}\b"), &free.to_string());
        }
    }

    /// From now on, what matches is written so in this world.
    pub fn name(&mut self, pattern: &str, here: &str) {
        self.names.push((Regex::new(pattern).expect("a pattern"), here.to_owned()));
    }

    /// Returns a text of the page as this world has it.
    pub fn localize(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (kind, copied) in &self.copied {
            let (prefix, _) = kind.split_once('[').expect("a pattern with a class");
            text = text.replace(&format!("{prefix}…"), copied);
        }
        self.names.iter().fold(text, |text, (name, here)| name.replace_all(&text, here).into_owned())
    }

    fn copy_from(&mut self, said: &str) {
        for kind in COPIED {
            let found = Regex::new(kind).expect("a pattern").find_iter(said).last();
            if let Some(found) = found {
                self.copied.insert(kind, found.as_str().to_owned());
            }
        }
    }

    /// A new reader with another database of the same name.
    pub async fn begin_again(&mut self) {
        self.daemon = None;
        self.bash = bash(&self.database, self.folder.path()).await;
        self.database = self.cluster.existing("postgres");
        self.database.run("drop database shop with (force)").await;
        self.database = self.cluster.empty_database("shop").await;
        self.psql = psql(&self.database);
    }

    /// Runs statements that the page does not show.
    pub async fn prepare(&mut self, sql: &str) {
        let (said, _) = self.psql.run(sql, |name| format!("\\echo {name}")).await;
        assert!(!said.contains("ERROR:"), "{sql}\n{said}");
        self.copy_from(&said);
    }

    /// Runs commands that the page does not show.
    pub async fn prepare_shell(&mut self, commands: &str) -> String {
        let (said, code) = self.shell(commands).await;
        assert_eq!(code, 0, "{commands}\n{said}");
        said
    }

    async fn shell(&mut self, commands: &str) -> (String, i32) {
        let file = self.folder.path().join("block.sh");
        std::fs::write(&file, commands).expect("it can be written");
        let mark = |name: &str| format!("echo {name} $__code");
        let (said, code) = self.bash.run(&format!("__run {}", file.display()), mark).await;
        (said, code.parse().expect("an exit code"))
    }

    /// Starts a daemon that may call the receiver, unless one runs.
    pub async fn deliver(&mut self, more: &[&str]) {
        if self.daemon.is_none() {
            self.daemon = Some(Daemon::start_with(&self.database, more).await);
        }
    }

    /// Runs a block, and returns what is wrong with it.
    pub async fn run(&mut self, block: &Block, printed: Option<&Block>) -> Option<String> {
        let text = self.localize(&block.text);
        let (said, fault) = if block.language == "sql" {
            self.settle().await;
            let text = parameters_prepared(&text, block.line);
            let (said, _) = self.psql.run(&text, |name| format!("\\echo {name}\n\\r")).await;
            let is_error = said.lines().any(|line| line.starts_with("ERROR:") || line.contains("FATAL:"));
            let is_shown = printed.is_some_and(|printed| printed.text.starts_with("ERROR:"));
            let fault = (is_error != is_shown).then(|| format!("it printed\n  {said}"));
            (said, fault)
        } else {
            let (said, code) = self.shell(&text).await;
            let wanted = block.exit_code();
            (said.clone(), (code != wanted).then(|| format!("exit code {code}, not {wanted}\n  {said}")))
        };
        self.copy_from(&said);
        fault.or_else(|| {
            let printed = printed?;
            output::difference(&self.localize(&printed.text), &said, printed.has_note("numbers vary"))
        })
    }

    /// Waits until the daemon, if one runs, has delivered everything that is due.
    async fn settle(&self) {
        let due = "select not exists (select from webhook.daemon_lock where name = 'leader')
            or not exists (select from webhook.pending)
              and not exists (
                select from webhook.queue q join webhook.subscription s on s.id = q.subscription_id
                where s.enabled and (q.state = 'backlog' or q.next_at < now()))
              and not exists (select from webhook.backfill where state = 'running')";
        let has_extension = "select exists (select from pg_extension where extname = 'pg_webhook')";
        if self.database.text(has_extension).await.as_deref() == Some("t") {
            self.database.becomes(due, PATIENCE).await;
        }
    }

    /// Compares a request or an answer of the page with those that were made here.
    pub async fn request(&mut self, block: &Block) -> Option<String> {
        if block.text.starts_with("HTTP/") {
            return request::malformed(&block.text);
        }
        self.deliver(&[]).await;
        self.settle().await;
        let fits = |fault: &mut Option<String>| {
            *fault = self
                .receiver
                .look(|record| request::fault(&block.text, record.requests.iter().chain(&record.others)));
            fault.is_none()
        };
        let mut fault = None;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
        while !fits(&mut fault) && tokio::time::Instant::now() < deadline {
            pace.tick().await;
        }
        fault
    }
}

/// An application passes `$1` as a parameter; psql prepares the statement.
fn parameters_prepared(text: &str, line: usize) -> String {
    if text.contains("($1)") { format!("prepare statement_{line} as {text}") } else { text.to_owned() }
}

fn psql(database: &Database) -> Interpreter {
    let mut command = Command::new("bash");
    let psql = database.cluster.bin().join("psql");
    let options = "-X -q -v ON_ERROR_STOP=0 -P footer=off -P pager=off";
    command.arg("-c").arg(format!(
        "exec stdbuf -oL {} {options} -d '{}' 2>&1",
        psql.display(),
        database.url()
    ));
    Interpreter::start(command)
}

async fn bash(database: &Database, folder: &Path) -> Interpreter {
    let mut command = Command::new("bash");
    command.args(["--noprofile", "--norc"]).current_dir(folder);
    let known = ["PATH", "LANG", "TMPDIR", "PGW_BIN"];
    let kept: Vec<_> = known.iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect();
    let path = format!("{}:{}", database.cluster.bin().display(), std::env::var("PATH").unwrap_or_default());
    command.env_clear().envs(kept).env("PATH", path).env("HOME", folder);
    command.env("PGHOST", "127.0.0.1").env("PGPORT", database.cluster.port().to_string());
    command.env("PGUSER", "postgres").env("PSQLRC", "/dev/null").env("PGW_WEBHOOKD", binary());
    let mut bash = Interpreter::start(command);
    let (said, _) = bash.run(TERMINAL, |name| format!("echo {name}")).await;
    assert_eq!(said, "");
    bash
}
