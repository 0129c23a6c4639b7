//! The `webhookd` binary as its users meet it: output, exit codes, signals.

mod conform;
mod keygen;
mod listen;
mod manual;
mod usage;
mod verify;

use std::process::Stdio;
use tokio::process::Command;

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The binary with an environment that holds no settings.
fn webhookd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webhookd"));
    for (name, _) in std::env::vars() {
        if name.starts_with("WEBHOOKD_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.args(args).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output, standard error.
async fn finish(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
