//! The settings that say whom the daemon calls and how, and where its keys are. Reads key files and certificates.

use super::{Error, Layers, list};
use crate::{
    cli::{Keys, Run},
    secret_store::SecretStore,
    sender::{
        address_policy::{AddressPolicy, Ports},
        proxy::Proxy,
        tls::Tls,
    },
};
use ipnet::IpNet;
use seal::KeyRing;
use std::{net::IpAddr, path::Path, sync::Arc};

/// How connections to receivers are made.
pub struct WayOut {
    pub policy: AddressPolicy,
    pub proxy: Option<Proxy>,
    pub tls: Tls,
}

impl Layers {
    /// Whom the daemon calls, and how.
    ///
    /// # Errors
    /// [`Error`] names the setting or the file.
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

    /// The private keys: those of `--key-file`, else of `WEBHOOKD_KEY`, else of the file that the configuration names.
    ///
    /// # Errors
    /// [`Error`] names the file, and shows nothing of it.
    pub fn keys(&self, flags: &Keys) -> Result<KeyRing, Error> {
        match (&flags.key_file, &self.key, &self.file.key_file) {
            (Some(path), ..) | (None, None, Some(path)) => {
                warn_if_others_may_read(path);
                let text = super::read_text(path).map(zeroize::Zeroizing::new)?;
                let ring = KeyRing::parse(&text)?;
                // An empty file is one that was not written, not a wish to have no key.
                if ring.current().is_none() { Err(Error::NoKey(path.clone())) } else { Ok(ring) }
            }
            (None, Some(text), _) => Ok(KeyRing::parse(text)?),
            (None, None, None) => Ok(KeyRing::default()),
        }
    }

    /// Where secrets come from.
    ///
    /// # Errors
    /// [`Error`] names the file.
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

fn warn_if_others_may_read(path: &Path) {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        tracing::warn!(path = %path.display(), "key_file.open_to_others; chmod 600 it");
    }
}

/// CIDRs, or single addresses.
pub(super) fn ranges(flag: &'static str, texts: &[String]) -> Result<Vec<IpNet>, Error> {
    let parse = |text: &String| {
        let text = text.trim();
        let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(|range| range.trunc()).map_err(|_| Error::Range { flag, range: text.to_owned() })
    };
    texts.iter().map(parse).collect()
}
