//! TLS to Postgres, with the meaning of libpq's `sslmode`.
//!
//! `prefer` and `require` encrypt, and do not check the server's certificate. Many servers have a
//! self-signed certificate, as Debian's do. So these modes protect only against listeners. SCRAM's
//! channel binding still ties the password exchange to the certificate. `verify-ca` requires a
//! certificate of a trusted authority. `verify-full` also requires the host's name in it.

use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error as ThisError;
use tls_files::{certificates, native_roots, private_key};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use tls_files::BadFile;

/// What is required of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why the certificates cannot be used.
#[derive(Debug, ThisError, PartialEq)]
pub enum Unusable {
    #[error(transparent)]
    File(#[from] BadFile),
    #[error("{} contains no certificate authority", .0.display())]
    NoAuthority(PathBuf),
    #[error("no certificate authority is trusted; set sslrootcert, or install ca-certificates")]
    NoAuthorities,
    #[error("sslcert and sslkey must be set together")]
    Halves,
    #[error("sslcert and sslkey do not match")]
    Pair(#[source] Error),
}

/// Checks a certificate according to the mode. It accepts no handshake that the certificate's key
/// has not signed.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// The trusted issuers. `None` accepts any issuer.
    roots: Option<RootCertStore>,
    /// Whether the certificate must contain the host's name.
    named: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(certificate)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
            if self.named {
                verify_server_name(&certificate, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the connector for connections to Postgres. Without `root` (a file, or `system`), it
/// trusts the machine's authorities.
///
/// # Errors
/// [`Unusable`] names the file.
pub fn connector(
    mode: Mode,
    root: Option<&Path>,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<MakeRustlsConnect, Unusable> {
    let provider = Arc::new(ring::default_provider());
    let roots = match mode {
        Mode::Disable | Mode::Prefer | Mode::Require => None,
        Mode::VerifyCa | Mode::VerifyFull => Some(authorities(root)?),
    };
    let verifier = Verifier { provider: Arc::clone(&provider), roots, named: mode == Mode::VerifyFull };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        // The provider is compiled in and supports both versions.
        .expect("ring speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (certificate, key) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(Unusable::Pair)?,
        _ => return Err(Unusable::Halves),
    };
    // Required for sslnegotiation=direct. Servers before 17 ignore it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(MakeRustlsConnect::new(config))
}

fn authorities(root: Option<&Path>) -> Result<RootCertStore, Unusable> {
    let Some(path) = root.filter(|path| *path != Path::new("system")) else {
        let roots = native_roots();
        return if roots.is_empty() { Err(Unusable::NoAuthorities) } else { Ok(roots) };
    };
    let mut roots = RootCertStore::empty();
    match roots.add_parsable_certificates(certificates(path)?) {
        (0, _) => Err(Unusable::NoAuthority(path.to_owned())),
        _ => Ok(roots),
    }
}
