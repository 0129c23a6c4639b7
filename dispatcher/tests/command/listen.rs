//! `webhookd listen` as the receiver of our own sender and of strangers.

use crate::{SECRET, webhookd};
use delivery::outcome::{Class, Outcome};
use sender::{Inquiry, Request, Sender, address_policy::AddressPolicy, http::HttpSender};
use serde_json::Value;
use signature::Secret;
use std::{process::ExitStatus, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout},
    time::timeout,
};

struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
    sender: HttpSender,
}

impl Listener {
    async fn start(args: &[&str]) -> Self {
        let mut child = webhookd(&[&["listen"], args].concat()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        let url = first.strip_prefix("listening on ").map_or_else(
            || serde_json::from_str::<Value>(&first).unwrap()["listening"].as_str().unwrap().to_owned(),
            ToOwned::to_owned,
        );
        Self { child, lines, url, sender: sender() }
    }

    async fn line(&mut self) -> String {
        timeout(Duration::from_secs(10), self.lines.next_line()).await.expect("a line").unwrap().unwrap()
    }

    async fn send(&self, secret: &str, id: &str, body: &'static str) -> Outcome {
        self.sender.send(request(&self.url, secret, id, body)).await
    }

    /// Closes the reading end of its standard output, then sends one webhook.
    async fn without_reader(self) -> (Child, HttpSender) {
        let Self { child, lines, url, sender } = self;
        drop(lines);
        sender.send(request(&url, SECRET, "evt_1", BODY)).await;
        (child, sender)
    }

    async fn raw(&self, request: &[u8]) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The answer may come before all is written.
        let _ = stream.write_all(request).await;
        let mut head = [0; 12];
        timeout(Duration::from_secs(30), stream.read_exact(&mut head)).await.expect("an answer").unwrap();
        String::from_utf8(head.to_vec()).unwrap()
    }

    async fn exited(&mut self) -> ExitStatus {
        timeout(Duration::from_secs(10), self.child.wait()).await.expect("an exit").unwrap()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

fn sender() -> HttpSender {
    let allow_nets = vec!["127.0.0.0/8".parse().unwrap()];
    HttpSender::new(AddressPolicy { allow_nets, ..AddressPolicy::default() }).unwrap()
}

fn request(url: &str, secret: &str, id: &str, body: &'static str) -> Request {
    Request::json(
        Arc::new(url.parse().unwrap()),
        id.into(),
        body.into(),
        Arc::new([Secret::parse(secret).unwrap().signer()]),
        Duration::from_secs(10),
    )
}

const STRANGER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &str =
    r#"{"id":"evt_1","type":"order.created","sequence":7,"table":"public.orders","data":{"total":1.50}}"#;

#[tokio::test]
async fn it_prints_what_holds_and_answers_401_to_what_does_not() {
    let mut listener = Listener::start(&["--secret", SECRET, "--count", "2"]).await;
    assert_eq!(listener.send(SECRET, "evt_1", BODY).await.class, Class::Succeeded);
    let line = listener.line().await;
    assert!(line.contains("Z ✓ order.created  evt_1  #7  public.orders"), "{line}");
    assert_eq!(listener.line().await, format!("    {BODY}"));
    let refused = listener.send(STRANGER, "evt_2", BODY).await;
    assert_eq!(
        (refused.status, refused.response.as_deref()),
        (Some(401), Some("the signature does not match"))
    );
    let line = listener.line().await;
    assert!(line.contains("✗ order.created  evt_2") && line.contains("answered 401"), "{line}");
    assert_eq!(listener.exited().await.code(), Some(1), "one signature did not hold");
}

#[tokio::test]
async fn json_lines_and_a_secret_out_of_the_environment() {
    let mut command = webhookd(&["listen", "--json", "--count", "1", "--status", "503", "--bind", "0"]);
    let mut child = command.env("WEBHOOKD_LISTEN_SECRET", format!("{STRANGER},{SECRET}")).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(first["verifies"], true);
    let url = first["listening"].as_str().unwrap();
    assert_eq!(sender().send(request(url, SECRET, "evt_1", BODY)).await.status, Some(503));
    let line = lines.next_line().await.unwrap().unwrap();
    assert!(line.ends_with(&format!(r#""body":{BODY}}}"#)), "{line}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["signature"].as_str(), line["status"].as_u64()), (Some("valid"), Some(503)));
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn without_a_secret_it_says_so() {
    let mut listener = Listener::start(&["--quiet"]).await;
    assert!(listener.line().await.contains("not verified"));
    listener.send(SECRET, "evt_1", BODY).await;
    listener.send(SECRET, "evt_2", BODY).await;
    assert!(listener.line().await.contains("? order.created  evt_1"));
    assert!(listener.line().await.contains("? order.created  evt_2"), "--quiet leaves the data out");
}

#[tokio::test]
async fn strangers_get_an_answer_and_do_no_harm() {
    let mut listener = Listener::start(&["--secret", SECRET, "--quiet"]).await;
    let large =
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1048577\r\n\r\n{}", "x".repeat(1_048_577));
    let endless = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{}",
        format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(17)
    );
    let long = format!("POST / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(1 << 20));
    for (request, status) in [
        ("OPTIONS / HTTP/1.1\r\nhost: x\r\nwebhook-request-origin: a.example\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "405"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}", "401"),
        ("POST / HTTP/1.1\r\nhost: x\r\nwebhook-id: \u{1b}[2J\r\ncontent-length: 2\r\n\r\n{}", "400"),
        ("nonsense\r\n\r\n", "400"),
        (&large, "413"),
        (&endless, "413"),
        (&long, "431"),
    ] {
        let answer = listener.raw(request.as_bytes()).await;
        assert_eq!(answer, format!("HTTP/1.1 {status}"), "{:.60}", request);
    }
    assert!(listener.line().await.contains("is missing"), "the 401");
    assert_eq!(listener.send(SECRET, "evt_1", BODY).await.class, Class::Succeeded);
    assert!(listener.line().await.contains("✓ order.created"));
}

#[tokio::test]
async fn whoever_asks_may_send() {
    let listener = Listener::start(&["--quiet"]).await;
    let inquiry = Inquiry {
        owner: None,
        url: Arc::new(listener.url.parse().unwrap()),
        questions: [("webhook-request-origin".parse().unwrap(), "hooks.example".parse().unwrap())]
            .into_iter()
            .collect(),
        headers: None,
        header_names: None,
        tls: None,
        timeout: Duration::from_secs(10),
    };
    let head = listener.sender.inquire(inquiry).await.unwrap();
    assert_eq!(head.status.as_u16(), 200);
    assert_eq!(
        (&head.headers["webhook-allowed-origin"], &head.headers["webhook-allowed-rate"]),
        (&"hooks.example".parse().unwrap(), &"*".parse().unwrap())
    );
}

#[tokio::test]
async fn it_ends_on_a_signal_although_connections_are_open() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let mut listener = Listener::start(&["--secret", SECRET, "--quiet"]).await;
        assert_eq!(listener.send(SECRET, "evt_1", BODY).await.class, Class::Succeeded);
        listener.signal(signal);
        assert_eq!(listener.exited().await.code(), Some(0));
    }
}

#[tokio::test]
async fn it_ends_when_nobody_reads() {
    let listener = Listener::start(&["--secret", SECRET, "--quiet"]).await;
    let (mut child, _stays) = listener.without_reader().await;
    assert_eq!(
        timeout(Duration::from_secs(10), child.wait()).await.expect("an exit").unwrap().code(),
        Some(0)
    );
}

#[tokio::test]
async fn a_port_in_use_is_one_line() {
    let first = Listener::start(&[]).await;
    let address = first.url.trim_start_matches("http://").trim_end_matches('/');
    let output = webhookd(&["listen", "--bind", address]).output().await.unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err.starts_with(&format!("webhookd: cannot listen on {address}: ")) && err.ends_with('\n'),
        "{err}"
    );
}
