//! The settings of outgoing connections, and the locations of keys and secrets.
//!
//! Reads key files and certificates, and checks that the directory of secrets can be read. It reads
//! no secret of a subscription and makes no connections. Errors about a key file never show its
//! content.

use crate::{
    cli::{Keys, Run},
    config::{Error, Layers, list},
};
use ipnet::IpNet;
use seal::KeyRing;
use sender::{
    address_policy::{AddressPolicy, Ports},
    proxy::Proxy,
    tls::Tls,
};
use source::secret_store::SecretStore;
use std::{net::IpAddr, path::Path, sync::Arc};

/// The rules for connections to receivers.
pub struct WayOut {
    pub policy: AddressPolicy,
    pub proxy: Option<Proxy>,
    pub tls: Tls,
}

impl Layers {
    /// Returns the rules for connections to receivers.
    ///
    /// # Errors
    /// Returns an [`Error`] that names the setting or the file.
    pub fn way_out(&self, flags: &Run) -> Result<WayOut, Error> {
        let file = &self.file;
        let policy = AddressPolicy {
            allow_nets: ranges("--allow-net", list(&flags.allow_net, &file.allow_net))?,
            deny_nets: ranges("--deny-net", list(&flags.deny_net, &file.deny_net))?,
            ports: match list(&flags.allow_port, &file.allow_port) {
                [] => Ports::default(),
                given => Ports::parse(given.iter().map(|ports| ports.trim()))?,
            },
            allow_http: flags.allow_http.or(file.allow_http).unwrap_or(false),
        };
        let ca_file = flags.ca_file.as_deref().or(file.ca_file.as_deref());
        Ok(WayOut { policy, proxy: self.proxy(flags)?, tls: Tls::load(ca_file, &file.tls)? })
    }

    fn proxy(&self, flags: &Run) -> Result<Option<Proxy>, Error> {
        let file = &self.file;
        let Some(url) = flags.proxy.as_deref().or(file.proxy.as_deref()).filter(|url| !url.is_empty()) else {
            return Ok(None);
        };
        let bypass = list(&flags.proxy_bypass, &file.proxy_bypass);
        let resolves = flags.proxy_resolves.or(file.proxy_resolves).unwrap_or(false);
        let proxy = Proxy::parse(url)?.bypassed_by(bypass.iter().map(|text| text.trim()))?;
        Ok(Some(proxy.resolving(resolves)))
    }

    /// Returns the private keys: from `--key-file`, else from `WEBHOOKD_KEY`, else from the file
    /// that the configuration names.
    ///
    /// # Errors
    /// Returns an [`Error`] that contains no part of a key.
    pub fn keys(&self, flags: &Keys) -> Result<KeyRing, Error> {
        match (&flags.key_file, &self.key, &self.file.key_file) {
            (Some(path), ..) | (None, None, Some(path)) => key_file(path),
            (None, Some(text), _) => Ok(KeyRing::parse(text)?),
            (None, None, None) => Ok(KeyRing::default()),
        }
    }

    /// Returns the store that resolves the secrets of subscriptions.
    ///
    /// # Errors
    /// Returns the errors of [`Layers::keys`], and [`Error::Unreadable`] for the directory.
    pub fn secrets(&self, flags: &Keys) -> Result<Arc<SecretStore>, Error> {
        let dir = flags.secrets_dir.clone().or_else(|| self.file.secrets_dir.clone());
        if let Some(dir) = &dir {
            let unreadable =
                |error: std::io::Error| Error::Unreadable { path: dir.clone(), cause: error.kind() };
            std::fs::read_dir(dir).map_err(unreadable)?;
        }
        Ok(Arc::new(SecretStore::new(self.keys(flags)?, dir)))
    }
}

/// Returns the private keys of a file.
///
/// # Errors
/// Returns an [`Error`] that contains no part of a key.
pub fn key_file(path: &Path) -> Result<KeyRing, Error> {
    warn_if_others_may_read(path);
    let text = super::read_text(path).map(zeroize::Zeroizing::new)?;
    let ring = KeyRing::parse(&text)?;
    // An empty key file is a mistake, not a request to run without a key.
    if ring.current().is_none() { Err(Error::NoKey(path.to_owned())) } else { Ok(ring) }
}

fn warn_if_others_may_read(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|metadata| database::is_open_to_others(path, &metadata)) {
        tracing::warn!(path = %path.display(), "key_file.open_to_others; run chmod 600");
    }
}

/// Parses CIDRs and single addresses.
pub(super) fn ranges(flag: &'static str, texts: &[String]) -> Result<Vec<IpNet>, Error> {
    let parse = |text: &String| {
        let text = text.trim();
        let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(|range| range.trunc()).map_err(|_| Error::Range { flag, range: text.to_owned() })
    };
    texts.iter().map(parse).collect()
}
