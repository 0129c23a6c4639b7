//! Answers of receivers and proxies, over a real socket on loopback.

use delivery::outcome::{Class, Outcome, RETRY_AFTER_MAX};
use sender::{
    Request, Sender,
    address_policy::AddressPolicy,
    dial::{Dialer, tls_config},
    http::{HttpSender, STORED_BYTES_MAX},
    proxy::Proxy,
    resolve::{Resolve, Resolved},
};
use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Runtime,
};

struct Nobody;

impl Resolve for Nobody {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        Box::pin(async { Err::<Vec<IpAddr>, _>(io::ErrorKind::NotFound.into()) })
    }
}

/// Runs with a runtime that many inputs share. A runtime per input would be most of the work, and
/// one for all would collect what senders leave behind until their next sweep.
fn with_runtime<T>(run: impl FnOnce(&Runtime) -> T) -> T {
    const INPUTS: u32 = 1000;
    thread_local! {
        static RUNTIME: RefCell<Option<(Runtime, u32)>> = const { RefCell::new(None) };
    }
    RUNTIME.with_borrow_mut(|kept| {
        if matches!(kept, Some((_, INPUTS))) {
            *kept = None;
        }
        let new = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (runtime, inputs) = kept.get_or_insert_with(|| (new().expect("a runtime starts"), 0));
        *inputs += 1;
        run(runtime)
    })
}

/// Sends a webhook to a peer that answers any request with these bytes, and hangs up.
fn send(bytes: &[u8], proxy: impl FnOnce(SocketAddr) -> Option<Proxy>) -> Outcome {
    let bytes = bytes.to_vec();
    with_runtime(|runtime| {
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("it is bound");
            let peer = tokio::spawn(async move {
                let Ok((mut tcp, _)) = listener.accept().await else { return };
                let mut request = [0; 4096];
                let _ = tcp.read(&mut request).await;
                let _ = tcp.write_all(&bytes).await;
                let _ = tcp.shutdown().await;
                // Read the rest, or closing would be a reset.
                while matches!(tcp.read(&mut request).await, Ok(1..)) {}
            });
            let policy = AddressPolicy {
                allow_nets: vec!["127.0.0.0/8".parse().expect("a range")],
                ..AddressPolicy::default()
            };
            let tls = tls_config(rustls::RootCertStore::empty()).expect("TLS 1.2 and 1.3");
            let sender = HttpSender::over(Dialer::new(policy, Arc::new(Nobody), tls).through(proxy(address)));
            let url = format!("http://{address}/").parse().expect("a URL");
            let signers = [signature::Secret::from_key(&[7; 32]).expect("a key").signer()];
            let timeout = Duration::from_secs(2);
            let request =
                Request::json(Arc::new(url), "evt_1".into(), "{}".into(), Arc::new(signers), timeout);
            let outcome = sender.send(request).await;
            drop(sender);
            peer.abort();
            outcome
        })
    })
}

/// Checks that the stored part of an answer is bounded, is text that Postgres accepts, and fits its
/// class.
fn check(outcome: &Outcome) {
    for text in [&outcome.error, &outcome.response].into_iter().flatten() {
        assert!(text.len() <= STORED_BYTES_MAX && !text.contains('\0'), "{text:?}");
    }
    assert!(outcome.retry_after.is_none_or(|wait| wait <= RETRY_AFTER_MAX));
    match outcome.status {
        Some(200..=299) => assert_eq!(outcome.class, Class::Succeeded),
        Some(status) => assert!((100..1000).contains(&status) && outcome.class == Class::HttpError),
        None => assert!(!matches!(outcome.class, Class::Succeeded | Class::HttpError), "{outcome:?}"),
    }
    assert!(outcome.error.is_some() || outcome.class == Class::Succeeded, "{outcome:?}");
}

/// Checks a receiver's answer: head, body, trailers, and the bytes before and after.
pub fn answer(bytes: &[u8]) {
    let outcome = send(bytes, |_| None);
    assert!(outcome.class != Class::Refused, "{outcome:?}");
    check(&outcome);
}

/// Checks an HTTP proxy's answer.
pub fn http_proxy(bytes: &[u8]) {
    check(&send(bytes, |address| Proxy::parse(&format!("http://u:p@{address}")).ok()));
}

/// Checks a SOCKS proxy's answers, all at once.
pub fn socks_proxy(bytes: &[u8]) {
    check(&send(bytes, |address| Proxy::parse(&format!("socks5://u:p@{address}")).ok()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_match_the_answers() {
        let heard = send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", |_| None);
        assert_eq!((heard.class, heard.status), (Class::Succeeded, Some(200)));
        let heard = send(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nno", |_| None);
        assert_eq!((heard.status, heard.retry_after), (Some(503), Some(Duration::from_secs(7))));
        assert_eq!(heard.response.as_deref(), Some("no"));
        let proxy = |scheme: &'static str| {
            move |address: SocketAddr| Proxy::parse(&format!("{scheme}://u:p@{address}")).ok()
        };
        for (bytes, scheme, want) in [
            (&b"HTTP/1.1 407 No\r\n\r\n"[..], "http", "credentials"),
            (b"HTTP/1.1 504 No\r\n\r\n", "http", "could not reach"),
            (b"\x05\x02\x01\x01", "socks5", "credentials"),
            (b"\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", "socks5", "could not reach"),
        ] {
            let heard = send(bytes, proxy(scheme)).error.unwrap_or_default();
            assert!(heard.contains(want), "{heard}");
        }
        // A tunnel is open, and an answer arrives through it before the request.
        let heard =
            send(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", proxy("http"));
        assert_ne!(heard.class, Class::Refused, "{heard:?}");
    }
}
