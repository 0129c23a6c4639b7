//! Where the time of an attempt went, as the wire saw it.

use crate::support::{Receiver, loopback, request, request_within, sender};
use delivery::outcome::{Class, Phases, Verdict};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use webhookd_sender::{
    Request, Sender,
    dial::{native_roots, tls_config},
    http::HttpSender,
    resolve::{Resolve, Resolved},
};

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const PAUSE: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_kept_connection_has_no_phase_but_the_answer() {
    let receiver = Receiver::answering(OK).await;
    let sender = sender();
    let first = sender.send(request(&receiver.url("/"))).await.phases;
    assert!(first.connect.is_some() && first.first_byte.is_some(), "{first:?}");
    assert_eq!((first.dns, first.tls), (None, None), "an address, over plain http");
    let second = sender.send(request(&receiver.url("/"))).await.phases;
    assert_eq!(receiver.connections(), 1);
    assert_eq!(second, Phases { first_byte: second.first_byte, ..Phases::default() });
    assert!(second.first_byte.is_some());
}

#[tokio::test]
async fn the_first_byte_is_the_receivers_time_and_its_alone() {
    let receiver = Receiver::start(|mut peer| async move {
        while peer.read_request().await.is_some() {
            tokio::time::sleep(PAUSE).await;
            peer.write("HTTP/1.1 200 OK\r\n").await;
            tokio::time::sleep(PAUSE).await;
            peer.write("content-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let sender = sender();
    for _ in 0..2 {
        let outcome = sender.send(request(&receiver.url("/"))).await;
        let first_byte = outcome.phases.first_byte.unwrap();
        assert!(first_byte >= PAUSE && first_byte + PAUSE <= outcome.duration, "{outcome:?}");
    }
}

/// Takes its time.
struct Slow(io::Result<IpAddr>);

impl Resolve for Slow {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        Box::pin(async {
            tokio::time::sleep(PAUSE).await;
            match &self.0 {
                Ok(ip) => Ok(vec![*ip]),
                Err(error) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap())),
            }
        })
    }
}

fn slow(answer: io::Result<IpAddr>) -> HttpSender {
    HttpSender::with(loopback(), Arc::new(Slow(answer)), tls_config(native_roots()).unwrap())
}

#[tokio::test]
async fn a_slow_look_up_is_not_the_receivers() {
    let receiver = Receiver::answering(OK).await;
    let sender = slow(Ok([127, 0, 0, 1].into()));
    let url = format!("http://receiver.example:{}/", receiver.address.port());
    let outcome = sender.send(request(&url)).await;
    let Phases { dns: Some(dns), connect: Some(connect), tls: None, first_byte: Some(first_byte) } =
        outcome.phases
    else {
        panic!("{outcome:?}")
    };
    assert!(dns >= PAUSE && dns + connect + first_byte <= outcome.duration, "{outcome:?}");
}

#[tokio::test]
async fn what_was_reached_is_told_of_an_attempt_that_failed() {
    let silent = Receiver::start(|mut peer| async move {
        peer.read_request().await;
        peer.hold().await;
    })
    .await;
    let outcome = sender().send(request_within(&silent.url("/"), PAUSE)).await;
    assert_eq!(outcome.class, Class::Timeout);
    assert!(outcome.phases.connect.is_some() && outcome.phases.first_byte.is_none(), "{outcome:?}");

    let refused =
        Request { url: Arc::new("http://127.0.0.1:1024/".parse().unwrap()), ..request(&silent.url("/")) };
    let outcome = sender().send(refused).await;
    assert_eq!(outcome.class, Class::Connect);
    assert!(outcome.phases.connect.is_some() && outcome.phases.first_byte.is_none(), "{outcome:?}");
}

#[tokio::test]
async fn a_look_up_that_fails_for_want_of_a_file_descriptor_is_ours() {
    let (out_of_files, no_such_file) = (24, 2);
    let url = "http://receiver.example:9999/";
    let outcome = slow(Err(io::Error::from_raw_os_error(out_of_files))).send(request(url)).await;
    assert_eq!((outcome.class, outcome.verdict()), (Class::Refused, Verdict::Shortage));
    assert_eq!(outcome.error.as_deref(), Some("webhookd has no free file descriptor"));
    assert!(outcome.phases.dns.is_some_and(|dns| dns >= PAUSE));
    let outcome = slow(Err(io::Error::from_raw_os_error(no_such_file))).send(request(url)).await;
    assert_eq!((outcome.class, outcome.verdict()), (Class::Dns, Verdict::Retry));
}
