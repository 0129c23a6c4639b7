//! Certificates for a receiver that speaks TLS: a trustworthy one, and others that are not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{path::Path, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// The identity that a receiver presents. All but [`Identity::WrongHost`] claim to be `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Signed by the authority.
    Good,
    /// Signed by itself.
    SelfSigned,
    /// Signed by the authority, and expired.
    Expired,
    /// Signed by the authority, for another host.
    WrongHost,
}

/// A certificate authority of our own, with its certificate in a file: `SSL_CERT_FILE` for the
/// programs that should trust it.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "e2e authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let pem = format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(issuer.der())
        );
        std::fs::write(file.path(), pem).expect("it can be written");
        Self { issuer, file }
    }

    pub fn file(&self) -> &Path {
        self.file.path()
    }

    /// Returns the server's side of TLS for a receiver with this identity.
    ///
    /// # Panics
    /// If the certificate cannot be made.
    pub fn acceptor(&self, identity: Identity) -> TlsAcceptor {
        let host = if identity == Identity::WrongHost { "other.example" } else { "localhost" };
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
        if identity == Identity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let certificate = match identity {
            Identity::SelfSigned => params.self_signed(&key),
            _ => params.signed_by(&key, &self.issuer),
        };
        let chain = vec![certificate.expect("a certificate").der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions that go with the provider")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a key that goes with the certificate");
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
