//! The figures of the capturing half, from the scripts `tests/benches/bench_*.sh`. The scripts
//! print JSON lines `{"name", "value", "unit"}` and get the Postgres of `PGW_BIN` as `PG_BIN`. This
//! module holds the goals.

use crate::report::{Goal, Report};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Returns the goal of the figure with this name.
fn goal(name: &str) -> Goal {
    match name {
        "tps_ratio_watched_to_unwatched_16_clients" | "tps_ratio_watched_to_unwatched_64_clients" => {
            Goal::AtLeast(0.85)
        }
        "capture_bulk_ratio_to_plpgsql" => Goal::AtMost(0.45),
        _ => Goal::None,
    }
}

pub fn run(report: &mut Report) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    let is_bench = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("bench_") && name.ends_with(".sh")
    };
    scripts.retain(|path: &PathBuf| is_bench(path));
    scripts.sort();
    for script in scripts {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("bench: {name}");
        let mut bash = Command::new("bash");
        bash.arg(&script).stderr(std::process::Stdio::inherit());
        if let Some(bin) = std::env::var_os("PGW_BIN") {
            bash.env("PG_BIN", bin);
        }
        let output = bash.output().expect("bash can be started");
        assert!(output.status.success(), "{name} ended with {}", output.status);
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('{')) {
            let figure: Value = serde_json::from_str(line).expect("a line of JSON");
            let text = |field: &str| figure[field].as_str().unwrap_or_default().to_owned();
            let value = figure["value"].as_f64().expect("a value");
            let name = text("name");
            report.add(&name, value, &text("unit"), goal(&name), "");
        }
    }
}
