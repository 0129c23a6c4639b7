//! Where nothing is sent to, and that what was checked is what is dialled.

use crate::support::{Receiver, loopback, request};
use delivery::outcome::{Class, Verdict};
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use webhookd_sender::{
    Sender,
    address_policy::{AddressPolicy, Ports},
    dial::{native_roots, tls_config},
    http::HttpSender,
    resolve::{Resolve, Resolved},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Gives its answers one after the other and counts the queries.
struct Scripted {
    answers: Mutex<Vec<io::Result<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = io::Result<Vec<IpAddr>>>) -> Arc<Self> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Scripted {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop().expect("one query too many");
        Box::pin(async move { answer })
    }
}

fn ips(addresses: &[&str]) -> io::Result<Vec<IpAddr>> {
    Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
}

fn sender(policy: AddressPolicy, resolver: Arc<dyn Resolve>) -> HttpSender {
    HttpSender::with(policy, resolver, tls_config(native_roots()).unwrap())
}

#[tokio::test]
async fn every_spelling_of_loopback_is_refused_without_a_query_or_a_connection() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let resolver = Scripted::new([]);
    for policy in [AddressPolicy::default(), AddressPolicy { allow_http: true, ..AddressPolicy::default() }] {
        let sender = sender(policy, resolver.clone());
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "127.0.0.1.",
            "１２７.0.0.1",
            "127。0。0。1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::127.0.0.1]",
            "0.0.0.0",
        ] {
            for scheme in ["http", "https"] {
                let outcome = sender.send(request(&format!("{scheme}://{host}:{port}/"))).await;
                assert_eq!((outcome.class, outcome.status), (Class::Refused, None), "{scheme}://{host}");
            }
        }
    }
    assert_eq!((receiver.connections(), resolver.asked()), (0, 0));
}

#[tokio::test]
async fn a_refusal_names_no_address() {
    let resolver = Scripted::new([ips(&["10.1.2.3"]), ips(&["8.8.8.8", "10.1.2.3"])]);
    let sender = sender(AddressPolicy::default(), resolver);
    for _ in 0..2 {
        let outcome = sender.send(request("https://intranet.example/a?b=c")).await;
        let error = outcome.error.unwrap();
        assert_eq!(outcome.class, Class::Refused);
        assert!(
            error.contains("--allow-net") && !error.contains("10.1.2.3") && !error.contains("b=c"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn plain_http_to_a_public_name_is_refused() {
    let resolver = Scripted::new([ips(&["8.8.8.8"])]);
    let outcome = sender(loopback(), resolver).send(request("http://example.com/")).await;
    assert_eq!(outcome.class, Class::Refused);
    assert!(outcome.error.unwrap().contains("--allow-http"));
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let receiver =
        Receiver::answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    // The second answer changes to a forbidden address: it belongs to the second connection and
    // refuses that one.
    let resolver = Scripted::new([ips(&["127.0.0.1"]), ips(&["10.0.0.1"])]);
    let sender = sender(loopback(), resolver.clone());
    let url = format!("http://rebinding.example:{}/", receiver.address.port());
    assert_eq!(sender.send(request(&url)).await.class, Class::Succeeded);
    assert_eq!(sender.send(request(&url)).await.class, Class::Refused);
    assert_eq!((receiver.connections(), resolver.asked()), (1, 2), "one query for each connection");
    assert_eq!(
        receiver.requests()[0].headers()["host"],
        format!("rebinding.example:{}", receiver.address.port())
    );
}

#[tokio::test]
async fn no_packet_reaches_an_address_that_a_name_is_rebound_to() {
    let allowed =
        Receiver::answering("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    // On the same port, or the URL could not lead there.
    let port = allowed.address.port();
    let forbidden = Receiver::listening(SocketAddr::from(([127, 0, 0, 2], port)), OK).await;
    let policy =
        || AddressPolicy { allow_nets: vec!["127.0.0.1/32".parse().unwrap()], ..AddressPolicy::default() };
    let answers = [
        (&["127.0.0.1"][..], Class::Succeeded),
        (&["127.0.0.2"], Class::Refused),
        (&["127.0.0.1", "127.0.0.2"], Class::Refused),
        (&["127.0.0.2", "127.0.0.1"], Class::Refused),
        (&["::ffff:127.0.0.2"], Class::Refused),
        (&["64:ff9b::127.0.0.2"], Class::Refused),
        (&["127.0.0.1"], Class::Succeeded),
    ];
    let resolver = Scripted::new(answers.iter().map(|(addresses, _)| ips(addresses)));
    let rebound = sender(policy(), resolver.clone());
    for (addresses, want) in answers {
        let outcome = rebound.send(request(&format!("http://rebinding.example:{port}/"))).await;
        assert_eq!(outcome.class, want, "{addresses:?}");
    }
    assert_eq!(resolver.asked(), answers.len(), "every look-up was judged");
    assert_eq!((allowed.connections(), forbidden.connections()), (2, 0));

    // The listener is one: it is reached where it is allowed.
    let open = AddressPolicy { allow_nets: vec!["127.0.0.2/32".parse().unwrap()], ..policy() };
    let outcome = sender(open, Scripted::new([])).send(request(&format!("http://127.0.0.2:{port}/"))).await;
    assert_eq!((outcome.class, forbidden.connections()), (Class::Succeeded, 1));
}

#[tokio::test]
async fn a_closed_port_is_refused_without_a_query_or_a_connection() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let resolver = Scripted::new([]);
    let policy = AddressPolicy { ports: Ports::parse(["443"]).unwrap(), ..loopback() };
    let sender = sender(policy, resolver.clone());
    for host in ["127.0.0.1", "receiver.example"] {
        let outcome = sender.send(request(&format!("http://{host}:{port}/"))).await;
        assert_eq!(outcome.class, Class::Refused);
        assert_eq!(outcome.verdict(), Verdict::Ours);
        assert!(outcome.error.unwrap().contains("--allow-port"));
    }
    assert_eq!((receiver.connections(), resolver.asked()), (0, 0));
}

#[tokio::test]
async fn every_address_is_judged_and_tried() {
    // Nothing listens on any of them but the last.
    let mut many: Vec<IpAddr> = (1..=200).map(|last| IpAddr::from([127, 77, 0, last])).collect();
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://many.example:{}/", receiver.address.port());
    let outcome = sender(loopback(), Scripted::new([Ok(many.clone())])).send(request(&url)).await;
    assert_eq!((outcome.class, receiver.connections()), (Class::Connect, 0));
    many[199] = receiver.address.ip();
    let outcome = sender(loopback(), Scripted::new([Ok(many.clone())])).send(request(&url)).await;
    assert_eq!((outcome.class, receiver.connections()), (Class::Succeeded, 1));
    many[100] = IpAddr::from([10, 0, 0, 1]);
    let outcome = sender(loopback(), Scripted::new([Ok(many)])).send(request(&url)).await;
    assert_eq!((outcome.class, receiver.connections()), (Class::Refused, 1));
}

/// A socket whose queue of connections is full: the kernel drops every further SYN, as a firewall
/// does.
struct Silent {
    _socket: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Silent {
    async fn listening(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let socket = socket.listen(0).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            queued.push(stream.unwrap());
        }
        Self { _socket: socket, _queued: queued }
    }
}

#[tokio::test]
async fn eight_silent_addresses_do_not_hide_the_ninth() {
    let receiver = Receiver::answering(OK).await;
    let port = receiver.address.port();
    let (mut silent, mut addresses) = (Vec::new(), Vec::new());
    for last in 1..=8 {
        let ip = [127, 77, 1, last];
        silent.push(Silent::listening((ip, port).into()).await);
        addresses.push(IpAddr::from(ip));
    }
    addresses.push(receiver.address.ip());
    let url = format!("http://nine.example:{port}/");
    let outcome = sender(loopback(), Scripted::new([Ok(addresses.clone())])).send(request(&url)).await;
    assert_eq!((outcome.class, outcome.error, receiver.connections()), (Class::Succeeded, None, 1));

    // An address of the other family is tried second.
    let six = Receiver::listening((Ipv6Addr::LOCALHOST, port).into(), OK).await;
    addresses[8] = six.address.ip();
    let policy = AddressPolicy {
        allow_nets: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        ..loopback()
    };
    let outcome = sender(policy, Scripted::new([Ok(addresses)])).send(request(&url)).await;
    assert_eq!((outcome.class, six.connections()), (Class::Succeeded, 1));
    let connect = outcome.phases.connect.unwrap();
    assert!(connect < Duration::from_millis(1750), "the seven other addresses come later: {connect:?}");
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let receiver = Receiver::answering(OK).await;
    // Nothing listens on the others.
    let resolver = Scripted::new([ips(&["127.77.0.1", "127.77.0.2", "127.0.0.1"])]);
    let url = format!("http://three.example:{}/", receiver.address.port());
    assert_eq!(sender(loopback(), resolver).send(request(&url)).await.class, Class::Succeeded);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error_and_is_asked_again() {
    let receiver = Receiver::answering(OK).await;
    let not_found = || Err(io::Error::other("NXDOMAIN from 10.0.0.53"));
    let resolver = Scripted::new([not_found(), Ok(vec![]), ips(&["127.0.0.1"])]);
    let sender = sender(loopback(), resolver);
    let url = format!("http://later.example:{}/", receiver.address.port());
    for _ in 0..2 {
        let outcome = sender.send(request(&url)).await;
        assert_eq!((outcome.class, outcome.status), (Class::Dns, None));
        assert_eq!(outcome.error.as_deref(), Some("the host name could not be resolved"));
    }
    assert_eq!(sender.send(request(&url)).await.class, Class::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_silent_resolver_is_given_5_seconds() {
    struct Silent;
    impl Resolve for Silent {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
            Box::pin(std::future::pending())
        }
    }
    let outcome = sender(loopback(), Arc::new(Silent)).send(request("https://silent.example/")).await;
    assert_eq!((outcome.class, outcome.duration.as_secs()), (Class::Dns, 5));
}
