//! `webhookd verify` with what an official library has signed.

use crate::{SECRET, webhookd};
use standardwebhooks::Webhook;
use std::{
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::io::AsyncWriteExt;

async fn verify(args: &[&str], body: &str) -> (Option<i32>, String) {
    let mut child = webhookd(args).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn a_signature_holds_or_not() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let body = r#"{"type":"order.created","data":{"name":"Zoë"}}"#;
    let token = Webhook::new(SECRET).unwrap().sign("evt_1", now as i64, body.as_bytes()).unwrap();
    let (timestamp, signature) = (now.to_string(), format!("webhook-signature: {token}"));
    let args =
        ["verify", "--secret", SECRET, "--id", "evt_1", "--timestamp", &timestamp, "--header", &signature];
    assert_eq!(verify(&args, body).await, (Some(0), "valid\n".to_owned()));
    let (code, out) = verify(&args, &body.replace("Zoë", "Zoe")).await;
    assert_eq!(code, Some(1));
    assert!(out.starts_with("not valid: "), "{out}");
    let (code, out) = verify(&args, &format!("{body}\n")).await;
    assert_eq!(code, Some(1));
    assert!(out.contains("newline"), "{out}");
}

#[tokio::test]
async fn a_public_key_is_enough_for_an_asymmetric_signature() {
    // A known answer, which other languages' ed25519 has computed too.
    let key = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    let token =
        "v1a,fR8yyhXRO0do/WxNS4zXzRCZpGO+mwd0OAbs9Yr4JTAZF2y4KGv3H0dFLUCKzYN4xVJij9U5gkTIbHLMAd6YCQ==";
    let args =
        ["verify", "--secret", key, "--id", "msg_1", "--timestamp", "1700000000", "--tolerance", "any"];
    let with = |signature| [&args[..], &["--signature", signature]].concat();
    assert_eq!(verify(&with(token), "{}").await, (Some(0), "valid\n".to_owned()));
    assert_eq!(verify(&with(token), "{ }").await.0, Some(1));
    let (code, out) = verify(&with("v1,AAAA"), "{}").await;
    assert_eq!(code, Some(1));
    assert!(out.contains("no signature of version v1a"), "{out}");
}
