//! Concurrent sessions that run random transactions and keep a transcript.

use crate::{
    schema::{Choices, Table},
    statements::{self, Step, Transaction},
};
use e2e::cluster::{Database, describe};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_postgres::{Client, NoTls};

/// Errors that an application must expect: conflicts, constraints, cancels, a changed schema.
const EXPECTED: [&str; 24] = [
    "40P01", "40001", "57014", "55P03", "23505", "23502", "23503", "23514", "27000", "42703", "42P01",
    "55006", "25P02", "57P01", "3B001", "42701", "0A000", "42809", "42P07", "21000", "42704", "42804",
    "P0001", "25001",
];

/// The errors of all sessions.
#[derive(Debug, Default)]
pub struct Answers {
    /// A count and an example for each SQLSTATE.
    pub by_code: BTreeMap<String, (usize, String)>,
    pub unexpected: BTreeMap<String, (usize, String)>,
    pub lost_connections: usize,
}

pub type Shared = Arc<Mutex<Answers>>;

/// Runs transactions until `end` and returns them.
pub async fn run(
    database: Database,
    number: usize,
    tables: Arc<Vec<Table>>,
    choices: Choices,
    seed: u64,
    end: Instant,
    answers: Shared,
) -> Vec<Transaction> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = None;
    let mut done = Vec::new();
    for count in 0.. {
        if Instant::now() >= end {
            break;
        }
        let is_first = client.is_none();
        if is_first {
            client = connect(&database, choices.varies_settings.then_some(&mut random)).await;
        }
        let Some(session) = &client else { continue };
        let tag = format!("s{number}.{count}");
        let steps = statements::transaction(&tag, &tables, choices, &mut random);
        let goes_on_after_error = random.random_bool(0.5);
        transaction(session, &steps, goes_on_after_error, database.cluster.dir(), &answers).await;
        done.push(Transaction { tag, is_first, steps });
        // Short sessions make many first statements, when the extension's library is not loaded
        // yet.
        if session.is_closed() || random.random_range(0..6) == 0 {
            client = None;
        }
    }
    done
}

pub async fn connect(database: &Database, settings: Option<&mut StdRng>) -> Option<Client> {
    let client = database.try_client("postgres").await.ok()?;
    if let Some(random) = settings {
        let mut choose =
            |name: &str, all: &[&str]| format!("set {name} = '{}';", all[random.random_range(0..all.len())]);
        let settings = [
            choose("timezone", &["UTC", "America/St_Johns", "Asia/Kathmandu", "Europe/Berlin"]),
            choose("datestyle", &["ISO, MDY", "German", "SQL, DMY", "Postgres, MDY"]),
            choose("intervalstyle", &["iso_8601", "postgres", "postgres_verbose", "sql_standard"]),
            choose("bytea_output", &["hex", "escape"]),
            choose("extra_float_digits", &["1", "0", "-4", "3"]),
        ];
        client.batch_execute(&settings.concat()).await.ok()?;
    }
    Some(client)
}

/// Runs one transaction to its end, whether its statements succeed or fail.
pub async fn transaction(
    session: &Client,
    steps: &[Step],
    goes_on_after_error: bool,
    folder: &Path,
    answers: &Shared,
) {
    let mut has_savepoint = None;
    let mut is_prepared = None;
    for step in steps {
        let sql = step.sql();
        if let Some(name) = sql.strip_prefix("savepoint ") {
            has_savepoint = Some(name.to_owned());
        }
        if sql.starts_with("release") {
            has_savepoint = None;
        }
        match perform(session, step, folder).await {
            Ok(()) => {
                if let Some(tag) = sql.strip_prefix("prepare transaction ") {
                    is_prepared = Some(tag.to_owned());
                }
                if sql.starts_with("commit prepared") || sql.starts_with("rollback prepared") {
                    is_prepared = None;
                }
            }
            Err(error) => {
                note(answers, &error, step);
                if session.is_closed() {
                    return;
                }
                match &has_savepoint {
                    Some(name)
                        if goes_on_after_error
                            && !sql.starts_with("commit")
                            && !sql.starts_with("prepare") =>
                    {
                        let back = Step::Run(format!("rollback to savepoint {name}"));
                        if let Err(error) = perform(session, &back, folder).await {
                            note(answers, &error, &back);
                            break;
                        }
                    }
                    _ => break,
                }
            }
        }
    }
    for end in
        ["rollback".to_owned()].into_iter().chain(is_prepared.map(|tag| format!("rollback prepared {tag}")))
    {
        let end = Step::Run(end);
        if let Err(error) = perform(session, &end, folder).await {
            note(answers, &error, &end);
        }
    }
}

async fn perform(session: &Client, step: &Step, folder: &Path) -> Result<(), tokio_postgres::Error> {
    match step {
        Step::Run(sql) => session.batch_execute(sql).await,
        Step::Execute(sql) => session.execute(sql.as_str(), &[]).await.map(drop),
        Step::Copy(sql, rows) => {
            // The rows come from a file: after a failed COPY FROM STDIN the driver loses track of
            // the protocol.
            let file = folder.join(format!("copied-{:x}", rand::random::<u64>()));
            std::fs::write(&file, rows).expect("the cluster's folder can be written to");
            let done = session.batch_execute(&sql.replace("stdin", &format!("'{}'", file.display()))).await;
            std::fs::remove_file(&file).expect("it is there");
            done
        }
        Step::Cancel(sql, after) => {
            let token = session.cancel_token();
            let cancel = async {
                tokio::time::sleep(Duration::from_micros(*after)).await;
                // The statement may have ended already; then there is nothing to cancel.
                token.cancel_query(NoTls).await.ok();
            };
            tokio::join!(session.batch_execute(sql), cancel).0
        }
    }
}

fn note(answers: &Shared, error: &tokio_postgres::Error, step: &Step) {
    let mut answers = answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Some(code) = error.code() else {
        answers.lost_connections += 1;
        let text = format!("{error:?}");
        answers.unexpected.entry(text.clone()).or_insert_with(|| (0, format!("{text} {}", step.sql()))).0 +=
            1;
        return;
    };
    let code = code.code();
    answers
        .by_code
        .entry(code.to_owned())
        .or_insert_with(|| (0, format!("{} {}", describe(error), step.sql())))
        .0 += 1;
    let is_of_ours = error.as_db_error().is_some_and(|db| {
        let place = db.where_().unwrap_or("");
        db.message().contains("webhook")
            || (place.contains("webhook.event") && code != "57014" && code != "40P01")
    });
    if !EXPECTED.contains(&code) || is_of_ours {
        let text: String =
            describe(error).chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        answers
            .unexpected
            .entry(text)
            .or_insert_with(|| (0, format!("{} {}", describe(error), step.sql())))
            .0 += 1;
    }
}
