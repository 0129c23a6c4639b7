//! The yardstick: the same bodies and signatures to the same receiver with the same HTTP client, and no database.

use bytes::Bytes;
use signature::Secret;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// A request's id and body.
pub type Message = (String, Bytes);

/// Sends all messages over `connections` keep-alive connections, signing each as it goes.
///
/// # Panics
/// If a request fails: the yardstick must not count what it did not deliver.
pub async fn send_all(messages: Arc<Vec<Message>>, url: &str, secret: &str, connections: usize) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(connections)
        .build()
        .expect("a client");
    let url: reqwest::Url = url.parse().expect("a URL");
    let signer = Secret::parse(secret).expect("a secret").signer();
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (messages, next) = (messages.clone(), next.clone());
            let (client, url, signer) = (client.clone(), url.clone(), signer.clone());
            tokio::spawn(async move {
                while let Some((id, body)) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
                    let timestamp = since.as_secs() as i64;
                    let answer = client
                        .post(url.clone())
                        .header("content-type", "application/json")
                        .header("user-agent", "bare")
                        .header("webhook-id", id)
                        .header("webhook-timestamp", timestamp)
                        .header("webhook-signature", signer.sign(id, timestamp, body))
                        .body(body.clone())
                        .send()
                        .await
                        .expect("the sink answers");
                    assert!(answer.status().is_success());
                    answer.bytes().await.expect("the sink's body");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker ends well");
    }
}
