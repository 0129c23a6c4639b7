//! Measures the daemon's peak memory (VmHWM) while it drains a backlog of a million.

use crate::{
    drain::{drain, prepare, write_backlog},
    report::{Goal, Report},
    sink::Sink,
};
use e2e::{cluster::Cluster, scale};

pub async fn run(report: &mut Report) {
    let count: u64 = scale("PGW_BENCH_BACKLOG", 1_000_000, 1_000_000);
    let sink = Sink::start().await;
    let cluster = Cluster::start_with(&["fsync=off"]).await;
    let database = prepare(&cluster, &sink).await;
    write_backlog(&database, count).await;
    let (drained, peak_mib) = drain(&database, &sink, count).await;
    let note = format!("backlog of {count}, {:.0}/s", drained.per_second());
    report.add("daemon's peak memory", peak_mib, "MiB", Goal::AtMost(100.0), note);
}
