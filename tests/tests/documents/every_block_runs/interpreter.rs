//! A psql or bash that stays open for a whole page: variables, settings and transactions last from
//! one block to the next, as for a reader with one terminal.

use e2e::process::die_with_parent;
use std::{
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

/// How long a block may take. Builds are not among them.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running interpreter.
pub struct Interpreter {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    count: usize,
}

impl Interpreter {
    /// Starts the program. Standard error belongs to the output.
    pub fn start(mut command: Command) -> Self {
        die_with_parent(&mut command, libc::SIGKILL);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("it starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { _child: child, input, output, count: 0 }
    }

    /// Sends text, and then a command that prints a mark. Returns the lines before the mark, and
    /// the rest of the mark's line.
    pub async fn run(&mut self, text: &str, mark: impl Fn(&str) -> String) -> (String, String) {
        self.count += 1;
        let name = format!("end_of_block_{}", self.count);
        let all = format!("{text}\n{}\n", mark(&name));
        self.input.write_all(all.as_bytes()).await.expect("it reads");
        let mut said = String::new();
        let ended = tokio::time::timeout(PATIENCE, async {
            while let Some(line) = self.output.next_line().await.expect("text") {
                if let Some((before, rest)) = line.split_once(&name) {
                    said += before;
                    return rest.trim().to_owned();
                }
                said += &format!("{line}\n");
            }
            panic!("it ended in\n{text}\n{said}");
        });
        match ended.await {
            Ok(rest) => (said, rest),
            Err(_) => panic!("not at an end after {PATIENCE:?}:\n{text}\n{said}"),
        }
    }
}
