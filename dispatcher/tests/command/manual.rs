//! What docs/RECEIVING.md and docs/OPERATIONS.md show works as it stands there.

use crate::{SECRET, webhookd};
use standardwebhooks::Webhook;
use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, process::Command};

const MANUAL: &str = include_str!("../../../docs/RECEIVING.md");
const OPERATIONS: &str = include_str!("../../../docs/OPERATIONS.md");

/// Runs the manual's shell function on a body; whether it finds the signatures valid.
async fn recipe(timestamp: i64, signatures: &str, body: &str) -> bool {
    let block = MANUAL.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("verify() {"), "the first shell block is the recipe");
    let mut child = Command::new("sh")
        .args([
            "-c",
            &format!("{block}\nverify evt_1 \"$1\" \"$2\""),
            "sh",
            &timestamp.to_string(),
            signatures,
        ])
        .env("WEBHOOK_SECRET", SECRET)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads nothing of what is too old.
    let _ = child.stdin.take().unwrap().write_all(body.as_bytes()).await;
    child.wait().await.unwrap().success()
}

#[tokio::test]
async fn the_shell_recipe_verifies() {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let body = r#"{"type":"order.created","data":{"name":"Zoë 🚀"}}"#;
    let sign = |at| Webhook::new(SECRET).unwrap().sign("evt_1", at, body.as_bytes()).unwrap();
    assert!(recipe(now, &sign(now), body).await);
    assert!(recipe(now, &format!("v1,AAAA {}", sign(now)), body).await);
    assert!(!recipe(now, &sign(now), &body.replace("Zoë", "Zoe")).await);
    assert!(!recipe(now, "v1,AAAA", body).await);
    assert!(!recipe(now - 400, &sign(now - 400), body).await, "too old");
}

/// The words of a text that are flags.
fn flags(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 3).collect()
}

async fn help(command: &str) -> String {
    String::from_utf8(webhookd(&[command, "--help"]).output().await.unwrap().stdout).unwrap()
}

#[tokio::test]
async fn the_table_of_settings_is_complete() {
    let rows = OPERATIONS.lines().filter(|line| line.starts_with("| `--"));
    let named: BTreeSet<_> = rows.clone().flat_map(|row| flags(row.split('|').nth(1).unwrap())).collect();
    let help = help("run").await;
    let mut defined = flags(&help);
    defined.remove("--help");
    assert_eq!(named, defined);
    for row in rows {
        let variable = row.split('`').nth(3).unwrap();
        assert!(help.contains(variable), "{variable}");
    }
}

#[tokio::test]
async fn the_examples_use_flags_that_exist() {
    for line in MANUAL.lines().filter(|line| line.starts_with("webhookd ") || line.starts_with("    --")) {
        // The one example of two lines is of `verify`.
        let command =
            line.strip_prefix("webhookd ").and_then(|rest| rest.split(' ').next()).unwrap_or("verify");
        let help = help(command).await;
        assert!(flags(line).is_subset(&flags(&help)), "{line}");
    }
}
