//! The way out through a forward proxy: what it is asked for, and whose fault it is when it fails.

use crate::support::{Received, Receiver, loopback, request};
use delivery::outcome::{Class, Outcome, Verdict};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use webhookd_sender::{
    Sender,
    address_policy::AddressPolicy,
    dial::{Dialer, native_roots, tls_config},
    http::HttpSender,
    proxy::Proxy,
    resolve::{Resolve, Resolved},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Every name has this one address.
struct Everywhere {
    address: IpAddr,
    asked: AtomicUsize,
}

impl Resolve for Everywhere {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { io::Result::Ok(vec![self.address]) })
    }
}

fn everywhere(address: &str) -> Arc<Everywhere> {
    Arc::new(Everywhere { address: address.parse().unwrap(), asked: AtomicUsize::new(0) })
}

fn sender(policy: AddressPolicy, resolver: &Arc<Everywhere>, proxy: Proxy) -> HttpSender {
    let tls = tls_config(native_roots()).unwrap();
    HttpSender::over(Dialer::new(policy, resolver.clone(), tls).through(Some(proxy)))
}

/// A proxy that writes down what it is asked for and answers from a script; with `tunnel_to` it
/// then connects.
struct FakeProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl FakeProxy {
    fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
    }

    fn url(&self, scheme: &str) -> Proxy {
        Proxy::parse(&format!("{scheme}://{}", self.address)).unwrap()
    }

    /// HTTP: reads the head of a request and answers it.
    async fn http(answer: &'static [u8], tunnel_to: Option<SocketAddr>) -> Self {
        Self::start(tunnel_to, move |mut tcp, asked| async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tcp.read_u8().await.ok()?);
            }
            asked.lock().unwrap().push(head);
            tcp.write_all(answer).await.ok()?;
            Some(tcp)
        })
        .await
    }

    /// SOCKS: what is expected in turn (its length is what counts), and the answer to each.
    async fn socks(turns: &'static [(usize, &'static [u8])], tunnel_to: Option<SocketAddr>) -> Self {
        Self::start(tunnel_to, move |mut tcp, asked| async move {
            for (length, answer) in turns {
                let mut bytes = vec![0; *length];
                tcp.read_exact(&mut bytes).await.ok()?;
                asked.lock().unwrap().push(bytes);
                tcp.write_all(answer).await.ok()?;
            }
            Some(tcp)
        })
        .await
    }

    async fn start<F, Fut>(tunnel_to: Option<SocketAddr>, greet: F) -> Self
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<Vec<u8>>>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<TcpStream>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let record = asked.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let greeted = greet(tcp, record.clone());
                tokio::spawn(async move {
                    let Some(mut tcp) = greeted.await else { return };
                    if let Some(target) = tunnel_to {
                        let mut onward = TcpStream::connect(target).await.unwrap();
                        let _ = copy_bidirectional(&mut tcp, &mut onward).await;
                    }
                });
            }
        });
        Self { address, asked }
    }
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\nvia: 1.1 proxy\r\n\r\n";

fn host_of(received: &Received) -> String {
    received.headers()["host"].to_owned()
}

#[tokio::test]
async fn an_http_proxy_is_given_the_address_that_was_judged() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let proxy = FakeProxy::http(ESTABLISHED, Some(receiver.address)).await;
    let resolver = everywhere("127.0.0.1");
    let sender = sender(loopback(), &resolver, proxy.url("http"));
    let url = format!("http://receiver.example:{port}/hook");
    for _ in 0..2 {
        assert_eq!(sender.send(request(&url)).await.class, Class::Succeeded);
    }
    let asked: Vec<String> = proxy.asked().iter().map(|head| String::from_utf8_lossy(head).into()).collect();
    let connect = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    assert_eq!(asked, [connect], "the tunnel is kept for the second");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    assert_eq!(host_of(&receiver.requests()[0]), format!("receiver.example:{port}"));
}

#[tokio::test]
async fn what_may_not_be_called_is_not_asked_for() {
    let proxy = FakeProxy::http(ESTABLISHED, None).await;
    for (address, url, resolves) in [
        ("169.254.169.254", "https://metadata.example/", false),
        ("10.0.0.1", "https://intranet.example/", false),
        ("8.8.8.8", "https://example.com:22/", false),
        ("8.8.8.8", "http://example.com/", false),
        // The policy also checks literals that the proxy would resolve.
        ("8.8.8.8", "https://10.0.0.1/", true),
        ("8.8.8.8", "https://[::ffff:169.254.169.254]/", true),
        ("8.8.8.8", "https://example.com:6379/", true),
        ("8.8.8.8", "http://example.com/", true),
    ] {
        let proxy = proxy.url("http").resolving(resolves);
        let sender = sender(AddressPolicy::default(), &everywhere(address), proxy);
        assert_eq!(sender.send(request(url)).await.class, Class::Refused, "{url}");
    }
    assert_eq!(proxy.asked().len(), 0);
}

#[tokio::test]
async fn a_proxy_that_resolves_is_given_names() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let resolver = everywhere("10.0.0.1");
    let policy = AddressPolicy { allow_http: true, ..AddressPolicy::default() };
    let url = format!("http://receiver.example:{port}/");

    let http = FakeProxy::http(ESTABLISHED, Some(receiver.address)).await;
    let proxy = http.url("http").resolving(true);
    assert_eq!(sender(policy.clone(), &resolver, proxy).send(request(&url)).await.class, Class::Succeeded);
    assert!(http.asked()[0].starts_with(format!("CONNECT receiver.example:{port} ").as_bytes()));

    let request_bytes = 4 + 1 + "receiver.example".len() + 2;
    assert_eq!(request_bytes, 23);
    let socks =
        FakeProxy::socks(&[(3, &[5, 0]), (23, &[5, 0, 0, 3, 1, b'x', 0, 0])], Some(receiver.address)).await;
    let proxy = socks.url("socks5").resolving(true);
    assert_eq!(sender(policy, &resolver, proxy).send(request(&url)).await.class, Class::Succeeded);
    assert_eq!(&socks.asked()[1][5..21], b"receiver.example");
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn socks_with_and_without_credentials() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let url = format!("http://receiver.example:{port}/");
    let [high, low] = port.to_be_bytes();
    let connected: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

    let proxy = FakeProxy::socks(
        &[(3, &[5, 0]), (10, &[5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
        Some(receiver.address),
    )
    .await;
    let sent = sender(loopback(), &everywhere("127.0.0.1"), proxy.url("socks5")).send(request(&url)).await;
    assert_eq!((sent.class, sent.error), (Class::Succeeded, None));
    assert_eq!(proxy.asked(), [vec![5, 1, 0], vec![5, 1, 0, 1, 127, 0, 0, 1, high, low]]);

    const WITH_CREDENTIALS: &[(usize, &[u8])] =
        &[(4, &[5, 2]), (14, &[1, 0]), (10, &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])];
    assert_eq!(WITH_CREDENTIALS[2].1, connected);
    let proxy = FakeProxy::socks(WITH_CREDENTIALS, Some(receiver.address)).await;
    let named = Proxy::parse(&format!("socks5://user:hunter2@{}", proxy.address)).unwrap();
    let sent = sender(loopback(), &everywhere("127.0.0.1"), named).send(request(&url)).await;
    assert_eq!((sent.class, sent.error), (Class::Succeeded, None));
    assert_eq!(proxy.asked()[0], [5, 2, 0, 2]);
    assert_eq!(proxy.asked()[1], b"\x01\x04user\x07hunter2");
}

#[tokio::test]
async fn an_http_proxy_is_shown_the_credentials_it_was_named_with() {
    let receiver = Receiver::answering(OK).await;
    let proxy = FakeProxy::http(ESTABLISHED, Some(receiver.address)).await;
    let named = Proxy::parse(&format!("http://user:hunter2@{}", proxy.address)).unwrap();
    let url = format!("http://receiver.example:{}/", receiver.address.port());
    let sent = sender(loopback(), &everywhere("127.0.0.1"), named).send(request(&url)).await;
    assert_eq!(sent.class, Class::Succeeded);
    let head = String::from_utf8(proxy.asked().remove(0)).unwrap();
    assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n"), "{head}");
    assert!(!receiver.requests()[0].head.to_lowercase().contains("proxy-"), "the receiver is not");
}

#[tokio::test]
async fn some_are_called_without_it() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let proxy = FakeProxy::http(ESTABLISHED, Some(receiver.address)).await;
    for bypass in ["127.0.0.0/8", "127.0.0.1", "receiver.example", ".example"] {
        let named = proxy.url("http").bypassed_by([bypass]).unwrap();
        let sender = sender(loopback(), &everywhere("127.0.0.1"), named);
        let url = format!("http://receiver.example:{port}/");
        assert_eq!(sender.send(request(&url)).await.class, Class::Succeeded, "{bypass}");
    }
    assert_eq!((proxy.asked().len(), receiver.connections()), (0, 4));
}

async fn failed_by(proxy: Proxy) -> Outcome {
    sender(loopback(), &everywhere("127.0.0.1"), proxy).send(request("https://receiver.example:8443/")).await
}

fn is_ours(outcome: &Outcome) -> bool {
    let error = outcome.error.as_deref().unwrap();
    assert!(!error.contains("127.0.0.1") && !error.contains("hunter2"), "{error}");
    assert_eq!(outcome.verdict() == Verdict::Ours, outcome.class == Class::Refused, "{error}");
    outcome.verdict() == Verdict::Ours
}

#[tokio::test]
async fn a_dead_proxy_is_not_the_receivers_fault() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for scheme in ["http", "socks5"] {
        let proxy = Proxy::parse(&format!("{scheme}://user:hunter2@{closed}")).unwrap();
        let outcome = failed_by(proxy).await;
        assert!(is_ours(&outcome), "{outcome:?}");
        assert_eq!(outcome.error.as_deref(), Some("cannot connect to webhookd's forward proxy"));
    }
}

#[tokio::test]
async fn an_http_proxys_word_is_taken_for_what_it_is() {
    for (answer, ours) in [
        (&b"HTTP/1.1 502 Bad Gateway\r\n\r\n"[..], false),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", false),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", true),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", true),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n", true),
        (b"HTTP/2 200\r\n\r\n", true),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", true),
        (b"", true),
    ] {
        let proxy = FakeProxy::http(answer, None).await;
        let outcome = failed_by(proxy.url("http")).await;
        assert_eq!(is_ours(&outcome), ours, "{}: {outcome:?}", String::from_utf8_lossy(answer));
        assert!(ours || outcome.class == Class::Connect);
    }
    // A head without an end is not read for ever.
    let endless = FakeProxy::start(None, |mut tcp, _| async move {
        while tcp.write_all(&[b'x'; 1024]).await.is_ok() {}
        None
    })
    .await;
    assert!(is_ours(&failed_by(endless.url("http")).await));
}

#[tokio::test]
async fn a_socks_proxys_word_is_taken_for_what_it_is() {
    /// How many bytes are read, and what is answered.
    type Step = (usize, &'static [u8]);
    const REPLIES: [(&[Step], bool); 10] = [
        (&[(3, &[5, 0]), (10, &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0])], false),
        (&[(3, &[5, 0]), (10, &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0])], false),
        (&[(3, &[5, 0]), (10, &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0])], false),
        (&[(3, &[5, 0]), (10, &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])], false),
        (&[(3, &[5, 0]), (10, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0])], true),
        (&[(3, &[5, 0]), (10, &[5, 0, 0, 9])], true),
        (&[(3, &[5, 255])], true),
        (&[(3, &[5, 2])], true),
        (&[(3, &[4, 0])], true),
        (&[(3, b"HTTP/1.1 400 Bad Request\r\n\r\n")], true),
    ];
    for (turns, ours) in REPLIES {
        let proxy = FakeProxy::socks(turns, None).await;
        let outcome = failed_by(proxy.url("socks5")).await;
        assert_eq!(is_ours(&outcome), ours, "{turns:?}: {outcome:?}");
        assert!(ours || outcome.class == Class::Connect);
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_waits_for_the_receiver_blames_the_receiver() {
    let silent = FakeProxy::start(None, |tcp, _| async move {
        let _open = tcp;
        std::future::pending().await
    })
    .await;
    let outcome = failed_by(silent.url("http")).await;
    assert_eq!((outcome.class, outcome.duration.as_secs()), (Class::Connect, 5));
}
