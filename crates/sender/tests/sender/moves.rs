//! Hosts that move to another address, and connections that age.

use crate::support::{Receiver, loopback, pass, request};
use delivery::outcome::Class;
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
    dial::{Dialer, native_roots, tls_config},
    http::HttpSender,
    proxy::Proxy,
    resolve::{Resolve, Resolved},
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Where a name leads to. `None`: the resolver fails.
type Zone = Mutex<Vec<(&'static str, Option<Vec<IpAddr>>)>>;

/// A resolver whose names can move.
#[derive(Default)]
struct Names {
    zone: Zone,
    asked: AtomicUsize,
}

impl Names {
    fn set(&self, name: &'static str, addresses: Option<&[IpAddr]>) {
        let mut zone = self.zone.lock().unwrap();
        zone.retain(|(known, _)| *known != name);
        zone.push((name, addresses.map(<[_]>::to_vec)));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolved<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.zone.lock().unwrap().iter().find(|(known, _)| *known == name).cloned();
        Box::pin(async move { found.and_then(|(_, found)| found).ok_or(io::ErrorKind::NotFound.into()) })
    }
}

fn sender(names: &Arc<Names>, proxy: Option<Proxy>) -> HttpSender {
    let dialer = Dialer::new(loopback(), names.clone(), tls_config(native_roots()).unwrap());
    HttpSender::over(dialer.through(proxy))
}

/// Two receivers with the same port and different addresses.
async fn old_and_new() -> (Receiver, Receiver) {
    let old = Receiver::answering(OK).await;
    let new = Receiver::listening(SocketAddr::from(([127, 0, 0, 2], old.address.port())), OK).await;
    (old, new)
}

const HOST: &str = "receiver.example";

async fn send(sender: &HttpSender, port: u16) -> Class {
    sender.send(request(&format!("http://{HOST}:{port}/"))).await.class
}

#[tokio::test]
async fn a_host_that_has_moved_is_called_at_its_new_address_within_30_seconds() {
    let (old, new) = old_and_new().await;
    let (names, port) = (Arc::<Names>::default(), old.address.port());
    names.set(HOST, Some(&[old.address.ip()]));
    let sender = sender(&names, None);
    // The connection is never idle for long.
    for _ in 0..7 {
        assert_eq!(send(&sender, port).await, Class::Succeeded);
        pass(10).await;
    }
    assert_eq!((old.connections(), names.asked()), (1, 3), "one connection, and a lookup per 30 s");
    names.set(HOST, Some(&[new.address.ip()]));
    let mut waited = 0;
    while new.requests().is_empty() {
        assert_eq!(send(&sender, port).await, Class::Succeeded);
        pass(10).await;
        waited += 10;
        assert!(waited <= 40, "still called at the old address");
    }
    let at_the_old = old.requests().len();
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    assert_eq!((old.requests().len(), new.requests().len()), (at_the_old, 2));
}

#[tokio::test]
async fn an_idle_connection_is_checked_before_it_is_used() {
    let (old, new) = old_and_new().await;
    let (names, port) = (Arc::<Names>::default(), old.address.port());
    names.set(HOST, Some(&[old.address.ip()]));
    let sender = sender(&names, None);
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    names.set(HOST, Some(&[new.address.ip()]));
    pass(31).await;
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    assert_eq!((old.requests().len(), new.requests().len()), (1, 1));
    // The policy is asked again too: one of the addresses is forbidden now.
    names.set(HOST, Some(&[new.address.ip(), IpAddr::from([10, 0, 0, 1])]));
    pass(31).await;
    assert_eq!(send(&sender, port).await, Class::Refused);
}

#[tokio::test]
async fn a_resolver_that_fails_does_not_end_connections_that_work() {
    let receiver = Receiver::answering(OK).await;
    let (names, port) = (Arc::<Names>::default(), receiver.address.port());
    names.set(HOST, Some(&[receiver.address.ip()]));
    let sender = sender(&names, None);
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    names.set(HOST, None);
    for _ in 0..6 {
        pass(31).await;
        assert_eq!(send(&sender, port).await, Class::Succeeded);
    }
    assert_eq!((receiver.connections(), names.asked()), (1, 7));
    pass(31 * 5).await;
    assert_eq!(send(&sender, port).await, Class::Dns, "a new connection needs an address");
}

#[tokio::test]
async fn no_connection_is_used_for_more_than_five_minutes() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender(&Arc::default(), None);
    for minute in 0..12 {
        for _ in 0..3 {
            assert_eq!(sender.send(request(&receiver.url("/"))).await.class, Class::Succeeded);
            pass(20).await;
        }
        assert_eq!(receiver.connections(), 1 + minute / 5, "minute {minute}");
    }
}

/// A proxy that tunnels to the address that it is asked for, and counts its connections.
async fn proxy(address: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(tunnel(tcp));
        }
    });
    (address, count)
}

async fn tunnel(mut tcp: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let target: SocketAddr = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut onward = TcpStream::connect(target).await?;
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut tcp, &mut onward).await?;
    Ok(())
}

#[tokio::test]
async fn behind_a_proxy_both_names_are_checked() {
    let (old, new) = old_and_new().await;
    let port = old.address.port();
    let (first, through_first) = proxy(([127, 0, 0, 1], 0).into()).await;
    let (second, through_second) = proxy(([127, 0, 0, 2], first.port()).into()).await;
    let names = Arc::<Names>::default();
    names.set(HOST, Some(&[old.address.ip()]));
    names.set("proxy.example", Some(&[first.ip()]));
    let sender =
        sender(&names, Some(Proxy::parse(&format!("http://proxy.example:{}", first.port())).unwrap()));
    let tunnels = || (through_first.load(Ordering::SeqCst), through_second.load(Ordering::SeqCst));
    for _ in 0..3 {
        assert_eq!(send(&sender, port).await, Class::Succeeded);
        pass(31).await;
    }
    assert_eq!((tunnels(), old.requests().len()), ((1, 0), 3), "nothing has moved");
    names.set(HOST, Some(&[new.address.ip()]));
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    assert_eq!((tunnels(), new.requests().len()), ((2, 0), 1), "the receiver has moved");
    names.set("proxy.example", Some(&[second.ip()]));
    pass(31).await;
    assert_eq!(send(&sender, port).await, Class::Succeeded);
    assert_eq!((tunnels(), new.requests().len()), ((2, 1), 2), "the proxy has moved");
}
