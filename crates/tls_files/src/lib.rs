//! Reads certificates and keys from files, for TLS to receivers and to Postgres.
//!
//! Errors name the file, and nothing of its content.

mod watched;

pub use watched::Watched;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// Why a file cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum BadFile {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::ErrorKind },
    #[error("{} contains no certificate in PEM format", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} contains no private key in PEM format", .0.display())]
    NoKey(PathBuf),
}

/// Reads every certificate of a PEM file, at least one.
///
/// # Errors
/// Returns [`BadFile`] with the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BadFile> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    found
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| BadFile::NoCertificate(path.to_owned()))
}

/// Reads the first private key of a PEM file.
///
/// # Errors
/// Returns [`BadFile`] with the file, and with nothing of its content.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, BadFile> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| BadFile::NoKey(path.to_owned()))
}

fn read(path: &Path) -> Result<Vec<u8>, BadFile> {
    std::fs::read(path).map_err(|error| BadFile::Unreadable { path: path.to_owned(), cause: error.kind() })
}

/// Reads a file of authorities, at least one.
///
/// # Errors
/// Returns [`BadFile`] with the file.
pub fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), BadFile> {
    match roots.add_parsable_certificates(certificates(path)?) {
        (0, _) => Err(BadFile::NoCertificate(path.to_owned())),
        _ => Ok(()),
    }
}

/// Configures TLS 1.2 and 1.3 for HTTP that is no delivery. It trusts the authorities of the
/// machine and of the file.
///
/// # Errors
/// Returns [`BadFile`] with the file.
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, BadFile> {
    let mut roots = native_roots();
    if let Some(path) = ca_file {
        add_authorities(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        // The provider is compiled in and supports both versions.
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Returns the certificate authorities that this machine trusts. `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// take precedence.
pub fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "certificate.unreadable");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}
