//! `webhookd conform` against receivers of which it is known what they get wrong.

use crate::{SECRET, finish, webhookd};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// `webhookd listen` as the receiver, and where it listens.
async fn listen(args: &[&str]) -> (Child, String) {
    let mut child = webhookd(&[&["listen", "--quiet"], args].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    let url = first.strip_prefix("listening on ").unwrap().to_owned();
    // Read on, or it would end.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, url)
}

async fn wrong(url: &str) -> (Option<i32>, Vec<String>, usize) {
    let (code, out, err) = finish(webhookd(&["conform", url, "--secret", SECRET, "--json"])).await;
    assert_eq!(err, "");
    let cases: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let wrong = cases.iter().filter(|case| case["ok"] == false);
    (code, wrong.map(|case| case["case"].as_str().unwrap().to_owned()).collect(), cases.len())
}

#[tokio::test]
async fn a_receiver_that_verifies_gets_nothing_wrong() {
    let (_receiver, url) = listen(&["--secret", SECRET]).await;
    assert_eq!(wrong(&url).await, (Some(0), vec![], 16));
}

#[tokio::test]
async fn one_that_takes_anything_is_told_what_it_takes() {
    let (_receiver, url) = listen(&[]).await;
    let (code, wrong, _) = wrong(&url).await;
    assert_eq!(code, Some(1));
    let want = [
        "a wrong signature",
        "a body that was changed in transit",
        "the signature of another webhook-id",
        "no signature",
        "no timestamp",
        "no webhook-id",
        "ten minutes old",
        "ten minutes ahead",
    ];
    assert_eq!(wrong, want);
    let (code, out, _) = finish(webhookd(&["conform", &url, "--secret", SECRET])).await;
    assert_eq!(code, Some(1));
    assert!(
        out.contains("✓ a GET\n") && out.contains("✗ no signature: answered 200, expected 4xx\n"),
        "{out}"
    );
    assert!(out.ends_with("8 right, 8 wrong\n"), "{out}");
}

#[tokio::test]
async fn one_that_fails_or_is_not_there_gets_everything_wrong() {
    let (_receiver, url) = listen(&["--secret", SECRET, "--status", "500"]).await;
    let (code, found, _) = wrong(&url).await;
    assert_eq!((code, found.len()), (Some(1), 7), "those that should be taken: {found:?}");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (code, found, count) = wrong(&format!("http://{}/", socket.local_addr().unwrap())).await;
    assert_eq!((code, found.len()), (Some(1), count));
}

#[tokio::test]
async fn wrong_usage_is_said() {
    for args in [["ftp://x/", SECRET], ["nonsense", SECRET], ["http://127.0.0.1:1/", "whsec_no"]] {
        let (code, out, err) = finish(webhookd(&["conform", args[0], "--secret", args[1]])).await;
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    }
}
