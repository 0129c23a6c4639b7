//! TLS: which receivers the sender trusts, and that no other server sees a request.

use crate::support::{Loopback, Received, loopback, read_request, request};
use delivery::outcome::{Class, Outcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use webhookd_sender::{Sender, dial::tls_config, http::HttpSender};

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

type Requests = Arc<Mutex<Vec<Received>>>;

/// A TLS receiver whose certificate is what `shape` makes of the default, signed by the authority.
async fn receiver(
    authority: Option<&CertifiedIssuer<'static, KeyPair>>,
    shape: impl FnOnce(&mut CertificateParams),
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> (SocketAddr, Requests) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["receiver.example".to_owned()]).unwrap();
    shape(&mut params);
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Requests::default();
    let record = requests.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, record) = (acceptor.clone(), record.clone());
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
                while let Some(received) = read_request(&mut tls).await {
                    record.lock().unwrap().push(received);
                    tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    (address, requests)
}

fn sender(authority: &CertifiedIssuer<'static, KeyPair>) -> HttpSender {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    HttpSender::with(loopback(), Arc::new(Loopback), tls_config(roots).unwrap())
}

async fn send(sender: &HttpSender, host: &str, address: SocketAddr) -> Outcome {
    sender.send(request(&format!("https://{host}:{}/hook", address.port()))).await
}

#[tokio::test]
async fn a_trusted_receiver_gets_its_webhooks_by_tls_1_2_and_1_3() {
    let authority = authority("ours");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (address, requests) = receiver(Some(&authority), |_| {}, &[version]).await;
        let sender = sender(&authority);
        for host in ["receiver.example", "receiver.example."] {
            let outcome = send(&sender, host, address).await;
            assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None), "{host}");
            assert!(outcome.phases.tls.is_some(), "{:?}", outcome.phases);
        }
        assert_eq!(requests.lock().unwrap()[0].body, br#"{"id":"evt_1"}"#);
    }
}

#[tokio::test]
async fn an_untrusted_receiver_sees_no_request() {
    let authority = authority("ours");
    let stranger = self::authority("stranger");
    let versions = rustls::ALL_VERSIONS;
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let tomorrow = |params: &mut CertificateParams| params.not_before = date_time_ymd(4000, 1, 1);
    for ((address, requests), host, want) in [
        (
            receiver(None, |_| {}, versions).await,
            "receiver.example",
            "does not trust the certificate's issuer",
        ),
        (
            receiver(Some(&stranger), |_| {}, versions).await,
            "receiver.example",
            "does not trust the certificate's issuer",
        ),
        (receiver(Some(&authority), expired, versions).await, "receiver.example", "has expired"),
        (receiver(Some(&authority), tomorrow, versions).await, "receiver.example", "not valid yet"),
        (receiver(Some(&authority), |_| {}, versions).await, "other.example", "for another host name"),
        (receiver(Some(&authority), |_| {}, versions).await, "127.0.0.1", "for another host name"),
    ] {
        let outcome = send(&sender(&authority), host, address).await;
        let error = outcome.error.unwrap();
        assert_eq!((outcome.class, outcome.status), (Class::Tls, None), "{error}");
        assert!(error.contains(want) && !error.contains("127.0.0.1"), "{error}");
        assert!(requests.lock().unwrap().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn a_port_without_tls_is_a_tls_error() {
    let authority = authority("ours");
    for (answer, want) in [
        (&b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..], "does not speak TLS"),
        (b"", "closed during the TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "with an alert"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut hello = vec![0; 4096];
            let n = tcp.read(&mut hello).await.unwrap();
            tcp.write_all(answer).await.unwrap();
            hello.truncate(n);
            hello
        });
        let outcome = send(&sender(&authority), "receiver.example", address).await;
        assert_eq!((outcome.class, outcome.status), (Class::Tls, None), "{outcome:?}");
        assert!(outcome.error.as_ref().unwrap().contains(want), "{outcome:?}");
        let hello = seen.await.unwrap();
        assert!(!hello.windows(9).any(|w| w == b"webhook-i"), "only the greeting was sent");
    }
}
