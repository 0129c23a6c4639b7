//! Promise: every command, flag, function, relation, column, argument and setting in the
//! documentation exists. Every relation and column for users is in the SQL reference.

use e2e::{
    cluster::{Cluster, Database},
    daemon::binary,
};
use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Flags of other programs.
const FOREIGN_FLAGS: [&str; 19] = [
    "--fail",
    "--silent",
    "--show-error",
    "--header",
    "--data",
    "--profile",
    "--package",
    "--release",
    "--quiet",
    "--test",
    "--no-owner",
    "--locked",
    "--rm",
    "--features",
    "--exclude-table",
    // Flags of the torture program.
    "--nested",
    "--keys",
    "--ddl",
    "--settings",
];

/// Names of receivers, and the schema.
const OTHERS: [&str; 2] = ["webhook_id", "webhook"];

/// Returns every page, with its name.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<_> = fs::read_dir(root.join("docs"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.extend(["README.md", "SECURITY.md"].map(|name| root.join(name)));
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).expect("a text"))).collect()
}

/// Returns the text between backticks, and the lines of code blocks.
fn code(page: &str) -> Vec<String> {
    let (mut code, mut is_block) = (Vec::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            code.push(line.to_owned());
        } else {
            code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

/// Returns every word that begins with `start` and consists of characters that `belongs` accepts.
/// The match must not be preceded by another character of a word.
fn words<'a>(text: &'a str, start: &'static str, belongs: fn(char) -> bool) -> Vec<&'a str> {
    let begins =
        |at: usize| !text[..at].ends_with(|before: char| belongs(before) || before == '/' || before == '-');
    text.match_indices(start)
        .filter(|(at, _)| begins(*at))
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest[start.len()..].find(|c| !belongs(c)).map_or(rest.len(), |end| start.len() + end);
            rest[..end].trim_end_matches(['.', '_', '-'])
        })
        .collect()
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

fn is_dotted(c: char) -> bool {
    is_name(c) || c == '.'
}

fn is_flag(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn help(command: &[&str]) -> String {
    let output = Command::new(binary()).args(command).arg("--help").output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Returns the commands as a user types them, and the flags of all of them.
fn commands() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut names, mut flags) = (BTreeSet::new(), BTreeSet::new());
    let mut open: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = open.pop() {
        let text = help(&command.iter().map(String::as_str).collect::<Vec<_>>());
        flags.extend(words(&text, "--", is_flag).into_iter().map(str::to_owned));
        let listed = text.split("\nCommands:\n").nth(1).unwrap_or_default();
        for line in listed.lines().take_while(|line| line.starts_with("  ")) {
            let name = line.trim().split(' ').next().unwrap_or_default();
            if name.is_empty() || name == "help" || line.starts_with("   ") {
                continue;
            }
            let command: Vec<String> = command.iter().cloned().chain([name.to_owned()]).collect();
            names.insert(command.join(" "));
            open.push(command);
        }
    }
    assert!(names.contains("schema diff") && flags.contains("--allow-net"), "{names:?} {flags:?}");
    (names, flags)
}

#[test]
fn commands_and_flags() {
    let (names, flags) = commands();
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        // Skips the output of commands.
        for code in code(&text).into_iter().filter(|code| !code.starts_with(['✓', '✗'])) {
            for command in code.split("webhookd ").skip(1) {
                // Takes words up to the first argument, placeholder or flag.
                let said: Vec<&str> = command
                    .split(' ')
                    .take_while(|word| {
                        !word.is_empty() && word.chars().all(is_flag) && !word.starts_with('-')
                    })
                    .collect();
                let Some(first) = said.first() else { continue };
                let has_children = names.iter().any(|name| name.starts_with(&format!("{first} ")));
                let name =
                    if has_children && said.len() > 1 { said[..2].join(" ") } else { (*first).to_owned() };
                if !names.contains(&name) && code.contains("webhookd ") && !code.starts_with("select") {
                    wrong.push(format!("{page}: webhookd {name}: {code}"));
                }
            }
            for flag in words(&code, "--", is_flag) {
                if flag.len() > 2 && !flags.contains(flag) && !FOREIGN_FLAGS.contains(&flag) {
                    wrong.push(format!("{page}: {flag}: {code}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn names(database: &Database, query: &str) -> BTreeSet<String> {
    let client = database.client().await;
    client.query(query, &[]).await.expect("the system catalog").iter().map(|row| row.get(0)).collect()
}

/// Returns all sources, which spell the event types and the settings.
fn sources() -> String {
    fn gather(folder: &Path, into: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                gather(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "sql") {
                *into += &fs::read_to_string(&path).expect("a text");
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    for folder in ["sql", "extension/src", "dispatcher/src", "crates"] {
        gather(&root.join(folder), &mut text);
    }
    text
}

const FUNCTIONS: &str = "select p.proname::text from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass
    join pg_extension x on x.oid = d.refobjid and d.deptype = 'e' where x.extname = 'pg_webhook'";
const ARGUMENTS: &str = "select distinct unnest(p.proargnames) from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass
    join pg_extension x on x.oid = d.refobjid and d.deptype = 'e' where x.extname = 'pg_webhook'";
const RELATIONS: &str = "select c.relname::text from pg_class c where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')";
const COLUMNS: &str = "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped";
const SETTINGS: &str = "select name from pg_settings where name like 'webhook.%'";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_database() {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    let (functions, arguments) = (names(&database, FUNCTIONS).await, names(&database, ARGUMENTS).await);
    let (relations, columns) = (names(&database, RELATIONS).await, names(&database, COLUMNS).await);
    // A call of a function loads the library, which defines the settings.
    let client = database.client().await;
    client
        .query("select webhook_sign('whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=', 'a', 1, '')", &[])
        .await
        .expect("it signs");
    let settings: BTreeSet<String> =
        client.query(SETTINGS, &[]).await.expect("settings").iter().map(|row| row.get(0)).collect();
    assert!(functions.len() > 60 && settings.len() > 5 && columns.len() > 100, "{settings:?}");
    let triggers =
        ["webhook_insert", "webhook_update", "webhook_delete", "webhook_truncate", "webhook_statement"];
    let sources = sources();
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        for code in code(&text) {
            for name in words(&code, "webhook_", is_name) {
                // Metrics have a page of their own, under monitoring.
                let is_there = functions.contains(name) || triggers.contains(&name) || OTHERS.contains(&name);
                if !is_there {
                    wrong.push(format!("{page}: {name}: {code}"));
                }
            }
            for name in words(&code, "webhook.", is_dotted) {
                let inner = name.trim_start_matches("webhook").trim_start_matches('.');
                let first = inner.split('.').next().unwrap_or_default();
                let is_there = inner.is_empty()
                    || functions.contains(first)
                    || (relations.contains(inner)
                        || columns.contains(inner)
                        || first == "event" && inner == "event")
                    || settings.contains(name)
                    || sources.contains(name);
                if !is_there {
                    wrong.push(format!("{page}: {name}: {code}"));
                }
            }
            if code.contains("webhook_") {
                for (at, _) in code.match_indices(" => ") {
                    let name: String = code[..at]
                        .chars()
                        .rev()
                        .take_while(|c| is_name(*c))
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .collect();
                    if !name.is_empty() && !arguments.contains(&name) {
                        wrong.push(format!("{page}: argument {name}: {code}"));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The other direction: the reference lists every object.
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_complete() {
    let cluster = Cluster::start().await;
    let database = cluster.database("app").await;
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SQL.md")).expect("a text");
    let code: BTreeSet<String> = code(&page)
        .iter()
        .flat_map(|code| code.split(|c: char| !is_name(c)).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let public = "select p.proname::text from pg_proc p join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass
        join pg_extension x on x.oid = d.refobjid and d.deptype = 'e' where x.extname = 'pg_webhook' and p.proname like 'webhook\\_%'";
    let mut missing = Vec::new();
    for name in names(&database, public).await {
        if !page.contains(&format!("`{name}")) && !page.contains(&format!("### {name}")) {
            missing.push(format!("function {name}"));
        }
    }
    let slots = |name: &str| name.rsplit_once('_').is_some_and(|(_, slot)| slot.parse::<u8>().is_ok());
    for name in names(&database, "select c.relname::text from pg_class c where c.relnamespace = 'webhook'::regnamespace and c.relkind in ('r', 'p', 'v')").await {
        if !slots(&name) && !page.contains(&format!("**`{name}`**")) {
            missing.push(format!("relation {name}"));
        }
    }
    for name in names(&database, COLUMNS).await {
        let (relation, column) = name.split_once('.').expect("two parts");
        if !slots(relation) && column != "singleton" && !code.contains(column) {
            missing.push(format!("column {name}"));
        }
    }
    for name in names(&database, SETTINGS).await {
        if !page.contains(&format!("`{name}`")) {
            missing.push(format!("setting {name}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Checks that links within the documentation lead somewhere.
#[test]
fn links_lead_somewhere() {
    let anchor = |heading: &str| -> String {
        let kept = heading.to_lowercase().replace('`', "");
        kept.chars()
            .filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            })
            .collect()
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for (page, text) in pages() {
        let folder = if root.join("docs").join(&page).exists() { root.join("docs") } else { root.clone() };
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(' ') {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { folder.join(&page) } else { folder.join(file) };
            let Ok(target) = fs::read(&path) else {
                wrong.push(format!("{page}: {link}"));
                continue;
            };
            let target = String::from_utf8_lossy(&target);
            let mut headings = target.lines().filter_map(|line| {
                line.strip_prefix('#').map(|rest| anchor(rest.trim_start_matches('#').trim()))
            });
            if !fragment.is_empty() && !headings.any(|heading| heading == fragment) {
                wrong.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
