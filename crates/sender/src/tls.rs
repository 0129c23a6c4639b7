//! Configures TLS to receivers: which authorities are trusted, and which client certificates are
//! presented.
//!
//! A subscription names a set of certificates (`tls`). The configuration file maps the name to
//! files, so the database holds no private key. A set applies only to the hosts that it lists. A
//! subscriber therefore cannot present our certificate to a host of their own.
//!
//! Certificates are renewed while the daemon runs. So the files are read again when they change,
//! before the next connection, and on request. Files that cannot be used change nothing.

use crate::{
    failure::Failure,
    host_pattern::{HostPattern, InvalidHost},
};
use delivery::causes::chain;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use thiserror::Error;
use tls_files::{BadFile, Watched, add_authorities, certificates, native_roots, private_key};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;
use tracing::{error, info};
use url::Host;

/// Minimum time between two checks for changed files.
pub const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait of a connection for the check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

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

/// The connectors to receivers, and the files that they come from.
pub struct Tls {
    loaded: RwLock<Arc<Loaded>>,
    files: Option<Files>,
}

/// The default connector, and the connectors that subscriptions name.
struct Loaded {
    usual: TlsConnector,
    named: HashMap<Box<str>, Named>,
}

struct Named {
    hosts: Vec<HostPattern>,
    connector: TlsConnector,
}

struct Files {
    ca_file: Option<PathBuf>,
    sets: BTreeMap<String, CertificateSet>,
    watched: Watched,
    checked: Mutex<Instant>,
    checker: Arc<Semaphore>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Uses one configuration for all receivers.
impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Self {
        let loaded = Loaded { usual: config.into(), named: HashMap::new() };
        Self { loaded: RwLock::new(Arc::new(loaded)), files: None }
    }
}

impl Files {
    fn new(ca_file: Option<&Path>, sets: &BTreeMap<String, CertificateSet>) -> Self {
        let of_set = |set: &CertificateSet| [&set.ca_file, &set.cert_file, &set.key_file].map(Clone::clone);
        let paths = sets.values().flat_map(of_set).flatten().chain(ca_file.map(Path::to_owned));
        Self {
            ca_file: ca_file.map(Path::to_owned),
            sets: sets.clone(),
            watched: Watched::new(paths),
            checked: Mutex::new(Instant::now()),
            checker: Arc::new(Semaphore::new(1)),
        }
    }

    fn load(&self) -> Result<Arc<Loaded>, Unusable> {
        let mut roots = native_roots();
        if let Some(path) = &self.ca_file {
            add_authorities(&mut roots, path)?;
        }
        let named = self.sets.iter();
        let named = named.map(|(name, set)| Ok((name.as_str().into(), Named::load(name, set, &roots)?)));
        let named = named.collect::<Result<_, Unusable>>()?;
        Ok(Arc::new(Loaded { usual: tls_config(roots).map_err(Unusable::Provider)?.into(), named }))
    }

    /// Returns the right to check the files if it is time, and notes that they are checked now. On
    /// a file system that does not answer, one check occupies a thread, and not one every 5 s.
    fn begin_check(&self) -> Option<OwnedSemaphorePermit> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.elapsed() < CHECK_EVERY {
            return None;
        }
        *checked = Instant::now();
        Arc::clone(&self.checker).try_acquire_owned().ok()
    }
}

impl Tls {
    /// Reads all files: the authorities in addition to the machine's own, and the named sets.
    ///
    /// # Errors
    /// Returns [`Unusable`] with the file or the set.
    pub fn load(ca_file: Option<&Path>, sets: &BTreeMap<String, CertificateSet>) -> Result<Self, Unusable> {
        let files = Files::new(ca_file, sets);
        Ok(Self { loaded: RwLock::new(files.load()?), files: Some(files) })
    }

    /// Reads all files again, and the machine's authorities. New connections use them. If a file
    /// cannot be used, the former ones stay in use.
    ///
    /// # Errors
    /// Returns [`Unusable`] with the file or the set.
    pub fn reload(&self) -> Result<(), Unusable> {
        let Some(files) = &self.files else { return Ok(()) };
        files.watched.have_changed();
        let loaded = files.load()?;
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// Reads the files again if they have changed. Checks them every 5 s at most, and waits a
    /// second for the result.
    pub async fn refresh(self: &Arc<Self>) {
        let Some(check) = self.files.as_ref().and_then(Files::begin_check) else { return };
        let tls = Arc::clone(self);
        let checked = tokio::task::spawn_blocking(move || {
            tls.reload_if_changed();
            drop(check);
        });
        // Ignored: the task has no result. Without one, the former files stay in use.
        let _ = timeout(CHECK_TIMEOUT, checked).await;
    }

    fn reload_if_changed(&self) {
        if !self.files.as_ref().is_some_and(|files| files.watched.have_changed()) {
            return;
        }
        match self.reload() {
            Ok(()) => info!("certificates.reloaded"),
            Err(why) => error!(error = chain(&why), "certificates.unusable; the former ones stay in use"),
        }
    }

    fn loaded(&self) -> Arc<Loaded> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the connector for a host from the set that the subscription names.
    ///
    /// # Errors
    /// Returns [`Failure::Ours`] if the set does not exist or does not apply to the host.
    pub fn connector(&self, set: Option<&str>, host: &Host<String>) -> Result<TlsConnector, Failure> {
        let loaded = self.loaded();
        let Some(name) = set else { return Ok(loaded.usual.clone()) };
        let named = loaded.named.get(name).ok_or(Failure::Ours(
            "webhookd's configuration has no section for the subscription's option tls",
        ))?;
        if named.hosts.iter().any(|pattern| pattern.matches(host)) {
            Ok(named.connector.clone())
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
        Ok(Self { hosts, connector: Arc::new(config).into() })
    }
}

fn builder(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots))
}

/// Configures TLS 1.2 and 1.3 with the given roots. The dialer adds the protocols that it offers.
///
/// # Errors
/// Returns an error only if the cryptography provider lacks both versions. This build's does not.
pub fn tls_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    Ok(Arc::new(builder(roots)?.with_no_client_auth()))
}
