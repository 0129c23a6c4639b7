//! Measures the daemon's cost while nothing happens: statements, by the server's log, and processor
//! time.

use crate::report::{Goal, Report};
use e2e::{cluster::Cluster, daemon::Daemon, scale, world::ORDERS};
use std::{collections::BTreeMap, time::Duration};

/// Returns the statement of a log line, if it is one of the daemon's.
fn statement(line: &str) -> Option<&str> {
    let at = line.find(" LOG:  ")? + 7;
    let rest = &line[at..];
    let text = rest
        .strip_prefix("statement: ")
        .or_else(|| rest.strip_prefix("execute ")?.split_once(": ").map(|(_, s)| s));
    text.filter(|_| line.contains(" bench "))
}

pub async fn run(report: &mut Report) {
    let seconds: u64 = scale("PGW_BENCH_IDLE_SECONDS", 20, 60);
    let cluster = Cluster::start_with(&["log_statement=all"]).await;
    let database = cluster.database("bench").await;
    let subscribe = "select id from webhook_subscribe('http://127.0.0.1:9/')";
    database.run(&format!("{ORDERS}; select webhook_watch('orders', noun => 'order'); {subscribe}")).await;
    let daemon = Daemon::start(&database).await;
    Daemon::asleep(&database).await;
    // After two idle seconds the follow-up of the start, such as the first checkpoint, is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (lines, cpu) = (cluster.log().len(), daemon.process().cpu());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let used = daemon.process().cpu() - cpu;
    let log = cluster.log();
    let mut statements = BTreeMap::<&str, u32>::new();
    for text in log[lines..].iter().filter_map(|line| statement(line)) {
        *statements.entry(text).or_default() += 1;
    }
    let count: u32 = statements.values().sum();
    let percent = used.as_secs_f64() / seconds as f64 * 100.0;
    let texts: Vec<_> = statements.iter().map(|(text, n)| format!("{n} × {text:.60}")).collect();
    report.add(
        "idle: statements",
        f64::from(count) / seconds as f64,
        "1/s",
        Goal::AtMost(1.1),
        texts.join("; ").replace('|', "\\|"),
    );
    report.add(
        "idle: kinds of statements",
        statements.len() as f64,
        "",
        Goal::AtMost(1.0),
        "the safety poll",
    );
    report.add("idle: processor", percent, "% of a core", Goal::AtMost(0.5), format!("over {seconds} s"));
}
