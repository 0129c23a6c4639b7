//! The figures of the capturing half: scripts in `tests/benches` that print JSON lines `{"name", "value", "unit"}`,
//! with `"at_least"` or `"at_most"` where there is a goal and `"note"` where there is a word to say.

use crate::report::{Goal, Report};
use serde_json::Value;
use std::{path::Path, process::Command};

pub fn run(report: &mut Report) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    scripts.retain(|path| path.extension().is_some_and(|e| e == "sh"));
    scripts.sort();
    for script in scripts {
        let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("bench: {name}");
        let output = Command::new("bash").arg(&script).stderr(std::process::Stdio::inherit()).output();
        let output = output.expect("bash can be started");
        assert!(output.status.success(), "{name} ended with {}", output.status);
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.starts_with('{')) {
            let figure: Value = serde_json::from_str(line).expect("a line of JSON");
            let goal = match (figure["at_least"].as_f64(), figure["at_most"].as_f64()) {
                (Some(goal), _) => Goal::AtLeast(goal),
                (None, Some(goal)) => Goal::AtMost(goal),
                (None, None) => Goal::None,
            };
            let text = |field: &str| figure[field].as_str().unwrap_or_default().to_owned();
            let value = figure["value"].as_f64().expect("a value");
            report.add(&text("name"), value, &text("unit"), goal, text("note"));
        }
    }
}
