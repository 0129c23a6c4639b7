//! What docs/RECEIVING.md shows works as it stands there.

use crate::{SECRET, webhookd};
use standardwebhooks::Webhook;
use std::{
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncWriteExt, process::Command};

const MANUAL: &str = include_str!("../../../docs/RECEIVING.md");

/// Runs the manual's shell function on a body; whether it finds the signatures valid.
async fn recipe(timestamp: i64, signatures: &str, body: &str) -> bool {
    let block = MANUAL.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.contains("verify() {"), "the first shell block is the recipe");
    let mut child = Command::new("sh")
        .args(["-c", &format!("{block}\nverify evt_1 \"$1\" \"$2\""), "sh", &timestamp.to_string(), signatures])
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

#[tokio::test]
async fn every_flag_that_the_manuals_name_exists() {
    let operations = include_str!("../../../docs/OPERATIONS.md");
    let mut help = String::new();
    for command in ["run", "listen", "status", "check", "verify"] {
        let output = webhookd(&[command, "--help"]).output().await.unwrap();
        help += &String::from_utf8(output.stdout).unwrap();
    }
    let named = [MANUAL, operations].into_iter().flat_map(|text| {
        text.lines().filter(|line| line.contains("webhookd ") || line.starts_with("| `--")).flat_map(|line| {
            line.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).filter(|word| word.starts_with("--") && word.len() > 2)
        })
    });
    let mut count = 0;
    for flag in named {
        assert!(help.contains(flag), "{flag}");
        count += 1;
    }
    assert!(count > 15, "{count}");
}
