//! Configures TLS to receivers: which authorities are trusted, and which client certificates are
//! presented.
//!
//! A subscription names a set of certificates (`tls`). The configuration file maps the name to
//! files, so the database holds no private key. A set applies only to the hosts that it lists. A
//! subscriber therefore cannot present our certificate to a host of their own. Files are read once,
//! at startup.

use crate::{
    failure::Failure,
    host_pattern::{HostPattern, InvalidHost},
};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;
use tls_files::{BadFile, certificates, native_roots, private_key};
use tokio_rustls::TlsConnector;
use url::Host;

/// A set of certificates in the configuration file: `[tls.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSet {
    /// The hosts that the set applies to.
    pub hosts: Vec<String>,
    /// The only trusted authorities for those hosts (PEM). If absent, the default ones are trusted.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its chain up to an authority that the receivers trust (PEM).
    pub cert_file: Option<PathBuf>,
    /// The certificate's private key (PEM: PKCS #8, PKCS #1, or SEC 1).
    pub key_file: Option<PathBuf>,
}

/// The reason why the certificates cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum Unusable {
    #[error(transparent)]
    File(#[from] BadFile),
    #[error("the certificate and the key of tls.{name} do not match")]
    Pair {
        name: String,
        #[source]
        cause: rustls::Error,
    },
    #[error("tls.{0} must set cert_file and key_file together, or ca_file, or all three")]
    Halves(String),
    #[error("tls.{0} has no hosts; list the hosts that it applies to")]
    NoHosts(String),
    #[error("tls.{name}")]
    Host {
        name: String,
        #[source]
        cause: InvalidHost,
    },
    #[error("cannot set up TLS")]
    Provider(#[source] rustls::Error),
}

/// The default connector, and the connectors that subscriptions name.
pub struct Tls {
    usual: TlsConnector,
    named: HashMap<Box<str>, Named>,
}

struct Named {
    hosts: Vec<HostPattern>,
    connector: TlsConnector,
}

/// Uses one configuration for all receivers.
impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Self {
        Self { usual: config.into(), named: HashMap::new() }
    }
}

impl Tls {
    /// Reads all files: the authorities in addition to the machine's own, and the named sets.
    ///
    /// # Errors
    /// Returns [`Unusable`] with the file or the set.
    pub fn load(ca_file: Option<&Path>, sets: &BTreeMap<String, CertificateSet>) -> Result<Self, Unusable> {
        let mut roots = native_roots();
        if let Some(path) = ca_file {
            add_authorities(&mut roots, path)?;
        }
        let named =
            sets.iter().map(|(name, set)| Ok((name.as_str().into(), Named::load(name, set, &roots)?)));
        let named = named.collect::<Result<_, Unusable>>()?;
        Ok(Self { usual: tls_config(roots).map_err(Unusable::Provider)?.into(), named })
    }

    /// Returns the connector for a host from the set that the subscription names.
    ///
    /// # Errors
    /// Returns [`Failure::Ours`] if the set does not exist or does not apply to the host.
    pub fn connector(&self, set: Option<&str>, host: &Host<String>) -> Result<&TlsConnector, Failure> {
        let Some(name) = set else { return Ok(&self.usual) };
        let named = self.named.get(name).ok_or(Failure::Ours(
            "webhookd's configuration has no section for the subscription's option tls",
        ))?;
        if named.hosts.iter().any(|pattern| pattern.matches(host)) {
            Ok(&named.connector)
        } else {
            Err(Failure::Ours("the section of the subscription's option tls does not list this host"))
        }
    }
}

impl Named {
    fn load(name: &str, set: &CertificateSet, usual: &RootCertStore) -> Result<Self, Unusable> {
        let hosts = set.hosts.iter().map(|host| HostPattern::parse(host));
        let hosts: Vec<_> = hosts
            .collect::<Result<_, _>>()
            .map_err(|cause| Unusable::Host { name: name.to_owned(), cause })?;
        if hosts.is_empty() {
            return Err(Unusable::NoHosts(name.to_owned()));
        }
        let roots = match &set.ca_file {
            Some(path) => {
                let mut roots = RootCertStore::empty();
                add_authorities(&mut roots, path)?;
                roots
            }
            None => usual.clone(),
        };
        let builder = builder(roots).map_err(Unusable::Provider)?;
        let config = match (&set.cert_file, &set.key_file) {
            (None, None) if set.ca_file.is_some() => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|cause| Unusable::Pair { name: name.to_owned(), cause })?,
            _ => return Err(Unusable::Halves(name.to_owned())),
        };
        Ok(Self { hosts, connector: finish(config).into() })
    }
}

fn add_authorities(roots: &mut RootCertStore, path: &Path) -> Result<(), Unusable> {
    let certificates = certificates(path)?;
    match roots.add_parsable_certificates(certificates) {
        (0, _) => Err(BadFile::NoCertificate(path.to_owned()).into()),
        _ => Ok(()),
    }
}

fn builder(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots))
}

fn finish(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Configures TLS 1.2 and 1.3 with the given roots. Only HTTP/1.1 is offered.
///
/// # Errors
/// Returns an error only if the cryptography provider lacks both versions. This build's does not.
pub fn tls_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(finish(builder(roots)?.with_no_client_auth()))
}
