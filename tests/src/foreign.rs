//! Programs of other languages that judge recorded requests; `tests/foreign/setup.sh` installs their libraries.

use serde_json::Value;
use std::{
    fmt::Display,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The language of a judge, named as its scripts end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];

    /// Has the script of this name in `tests/foreign` judge requests: a line in, a line out.
    ///
    /// # Panics
    /// If the libraries are not there, or the script does not answer every request.
    pub fn judge(self, script: &str, requests: &[Value]) -> Vec<String> {
        self.judge_raw(script, requests)
    }

    /// The same with requests that are JSON text already: numbers keep their spelling.
    ///
    /// # Panics
    /// As [`Self::judge`].
    pub fn judge_raw(self, script: &str, requests: &[impl Display]) -> Vec<String> {
        let installed = installed();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(script);
        let program = match self {
            Self::Python => {
                let mut python = Command::new(installed.join("venv/bin/python"));
                python.arg(script.with_extension("py"));
                python
            }
            Self::JavaScript => {
                let mut node = Command::new("node");
                node.arg(script.with_extension("cjs")).env("NODE_PATH", node_modules());
                node
            }
        };
        let answers = run(program, requests);
        assert_eq!(answers.len(), requests.len(), "{self:?}: an answer each");
        answers
    }
}

/// Where npm has put what `tests/foreign/setup.sh` asks for.
///
/// # Panics
/// If it has not been run.
pub fn node_modules() -> PathBuf {
    installed().join("node/node_modules")
}

fn installed() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let folder = target.join("foreign");
    assert!(folder.join("venv").exists() && folder.join("node").exists(), "run tests/foreign/setup.sh first");
    folder
}

fn run(mut program: Command, requests: &[impl Display]) -> Vec<String> {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut input = child.stdin.take().expect("stdin is piped");
    let text: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("it reads everything");
    assert!(output.status.success(), "{program:?} ended with {}", output.status);
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}
