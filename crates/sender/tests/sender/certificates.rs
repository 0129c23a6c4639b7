//! Certificates that a subscription names: authorities of its own, and our certificate shown to its
//! receiver.

use crate::support::{loopback, pass, read_request, request};
use delivery::outcome::{Class, Outcome, Verdict};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_rustls::TlsAcceptor;
use webhookd_sender::{
    Request, Sender,
    dial::Dialer,
    http::{AGE_MAX, HttpSender},
    resolve::{Resolve, Resolved},
    tls::{CertificateSet, Tls},
};

struct Loopback;

impl Resolve for Loopback {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolved<'a> {
        Box::pin(async { io::Result::Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

/// An authority, and a directory of PEM files.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "theirs");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a client's certificate and key of that name.
    fn client(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([format!("{name}.client.example")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn set(&self, client: Option<&str>) -> CertificateSet {
        CertificateSet {
            hosts: vec!["receiver.example".into()],
            ca_file: Some(self.path("ca.pem")),
            cert_file: client.map(|name| self.path(&format!("{name}.pem"))),
            key_file: client.map(|name| self.path(&format!("{name}.key"))),
        }
    }

    /// A receiver that demands a certificate of the authority, and notes for each connection which
    /// it was shown.
    async fn receiver(&self) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let key = KeyPair::generate().unwrap();
        let names = ["receiver.example".to_owned(), "other.example".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Arc::<Mutex<Vec<String>>>::default();
        let record = shown.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, record) = (acceptor.clone(), record.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    record.lock().unwrap().push(String::from_utf8_lossy(&certificate).into_owned());
                    while read_request(&mut tls).await.is_some() {
                        tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                    }
                });
            }
        });
        (address, shown)
    }
}

fn sets<'a>(sets: impl IntoIterator<Item = (&'a str, CertificateSet)>) -> BTreeMap<String, CertificateSet> {
    sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect()
}

fn sender(tls: Tls) -> HttpSender {
    HttpSender::over(Dialer::new(loopback(), Arc::new(Loopback), tls))
}

async fn send(sender: &HttpSender, host: &str, address: SocketAddr, tls: Option<&str>) -> Outcome {
    let url = format!("https://{host}:{}/hook", address.port());
    sender.send(Request { tls: tls.map(Into::into), ..request(&url) }).await
}

#[tokio::test]
async fn each_subscription_shows_the_certificate_it_names() {
    let certificates = Certificates::new();
    let (address, shown) = certificates.receiver().await;
    certificates.client("alpha");
    certificates.client("beta");
    let named = sets([
        ("alpha", certificates.set(Some("alpha"))),
        ("beta", certificates.set(Some("beta"))),
        ("trusting", certificates.set(None)),
    ]);
    let sender = sender(Tls::load(None, &named).unwrap());
    for name in ["alpha", "beta", "alpha", "beta"] {
        let outcome = send(&sender, "receiver.example", address, Some(name)).await;
        assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None), "{name}");
    }
    let shown = shown.lock().unwrap().clone();
    assert_eq!(shown.len(), 2, "kept connections are not shared between certificates");
    assert!(shown[0].contains("alpha.client.example") && shown[1].contains("beta.client.example"));
    // Without a certificate, and without trust in the authority.
    let trusting = send(&sender, "receiver.example", address, Some("trusting")).await;
    assert!(matches!(trusting.class, Class::Tls | Class::Protocol), "{trusting:?}");
    let usual = send(&sender, "receiver.example", address, None).await;
    assert_eq!(usual.error.as_deref(), Some("webhookd does not trust the certificate's issuer"));
}

#[tokio::test]
async fn certificates_are_shown_to_the_hosts_they_are_for() {
    let certificates = Certificates::new();
    let (address, shown) = certificates.receiver().await;
    certificates.client("alpha");
    let sender = sender(Tls::load(None, &sets([("alpha", certificates.set(Some("alpha")))])).unwrap());
    for (host, name, want) in [
        ("other.example", "alpha", "does not list this host"),
        ("127.0.0.1", "alpha", "does not list this host"),
        ("receiver.example", "gamma", "has no section"),
    ] {
        let outcome = send(&sender, host, address, Some(name)).await;
        assert_eq!(outcome.verdict(), Verdict::Ours);
        assert!(outcome.error.unwrap().contains(want), "{host} {name}");
    }
    assert!(shown.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_authority_of_the_operator_is_trusted_beside_the_machines() {
    let certificates = Certificates::new();
    let (address, shown) = certificates.receiver().await;
    certificates.client("alpha");
    let set = CertificateSet { ca_file: None, ..certificates.set(Some("alpha")) };
    let ca = certificates.path("ca.pem");
    let sender = sender(Tls::load(Some(&ca), &sets([("alpha", set)])).unwrap());
    assert_eq!(send(&sender, "receiver.example", address, Some("alpha")).await.class, Class::Succeeded);
    // The certificate is trusted. The request fails because we show none.
    let outcome = send(&sender, "receiver.example", address, None).await;
    assert!(!outcome.error.unwrap().contains("does not trust"));
    assert_eq!(shown.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn renewed_files_are_used_by_the_next_connection_and_broken_ones_are_not() {
    let certificates = Certificates::new();
    let (address, shown) = certificates.receiver().await;
    certificates.client("alpha");
    let tls = Tls::load(None, &sets([("alpha", certificates.set(Some("alpha")))])).unwrap();
    let dialer = Dialer::new(loopback(), Arc::new(Loopback), tls);
    let tls = dialer.tls();
    let sender = HttpSender::over(dialer);
    let next_connection = async |subject: &str| {
        // The age of the former connection ends it.
        pass(AGE_MAX.as_secs()).await;
        let outcome = send(&sender, "receiver.example", address, Some("alpha")).await;
        assert_eq!((outcome.class, outcome.error), (Class::Succeeded, None), "{subject}");
        let last = shown.lock().unwrap().last().unwrap().clone();
        assert!(last.contains(&format!("{subject}.client.example")), "{subject}");
    };
    let replace = |subject: &str| {
        certificates.client(subject);
        for kind in ["pem", "key"] {
            let renewed = certificates.path(&format!("{subject}.{kind}"));
            std::fs::rename(renewed, certificates.path(&format!("alpha.{kind}"))).unwrap();
        }
    };
    next_connection("alpha").await;
    replace("beta");
    next_connection("beta").await;
    std::fs::write(certificates.path("alpha.key"), "half a key").unwrap();
    next_connection("beta").await;
    assert!(tls.reload().unwrap_err().to_string().contains("alpha.key contains no private key"));
    replace("gamma");
    next_connection("gamma").await;
    replace("delta");
    tls.reload().unwrap();
    next_connection("delta").await;

    // The authorities are read again too: the receiver's is no longer trusted.
    let other = Certificates::new();
    std::fs::copy(other.path("ca.pem"), certificates.path("ca.pem")).unwrap();
    pass(AGE_MAX.as_secs()).await;
    assert_eq!(send(&sender, "receiver.example", address, Some("alpha")).await.class, Class::Tls);
}

/// Runs openssl in the directory, with a command line as in the documents.
fn openssl(dir: &Path, line: &str) {
    let output =
        std::process::Command::new("openssl").args(line.split_whitespace()).current_dir(dir).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

const NEW: &str =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 -subj /CN=receiver.example";

/// Makes certificates with openssl, serves the last one, and returns the outcome of a request that
/// trusts `ca`.
async fn served_by_openssl(commands: &[&str], ca: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    for command in commands {
        openssl(dir.path(), command);
    }
    let path = |name: &str| dir.path().join(name);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path("receiver.pem")).unwrap().map(Result::unwrap).collect();
    let key = provider
        .key_provider
        .load_private_key(PrivateKeyDer::from_pem_file(path("receiver.key")).unwrap())
        .unwrap();
    // rustls itself would reject some of them.
    let shown = rustls::sign::CertifiedKey::new(chain, key);
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            while read_request(&mut tls).await.is_some() {
                tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            }
        }
    });
    let sender = sender(Tls::load(Some(&path(ca)), &BTreeMap::new()).unwrap());
    send(&sender, "receiver.example", address, None).await
}

#[tokio::test]
async fn certificates_of_openssl_work_or_the_error_says_why() {
    let own = format!("{NEW} -keyout receiver.key -out receiver.pem");
    let named = format!("{own} -addext subjectAltName=DNS:receiver.example");
    let ca = format!("{NEW} -keyout ca.key -out ca.pem").replace("receiver.example", "Authority");
    let request = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=receiver.example \
                   -keyout receiver.key -out receiver.csr";
    let sign = "x509 -req -in receiver.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out receiver.pem";
    let extended = format!("{request} -addext subjectAltName=DNS:receiver.example");
    for (commands, trusted, want) in [
        // What people try first.
        (vec![own.as_str()], "receiver.pem", "make one with the extension basicConstraints=CA:FALSE"),
        (vec![named.as_str()], "receiver.pem", "CA:TRUE"),
        (vec![&ca, request, sign], "ca.pem", "version 1"),
        (
            vec![&*format!("{own} -addext basicConstraints=critical,CA:FALSE")],
            "receiver.pem",
            "no subjectAltName",
        ),
        (
            vec![&*format!(
                "{named} -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=clientAuth"
            )],
            "receiver.pem",
            "not for servers",
        ),
        (vec![&ca, &extended, &*format!("{sign} -copy_extensions copy"), &ca], "ca.pem", "another key"),
        // The recipes of docs/OPERATIONS.md.
        (vec![&*format!("{named} -addext basicConstraints=critical,CA:FALSE")], "receiver.pem", ""),
        (vec![&ca, &extended, &*format!("{sign} -days 825 -copy_extensions copy")], "ca.pem", ""),
    ] {
        let outcome = served_by_openssl(&commands, trusted).await;
        let error = outcome.error.unwrap_or_default();
        let class = if want.is_empty() { Class::Succeeded } else { Class::Tls };
        assert!(outcome.class == class && error.contains(want), "{commands:?}: {error}");
        assert!(error.is_empty() == want.is_empty(), "{commands:?}: {error}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let certificates = Certificates::new();
    certificates.client("alpha");
    certificates.client("beta");
    let (set, missing) = (certificates.set(Some("alpha")), Some(PathBuf::from("/nowhere/a.pem")));
    let key = Some(certificates.path("alpha.key"));
    for (set, want) in [
        (CertificateSet { hosts: vec![], ..set.clone() }, "tls.x has no hosts"),
        (CertificateSet { hosts: vec!["a b".into()], ..set.clone() }, "tls.x"),
        (CertificateSet { ca_file: missing.clone(), ..set.clone() }, "cannot read /nowhere/a.pem"),
        (CertificateSet { cert_file: missing, ..set.clone() }, "cannot read /nowhere/a.pem"),
        (CertificateSet { ca_file: key.clone(), ..set.clone() }, "alpha.key contains no certificate"),
        (CertificateSet { cert_file: key, ..set.clone() }, "alpha.key contains no certificate"),
        (
            CertificateSet { key_file: Some(certificates.path("ca.pem")), ..set.clone() },
            "contains no private key",
        ),
        (CertificateSet { key_file: Some(certificates.path("beta.key")), ..set.clone() }, "do not match"),
        (CertificateSet { key_file: None, ..set.clone() }, "cert_file and key_file together"),
        (
            CertificateSet { ca_file: None, cert_file: None, key_file: None, ..set.clone() },
            "cert_file and key_file together",
        ),
    ] {
        let Err(error) = Tls::load(None, &sets([("x", set)])) else { panic!("{want}") };
        assert!(error.to_string().contains(want), "{want}: {error}");
    }
    assert!(Tls::load(Some(Path::new("/nowhere/a.pem")), &BTreeMap::new()).is_err());
}
