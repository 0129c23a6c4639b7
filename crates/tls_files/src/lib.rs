//! Reads certificates and keys from files, for TLS to receivers and to Postgres.
//!
//! Errors name the file, and nothing of its content.

mod watched;

pub use watched::Watched;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{
    io,
    path::{Path, PathBuf},
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
