//! HTTP/2: shared connections, and requests that the receiver has not processed.

use crate::support::{Loopback, loopback, pass, read_request, request, request_within};
use bytes::Bytes;
use delivery::outcome::{Class, Outcome};
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request as Head, Response};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use webhookd_sender::{Sender, dial::tls_config, http::HttpSender};

/// What arrived in full: the head, and the body.
type Arrived = (Head<()>, Vec<u8>);
type Answer = SendResponse<Bytes>;

/// What the tests look at.
#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    requests: Mutex<Vec<Arrived>>,
}

impl Record {
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

/// A TLS receiver on loopback, and the sender that trusts it.
struct Receiver {
    address: SocketAddr,
    record: Arc<Record>,
    sender: Arc<HttpSender>,
}

impl Receiver {
    /// Runs the script on each connection, whose number it gets too.
    async fn start<F, Fut>(protocols: &[&str], script: F) -> Self
    where
        F: Fn(TlsStream<TcpStream>, usize, Arc<Record>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["receiver.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let sender = HttpSender::with(loopback(), Arc::new(Loopback), tls_config(roots).unwrap());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Record>::default();
        let (shared, script) = (record.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, shared, script) = (acceptor.clone(), shared.clone(), script.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = acceptor.accept(tcp).await {
                        script(tls, number, shared).await;
                    }
                });
            }
        });
        Self { address, record, sender: Arc::new(sender) }
    }

    /// Speaks HTTP/2 with this limit of streams, and runs the script on each request. The script
    /// gets the numbers of the connection and of the request.
    async fn http2<F, Fut>(streams_max: u32, script: F) -> Self
    where
        F: Fn(Answer, usize, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script = Arc::new(script);
        Self::start(&["h2", "http/1.1"], move |tls, number, record| {
            let script = script.clone();
            async move {
                let mut builder = h2::server::Builder::new();
                let Ok(mut connection) =
                    builder.max_concurrent_streams(streams_max).handshake::<_, Bytes>(tls).await
                else {
                    return;
                };
                while let Some(Ok((request, answer))) = connection.accept().await {
                    let (script, record) = (script.clone(), record.clone());
                    tokio::spawn(async move {
                        let Some(arrived) = read(request).await else { return };
                        let at = {
                            let mut requests = record.requests.lock().unwrap();
                            requests.push(arrived);
                            requests.len() - 1
                        };
                        script(answer, number, at).await;
                    });
                }
            }
        })
        .await
    }

    async fn send(&self) -> Outcome {
        self.send_within(Duration::from_secs(10)).await
    }

    async fn send_within(&self, timeout: Duration) -> Outcome {
        let url = format!("https://receiver.example:{}/hook?a=b", self.address.port());
        self.sender.send(request_within(&url, timeout)).await
    }

    /// Sends many requests at once.
    async fn send_many(&self, count: usize) -> Vec<Outcome> {
        let url = format!("https://receiver.example:{}/hook?a=b", self.address.port());
        let sends: Vec<_> = (0..count)
            .map(|_| {
                let (sender, request) = (self.sender.clone(), request(&url));
                tokio::spawn(async move { sender.send(request).await })
            })
            .collect();
        let mut outcomes = Vec::new();
        for send in sends {
            outcomes.push(send.await.unwrap());
        }
        outcomes
    }
}

async fn read(request: Head<RecvStream>) -> Option<Arrived> {
    let (parts, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        bytes.extend_from_slice(&data);
    }
    Some((Head::from_parts(parts, ()), bytes))
}

fn respond(answer: &mut Answer, status: u16, body: &'static str) {
    let head = Response::builder().status(status).header("retry-after", "7").body(()).unwrap();
    let mut stream = answer.send_response(head, false).unwrap();
    stream.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
}

async fn ok(mut answer: Answer, _: usize, _: usize) {
    respond(&mut answer, 200, "ok");
}

#[tokio::test]
async fn a_request_over_http2_says_the_same() {
    let receiver = Receiver::http2(100, |mut answer, _, at| async move {
        respond(&mut answer, if at == 0 { 200 } else { 503 }, "busy");
    })
    .await;
    let first = receiver.send().await;
    assert_eq!((first.class, first.status, first.error), (Class::Succeeded, Some(200), None));
    assert!(first.phases.tls.is_some() && first.phases.first_byte.is_some());
    let second = receiver.send().await;
    assert_eq!((second.status, second.response.as_deref()), (Some(503), Some("busy")));
    assert_eq!(second.retry_after, Some(Duration::from_secs(7)));
    assert!(second.phases.tls.is_none() && second.phases.first_byte.is_some());
    assert_eq!((receiver.record.connections(), receiver.record.requests()), (1, 2));
    let requests = receiver.record.requests.lock().unwrap();
    let (head, body) = &requests[0];
    let port = receiver.address.port();
    assert_eq!(head.uri().to_string(), format!("https://receiver.example:{port}/hook?a=b"));
    assert_eq!((head.method().as_str(), body.as_slice()), ("POST", &br#"{"id":"evt_1"}"#[..]));
    assert!(!head.headers().contains_key("host"), "the pseudo-header takes its place");
    for (name, value) in [("accept", "*/*"), ("content-length", "14"), ("webhook-id", "evt_1")] {
        assert_eq!(head.headers()[name], value);
    }
    let timestamp: i64 = head.headers()["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    let signature = crate::support::signer().sign("evt_1", timestamp, body);
    assert_eq!(head.headers()["webhook-signature"], signature.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_few_connections() {
    const COUNT: usize = 512;
    // No answer before all requests are there.
    let (arrived, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, gate) = (arrived.clone(), go.clone());
    let receiver = Receiver::http2(128, move |mut answer, _, _| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            seen.add_permits(1);
            let _gone = gate.acquire().await.unwrap();
            respond(&mut answer, 200, "ok");
        }
    })
    .await;
    let all = async {
        arrived.acquire_many(COUNT as u32).await.unwrap().forget();
        go.add_permits(COUNT);
    };
    let (outcomes, ()) = tokio::join!(receiver.send_many(COUNT), all);
    assert!(outcomes.iter().all(|outcome| outcome.status == Some(200) && outcome.error.is_none()));
    assert_eq!((receiver.record.connections(), receiver.record.requests()), (COUNT / 128, COUNT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_http2_gets_a_connection_per_request() {
    let (arrived, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, gate) = (arrived.clone(), go.clone());
    let receiver = Receiver::start(&["http/1.1"], move |mut tls, _, _| {
        let (seen, gate) = (seen.clone(), gate.clone());
        async move {
            while read_request(&mut tls).await.is_some() {
                seen.add_permits(1);
                gate.acquire().await.unwrap().forget();
                let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    let all = async {
        arrived.acquire_many(64).await.unwrap().forget();
        go.add_permits(64);
    };
    let (outcomes, ()) = tokio::join!(receiver.send_many(64), all);
    assert!(outcomes.iter().all(|outcome| outcome.status == Some(204)));
    assert_eq!(receiver.record.connections(), 64);
}

#[tokio::test]
async fn a_stalled_stream_stalls_no_other() {
    for streams_max in [1, 100] {
        let receiver = Receiver::http2(streams_max, |answer, connection, at| async move {
            if at == 0 {
                // Until the sender resets the stream.
                let mut answer = answer;
                let _ = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            } else {
                ok(answer, connection, at).await;
            }
        })
        .await;
        let stalled = {
            let sender = receiver.sender.clone();
            let url = format!("https://receiver.example:{}/", receiver.address.port());
            tokio::spawn(async move { sender.send(request_within(&url, Duration::from_secs(2))).await })
        };
        while receiver.record.requests() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            assert_eq!(receiver.send().await.class, Class::Succeeded);
        }
        assert!(!stalled.is_finished(), "the others did not wait for it");
        assert_eq!(receiver.record.connections(), if streams_max == 1 { 2 } else { 1 });
        assert_eq!(stalled.await.unwrap().class, Class::Timeout);
    }
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_and_another_error_is_not() {
    for (reason, class, requests) in
        [(Reason::REFUSED_STREAM, Class::Succeeded, 2), (Reason::INTERNAL_ERROR, Class::Protocol, 1)]
    {
        let receiver = Receiver::http2(100, move |mut answer, connection, at| async move {
            if at == 0 {
                answer.send_reset(reason);
            } else {
                ok(answer, connection, at).await;
            }
        })
        .await;
        let outcome = receiver.send().await;
        let error = outcome.error.unwrap();
        assert_eq!((outcome.class, receiver.record.requests()), (class, requests), "{error}");
        assert_eq!(error.contains("was sent again"), class == Class::Succeeded, "{error}");
    }
    let never = Receiver::http2(100, |mut answer, _, _| async move {
        answer.send_reset(Reason::REFUSED_STREAM);
    })
    .await;
    let outcome = never.send().await;
    assert_eq!((outcome.class, never.record.requests()), (Class::Protocol, 3), "{outcome:?}");
}

/// A frame (RFC 9113, 4.1): its type, the low byte of its stream, and its content.
async fn frame(tls: &mut TlsStream<TcpStream>) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    tls.read_exact(&mut head).await.ok()?;
    let mut content = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    tls.read_exact(&mut content).await.ok()?;
    Some((head[3], head[8], content))
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACKNOWLEDGED: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

#[tokio::test]
async fn a_request_above_goaway_is_sent_again_on_another_connection() {
    let receiver = Receiver::start(&["h2"], |mut tls, number, record| async move {
        tls.read_exact(&mut [0; 24]).await.unwrap();
        tls.write_all(&[SETTINGS, SETTINGS_ACKNOWLEDGED].concat()).await.unwrap();
        while let Some((kind, stream, _)) = frame(&mut tls).await {
            match (kind, stream) {
                // The second request: the first was the last to be processed. No error.
                (HEADERS, 3) if number == 0 => {
                    let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
                    tls.write_all(&goaway).await.unwrap();
                }
                (DATA, 3) if number == 0 => {}
                (DATA, _) => {
                    record.requests.lock().unwrap().push((Head::new(()), Vec::new()));
                    // `:status: 200`, and the end of the stream.
                    tls.write_all(&[0, 0, 1, HEADERS, 5, 0, 0, 0, stream, 0x88]).await.unwrap();
                }
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(receiver.send().await.error, None);
    let second = receiver.send().await;
    assert_eq!(second.class, Class::Succeeded, "{second:?}");
    assert!(second.error.unwrap().contains("was sent again"));
    assert_eq!((receiver.record.connections(), receiver.record.requests()), (2, 2));
}

#[tokio::test]
async fn a_receiver_that_asks_for_http1_gets_it() {
    let receiver = Receiver::start(&["h2", "http/1.1"], |mut tls, _, record| async move {
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            let mut connection = h2::server::handshake(tls).await.unwrap();
            while let Some(Ok((_, mut answer))) = connection.accept().await {
                let _: &mut SendResponse<Bytes> = &mut answer;
                answer.send_reset(Reason::HTTP_1_1_REQUIRED);
            }
        } else {
            while read_request(&mut tls).await.is_some() {
                record.requests.lock().unwrap().push((Head::new(()), Vec::new()));
                let _ = tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
            }
        }
    })
    .await;
    for is_first in [true, false, false] {
        let outcome = receiver.send().await;
        assert_eq!((outcome.class, outcome.error.is_some()), (Class::Succeeded, is_first), "{outcome:?}");
    }
    assert_eq!((receiver.record.connections(), receiver.record.requests()), (2, 3));
}

#[tokio::test]
async fn a_shared_connection_ages_too() {
    let receiver = Receiver::http2(100, ok).await;
    for minute in 0..12 {
        for _ in 0..3 {
            assert_eq!(receiver.send().await.class, Class::Succeeded);
            pass(20).await;
        }
        assert_eq!(receiver.record.connections(), 1 + minute / 5, "minute {minute}");
    }
}

#[tokio::test]
async fn a_connection_that_has_gone_silent_gets_no_further_requests() {
    let receiver = Receiver::http2(100, |answer, connection, at| async move {
        if connection == 0 && at > 0 {
            std::future::pending::<()>().await;
        }
        ok(answer, connection, at).await;
    })
    .await;
    assert_eq!(receiver.send().await.class, Class::Succeeded);
    // SETTINGS, PING and window updates are over, so nothing arrives any longer.
    assert_eq!(receiver.send_within(Duration::from_millis(1500)).await.class, Class::Timeout);
    assert_eq!(receiver.send().await.class, Class::Succeeded);
    assert_eq!(receiver.record.connections(), 2);
}

#[tokio::test]
async fn requests_that_wait_for_a_handshake_share_its_failure() {
    let receiver = Receiver::start(&["nothing"], |_, _, _| async {}).await;
    let outcomes = receiver.send_many(100).await;
    assert!(outcomes.iter().all(|outcome| outcome.class == Class::Tls), "{:?}", outcomes[0]);
    assert!(receiver.record.connections() < 10, "{}", receiver.record.connections());
}

/// Encodes a frame.
fn encoded(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends settings, and these frames without end once a request has come. Reads everything it gets.
async fn flooding(flood: Vec<u8>) -> Receiver {
    Receiver::start(&["h2"], move |tls, _, _| {
        let many = flood.repeat(200);
        async move {
            let (mut read, mut write) = tokio::io::split(tls);
            write.write_all(SETTINGS).await.unwrap();
            let mut buffer = vec![0; 16 * 1024];
            // The preface and the settings come first, and the request after them.
            let mut received = Vec::new();
            while !received.windows(5).any(|bytes| bytes == b"evt_1") {
                let length = read.read(&mut buffer).await.unwrap();
                received.extend_from_slice(&buffer[..length]);
            }
            let discard =
                tokio::spawn(async move { while matches!(read.read(&mut buffer).await, Ok(1..)) {} });
            while write.write_all(&many).await.is_ok() {}
            discard.abort();
        }
    })
    .await
}

/// All bodies are on their way before the first of them ends.
#[tokio::test]
async fn large_answers_of_many_requests_are_of_use() {
    const REQUESTS: usize = 60;
    let all = Arc::new(tokio::sync::Barrier::new(REQUESTS));
    let receiver = Receiver::http2(100, move |mut answer, _, _| {
        let all = all.clone();
        async move {
            let head = Response::builder().status(500).body(()).unwrap();
            let Ok(mut body) = answer.send_response(head, false) else { return };
            for part in 0..60 {
                all.wait().await;
                if body.send_data(Bytes::from_static(&[b'x'; 1024]), part == 59).is_err() {
                    return;
                }
            }
        }
    })
    .await;
    for outcome in receiver.send_many(REQUESTS).await {
        assert_eq!(outcome.error.as_deref(), Some("HTTP 500 Internal Server Error"));
        assert_eq!(outcome.response.map(|start| start.len()), Some(4096));
    }
}

/// Without a limit, they cost a processor until the deadline.
#[tokio::test]
async fn frames_without_use_end_the_connection() {
    // HEADERS with `:status: 103` (RFC 7541, 6.2.2), PING, SETTINGS.
    for flood in [
        encoded(HEADERS, 4, 1, b"\x08\x03103"),
        encoded(6, 0, 0, &[7; 8]),
        encoded(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
    ] {
        let receiver = flooding(flood).await;
        let outcome = receiver.send_within(Duration::from_secs(60)).await;
        assert_eq!(outcome.class, Class::Protocol, "{outcome:?}");
        assert!(outcome.error.unwrap().contains("without end"));
    }
}
