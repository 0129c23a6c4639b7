//! The settings of the page of an owner: `[portal]` in the configuration file.
//!
//! Reads the file of the logo. An error names the key.

use crate::config::{Error, Layers};
use admin::portal::{Invalid, LOGO_BYTES_MAX, PortalSettings};
use serde::Deserialize;
use std::{
    fs::File as Opened,
    io::Read as _,
    path::{Path, PathBuf},
};

/// The table `[portal]`. An unknown key is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalTable {
    frame_ancestors: Option<Vec<String>>,
    name: Option<String>,
    logo_file: Option<PathBuf>,
    accent_color: Option<String>,
    url: Option<String>,
    role: Option<String>,
}

impl Layers {
    /// Returns the settings of the page of an owner.
    ///
    /// # Errors
    /// Returns [`Error::Portal`], or [`Error::Unreadable`] for the logo.
    pub fn portal(&self) -> Result<PortalSettings, Error> {
        let PortalTable { frame_ancestors, name, logo_file, accent_color, url, role } = &self.file.portal;
        let logo = logo_file.as_deref().map(read_logo).transpose()?;
        let apply = || -> Result<PortalSettings, Invalid> {
            let mut settings = PortalSettings::default();
            if let Some(origins) = frame_ancestors {
                settings = settings.embedded_by(origins)?;
            }
            if let Some(name) = name {
                settings = settings.named(name)?;
            }
            if let Some(logo) = logo {
                settings = settings.with_logo(logo)?;
            }
            if let Some(colour) = accent_color {
                settings = settings.coloured(colour)?;
            }
            if let Some(url) = url {
                settings = settings.at(url)?;
            }
            match role {
                Some(role) => settings.acting_as(role),
                None => Ok(settings),
            }
        };
        Ok(apply()?)
    }
}

/// Reads at most one byte more than a logo may have.
fn read_logo(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |error: std::io::Error| Error::Unreadable { path: path.to_owned(), cause: error.kind() };
    let mut bytes = Vec::new();
    let file = Opened::open(path).map_err(unreadable)?;
    file.take(LOGO_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
