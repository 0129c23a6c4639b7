//! A receiver that checks only the promises of the sender.

use e2e::{PATIENCE, process::lock};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Reports whether the request comes from webhookd.
    pub fn is_ours(&self) -> bool {
        self.headers.contains_key("webhook-id")
    }
}

/// Accepts every POST and records it.
pub struct Collector {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    count: watch::Receiver<usize>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("it is bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (counter, count) = watch::channel(0);
        let (counter, kept) = (Arc::new(counter), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&kept), Arc::clone(&counter)));
            }
        });
        Self { url, requests, count }
    }

    pub fn all(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    pub async fn wait(&self, what: &str, enough: impl Fn(&[Request]) -> bool) {
        let requests = Arc::clone(&self.requests);
        let mut count = self.count.clone();
        let waited = tokio::time::timeout(PATIENCE, count.wait_for(|_| enough(&lock(&requests)))).await;
        if waited.is_err() {
            let all = self.all();
            panic!(
                "{what}: {} requests, {} of webhookd's; the last: {:?}",
                all.len(),
                all.iter().filter(|one| one.is_ours()).count(),
                all.last()
            );
        }
    }
}

pub async fn serve(
    mut stream: TcpStream,
    requests: Arc<Mutex<Vec<Request>>>,
    counter: Arc<watch::Sender<usize>>,
) {
    let mut bytes = Vec::new();
    while let Some((request, used)) = read(&mut stream, &mut bytes).await {
        bytes.drain(..used);
        let count = {
            let mut requests = lock(&requests);
            requests.push(request);
            requests.len()
        };
        counter.send_replace(count);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.is_err() {
            return;
        }
    }
}

/// Reads a request. Returns it and its length in bytes.
pub async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(Request, usize)> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 40];
        let mut head = httparse::Request::new(&mut fields);
        if let Ok(httparse::Status::Complete(at)) = head.parse(bytes) {
            let headers: BTreeMap<String, String> = head
                .headers
                .iter()
                .map(|field| (field.name.to_lowercase(), String::from_utf8_lossy(field.value).into_owned()))
                .collect();
            let length: usize = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if let Some(body) = bytes.get(at..at + length) {
                let (path, body) =
                    (head.path.unwrap_or_default().to_owned(), String::from_utf8_lossy(body).into_owned());
                return Some((Request { path, headers, body }, at + length));
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}
