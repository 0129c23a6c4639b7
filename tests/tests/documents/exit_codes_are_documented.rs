//! Promise: the table of exit codes in `docs/OPERATIONS.md` has every command. Each code is shown
//! by a run, and a code with `–` does not occur in any.

use e2e::{
    PATIENCE,
    cluster::Database,
    daemon::{Daemon, binary},
    world::World,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
};

const PAGE: &str = include_str!("../../../docs/OPERATIONS.md");
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// A flag that no command has.
const NO_USAGE: &str = "--no-such-flag";

/// Returns the cells of the table of commands, by command.
fn documented() -> BTreeMap<String, [String; 4]> {
    let table = PAGE.split("| Command | 0 | 1 | 2 | 3 |\n").nth(1).expect("the table");
    let mut rows = BTreeMap::new();
    for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        for command in cells[0].split('`').skip(1).step_by(2) {
            let codes: Vec<String> = cells[1..].iter().map(|&cell| cell.to_owned()).collect();
            rows.insert(command.to_owned(), codes.try_into().expect("four codes"));
        }
    }
    rows
}

/// Returns the commands of `--help`; those of `schema` differ, so they count as two.
fn commands() -> BTreeSet<String> {
    let output = Command::new(binary()).arg("--help").output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let listed = text.split("\nCommands:\n").nth(1).expect("commands");
    let listed =
        listed.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names
        .flat_map(|name| match name {
            "schema" => vec!["schema dump".to_owned(), "schema diff".to_owned()],
            name => vec![name.to_owned()],
        })
        .collect()
}

#[test]
fn every_command_has_a_row() {
    let rows: BTreeSet<String> = documented().into_keys().collect();
    assert_eq!(rows, commands());
    let (_, first) = PAGE.split_once("| Code | Meaning | What helps |").expect("the table of codes");
    let codes: Vec<&str> =
        first.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).collect();
    assert_eq!(codes[1..5], ["0", "1", "2", "3"]);
}

/// systemd must not start a daemon again that needs an operator.
#[test]
fn the_unit_names_the_codes_that_need_an_operator() {
    let line = PAGE.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let codes: Vec<u8> = line.expect("the unit").split(' ').filter_map(|code| code.parse().ok()).collect();
    assert_eq!(codes, [webhookd::commands::USAGE, webhookd::commands::DATABASE]);
}

/// The runs so far: the command, and its exit code.
#[derive(Default)]
struct Runs(Vec<(String, i32)>);

impl Runs {
    /// Runs a command to its end, and records that it ends with this code.
    fn ends(&mut self, code: i32, arguments: &[&str], input: &str) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), input).expect("it can be written");
        let mut command = Command::new(binary());
        command.args(arguments).env_remove("DATABASE_URL").env_remove("WEBHOOKD_DATABASE_URL");
        let output = command
            .stdin(file.reopen().map_or_else(|_| Stdio::null(), Stdio::from))
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "webhookd {}: {said}", arguments.join(" "));
        let name = if arguments[0] == "schema" { arguments[..2].join(" ") } else { arguments[0].to_owned() };
        self.0.push((name, code));
    }

    /// Checks that the table has these codes, and that each command has a run of each of its codes.
    fn fit(&self, rows: &BTreeMap<String, [String; 4]>) {
        for (command, codes) in rows {
            for (code, cell) in codes.iter().enumerate() {
                let has_run = self.0.iter().any(|(name, ended)| name == command && *ended == code as i32);
                assert_eq!(has_run, cell != "–", "{command} ends with {code}: the table says {cell:?}");
            }
        }
    }
}

/// Roles: `clerk` is a reader, `ops` an admin, `tenants` a subscriber, `stranger` nothing.
const ROLES: &str = "
    create role clerk login; select webhook_grant('clerk', 'reader');
    create role ops login; select webhook_grant('ops', 'admin');
    create role tenants; select webhook_grant('tenants', 'subscriber');
    create role stranger login";

/// The commands that connect: no server (1), no extension (3), wrong usage (2).
fn of_every_database(runs: &mut Runs, bare: &Database, closed: &str) {
    let bare = bare.url();
    for (arguments, away) in [
        (&["run"][..], 1),
        (&["check"], 1),
        (&["status"], 1),
        (&["tail"], 1),
        (&["replay", "1", "--within", "1 hour"], 1),
        (&["subscription", "list"], 1),
        (&["event", "list"], 1),
        (&["delivery", "list"], 1),
        (&["token", "list"], 1),
        (&["schema", "dump"], 1),
        (&["listen", "--forward-to", "http://127.0.0.1:1/"], 1),
    ] {
        runs.ends(away, &[arguments, &["--database-url", closed]].concat(), "");
        runs.ends(3, &[arguments, &["--database-url", &bare]].concat(), "");
        runs.ends(2, &[arguments, &[NO_USAGE]].concat(), "");
        runs.ends(2, arguments, "");
    }
}

/// The commands that need no database.
fn of_no_database(runs: &mut Runs, folder: &std::path::Path) {
    let key = folder.join("webhookd.key").to_str().expect("a path of text").to_owned();
    let absent = folder.join("absent").to_str().expect("a path of text").to_owned();
    runs.ends(0, &["keygen", &key], "");
    runs.ends(1, &["keygen", &key], "");
    runs.ends(0, &["keygen", "--public", &key], "");
    runs.ends(2, &["keygen", "--public", &absent], "");
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let timestamp = format!("webhook-timestamp: {now}");
    let judge = standardwebhooks::Webhook::new(SECRET).expect("a secret");
    let signed = judge.sign("msg_1", i64::try_from(now).expect("a time"), b"{}").expect("it signs");
    let header = format!("webhook-signature: {signed}");
    let verify = |secret| {
        [
            "verify",
            "--secret",
            secret,
            "--header",
            "webhook-id: msg_1",
            "--header",
            &timestamp,
            "--header",
            &header,
        ]
    };
    runs.ends(0, &verify(SECRET), "{}");
    runs.ends(1, &verify(SECRET), "{ }");
    runs.ends(2, &verify("hunter2"), "{}");
    runs.ends(0, &["completions", "bash"], "");
    runs.ends(2, &["completions", "dos"], "");
    runs.ends(0, &["man"], "");
    runs.ends(2, &["man", NO_USAGE], "");
    runs.ends(2, &["conform", "nonsense", "--secret", SECRET], "");
    runs.ends(2, &["listen", "--secret", "hunter2"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_code_is_seen() {
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut runs = Runs::default();
    world.database.run(ROLES).await;
    let bare = world.cluster.empty_database("bare").await;
    // Bound, but not listening: connections are refused, and no other test gets the port.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let closed = format!("postgres://u@{}/app", socket.local_addr().expect("it is bound"));
    of_every_database(&mut runs, &bare, &closed);
    of_no_database(&mut runs, folder.path());
    let url = world.database.url();
    let on = |arguments: &[&str]| -> Vec<String> {
        arguments
            .iter()
            .map(|&word| word.to_owned())
            .chain(["--database-url".to_owned(), url.clone()])
            .collect()
    };
    let mut with = |code, arguments: &[&str]| {
        let all = on(arguments);
        runs.ends(code, &all.iter().map(String::as_str).collect::<Vec<_>>(), "");
    };

    let (_, id) = (world.subscribe("/ok").await, world.subscribe_with("/status/500", "retry => '{}'").await);
    let id = id.to_string();
    with(0, &["check"]);
    with(0, &["status"]);
    with(0, &["subscription", "list"]);
    with(1, &["subscription", "show", "99"]);
    with(0, &["event", "list"]);
    with(1, &["event", "show", "evt_0123456789abcdef"]);
    with(0, &["delivery", "list"]);
    with(1, &["delivery", "redeliver", "evt_0123456789abcdef", "1"]);
    with(0, &["token", "create", "--role", "clerk", "--name", "a"]);
    with(1, &["token", "revoke", "99"]);
    with(2, &["token", "create", "--role", "absent", "--name", "a"]);
    with(0, &["schema", "dump"]);
    let stranger = world.database.url_as("stranger");
    runs.ends(3, &["status", "--database-url", &stranger], "");
    runs.ends(2, &["token", "list", "--database-url", &stranger], "");
    let key = folder.path().join("webhookd.key").to_str().expect("a path of text").to_owned();
    with_key(&mut runs, &world.database, &bare, &key);
    links(&mut runs, folder.path(), &world.database, &bare, &closed);
    schemas(&mut runs, &world.database, &bare).await;
    delivering(&mut runs, &world, &id).await;
    receivers(&mut runs).await;
    runs.fit(&documented());
}

/// `rekey`: for an unreadable secret, without a key, and with both.
fn with_key(runs: &mut Runs, database: &Database, bare: &Database, key: &str) {
    let url = database.url();
    runs.ends(2, &["rekey", "--database-url", &url], "");
    runs.ends(3, &["rekey", "--database-url", &bare.url(), "--key-file", key], "");
    runs.ends(0, &["rekey", "--database-url", &url, "--key-file", key], "");
    let other = format!("{key}.other");
    runs.ends(0, &["keygen", &other], "");
    runs.ends(1, &["rekey", "--database-url", &url, "--key-file", &other], "");
}

/// `portal-link`: without the settings it needs, and with them.
fn links(runs: &mut Runs, folder: &std::path::Path, database: &Database, bare: &Database, closed: &str) {
    let file = folder.join("portal.toml");
    std::fs::write(&file, "[portal]\nurl = \"https://hooks.example.com\"\nrole = \"tenants\"\n")
        .expect("it can be written");
    let file = file.to_str().expect("a path of text");
    let url = database.url();
    runs.ends(2, &["portal-link", "tenant-7", "--database-url", &url], "");
    for (code, url) in [(0, url.as_str()), (1, closed), (3, &bare.url())] {
        runs.ends(code, &["portal-link", "tenant-7", "--config", file, "--database-url", url], "");
    }
}

async fn schemas(runs: &mut Runs, database: &Database, bare: &Database) {
    let folder = tempfile::tempdir().expect("a folder");
    let before = folder.path().join("events.json").to_str().expect("a path of text").to_owned();
    let document = database.text("select webhook_openapi()::text").await.expect("a document");
    std::fs::write(&before, document).expect("it can be written");
    let url = database.url();
    runs.ends(0, &["schema", "diff", &before, &url], "");
    runs.ends(2, &["schema", "diff", &before, &bare.url()], "");
    database.run("alter table orders drop column note").await;
    runs.ends(1, &["schema", "diff", &before, &url], "");
    database.run("alter table orders add column note text").await;
}

/// `run`, `tail` and `replay`, with a daemon.
async fn delivering(runs: &mut Runs, world: &World, failing: &str) {
    let url = world.database.url();
    // The secrets are sealed now, for a key that this daemon lacks: store them in clear.
    world
        .database
        .run(&format!("delete from webhook.sealing_key; update webhook.secret set secret = '{SECRET}'"))
        .await;
    let daemon = Daemon::start(&world.database).await;
    world.insert_orders(1, 1).await;
    world.database.until("select count(*) = 2 from webhook.attempt", PATIENCE).await;
    // The failing receiver gets its event again, and this time another attempt is planned.
    world.database.run(&format!("select webhook_alter({failing}, retry => '{{1h}}')")).await;
    runs.ends(0, &["replay", "1", "--within", "1 hour", "--database-url", &url], "");
    runs.ends(1, &["replay", failing, "--within", "1 hour", "--database-url", &url], "");
    let mut tail = Command::new(binary());
    tail.args(["tail", "--database-url", &url]);
    let tail = e2e::process::Process::spawn("tail", tail, libc::SIGKILL);
    // Only this command has a statement with `ended_us`.
    let reads = "select exists (select from pg_stat_activity where state = 'idle' and query like '%ended_us%' and pid <> pg_backend_pid())";
    world.database.until(reads, PATIENCE).await;
    tail.signal(libc::SIGINT);
    runs.0.push(("tail".to_owned(), tail.wait(PATIENCE).await.code().expect("a code")));
    runs.0.push(("run".to_owned(), daemon.sigterm(PATIENCE).await.code().expect("a code")));
}

/// `listen` and `conform`, with each other.
async fn receivers(runs: &mut Runs) {
    for (secret, code) in [(SECRET, 0), (&SECRET.replace("AAEC", "AQEC"), 1)] {
        let mut listen = Command::new(binary());
        listen.args(["listen", "--bind", "127.0.0.1:0", "--secret", secret, "--count", "1"]);
        let listen = e2e::process::Process::spawn("listen", listen, libc::SIGKILL);
        let line = listen.wait_for_line(|line| line.starts_with("listening on "), PATIENCE).await;
        let url = line.trim_start_matches("listening on ").to_owned();
        // Its first request is genuine, by SECRET. Then nothing listens.
        runs.ends(1, &["conform", &url, "--secret", SECRET], "");
        runs.0.push(("listen".to_owned(), listen.wait(PATIENCE).await.code().expect("a code")));
        assert_eq!(runs.0.last().expect("a run").1, code);
    }
    let mut listen = Command::new(binary());
    listen.args(["listen", "--bind", "127.0.0.1:0", "--secret", SECRET]);
    let listen = e2e::process::Process::spawn("listen", listen, libc::SIGKILL);
    let line = listen.wait_for_line(|line| line.starts_with("listening on "), PATIENCE).await;
    runs.ends(0, &["conform", line.trim_start_matches("listening on "), "--secret", SECRET], "");
}
