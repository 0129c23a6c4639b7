//! Receivers: a plain one in a process of its own, and one with TLS that counts connections.

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

/// The argument that makes this program the plain receiver.
pub const PLAIN: &str = "--plain-receiver";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Starts the plain receiver. Returns its process and its address.
pub fn start_plain() -> (Child, SocketAddr) {
    let program = std::env::current_exe().expect("a path");
    let mut process =
        Command::new(program).arg(PLAIN).stdout(Stdio::piped()).spawn().expect("this program runs");
    let mut line = String::new();
    BufReader::new(process.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    (process, line.trim().parse().expect("an address"))
}

/// Answers every request, until the process is killed.
pub fn plain() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(serve_http1(tcp, None));
        }
    });
}

/// Answers requests. With a gate, none before all of them have arrived.
async fn serve_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, gate: Option<Arc<Gate>>) {
    let (mut buffer, mut filled) = (vec![0; 16 * 1024], 0);
    loop {
        match stream.read(&mut buffer[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        let Some(head) = buffer[..filled].windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head]).expect("a head");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        if filled < head + 4 + length {
            continue;
        }
        filled = 0;
        if let Some(gate) = &gate {
            gate.pass().await;
        }
        if stream.write_all(ANSWER).await.is_err() {
            return;
        }
    }
}

/// Opens when so many requests have arrived.
struct Gate {
    missing: AtomicUsize,
    all: usize,
    open: Semaphore,
}

impl Gate {
    async fn pass(&self) {
        if self.missing.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.open.add_permits(self.all);
        }
        self.open.acquire().await.expect("it is never closed").forget();
    }
}

/// A receiver that offers HTTP/2 with 128 streams a connection, and HTTP/1.1.
pub struct Tls {
    address: SocketAddr,
    pub roots: RootCertStore,
    connections: Arc<AtomicUsize>,
}

impl Tls {
    /// Starts a receiver that answers when so many requests have arrived.
    pub async fn start(all: usize) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let certificate = certificate.self_signed(&key).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::<AtomicUsize>::default();
        let gate = Arc::new(Gate { missing: AtomicUsize::new(all), all, open: Semaphore::new(0) });
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, gate) = (acceptor.clone(), gate.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    match tls.get_ref().1.alpn_protocol() {
                        Some(b"h2") => serve_http2(tls, gate).await,
                        _ => serve_http1(tls, Some(gate)).await,
                    }
                });
            }
        });
        Self { address, roots, connections }
    }

    pub fn url(&self) -> String {
        format!("https://{}/hook", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve_http2(stream: impl AsyncRead + AsyncWrite + Unpin, gate: Arc<Gate>) {
    let mut builder = h2::server::Builder::new();
    let Ok(mut connection) = builder.max_concurrent_streams(128).handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((_, mut answer))) = connection.accept().await {
        let gate = gate.clone();
        tokio::spawn(async move {
            gate.pass().await;
            let _ = answer.send_response(http::Response::new(()), true);
        });
    }
}
