//! Promise: over TLS the daemon connects to the intended Postgres, and gives its password to no
//! other server.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{PATIENCE, cluster::Cluster, cluster::Database, daemon::binary};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const PASSWORD: &str = "a pass:word\\";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Issues a certificate for these names, and its key.
    fn issue(&self, names: &[&str], common_name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.0).unwrap().der().clone(), key)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A cluster that accepts role `webhookd` over TLS alone, by password or by a certificate of the
/// authority.
struct Server {
    database: Database,
    authority: Authority,
    files: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let cluster = Cluster::start().await;
        let database = cluster.database("shop").await;
        let authority = Authority::new("ours");
        let files = tempfile::tempdir().unwrap();
        // The tests connect by address.
        let (certificate, key) = authority.issue(&["127.0.0.1"], "postgres");
        let own = |name: &str, text: &str| {
            let path = cluster.dir().join(name);
            fs::write(&path, text).unwrap();
            let owner = fs::metadata(cluster.dir()).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let certificate = own("server.crt", &pem("CERTIFICATE", &certificate));
        let key = own("server.key", &pem("PRIVATE KEY", &key.serialize_der()));
        let ca = own("ca.crt", &pem("CERTIFICATE", authority.0.der()));
        own(
            "data/pg_hba.conf",
            "host all postgres all trust\n\
             hostssl all by_password all scram-sha-256\n\
             hostssl all by_certificate all cert\n",
        );
        let set = |name: &str, path: &Path| format!("alter system set {name} = '{}';", path.display());
        for statement in [
            set("ssl_cert_file", &certificate),
            set("ssl_key_file", &key),
            set("ssl_ca_file", &ca),
            "alter system set ssl = on".to_owned(),
        ] {
            database.run(&statement).await;
        }
        let roles = format!(
            "create role by_password login password '{PASSWORD}'; create role by_certificate login;
             select webhook_grant('by_password', 'dispatcher'), webhook_grant('by_certificate', 'dispatcher');
             select pg_reload_conf()"
        );
        database.run(&roles).await;
        database.until("select setting = 'on' from pg_settings where name = 'ssl'", PATIENCE).await;
        let server = Self { database, authority, files };
        server.write("ca.pem", &pem("CERTIFICATE", server.authority.0.der()));
        server.write("other.pem", &pem("CERTIFICATE", Authority::new("theirs").0.der()));
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Writes a file that only its owner may read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Returns a connection string without a password.
    fn string(&self, role: &str, host: &str, port: u16, more: &str) -> String {
        format!("host={host} port={port} user={role} dbname={} {more}", self.database.name)
    }

    /// Runs `webhookd check` with this connection string and environment. Returns why it cannot
    /// connect, if it cannot.
    async fn check(&self, string: &str, environment: &[(&str, &str)]) -> Result<(), String> {
        let mut command = Command::new(binary());
        command.args(["check", "--database-url", string]).stdin(Stdio::null()).kill_on_drop(true);
        command.env_remove("DATABASE_URL").env("HOME", self.files.path());
        command.envs(environment.iter().copied());
        let output = command.output().await.expect("webhookd can be started");
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(PASSWORD), "{text}");
        if text.contains("✓ connect") { Ok(()) } else { Err(text) }
    }
}

fn fails(verdict: Result<(), String>, why: &str) {
    match verdict {
        Ok(()) => panic!("it connected, though {why}"),
        Err(text) => assert!(text.contains(why), "{why}: {text}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sslmode_demands_what_it_says() {
    let server = Server::start().await;
    let port = server.database.cluster.port();
    let string = |host, more: &str| server.string("by_password", host, port, more);
    let ca = format!("sslrootcert='{}'", server.path("ca.pem").display());
    let other = format!("sslrootcert='{}'", server.path("other.pem").display());
    let password = [("PGPASSWORD", PASSWORD)];
    fails(server.check(&string("127.0.0.1", "sslmode=disable"), &password).await, "no encryption");
    for (host, more) in [
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", "sslmode=require channel_binding=require".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-ca {ca}")),
        ("127.0.0.1", format!("sslmode=verify-full {ca} channel_binding=require")),
        ("localhost hostaddr=127.0.0.1", format!("sslmode=verify-ca {ca}")),
    ] {
        assert_eq!(server.check(&string(host, &more), &password).await, Ok(()), "{more}");
    }
    let wrong_name = string("localhost hostaddr=127.0.0.1", &format!("sslmode=verify-full {ca}"));
    fails(server.check(&wrong_name, &password).await, "not valid for");
    for mode in ["verify-ca", "verify-full", "require"] {
        let untrusted = string("127.0.0.1", &format!("sslmode={mode} {other}"));
        fails(server.check(&untrusted, &password).await, "UnknownIssuer");
    }
    let by_variable = [
        ("PGPASSWORD", PASSWORD),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", server.path("other.pem").to_str().unwrap()),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let by_variable: Vec<(&str, &str)> = by_variable.iter().map(|(n, v)| (*n, v.as_str())).collect();
    fails(server.check(&string("127.0.0.1", ""), &by_variable).await, "UnknownIssuer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_or_a_certificate_of_ones_own() {
    let server = Server::start().await;
    let port = server.database.cluster.port();
    let string = server.string("by_password", "127.0.0.1", port, "sslmode=require");
    fails(server.check(&string, &[]).await, "password");
    fails(server.check(&string, &[("PGPASSWORD", "wrong")]).await, "password authentication failed");
    let says_what_to_do = format!("127.0.0.1:{port} as by_password; check user and password");
    fails(server.check(&string, &[("PGPASSWORD", "wrong")]).await, &says_what_to_do);
    let line = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    let passfile = server.write("passwords", &format!("# ours\n127.0.0.1:{port}:shop:by_password:{line}\n"));
    let passfile = passfile.to_str().unwrap();
    assert_eq!(server.check(&string, &[("PGPASSFILE", passfile)]).await, Ok(()));
    assert_eq!(server.check(&format!("{string} passfile='{passfile}'"), &[]).await, Ok(()));
    fs::copy(passfile, server.path(".pgpass")).unwrap();
    assert_eq!(server.check(&string, &[]).await, Ok(()), "in the home directory");
    fs::set_permissions(server.path(".pgpass"), fs::Permissions::from_mode(0o644)).unwrap();
    fails(server.check(&string, &[]).await, "password");

    let (certificate, key) = server.authority.issue(&[], "by_certificate");
    let certificate = server.write("client.crt", &pem("CERTIFICATE", &certificate));
    let key = server.write("client.key", &pem("PRIVATE KEY", &key.serialize_der()));
    let string = server.string("by_certificate", "127.0.0.1", port, "sslmode=require");
    fails(server.check(&string, &[]).await, "certificate");
    let shown = format!("{string} sslcert='{}' sslkey='{}'", certificate.display(), key.display());
    assert_eq!(server.check(&shown, &[]).await, Ok(()));
    fails(server.check(&format!("{string} sslcert='{}'", certificate.display()), &[]).await, "together");
}

/// Speaks TLS to both sides, shows the client a certificate of its own, and forwards everything.
async fn man_in_the_middle(
    certificate: CertificateDer<'static>,
    key: KeyPair,
    server: SocketAddr,
) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    // It verifies the server's certificate, as an honest client would.
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.get().unwrap().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await.ok()?;
                client.write_all(b"S").await.ok()?;
                let mut client = acceptor.accept(client).await.ok()?;
                let mut onward = TcpStream::connect(server).await.ok()?;
                onward.write_all(&request).await.ok()?;
                assert_eq!(onward.read_u8().await.ok()?, b'S');
                let name = ServerName::from(server.ip());
                let mut onward = connector.connect(name, onward).await.ok()?;
                copy_bidirectional(&mut client, &mut onward).await.ok()
            });
        }
    });
    address
}

/// The authority that the man in the middle trusts.
static AUTHORITY: std::sync::OnceLock<CertificateDer<'static>> = std::sync::OnceLock::new();

#[tokio::test(flavor = "multi_thread")]
async fn a_man_in_the_middle_gets_no_working_password() {
    let server = Server::start().await;
    AUTHORITY.set(server.authority.0.der().clone()).unwrap();
    let real = SocketAddr::from(([127, 0, 0, 1], server.database.cluster.port()));
    let (certificate, key) = Authority::new("theirs").issue(&["127.0.0.1"], "postgres");
    let middle = man_in_the_middle(certificate, key, real).await;
    let string = |more: &str| server.string("by_password", "127.0.0.1", middle.port(), more);
    let password = [("PGPASSWORD", PASSWORD)];
    // Without channel binding the man in the middle gets through, so it is there and forwards.
    let unbound = string("sslmode=require channel_binding=disable");
    assert_eq!(server.check(&unbound, &password).await, Ok(()));
    // With channel binding, the proof of the password is bound to the middle's certificate, and the
    // server rejects it.
    fails(server.check(&string("sslmode=require"), &password).await, "SCRAM channel binding check failed");
    fails(
        server.check(&string("sslmode=require channel_binding=require"), &password).await,
        "channel binding",
    );
    let ca = format!("sslmode=verify-full sslrootcert='{}'", server.path("ca.pem").display());
    fails(server.check(&string(&ca), &password).await, "UnknownIssuer");
}
