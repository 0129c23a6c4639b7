//! `make torture WHAT=differential`: compares the outbox with an audit by PL/pgSQL triggers, under
//! random load.
//!
//! Each round creates tables of random types, keys, partitions and children, with random triggers
//! of an application around the extension's. Several sessions write to them at once. Then [`judge`]
//! compares the outbox with the audit: the same changes, the same bytes, and the same order for
//! each row. [`shrink`] replays a difference with less and less of its history, until a few
//! statements are left.
//!
//! The seed determines tables and transactions; how the sessions interleave depends on the machine.
//! The exit status is 1 if anything differs, if the server crashes, or if a statement fails with an
//! error that an application need not expect.

mod evidence;
mod judge;
mod kinds;
mod schema;
mod session;
mod shrink;
mod statements;
mod triggers;

use e2e::cluster::{Cluster, Database, describe};
use judge::Report;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use schema::{Choices, Table};
use session::Shared;
use statements::Transaction;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

const SESSIONS: usize = 4;

/// How many tables a round has.
const TABLES: std::ops::Range<usize> = 2..4;

const ROUND: Duration = Duration::from_secs(4);

/// The time limit for everything outside the rounds, shrinking included.
const REST_TIMEOUT: Duration = Duration::from_secs(1_200);

/// How many findings of a round are printed. The first finding of each kind in a run is shrunk.
const PRINTED_MAX: usize = 6;

/// The form of values in `data`. Sessions with their own settings print values in another form.
const CANONICAL: &str =
    "alter database app set timezone = 'UTC'; alter database app set intervalstyle = 'iso_8601'";

const USAGE: &str = "usage: torture SECONDS [SEED] [OPTION…]
  --nested none|others|same   triggers that change other tables, or also their own (default: same)
  --keys no|yes               updates of keys (default: yes)
  --ddl no|yes                changes of tables in use (default: yes)
  --settings no|yes           sessions that print values differently (default: yes)";

fn main() -> ExitCode {
    let Some((seconds, seed, choices)) = arguments(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!(
        "torture: seed {seed}; the same again: make torture WHAT=differential SECONDS={seconds} SEED={seed}"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let limit = Duration::from_secs(seconds);
    let run = async { tokio::time::timeout(limit + REST_TIMEOUT, run(seed, limit, choices)).await };
    match runtime.expect("a runtime").block_on(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(_) => {
            println!("torture: seed {seed}: the run did not come to its end");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Option<(u64, u64, Choices)> {
    let seconds = arguments.next()?.parse().ok()?;
    let mut seed = rand::random_range(0..1_000_000);
    let mut choices = Choices {
        nests_in_same_table: true,
        nests_in_others: true,
        changes_keys: true,
        changes_schema: true,
        varies_settings: true,
    };
    while let Some(argument) = arguments.next() {
        if !argument.starts_with("--") {
            seed = argument.parse().ok()?;
            continue;
        }
        let value = arguments.next()?;
        let mut set = |place: fn(&mut Choices) -> &mut bool| match value.as_str() {
            "yes" | "no" => {
                *place(&mut choices) = value == "yes";
                Some(())
            }
            _ => None,
        };
        match argument.as_str() {
            "--nested" => {
                choices.nests_in_others = value != "none";
                choices.nests_in_same_table = value == "same";
                ["none", "others", "same"].contains(&value.as_str()).then_some(())?;
            }
            "--keys" => set(|choices| &mut choices.changes_keys)?,
            "--ddl" => set(|choices| &mut choices.changes_schema)?,
            "--settings" => set(|choices| &mut choices.varies_settings)?,
            _ => return None,
        }
    }
    Some((seconds, seed, choices))
}

/// The totals of all rounds.
#[derive(Default)]
struct Sum {
    rounds: u32,
    transactions: usize,
    changes: usize,
    events: usize,
    lines: usize,
    moves: usize,
    key_updates: usize,
    key_splits: usize,
    faults: BTreeMap<judge::Fault, usize>,
    shrunk: BTreeSet<judge::Fault>,
    shrinking: Duration,
}

impl Sum {
    fn add(&mut self, report: &Report, transactions: usize) {
        self.rounds += 1;
        self.transactions += transactions;
        self.changes += report.changes;
        self.events += report.events;
        self.lines += report.lines;
        self.moves += report.moves;
        self.key_updates += report.key_updates;
        self.key_splits += report.key_splits;
        for (fault, count) in report.counts() {
            *self.faults.entry(fault).or_default() += count;
        }
    }
}

async fn run(seed: u64, limit: Duration, choices: Choices) -> bool {
    let settings = [
        "fsync=off",
        "deadlock_timeout=20ms",
        "lock_timeout=3s",
        "autovacuum_naptime=1s",
        "log_min_messages=warning",
    ];
    let cluster = Cluster::start_with(&settings).await;
    let database = cluster.database("app").await;
    database.run(include_str!("audit.sql")).await;
    database.run(kinds::TYPES).await;
    database.run(CANONICAL).await;
    let answers = Shared::default();
    let mut random = StdRng::seed_from_u64(seed);
    let mut sum = Sum::default();
    // The limit does not include the time for shrinking.
    let began = Instant::now();
    while let Some(left) = (limit + sum.shrinking).checked_sub(began.elapsed()).filter(|left| !left.is_zero())
    {
        let mut random = StdRng::seed_from_u64(random.random());
        round(&database, choices, &mut random, left.min(ROUND), &answers, &mut sum).await;
    }
    let Sum { rounds, transactions, changes, events, lines, moves, key_updates, key_splits, faults, .. } =
        &sum;
    println!(
        "torture: seed {seed}: {rounds} rounds, {transactions} transactions, {changes} changes, {events} events, {lines} lines; {moves} moves, \
         {} changes of a key ({key_updates} as one event)",
        key_updates + key_splits
    );
    let answers = answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let codes: Vec<_> = answers.by_code.iter().map(|(code, (count, _))| format!("{code} {count}")).collect();
    println!("torture: errors that came, by SQLSTATE: {}", codes.join(", "));
    if std::env::var_os("TORTURE_VERBOSE").is_some() {
        for (_, example) in answers.by_code.values() {
            println!("torture: for example: {example}");
        }
    }
    for (count, example) in answers.unexpected.values() {
        println!("torture: unexpected, {count} times: {example}");
    }
    let crashes: Vec<String> = cluster
        .log()
        .into_iter()
        .filter(|line| {
            ["terminated by signal", "PANIC", "TRAP", " XX000 "].iter().any(|word| line.contains(word))
        })
        .collect();
    for line in crashes.iter().take(5) {
        println!("torture: the server's log: {line}");
    }
    let counts: Vec<_> = faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    println!(
        "torture: {} differences{}{}; {} crashes, {} unexpected errors, {} connections lost",
        faults.values().sum::<usize>(),
        if counts.is_empty() { "" } else { ": " },
        counts.join(", "),
        crashes.len(),
        answers.unexpected.len(),
        answers.lost_connections
    );
    *changes > 0
        && faults.is_empty()
        && crashes.is_empty()
        && answers.unexpected.is_empty()
        && answers.lost_connections == 0
}

async fn round(
    database: &Database,
    choices: Choices,
    random: &mut StdRng,
    long: Duration,
    answers: &Shared,
    sum: &mut Sum,
) {
    let number = sum.rounds;
    let schema = format!("r{number}");
    let count = random.random_range(TABLES);
    let tables: Vec<Table> = (0..count).map(|at| Table::random(number, at, choices, random)).collect();
    let mut ddl = vec![format!("create schema {schema}")];
    for table in &tables {
        ddl.extend(table.ddl(random));
    }
    for table in &tables {
        ddl.extend(triggers::random(table, &tables, choices, random));
    }
    let client = database.client().await;
    for statement in &ddl {
        if let Err(error) = client.batch_execute(statement).await {
            panic!("{statement}: {}", describe(&error));
        }
    }
    let tables = Arc::new(tables);
    let until = Instant::now() + long;
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|at| {
            let (database, tables, answers) = (database.clone(), tables.clone(), answers.clone());
            tokio::spawn(session::run(database, at, tables, choices, random.random(), until, answers))
        })
        .collect();
    let mut history: Vec<Transaction> = Vec::new();
    for session in sessions {
        history.extend(session.await.expect("the session has ended well"));
    }
    // The count within each session gives roughly the order in which the transactions ran.
    history.sort_by_key(|transaction| rank(&transaction.tag));
    let audit: HashMap<_, _> = tables.iter().map(|table| (table.noun.clone(), table.audit())).collect();
    let (notes, events) = evidence::read(&client).await.expect("audit and outbox can be read");
    let report = judge::judge(&notes, &events, &audit);
    if !report.findings.is_empty() {
        println!("torture: round {number}: {report}");
        for finding in report.findings.iter().take(PRINTED_MAX) {
            println!("  {:?}: {}", finding.fault, finding.text);
        }
    }
    evidence::clear(&client, &schema).await.expect("what a round has left can be dropped");
    let began = Instant::now();
    for finding in &report.findings {
        if sum.shrunk.insert(finding.fault) {
            shrink::shrink(database, &schema, &ddl, &history, &audit, finding).await;
        }
    }
    sum.shrinking += began.elapsed();
    sum.add(&report, history.len());
}

/// Returns the count in a tag: 17 for `s2.17`.
fn rank(tag: &str) -> u64 {
    tag.rsplit('.').next().and_then(|rank| rank.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(u64, u64, Choices)> {
        arguments(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read() {
        let (seconds, seed, choices) = parsed("60 7 --nested others --keys no").expect("good ones");
        assert_eq!((seconds, seed), (60, 7));
        assert!(
            choices.nests_in_others
                && !choices.nests_in_same_table
                && !choices.changes_keys
                && choices.changes_schema
        );
        assert!(
            parsed("").is_none() && parsed("60 --nested some").is_none() && parsed("60 --keys").is_none()
        );
    }

    #[test]
    fn the_seed_decides_on_tables() {
        let make = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            let (_, _, choices) = parsed("1").expect("good ones");
            let table = Table::random(0, 0, choices, &mut random);
            (table.ddl(&mut random), statements::transaction("s0.0", &[table], choices, &mut random))
        };
        assert_eq!(make(3), make(3));
        assert_ne!(make(3), make(4));
    }
}
