//! `make bench` measures the figures of docs/BENCHMARKS.md. It prints a Markdown table and writes
//! `bench-out/bench.json`.
//!
//! Each figure that depends on the machine is a ratio of two variants that take turns in one run;
//! the value is the median of the rounds. `PGW_BENCH_ROUNDS` (5) and `PGW_BENCH_EVENTS` (200000)
//! set the size. Arguments name the parts to run: `drain fanout latency admin memory idle disk
//! statistics crowd fairness filters views pinned rejections scripts tenants`, default all. A
//! number after `pinned` is its minutes. `owners`, `subscriptions` or `hanging` after `tenants`
//! runs that part of it alone.

mod admin;
mod bare;
mod crowd;
mod disk;
mod drain;
mod fairness;
mod fanout;
mod filters;
mod idle;
mod latency;
mod memory;
mod pinned;
mod rejections;
mod report;
mod scripts;
mod sink;
mod statistics;
mod steady;
mod tenants;
mod views;

use report::Report;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "sink") {
        return sink::main();
    }
    let daemon = e2e::daemon::binary();
    if cfg!(debug_assertions) || daemon.components().any(|part| part.as_os_str() == "debug") {
        eprintln!(
            "bench: figures of a debug build mean nothing; run `make bench`, which builds with --release"
        );
        return std::process::ExitCode::FAILURE;
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|a| a == part);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let mut report = Report::new(&daemon);
    runtime.expect("a runtime").block_on(async {
        if wanted("drain") {
            drain::run(&mut report).await;
        }
        if wanted("fanout") {
            fanout::run(&mut report).await;
        }
        if wanted("latency") {
            latency::run(&mut report).await;
        }
        if wanted("admin") {
            admin::run(&mut report).await;
        }
        if wanted("fairness") {
            fairness::run(&mut report).await;
        }
        if wanted("filters") {
            filters::run(&mut report).await;
        }
        if wanted("memory") {
            memory::run(&mut report).await;
        }
        if wanted("idle") {
            idle::run(&mut report).await;
        }
        if wanted("disk") {
            disk::run(&mut report).await;
        }
        if wanted("statistics") {
            statistics::run(&mut report).await;
        }
        if wanted("crowd") {
            crowd::run(&mut report).await;
        }
        if wanted("views") {
            views::run(&mut report).await;
        }
        if wanted("pinned") {
            let minutes = arguments.iter().find_map(|argument| argument.parse().ok());
            pinned::run(&mut report, minutes).await;
        }
        if wanted("rejections") {
            rejections::run(&mut report).await;
        }
        if wanted("tenants") {
            let parts = ["owners", "subscriptions", "hanging"];
            let part = arguments.iter().map(String::as_str).find(|argument| parts.contains(argument));
            tenants::run(&mut report, part).await;
        }
        if wanted("scripts") {
            scripts::run(&mut report);
        }
    });
    report.finish()
}

/// Returns the median; for an even count, the mean of the two middle values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

/// Returns the smallest value that at least this share of the values do not exceed.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted[rank - 1]
}
