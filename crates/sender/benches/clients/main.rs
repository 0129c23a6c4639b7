//! Compares the sender with hyper-util's client: CPU per request over HTTP/1.1, and TLS connections
//! for many requests at once to a receiver that offers HTTP/2. docs/ARCHITECTURE.md has the
//! results.
//!
//! Run it with `cargo bench -p webhookd_sender`. The receiver of the first part is
//! a process of its own, so that the CPU time of this process is the client's.

mod legacy;
mod receivers;

use bytes::Bytes;
use delivery::outcome::Class;
use signature::{Secret, Signer};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use webhookd_sender::{
    Request, Sender, address_policy::AddressPolicy, dial::tls_config, http::HttpSender,
    resolve::SystemResolver,
};

const ROUNDS: usize = 5;
const REQUESTS: usize = 100_000;
const AT_ONCE: usize = 64;
const BODY_BYTES: usize = 300;
const TLS_AT_ONCE: usize = 512;

fn main() {
    if std::env::args().any(|argument| argument == receivers::PLAIN) {
        return receivers::plain();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        cpu().await;
        tls().await;
    });
}

fn signer() -> Signer {
    Secret::from_key(&[7; 32]).expect("a secret").signer()
}

fn policy() -> AddressPolicy {
    AddressPolicy { allow_nets: vec!["127.0.0.0/8".parse().expect("a range")], ..AddressPolicy::default() }
}

fn request(url: &Arc<url::Url>, signers: &Arc<[Signer]>) -> Request {
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    Request::json(url.clone(), "evt_1".into(), body, signers.clone(), Duration::from_secs(15))
}

/// CPU time of this process so far, in ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    [11, 12].map(|at| fields[at].parse::<u64>().expect("ticks")).iter().sum()
}

/// Runs all requests, so many at once, and returns the CPU time of one in µs.
async fn measured<F: Future<Output = ()> + Send + 'static>(
    make: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> f64 {
    let (before, next) = (cpu_ticks(), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, make) = (next.clone(), make.clone());
        workers.spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                make().await;
            }
        });
    }
    while workers.join_next().await.is_some() {}
    (cpu_ticks() - before) as f64 * 10_000.0 / REQUESTS as f64
}

async fn cpu() {
    let (mut process, address) = receivers::start_plain();
    let url: Arc<url::Url> = Arc::new(format!("http://{address}/hook").parse().expect("a URL"));
    let signers: Arc<[Signer]> = [signer()].into();
    let ours = Arc::new(HttpSender::new(policy()).expect("a sender"));
    let theirs = legacy::client(webhookd_sender::dial::native_roots());
    let (mut by_ours, mut by_theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (url, signers, sender) = (url.clone(), signers.clone(), ours.clone());
        by_ours.push(
            measured(move || {
                let (sender, request) = (sender.clone(), request(&url, &signers));
                async move { assert_eq!(sender.send(request).await.class, Class::Succeeded) }
            })
            .await,
        );
        let (uri, client) = (format!("http://{address}/hook"), theirs.clone());
        by_theirs.push(
            measured(move || {
                let (client, uri) = (client.clone(), uri.clone());
                async move { assert_eq!(legacy::send(&client, &uri, &signer(), BODY_BYTES).await, 200) }
            })
            .await,
        );
    }
    let _ = process.kill();
    println!("CPU a request, median of {ROUNDS}: ours {:.1} µs", median(&mut by_ours));
    println!("CPU a request, median of {ROUNDS}: hyper-util's client {:.1} µs", median(&mut by_theirs));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn tls() {
    let signers: Arc<[Signer]> = [signer()].into();
    let receiver = receivers::Tls::start(TLS_AT_ONCE).await;
    let config = tls_config(receiver.roots.clone()).expect("TLS");
    let sender = Arc::new(HttpSender::with(policy(), Arc::new(SystemResolver), config));
    let url = Arc::new(receiver.url().parse().expect("a URL"));
    let mut sends = JoinSet::new();
    for _ in 0..TLS_AT_ONCE {
        let (sender, request) = (sender.clone(), request(&url, &signers));
        sends.spawn(async move { assert_eq!(sender.send(request).await.class, Class::Succeeded) });
    }
    while let Some(sent) = sends.join_next().await {
        sent.expect("a success");
    }
    println!("TLS connections for {TLS_AT_ONCE} requests at once: ours {}", receiver.connections());

    let receiver = receivers::Tls::start(TLS_AT_ONCE).await;
    let client = legacy::client(receiver.roots.clone());
    let mut sends = JoinSet::new();
    for _ in 0..TLS_AT_ONCE {
        let (client, url) = (client.clone(), receiver.url());
        sends.spawn(async move { legacy::send(&client, &url, &signer(), BODY_BYTES).await });
    }
    let all = async { while sends.join_next().await.is_some() {} };
    let ended = tokio::time::timeout(Duration::from_secs(20), all).await;
    let note = if ended.is_ok() { "" } else { "; it never had all requests in flight" };
    println!(
        "TLS connections for {TLS_AT_ONCE} requests at once: hyper-util's client {}{note}",
        receiver.connections()
    );
}
