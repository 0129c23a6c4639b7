//! A receiver that is a script over a raw socket, and the requests to send to it.

use bytes::Bytes;
use delivery::outcome::Outcome;
use signature::{Secret, Signer};
use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use webhookd_sender::{
    Request, Sender,
    address_policy::AddressPolicy,
    http::HttpSender,
    resolve::{Resolve, Resolved},
};

pub const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// Resolves every name to this machine.
pub struct Loopback;

impl Resolve for Loopback {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

/// One request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Received {
    /// Request line and headers, without the empty line.
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    pub fn headers(&self) -> HashMap<&str, &str> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect()
    }
}

/// What the scripts see and the tests look at.
#[derive(Default)]
pub struct Record {
    pub requests: Mutex<Vec<Received>>,
    pub connections: AtomicUsize,
}

/// A listening socket whose connections each run the script.
pub struct Receiver {
    pub address: SocketAddr,
    pub record: Arc<Record>,
}

impl Receiver {
    pub async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(([127, 0, 0, 1], 0).into(), script).await
    }

    pub async fn start_at<F, Fut>(address: SocketAddr, script: F) -> Self
    where
        F: Fn(Peer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let shared = record.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(Peer { stream, connection, record: shared.clone() }));
            }
        });
        Self { address, record }
    }

    /// Answers every request of every connection with the same bytes.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::listening(([127, 0, 0, 1], 0).into(), answer).await
    }

    /// The same at an address.
    pub async fn listening(address: SocketAddr, answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        Self::start_at(address, move |mut peer| {
            let answer = answer.clone();
            async move {
                while peer.read_request().await.is_some() {
                    if peer.stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// The same for requests that have no body and do not say so.
    pub async fn answering_heads(answer: &'static str) -> Self {
        Self::start(move |mut peer| async move {
            while let Some(head) = read_head(&mut peer.stream).await {
                peer.record.requests.lock().unwrap().push(Received { head, body: Vec::new() });
                peer.write(answer).await;
            }
        })
        .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn requests(&self) -> Vec<Received> {
        self.record.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }
}

/// One accepted connection.
pub struct Peer {
    pub stream: TcpStream,
    /// From 0.
    pub connection: usize,
    record: Arc<Record>,
}

impl Peer {
    /// Reads one whole request and records it; `None` when the sender has closed.
    pub async fn read_request(&mut self) -> Option<Received> {
        let received = read_request(&mut self.stream).await?;
        self.record.requests.lock().unwrap().push(received.clone());
        Some(received)
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The sender may have had enough; the test looks at its side.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Closes with RST.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Leaves the connection open and silent until the sender closes it.
    pub async fn hold(mut self) {
        let mut rest = [0; 1024];
        while matches!(self.stream.read(&mut rest).await, Ok(1..)) {}
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    head.truncate(head.len() - 4);
    Some(String::from_utf8(head).unwrap())
}

pub async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let head = read_head(stream).await?;
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { head, body })
}

/// Lets time pass, except that the sockets need.
pub async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

pub fn signer() -> Signer {
    Secret::parse(SECRET).unwrap().signer()
}

pub fn request(url: &str) -> Request {
    Request::json(
        Arc::new(url.parse().unwrap()),
        "evt_1".into(),
        Bytes::from_static(br#"{"id":"evt_1"}"#),
        Arc::new([signer()]),
        Duration::from_secs(10),
    )
}

pub fn request_within(url: &str, timeout: Duration) -> Request {
    Request { timeout, ..request(url) }
}

pub fn loopback() -> AddressPolicy {
    AddressPolicy { allow_nets: vec!["127.0.0.0/8".parse().unwrap()], ..AddressPolicy::default() }
}

pub fn sender() -> HttpSender {
    HttpSender::new(loopback()).unwrap()
}

/// Sends one request to a receiver that runs the script, with a new sender.
pub async fn send_to(receiver: &Receiver) -> Outcome {
    sender().send(request(&receiver.url("/hook"))).await
}
