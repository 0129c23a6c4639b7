//! The yardsticks: the same bodies and signatures to the same receiver, without a database.
//!
//! One is a plain loop over reqwest, as a user would write it. The other uses the daemon's own
//! sender, which separates the sender's share of the daemon's speed from the rest.

use bytes::Bytes;
use sender::{Request, Sender as _, address_policy::AddressPolicy, http::HttpSender};
use signature::Secret;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A request's id and body.
pub type Message = (String, Bytes);

/// Sends all messages over `connections` keep-alive connections, and signs each before it is sent.
///
/// # Panics
/// If a request fails: the yardstick must not count undelivered messages.
pub async fn send_all(messages: Arc<Vec<Message>>, url: &str, secret: &str, connections: usize) {
    let client = e2e::http_client()
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

/// Sends all messages with the daemon's sender.
///
/// # Panics
/// If a request fails.
pub async fn send_all_as_the_daemon(
    messages: Arc<Vec<Message>>,
    url: &str,
    secret: &str,
    connections: usize,
) {
    let loopback = "127.0.0.0/8".parse().expect("a range");
    let policy = AddressPolicy { allow_nets: vec![loopback], ..AddressPolicy::default() };
    let sender = Arc::new(HttpSender::new(policy).expect("a sender"));
    let url: Arc<url::Url> = Arc::new(url.parse().expect("a URL"));
    let signers: Arc<[signature::Signer]> = [Secret::parse(secret).expect("a secret").signer()].into();
    let next = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..connections)
        .map(|_| {
            let (messages, next) = (messages.clone(), next.clone());
            let (sender, url, signers) = (sender.clone(), url.clone(), signers.clone());
            tokio::spawn(async move {
                while let Some((id, body)) = messages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (url, signers) = (url.clone(), signers.clone());
                    let (id, body, timeout) = (id.as_str().into(), body.clone(), Duration::from_secs(15));
                    let request = Request::json(url, id, body, signers, timeout);
                    let outcome = sender.send(request).await;
                    assert_eq!(outcome.status, Some(200), "{outcome:?}");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker ends well");
    }
}
