//! Reduces the history that leads to a difference: replays the transactions one after the other in
//! a fresh schema, with fewer transactions, statements, tables and triggers each time.
//!
//! A difference that needs concurrent sessions does not show this way, and the output says so.

use crate::{
    evidence,
    judge::{self, Fault, Finding, Table},
    session::{self, Shared},
    statements::{Step, Transaction},
};
use e2e::cluster::Database;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const TIME_MAX: Duration = Duration::from_secs(90);
const TABLES_MAX: usize = 10;

struct Shrinker<'a> {
    database: &'a Database,
    schema: &'a str,
    audit: &'a HashMap<String, Table>,
    fault: Fault,
    end: Instant,
    runs: u32,
    text: String,
}

/// Prints the smallest history found within a minute and a half.
pub async fn shrink(
    database: &Database,
    schema: &str,
    ddl: &[String],
    history: &[Transaction],
    audit: &HashMap<String, Table>,
    finding: &Finding,
) {
    let fault = finding.fault;
    let end = Instant::now() + TIME_MAX;
    let mut shrinker = Shrinker { database, schema, audit, fault, end, runs: 0, text: String::new() };
    let mut ddl = ddl.to_vec();
    // Start with the transactions involved, and add earlier ones until the fault shows.
    let last = history.iter().rposition(|transaction| finding.tags.contains(&transaction.tag));
    let about = &history[..last.map_or(history.len(), |last| last + 1)];
    let mut kept: Vec<Transaction> =
        about.iter().filter(|transaction| finding.tags.contains(&transaction.tag)).cloned().collect();
    let mut length = 1;
    while !shrinker.shows(&ddl, &kept).await {
        if length >= about.len() || !shrinker.has_time() {
            println!("  {fault:?} does not show again when the transactions run one after the other");
            return;
        }
        length *= 2;
        kept = about[about.len().saturating_sub(length)..].to_vec();
    }
    // Remove tables with everything that names them, or at least their triggers.
    for table in (0..TABLES_MAX).map(|number| format!("{schema}.t{number}")) {
        let without = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
            let goes = |statement: &str| statement.contains(&table) && wanted(statement);
            ddl.iter().filter(|statement| !goes(statement)).cloned().collect()
        };
        for fewer in [without(&|_| true), without(&is_of_application)] {
            if fewer.len() < ddl.len() && shrinker.has_time() && shrinker.shows(&fewer, &kept).await {
                ddl = fewer;
                break;
            }
        }
    }
    // Remove halves, quarters and so on of the transactions.
    let mut length = kept.len().div_ceil(2);
    while length > 0 && shrinker.has_time() {
        let mut at = 0;
        while at < kept.len() && shrinker.has_time() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + length).min(kept.len()));
            if shrinker.shows(&ddl, &fewer).await {
                kept = fewer;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    // Remove statements, except those that begin and end transactions.
    for at in (0..kept.len()).rev() {
        for step in (0..kept[at].steps.len()).rev() {
            if is_frame(kept[at].steps[step].sql()) || !shrinker.has_time() {
                continue;
            }
            let mut fewer = kept.clone();
            fewer[at].steps.remove(step);
            if shrinker.shows(&ddl, &fewer).await {
                kept = fewer;
            }
        }
    }
    // Remove the remaining triggers of the application one by one.
    for at in (0..ddl.len()).rev() {
        if !is_of_application(&ddl[at]) || !shrinker.has_time() {
            continue;
        }
        let mut fewer = ddl.clone();
        fewer.remove(at);
        if shrinker.shows(&fewer, &kept).await {
            ddl = fewer;
        }
    }
    // One more run gives the text for the remaining history.
    shrinker.end = Instant::now() + TIME_MAX;
    let shows = shrinker.shows(&ddl, &kept).await;
    println!(
        "  {fault:?} with {} transactions, after {} runs{}:",
        kept.len(),
        shrinker.runs,
        if shows { "" } else { " (not each time)" }
    );
    for statement in ddl.iter().filter(|statement| !statement.contains("\"~~~")) {
        println!("    {statement};");
    }
    println!("    -- and the audit's triggers on these tables (audit.sql), which sort last");
    for transaction in &kept {
        println!(
            "    -- {}{}",
            transaction.tag,
            if transaction.is_first { ", in a session of its own" } else { "" }
        );
        for step in &transaction.steps {
            match step {
                Step::Run(sql) | Step::Execute(sql) => println!("    {sql};"),
                Step::Copy(sql, rows) => println!("    {sql};\n{rows}\\."),
                Step::Cancel(sql, after) => println!("    {sql}; -- cancelled after {after} µs"),
            }
        }
    }
    println!("    -- {}", shrinker.text);
}

fn is_of_application(ddl: &str) -> bool {
    ["create function", "create constraint trigger", "create trigger a_", "create trigger x_"]
        .iter()
        .any(|word| ddl.starts_with(word))
}

fn is_frame(sql: &str) -> bool {
    ["begin", "commit", "prepare", "rollback prepared", "set local torture"]
        .iter()
        .any(|word| sql.starts_with(word))
}

impl Shrinker<'_> {
    fn has_time(&self) -> bool {
        Instant::now() < self.end
    }

    /// Runs the history and reports whether the fault shows.
    async fn shows(&mut self, ddl: &[String], history: &[Transaction]) -> bool {
        self.runs += 1;
        let client = self.database.client().await;
        for statement in ddl {
            if client.batch_execute(statement).await.is_err() {
                evidence::clear(&client, self.schema).await.ok();
                return false;
            }
        }
        let answers = Shared::default();
        let mut sessions: HashMap<&str, tokio_postgres::Client> = HashMap::new();
        for transaction in history {
            let name = transaction.tag.split('.').next().unwrap_or("");
            if transaction.is_first || sessions.get(name).is_none_or(tokio_postgres::Client::is_closed) {
                let Some(client) = session::connect(self.database, None).await else { continue };
                sessions.insert(name, client);
            }
            session::transaction(
                &sessions[name],
                &transaction.steps,
                true,
                self.database.cluster.dir(),
                &answers,
            )
            .await;
        }
        drop(sessions);
        let (notes, events) = evidence::read(&client).await.expect("audit and outbox can be read");
        let report = judge::judge(&notes, &events, self.audit);
        evidence::clear(&client, self.schema).await.expect("what a run has left can be dropped");
        match report.findings.into_iter().find(|finding| finding.fault == self.fault) {
            Some(finding) => {
                self.text = finding.text.replace('\n', "\n    --");
                true
            }
            None => false,
        }
    }
}
