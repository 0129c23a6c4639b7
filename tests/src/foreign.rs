//! Programs in other languages that judge recorded requests; `tests/foreign/setup.sh` installs
//! their libraries.

use serde_json::Value;
use std::{
    fmt::Display,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The language of a judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];

    /// Runs the script of this name in `tests/foreign` on the requests, one line in and one line
    /// out each. Returns its answers.
    ///
    /// # Panics
    /// If the libraries are not installed, or the script does not answer every request.
    pub fn judge(self, script: &str, requests: &[Value]) -> Vec<String> {
        self.judge_raw(script, requests)
    }

    /// Does the same with requests that are JSON text already: numbers keep their spelling.
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
                // The script is passed as text: Node looks for a module's imports next to its file,
                // and the libraries are not there.
                let source = std::fs::read_to_string(script.with_extension("mjs")).expect("the script");
                let mut node = Command::new("node");
                node.args(["--input-type=module", "--eval", &source]).current_dir(installed.join("node"));
                node
            }
        };
        let answers = run(program, requests);
        assert_eq!(answers.len(), requests.len(), "{self:?}: an answer each");
        answers
    }
}

/// Returns the directory where `tests/foreign/setup.sh` has npm install its packages.
///
/// # Panics
/// If it has not been run.
pub fn node_modules() -> PathBuf {
    installed().join("node/node_modules")
}

/// Returns the Python that has the libraries of `tests/foreign/setup.sh`.
///
/// # Panics
/// If it has not been run.
pub fn python() -> PathBuf {
    installed().canonicalize().expect("it is there").join("venv/bin/python")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from)
        .join("foreign")
}

fn installed() -> PathBuf {
    let folder = target();
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

/// A client of the REST API in another language, generated from the document, in a process of its
/// own.
#[derive(Debug)]
pub struct Client {
    _folder: tempfile::TempDir,
    _child: tokio::process::Child,
    input: tokio::process::ChildStdin,
    answers: tokio::io::Lines<tokio::io::BufReader<tokio::process::ChildStdout>>,
}

impl Client {
    /// Generates the client (openapi-python-client), and starts `rest_client.py` with it.
    ///
    /// # Panics
    /// If the generator reports a problem in the document.
    pub async fn generate(document: &str, url: &str, token: &str) -> Self {
        let generator = target().join("generator/bin");
        assert!(generator.exists(), "run tests/foreign/setup.sh first");
        let folder = tempfile::tempdir().expect("a folder");
        let (source, package) = (folder.path().join("openapi.json"), folder.path().join("hooks_client"));
        std::fs::write(&source, document).expect("it can be written");
        let settings = folder.path().join("config.yml");
        std::fs::write(&settings, "post_hooks: []\n").expect("it can be written");
        let output = tokio::process::Command::new(generator.join("openapi-python-client"))
            .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
            .arg(&source)
            .arg("--output-path")
            .arg(&package)
            .arg("--config")
            .arg(&settings)
            .output()
            .await
            .expect("the generator runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let mut child = tokio::process::Command::new(generator.join("python"))
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign/rest_client.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python runs");
        let input = child.stdin.take().expect("it is piped");
        let output = tokio::io::BufReader::new(child.stdout.take().expect("it is piped"));
        let answers = tokio::io::AsyncBufReadExt::lines(output);
        let start = serde_json::json!({
            "folder": folder.path(), "package": "hooks_client", "url": url, "token": token
        });
        let mut client = Self { _folder: folder, _child: child, input, answers };
        client.say(&start).await;
        client
    }

    async fn say(&mut self, line: &Value) {
        use tokio::io::AsyncWriteExt as _;
        self.input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
    }

    /// Sends it a request, and returns the result.
    ///
    /// # Panics
    /// If it fails; standard error has the reason.
    pub async fn ask(&mut self, request: &Value) -> Value {
        self.say(request).await;
        let line =
            tokio::time::timeout(crate::PATIENCE, self.answers.next_line()).await.expect("an answer in time");
        let line =
            line.expect("it can be read").unwrap_or_else(|| panic!("the client has ended at {request}"));
        serde_json::from_str(&line).expect("JSON")
    }
}
